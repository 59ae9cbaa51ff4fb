"""States of a repository: what it held at a time, kept so that it can be used again.

A state is a directory of hard links to the signed packages with the metadata that names them, so it costs directory
entries and no data. It is named by its time and the digest of its metadata; the same content is never kept twice in a
row.

    REPOSITORY/STREAM/ARCH              what is served
    REPOSITORY/states/ID/STREAM/ARCH    a state, served as it is by putting "states/ID" into the repository's address
    REPOSITORY/states/ID/state.json     what it holds
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from bedplate.model.errors import BadInput, BedplateError
from bedplate.model.evr import Evr
from bedplate.model.package import Nevra
from bedplate.packages.atomic import replacing

_FORMAT = 1


@dataclass(frozen=True, slots=True)
class HeldPackage:
    """One package of a state.

    ``sha256`` is of the unsigned RPM, ``location`` its path below the repository, ``size`` its bytes as served. ``why``
    is the chain from what was asked for down to it, both ends included. ``requires`` and ``provides`` are the
    dependencies of the finished RPM without those on rpm itself.
    """

    name: str
    evr: str
    arch: str
    source: str
    summary: str
    sha256: str
    location: str
    size: int
    why: tuple[str, ...]
    requires: tuple[str, ...]
    provides: tuple[str, ...]

    @property
    def nevra(self) -> Nevra:
        """Name, EVR and architecture."""
        return Nevra(self.name, Evr.parse(self.evr), self.arch)


@dataclass(frozen=True, slots=True)
class State:
    """A repository's content.

    ``created`` is in seconds since the epoch, and the revision its metadata carries. ``repomd_sha256`` is of its
    repomd.xml. ``content`` is a digest of the packages as served and of the further metadata: the same at any time.
    """

    id: str
    created: int
    repomd_sha256: str
    packages: tuple[HeldPackage, ...]
    comment: str = ""
    content: str = ""

    def newest(self) -> dict[str, HeldPackage]:
        """The highest version of each name."""
        found: dict[str, HeldPackage] = {}
        for package in self.packages:
            known = found.get(package.name)
            if known is None or known.nevra.evr < package.nevra.evr:
                found[package.name] = package
        return found


@dataclass(frozen=True, slots=True)
class StateSummary:
    """A kept state without its packages; ``current`` says that it is what is served."""

    id: str
    created: int
    repomd_sha256: str
    count: int
    comment: str
    current: bool


@dataclass(frozen=True, slots=True)
class Change:
    """What became of one package between two states: empty EVRs say that it was not there, or is not any more.

    ``kind`` is "added", "removed", "upgraded", "downgraded" or "rebuilt" (another content under the same version).
    """

    name: str
    kind: str
    old: str
    new: str
    source: str


class StateStore:
    """The kept states below ``root``.

    Args:
        root: Directory of the repository, the parent of ``STREAM/ARCH``.
        place: ``STREAM/ARCH``.
    """

    def __init__(self, root: Path, place: str) -> None:
        self._states = root / "states"
        self.served = root / place
        self._place = place
        self._current = root / f".{place.replace('/', '-')}-current"

    def current(self) -> State | None:
        """What is served; None when nothing was ever published here."""
        try:
            return self.read(self._current.read_text().strip())
        except FileNotFoundError:
            return None

    def read(self, identity: str) -> State:
        """The state called ``identity``.

        Raises:
            BadInput: there is none, or its record is damaged.
        """
        path = self._states / identity / "state.json"
        try:
            body = json.loads(path.read_text())
            packages = tuple(
                HeldPackage(**{**one, **{key: tuple(one[key]) for key in ("why", "requires", "provides")}})
                for one in body["packages"]
            )
            return State(
                body["id"], body["created"], body["repomd_sha256"], packages, body["comment"], body.get("content", "")
            )
        except (FileNotFoundError, NotADirectoryError):
            raise BadInput(
                f"no state {identity!r} of the repository is kept", where=str(self._states), remedy=_SEE
            ) from None
        except (ValueError, KeyError, TypeError) as error:
            raise BadInput("the record of a repository state is damaged", where=str(path), remedy=_SEE) from error

    def summaries(self) -> list[StateSummary]:
        """Every kept state, the newest first."""
        current = self._current.read_text().strip() if self._current.exists() else ""
        found = []
        for path in sorted(self._states.glob("*/state.json"), reverse=True):
            state = self.read(path.parent.name)
            found.append(
                StateSummary(
                    state.id,
                    state.created,
                    state.repomd_sha256,
                    len(state.packages),
                    state.comment,
                    state.id == current,
                )
            )
        return found

    def find(self, wanted: str) -> State:
        """The state that ``wanted`` means: an id, the start of one, the start of its metadata's digest, a date
        (``2026-11-21``: the last state of that day or before it), "current", or "previous".

        Raises:
            BadInput: nothing or more than one thing is meant.
        """
        known = self.summaries()
        if wanted in ("current", "previous"):
            at = next((number for number, one in enumerate(known) if one.current), None)
            at = None if at is None else at + (wanted == "previous")
            if at is None or at >= len(known):
                raise BadInput(f"there is no {wanted} state", where=str(self._states), remedy=_SEE)
            return self.read(known[at].id)
        exact = [
            one.id for one in known if wanted and (one.id.startswith(wanted) or one.repomd_sha256.startswith(wanted))
        ]
        if len(exact) == 1 or wanted in exact:
            return self.read(wanted if wanted in exact else exact[0])
        day = wanted.replace("-", "")
        if len(day) == 8 and day.isdigit():
            before = [one.id for one in known if one.id[:8] <= day]
            if before:
                return self.read(before[0])
        if exact:
            raise BadInput(f"{wanted!r} means {len(exact)} states", details=exact, remedy="write more of its name")
        raise BadInput(f"no state {wanted!r} of the repository is kept", where=str(self._states), remedy=_SEE)

    def keep(self, state: State) -> State:
        """Keep what is served now as ``state``, and remember it as the current one. When the current state has the same
        metadata, that one is given back and nothing is kept."""
        known = self.current()
        if known is not None and known.repomd_sha256 == state.repomd_sha256:
            return known
        final = self._states / state.id
        self._states.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=self._states, prefix=".new-"))
        try:
            place = scratch / self._place
            for package in state.packages:
                _link(self.served / package.location, place / package.location)
            _copy_metadata(self.served, place)
            with replacing(scratch / "state.json") as stream:
                stream.write(json.dumps({"format": _FORMAT, **asdict(state)}, sort_keys=True).encode())
            scratch.chmod(0o755)
            scratch.rename(final)
        except OSError as error:
            raise BedplateError(
                f"cannot keep the state of the repository ({error.strerror})",
                where=str(final),
                remedy="free some space, and run again: what is served is whole",
            ) from error
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        self._remember(state.id)
        return state

    def place(self, state: State) -> Path:
        """Where ``state`` lies, in the form of what is served."""
        return self._states / state.id / self._place

    def bring_back(self, state: State) -> None:
        """Link the packages of ``state`` into the served directory. Its metadata is not touched: an older state takes
        the place of a newer one by being published again."""
        for package in state.packages:
            _link(self.place(state) / package.location, self.served / package.location)

    def _remember(self, identity: str) -> None:
        with replacing(self._current) as stream:
            stream.write(f"{identity}\n".encode())


_SEE = "see: bedplate packages snapshots"


def compare(old: State, new: State) -> list[Change]:
    """What changed between two states, by name, looking at the highest version of each."""
    before, after = old.newest(), new.newest()
    changes = []
    for name in sorted(before.keys() | after.keys()):
        was, now = before.get(name), after.get(name)
        if was is None and now is not None:
            changes.append(Change(name, "added", "", now.evr, now.source))
        elif now is None and was is not None:
            changes.append(Change(name, "removed", was.evr, "", was.source))
        elif was is not None and now is not None and was.evr != now.evr:
            kind = "upgraded" if was.nevra.evr < now.nevra.evr else "downgraded"
            changes.append(Change(name, kind, was.evr, now.evr, now.source))
        elif was is not None and now is not None and was.sha256 != now.sha256:
            changes.append(Change(name, "rebuilt", was.evr, now.evr, now.source))
    return changes


def merged(
    before: Iterable[HeldPackage], fresh: Iterable[HeldPackage], versions: int
) -> tuple[tuple[HeldPackage, ...], Mapping[str, int]]:
    """The packages of a new state: the fresh ones, and of ``before`` what they do not replace, the highest ``versions``
    of each name. Gives them sorted, and how many of ``before`` were left out by name."""
    by_nevra = {package.nevra: package for package in before}
    by_nevra.update((package.nevra, package) for package in fresh)
    by_name: dict[str, list[HeldPackage]] = {}
    for package in by_nevra.values():
        by_name.setdefault(package.name, []).append(package)
    kept, gone = [], {}
    for name, found in sorted(by_name.items()):
        found.sort(key=lambda package: package.nevra.evr, reverse=True)
        kept += found[:versions]
        if len(found) > versions:
            gone[name] = len(found) - versions
    return tuple(kept), gone


def _link(source: Path, target: Path) -> None:
    try:
        if target.samefile(source):
            return
    except FileNotFoundError:
        target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    temporary.hardlink_to(source)
    temporary.rename(target)


def _copy_metadata(served: Path, place: Path) -> None:
    metadata = (served / "repodata").resolve()
    target = place / metadata.name
    target.mkdir(parents=True, exist_ok=True)
    for path in metadata.iterdir():
        _link(path, target / path.name)
    (place / "repodata").symlink_to(metadata.name)
