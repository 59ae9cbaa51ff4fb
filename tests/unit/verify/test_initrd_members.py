"""Initrds, read back and compared."""

from __future__ import annotations

import pytest
import zstandard

from bedplate.compose import cpio as writer
from bedplate.model.errors import BadInput
from bedplate.verify.cpio import members, unpack_initrd
from bedplate.verify.differences import ONLY_FIRST, ONLY_SECOND, compare_properties, member_properties


def archive(**files: bytes) -> bytes:
    entries = [writer.file(name, data) for name, data in files.items()]
    return writer.archive([*entries, writer.character_device("console", 5, 1), writer.link("sh", "busybox")])


def test_members_are_those_that_were_written() -> None:
    plain = archive(init=b"text", empty=b"")
    found = {member.path: member for member in members(unpack_initrd(zstandard.compress(plain), "i"), "i")}
    assert set(found) == {"init", "empty", "console", "sh"}
    assert found["init"].is_file
    assert found["init"].size == 4
    assert found["console"].device == (5, 1)


def test_differences_are_shown_member_by_member() -> None:
    one, two = (
        member_properties(members(data, "i")) for data in (archive(init=b"a", gone=b""), archive(init=b"b", new=b""))
    )
    found = [(difference.path, difference.what) for difference in compare_properties(one, two)]
    assert found == [("gone", ONLY_FIRST), ("init", "content"), ("new", ONLY_SECOND)]


@pytest.mark.parametrize("kept", [0, 50, 115, 500])
def test_an_archive_cut_short(kept: int) -> None:
    with pytest.raises(BadInput):
        members(archive(init=b"text" * 100)[:kept], "i")


def test_an_archive_without_its_end() -> None:
    whole = archive(init=b"text")
    with pytest.raises(BadInput, match="damaged"):
        members(whole[: whole.rindex(b"070701")], "i")


def test_an_archive_with_a_path_twice() -> None:
    once = archive(init=b"a")
    end = once.index(b"070701", 6)
    with pytest.raises(BadInput, match="twice"):
        members(once[:end] + once, "i")


def test_an_initrd_that_is_none() -> None:
    with pytest.raises(BadInput, match="neither"):
        unpack_initrd(b"\x1f\x8b gzip", "i")
    with pytest.raises(BadInput, match="damaged"):
        unpack_initrd(zstandard.compress(archive(init=b"a" * 500))[:-9] + b"123456789", "i")
