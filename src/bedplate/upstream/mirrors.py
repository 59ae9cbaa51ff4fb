"""Where an upstream's files can be had: an option, an environment variable, a settings file, or the host's apt sources.

Precedence, for each kind of archive of an upstream by itself ("main", "security", …):

1. ``--mirror URL`` (the first kind) or ``--mirror KIND=URL``, repeated for several mirrors;
2. ``BEDPLATE_MIRROR``, the same syntax, entries separated by blanks;
3. ``[mirrors.UPSTREAM]`` or ``[mirrors]`` in the settings file, ``KIND = "URL"`` or a list of them;
4. the host's apt sources.

The first of them that gives a kind decides it alone; the others are not consulted for that kind, so that naming a
mirror really means that mirror. Within one of them a kind that is not named is derived from another where the
definition says how (Debian's security archive: the main address with ``-security`` appended).

``archive`` and ``archive.KIND`` name an archive mirror: asked last, for files that have left the mirrors.
A kind may be prefixed with an upstream's id: ``debian-13:security=URL``.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from bedplate.model.definition.distro import MirrorKind, Upstream
from bedplate.model.errors import BadInput, BedplateError
from bedplate.upstream.apt_sources import AptSource

_ENTRY = re.compile(
    r"^(?:(?:(?P<upstream>[A-Za-z0-9._-]+):)?(?P<kind>[a-z][a-z0-9.-]*)=)?(?P<url>(?:https?|file)://\S+)$"
)
_ARCHIVE = "archive"

Named = dict[str, list[str]]
"""Kind -> URLs, in the order they were given."""


@dataclass(frozen=True)
class Mirrors:
    """Base URLs of one upstream, without a slash at the end.

    ``bases`` and ``archives`` map a kind to its URLs in the order they are asked; ``origins`` says in words where a
    kind's came from; ``suites`` maps a suite to its kind.
    """

    upstream: str
    bases: Mapping[str, tuple[str, ...]]
    suites: Mapping[str, str]
    archives: Mapping[str, tuple[str, ...]]
    origins: Mapping[str, str]

    def index_bases(self, suite: str) -> tuple[str, ...]:
        """Bases that may carry the current index of ``suite``; an archive mirror holds yesterday's."""
        return self.bases.get(self.suites[suite], ())

    def urls(self, suite: str, path: str) -> tuple[str, ...]:
        """All places where ``path`` of ``suite`` may lie, best first; of an unknown suite, in every kind."""
        kinds = [self.suites[suite]] if suite in self.suites else list(self.bases)
        bases = [base for kind in kinds for base in self.bases.get(kind, ())]
        bases += [base for kind in kinds for base in self.archives.get(kind, ())]
        return tuple(f"{base}/{path}" for base in dict.fromkeys(bases))


def settings_path(environ: Mapping[str, str]) -> Path:
    """``$XDG_CONFIG_HOME/bedplate/settings.toml``, by default below ``~/.config``."""
    home = Path(environ.get("HOME") or "/")
    return Path(environ.get("XDG_CONFIG_HOME") or home / ".config") / "bedplate" / "settings.toml"


def find_mirrors(
    upstream: Upstream, options: Sequence[str], environ: Mapping[str, str], apt: Iterable[AptSource]
) -> Mirrors:
    """The mirrors of ``upstream``, by the precedence in this module's description.

    Args:
        options: Values of ``--mirror``.
        environ: The environment; also names the settings file.
        apt: The host's sources (:func:`bedplate.upstream.apt_sources.read_apt_sources`).

    Raises:
        BadInput: an entry that is not a mirror, an unknown kind, a settings file that is not TOML.
        BedplateError: a kind that no source gives.
    """
    settings = settings_path(environ)
    rungs = [
        ("--mirror", _parse_entries(options, upstream, "--mirror")),
        ("BEDPLATE_MIRROR", _parse_entries(environ.get("BEDPLATE_MIRROR", "").split(), upstream, "BEDPLATE_MIRROR")),
        (str(settings), _read_settings(settings, upstream)),
        ("the host's apt sources", _from_apt(upstream, apt)),
    ]
    bases: dict[str, tuple[str, ...]] = {}
    origins: dict[str, str] = {}
    archives: dict[str, tuple[str, ...]] = {}
    for kind, definition in upstream.mirrors.items():
        for origin, named in rungs:
            urls = named.get(kind) or _derived(definition, named)
            if urls:
                bases[kind], origins[kind] = tuple(urls), origin
                break
        else:
            raise _not_found(upstream, kind)
        found = (named.get(f"{_ARCHIVE}.{kind}") or named.get(_ARCHIVE) for _, named in rungs)
        archives[kind] = tuple(next((urls for urls in found if urls), ()))
    return Mirrors(upstream.id, bases, {suite.name: suite.mirror for suite in upstream.suites}, archives, origins)


