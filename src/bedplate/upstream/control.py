"""Debian control data: Release files and Packages stanzas (deb822(5), the Debian repository format), parsed fast."""

from __future__ import annotations

import gc
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from bedplate.model.errors import BadInput
from bedplate.model.package import Location, UpstreamPackage
from bedplate.upstream.table import PackageTable, positions

# A look at the first letter and a shared prefix spare the regular expression most of its work.
_IDENTITY_NAME = r"(?=[PSVAFE])(Package|S(?:ource|ize|HA256)|Version|Architecture|Filename|Essential)"
_KEPT_NAME = (
    r"(?=[DPCBRSEMI])(?:Depends|P(?:re-Depends|rovides|riority|rotected)|Conflicts|Breaks|Re(?:places|commends)"
    r"|S(?:uggests|ection|tatic-Built-Using)|Enhances|Multi-Arch|I(?:mportant|nstalled-Size)|Built-Using)"
)
_LINE = r"[^\n]*"
# A value may be folded over several lines, each further one beginning with a blank. Few stanzas have one.
_FOLDED = r"[^\n]*(?:\n[ \t][^\n]*)*"
_IDENTITY = {value: re.compile(rf"\n{_IDENTITY_NAME}:[ \t]*({value})") for value in (_LINE, _FOLDED)}
_KEPT = {value: re.compile(rf"\n({_KEPT_NAME}:{value})") for value in (_LINE, _FOLDED)}
_FOLD = "\n "
# Debian's own archive folds nothing but tags, and those are not read.
_UNEXPECTED_FOLD = re.compile(r"\n(?! |Tag:)[^\n]*\n ")
_FIELD = re.compile(rf"^([^\s:]+):[ \t]*({_FOLDED})", re.MULTILINE)
_PROVIDES = re.compile(rf"^Provides:[ \t]*({_FOLDED})", re.MULTILINE)
_SOURCE = re.compile(r"^(\S+)(?:\s+\((\S+)\))?$")
# A name stands at the start, after a comma or after a bar (deb-control(5)).
_RELATION_NAME = re.compile(r"(?:^|[,|])\s*([a-z0-9][a-z0-9+.-]*)")
_COLUMN, _CELL = "\x1e", "\x1f"
_CACHE_VERSION = b"bedplate-packages-2\n"


class ControlFields(Mapping[str, tuple[str, ...]]):
    """The relation fields of a stanza, each as a tuple of its one value; parsed when first asked for.

    Of an archive's many thousand stanzas a resolution looks at a few hundred.
    """

    __slots__ = ("_fields", "_text")

    def __init__(self, text: str) -> None:
        self._text = text
        self._fields: dict[str, tuple[str, ...]] | None = None

    def _parsed(self) -> dict[str, tuple[str, ...]]:
        if self._fields is None:
            self._fields = {name: (value,) for name, value in parse_fields(self._text).items()}
        return self._fields

    def __getitem__(self, key: str) -> tuple[str, ...]:
        return self._parsed()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._parsed())

    def __len__(self) -> int:
        return len(self._parsed())

    def __reduce__(self) -> tuple[type[ControlFields], tuple[str]]:
        return (ControlFields, (self._text,))


def parse_fields(text: str) -> dict[str, str]:
    """The fields of one stanza by name, folded lines joined with their line breaks and blanks kept as one blank."""
    return {name: re.sub(r"\n[ \t]+", " ", value).strip() for name, value in _FIELD.findall(text)}


def parse_release(text: str) -> tuple[dict[str, str], dict[str, tuple[str, int]]]:
    """A Release file: its fields, and of its SHA256 table path -> (hex digest, size in bytes).

    Raises:
        ValueError: a line of the table is not digest, size and path.
    """
    fields = dict(_FIELD.findall(text))
    table = {}
    for line in fields.pop("SHA256", "").splitlines():
        if line.strip():
            digest, size, path = line.split()
            table[path] = (digest, int(size))
    return {name: value.strip() for name, value in fields.items()}, table


Columns = list[list[str]]
"""name, source, version, architecture, path, size, sha256, essential, relation fields: one list each."""

_WIDTH = 9


