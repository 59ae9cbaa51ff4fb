"""A directory and a bucket behave the same."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bedplate.model.errors import TrustError
from bedplate.release.objects import Absent, Anything, Conflict, NotFound, ObjectStore, Unchanged


def test_what_is_written_is_read(objects: ObjectStore, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"0123456789" * 100)
    objects.put("blobs/ab/abc", tmp_path / "file", Anything())
    assert objects.get("blobs/ab/abc", 1000).data == b"0123456789" * 100
    assert b"".join(objects.stream("blobs/ab/abc", 5, 10)) == b"5678901234"
    assert b"".join(objects.stream("blobs/ab/abc", 990)) == b"0123456789"
    info = objects.info("blobs/ab/abc")
    assert info is not None
    assert info.size == 1000
    assert [one.path for one in objects.list("blobs")] == ["blobs/ab/abc"]


def test_what_is_missing(objects: ObjectStore) -> None:
    assert objects.info("nothing") is None
    assert list(objects.list("nothing")) == []
    objects.delete("nothing")
    with pytest.raises(NotFound):
        objects.get("nothing", 10)
    with pytest.raises(NotFound):
        list(objects.stream("nothing"))


def test_a_write_that_must_be_the_first(objects: ObjectStore) -> None:
    objects.put("metadata/1.root.json", b"one", Absent())
    with pytest.raises(Conflict):
        objects.put("metadata/1.root.json", b"two", Absent())
    assert objects.get("metadata/1.root.json", 10).data == b"one"


def test_a_write_that_must_follow_what_was_read(objects: ObjectStore) -> None:
    objects.put("metadata/timestamp.json", b"one", Anything())
    read = objects.get("metadata/timestamp.json", 10)
    objects.put("metadata/timestamp.json", b"two", Unchanged(read.tag))
    with pytest.raises(Conflict):
        objects.put("metadata/timestamp.json", b"three", Unchanged(read.tag))
    assert objects.get("metadata/timestamp.json", 10).data == b"two"


def test_of_many_writers_at_once_one_is_first(objects: ObjectStore) -> None:
    def write(number: int) -> bool:
        try:
            objects.put("pending/edge.json", b"%d" % number, Absent())
        except Conflict:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(write, range(8))) == 1


def test_no_more_is_read_than_asked_for(objects: ObjectStore) -> None:
    objects.put("big", b"x" * 100, Anything())
    with pytest.raises(TrustError, match="larger than the 99 bytes"):
        objects.get("big", 99)