def _derived(definition: MirrorKind, named: Named) -> list[str]:
    return [url + definition.suffix for url in named.get(definition.derived_from, [])]


def _not_found(upstream: Upstream, kind: str) -> BedplateError:
    flag = "--mirror URL" if kind == next(iter(upstream.mirrors)) else f"--mirror {kind}=URL"
    return BedplateError(
        f"no mirror of {upstream.id} ({kind} archive) is known: this host's apt sources name none",
        remedy=f"name one with {flag}, in BEDPLATE_MIRROR, or in settings.toml under [mirrors.{upstream.id}]",
    )


def _parse_entries(entries: Iterable[str], upstream: Upstream, where: str) -> Named:
    named: Named = {}
    for entry in entries:
        match = _ENTRY.match(entry)
        if match is None:
            raise BadInput(
                f"{entry!r} is not a mirror", where=where, remedy="write URL or KIND=URL (http, https or file)"
            )
        if match["upstream"] in (None, upstream.id):
            kind = match["kind"] or next(iter(upstream.mirrors))
            _check_kind(kind, upstream, where)
            named.setdefault(kind, []).append(match["url"].rstrip("/"))
    return named


def _check_kind(kind: str, upstream: Upstream, where: str) -> None:
    known = [*upstream.mirrors, _ARCHIVE, *(f"{_ARCHIVE}.{name}" for name in upstream.mirrors)]
    if kind not in known:
        raise BadInput(
            f"{upstream.id} has no archive called {kind!r}", where=where, remedy=f"there are: {', '.join(known)}"
        )


def _read_settings(path: Path, upstream: Upstream) -> Named:
    try:
        data = tomllib.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadInput(f"cannot be read ({error})", where=str(path), remedy="correct or remove it") from error
    mirrors = data.get("mirrors", {})
    if not isinstance(mirrors, dict):
        raise BadInput("`mirrors` is not a table", where=str(path), remedy='write [mirrors] and main = "URL" below')
    own = mirrors.get(upstream.id)
    shared = {key: value for key, value in mirrors.items() if _is_urls(value) or key == _ARCHIVE}
    table = own if isinstance(own, dict) else shared
    named: Named = {}
    for kind, urls in _flatten(table):
        for url in [urls] if isinstance(urls, str) else urls:
            for key, values in _parse_entries([f"{kind}={url}"], upstream, f"{path}: mirrors.{kind}").items():
                named.setdefault(key, []).extend(values)
    return named


def _is_urls(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, list) and all(isinstance(item, str) for item in value))


def _flatten(table: dict[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    # TOML reads `archive.security = …` as a table in a table.
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _from_apt(upstream: Upstream, apt: Iterable[AptSource]) -> Named:
    """Sources that are an archive of this upstream, those whose keyring says so first."""
    sources = list(apt)
    named: Named = {}
    for kind, definition in upstream.mirrors.items():
        scored = [(_score(source, definition, upstream), source.uri.rstrip("/")) for source in sources]
        best = [uri for wanted in (2, 1) for score, uri in scored if score == wanted]
        if best:
            named[kind] = list(dict.fromkeys(best))
    return named


def _score(source: AptSource, kind: MirrorKind, upstream: Upstream) -> int:
    """2: the keyring names the archive; 1: no keyring is named, but the path does; 0: another archive."""
    if source.suite not in kind.apt_suites or not set(source.components) & set(upstream.components):
        return 0
    if not source.uri.startswith(("http://", "https://", "file:/")):
        return 0  # cdrom:, mirror+file: and the like
    if source.keyring:
        # A third party's archive may use Debian's suite names and even its paths, but not its keyring.
        return 2 if any(fnmatchcase(source.keyring, pattern) for pattern in kind.keyrings) else 0
    return 1 if source.uri.rstrip("/").rpartition("/")[2] == kind.path else 0