def parse_packages(data: bytes, arch: str, where: str) -> Columns:
    """The stanzas of a Packages file for ``arch`` and ``all``, as columns.

    Raises:
        BadInput: not UTF-8, or a stanza lacks a field that names or locates the package.
    """
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise BadInput(f"not UTF-8 ({error})", where=where) from error
    if _COLUMN in text or _CELL in text:
        raise BadInput("holds control characters", where=where)
    if "\n\t" in text:
        text = text.replace("\n\t", _FOLD)
    rows = []
    arches = (arch, "all")
    with _gc_paused():
        for stanza in text.split("\n\n"):
            lines = "\n" + stanza
            value = _FOLDED if _FOLD in lines and _UNEXPECTED_FOLD.search(lines) else _LINE
            found = dict(_IDENTITY[value].findall(lines))
            if not found and not stanza.strip():
                continue  # more than one empty line, or the end
            try:
                row = (
                    found["Package"],
                    found.get("Source", ""),
                    found["Version"],
                    found["Architecture"],
                    found["Filename"],
                    found["Size"],
                    found["SHA256"],
                    found.get("Essential", ""),
                    "\n".join(_KEPT[value].findall(lines)),
                )
            except KeyError as error:
                raise BadInput(f"stanza of {found.get('Package', '?')!r} lacks {error}", where=where) from error
            if row[3] in arches:
                rows.append(row)
        return [list(column) for column in zip(*rows, strict=True)] or [[] for _ in range(_WIDTH)]


def make_table(columns: Columns, upstream: str, suite: str, where: str) -> PackageTable:
    """The packages of ``columns``, each made when it is looked at; everything is checked here.

    Raises:
        BadInput: a size that is no number, a path that leaves the archive, a digest or a source that is none.
    """
    _check_columns(columns, where)
    names, sources, versions, arches, paths, sizes, digests, essentials, fields = columns

    def make(at: int) -> UpstreamPackage:
        name, version = names[at], versions[at]
        source_name, source_version = _source(sources[at], version) if sources[at] else (name, version)
        return UpstreamPackage(
            format="deb",
            name=name,
            version=version,
            arch=arches[at],
            source_name=source_name,
            source_version=source_version,
            location=Location(upstream, paths[at], digests[at], int(sizes[at])),
            suite=suite,
            essential=essentials[at] == "yes",
            fields=ControlFields(fields[at]),
        )

    def provides() -> dict[str, list[int]]:
        return positions(
            (name, at)
            for at, text in enumerate(fields)
            if "Provides:" in text
            for name in relation_names(_PROVIDES.findall(text))
        )

    return PackageTable(names, make, provides, [at for at, value in enumerate(essentials) if value == "yes"])


def relation_names(values: Iterable[str]) -> list[str]:
    """The package names in relation fields, whatever their versions, architectures and alternatives."""
    return [name for value in values for name in _RELATION_NAME.findall(value)]


def _check_columns(columns: Columns, where: str) -> None:
    bad_path = next((path for path in columns[4] if path.startswith("/") or ".." in path), "")
    if bad_path:
        raise BadInput(f"a path leaves the archive: {bad_path!r}", where=where)
    digests = columns[6]
    if any(len(digest) != 64 for digest in digests) or not frozenset("0123456789abcdef").issuperset("".join(digests)):
        raise BadInput("a stanza's SHA256 is not 64 hex digits", where=where)
    bad_size = next((size for size in columns[5] if not (size.isascii() and size.isdigit())), None)
    if bad_size is not None:
        raise BadInput(f"a stanza's Size is no number: {bad_size!r}", where=where)
    bad_source = next((source for source in set(columns[1]) if source and not _SOURCE.match(source)), "")
    if bad_source:
        raise BadInput(f"a stanza's Source is wrong: {bad_source!r}", where=where)


def _source(text: str, version: str) -> tuple[str, str]:
    match = _SOURCE.match(text)
    return (match[1], match[2] or version) if match else (text, version)


def dump_columns(columns: Columns) -> bytes:
    """Columns as bytes for the cache, with a digest that shows damage."""
    body = _COLUMN.join([str(len(columns[0])), *(_CELL.join(column) for column in columns)]).encode()
    return _CACHE_VERSION + hashlib.sha256(body).digest() + body


def load_columns(data: bytes) -> Columns | None:
    """What :func:`dump_columns` wrote; None when it is damaged or of another version."""
    head = len(_CACHE_VERSION)
    body = memoryview(data)[head + 32 :]
    if data[:head] != _CACHE_VERSION or hashlib.sha256(body).digest() != data[head : head + 32]:
        return None
    count, *texts = str(body, "utf-8").split(_COLUMN)
    # Of no rows and of one row with an empty cell a column looks the same: the count tells them apart.
    columns = [text.split(_CELL) if count != "0" else [] for text in texts]
    return columns if len(columns) == _WIDTH else None


@contextmanager
def _gc_paused() -> Iterator[None]:
    """Without the cyclic collector: it would walk the growing heap again and again, and nothing here makes cycles."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
