"""Two builds of one image held against each other, part by part and path by path. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bedplate.model.digest import sha256
from bedplate.verify.cpio import CpioMember

ONLY_FIRST, ONLY_SECOND = "only in the image", "only in the rebuilt one"
# Differences of one part that are kept; all are counted.
MAX_KEPT = 500

Properties = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class PathDifference:
    """One thing that differs: ``what`` is :data:`ONLY_FIRST`, :data:`ONLY_SECOND`, or the name of a property whose
    values in the image and in the rebuilt one are ``first`` and ``second``."""

    path: str
    what: str
    first: str = ""
    second: str = ""

    def __str__(self) -> str:
        return f"{self.path}: {self.what}" + (f" {self.first} / {self.second}" if self.first or self.second else "")


@dataclass(frozen=True, slots=True)
class PartResult:
    """One part of the image and of the rebuilt one: hex SHA-256 of what was compared, and what differs.

    ``count`` is of all differences, of which the first :data:`MAX_KEPT` are kept. ``note`` says what was left out of
    the comparison, or what is known when no path differs.
    """

    part: str
    first_sha256: str
    second_sha256: str
    differences: tuple[PathDifference, ...] = ()
    count: int = 0
    note: str = ""

    @property
    def same(self) -> bool:
        """Whether both are the same bytes."""
        return self.first_sha256 == self.second_sha256 and not self.count


@dataclass(frozen=True, slots=True)
class RebuildReport:
    """The comparison of an image with one built again. ``remarks`` are what explains a difference before any path
    does: another definition, other tools."""

    image: str
    parts: tuple[PartResult, ...]
    remarks: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def same(self) -> bool:
        """Whether all parts are the same."""
        return all(part.same for part in self.parts)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        parts = [{**asdict(part), "same": part.same} for part in self.parts]
        return {**asdict(self), "parts": parts, "same": self.same}


def part_result(
    part: str, first_sha256: str, second_sha256: str, differences: Iterable[PathDifference] = (), note: str = ""
) -> PartResult:
    """A part's result; differences are counted, and kept up to a bound."""
    kept: list[PathDifference] = []
    count = 0
    for difference in differences:
        count += 1
        if len(kept) < MAX_KEPT:
            kept.append(difference)
    return PartResult(part, first_sha256, second_sha256, tuple(kept), count, note)


def compare_properties(first: Mapping[str, Properties], second: Mapping[str, Properties]) -> list[PathDifference]:
    """What differs between two sets of named things, each with its properties, in order of names."""
    found = []
    for path in sorted(first.keys() | second.keys()):
        if path not in second:
            found.append(PathDifference(path, ONLY_FIRST))
        elif path not in first:
            found.append(PathDifference(path, ONLY_SECOND))
        else:
            one, two = first[path], second[path]
            found += [
                PathDifference(path, name, one.get(name, ""), two.get(name, ""))
                for name in sorted(one.keys() | two.keys())
                if one.get(name, "") != two.get(name, "")
            ]
    return found


def member_properties(members: Iterable[CpioMember]) -> dict[str, Properties]:
    """The members of an initrd, as :func:`compare_properties` takes them."""
    return {
        member.path: {
            "mode": f"{member.mode:o}",
            "owner": f"{member.uid}:{member.gid}",
            "mtime": str(member.mtime),
            "device": "{}:{}".format(*member.device),
            "size": str(member.size),
            "content": member.sha256,
        }
        for member in members
    }


def section_properties(sections: Iterable[tuple[str, bytes]], shown: Sequence[str]) -> dict[str, Properties]:
    """The sections of a program: size and digest, and the text itself of those named in ``shown``."""
    result: dict[str, Properties] = {}
    for name, data in sections:
        if name in shown:
            result[name] = {"text": data.rstrip(b"\0").decode(errors="replace")}
        else:
            result[name] = {"size": str(len(data)), "content": sha256(data)}
    return result


def differing_blocks(first: bytes, second: bytes, block: int) -> tuple[int, int]:
    """The first block that differs and how many do; a missing end counts as different."""
    length = max(len(first), len(second))
    wrong = [at // block for at in range(0, length, block) if first[at : at + block] != second[at : at + block]]
    return (wrong[0], len(wrong)) if wrong else (-1, 0)
