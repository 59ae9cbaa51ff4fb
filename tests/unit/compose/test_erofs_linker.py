"""Images the linker writes, read back."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.erofs import EPOCH, IMAGE_UUID, RUN, directory, file, link_files, make_object, symlink

from bedplate.compose.erofs.compare import compare_images
from bedplate.compose.erofs.linker import link
from bedplate.compose.erofs.reader import ErofsImage
from bedplate.model.errors import BadInput, BedplateError
from bedplate.model.package import FileKind
from bedplate.model.tree import FromGroup, TreeEntry

SELINUX = (("security.selinux", b"system_u:object_r:bin_t:s0\0"),)


def _read(path: Path) -> dict[str, tuple[object, ...]]:
    with ErofsImage(path) as image:
        found: dict[str, tuple[object, ...]] = {}
        for node in image.walk():
            inode = node.inode
            mtime = EPOCH if inode.mtime is None else inode.mtime
            content = b"" if node.is_directory else image.read(node)
            found[node.path] = (inode.mode & 0o7777, inode.uid, inode.gid, mtime, image.xattrs(node), content)
        return found


names = st.text("abcXYZ.-_ é", min_size=1, max_size=12).filter(lambda name: name not in (".", ".."))
contents = st.one_of(
    st.binary(max_size=40),
    st.sampled_from([0, 1, 3900, 4032, 4095, 4096, 4097, 8192, 9000]).map(os.urandom),
    st.integers(1, 12).map(lambda count: b"bedplate" * (count * RUN // 8) + bytes(count * RUN % 8)),
)


@st.composite
def trees(draw: st.DrawFn) -> tuple[list[TreeEntry], dict[str, bytes]]:
    """Entries with their parents, and the content of the files among them."""
    folders = [""]
    entries: dict[str, TreeEntry] = {}
    files: dict[str, bytes] = {}
    for _ in range(draw(st.integers(0, 25))):
        path = f"{draw(st.sampled_from(folders))}/{draw(names)}"
        if path in entries:
            continue
        changes: dict[str, object] = {
            "mode": draw(st.integers(0, 0o7777)),
            "uid": draw(st.sampled_from([0, 65535, 65536, 2**32 - 2])),
            "mtime": draw(st.sampled_from([EPOCH, 0, 2**33])),
            "xattrs": draw(st.sampled_from([(), SELINUX, (("security.capability", bytes(20)), *SELINUX)])),
        }
        kind = draw(st.sampled_from(["file", "file", "directory", "symlink", "hardlink"]))
        if kind == "directory":
            folders.append(path)
            entries[path] = directory(path, **changes)
        elif kind == "symlink":
            entries[path] = symlink(path, draw(st.text("/abc", min_size=1, max_size=60)), **changes)
        elif kind == "hardlink" and files:
            first = entries[draw(st.sampled_from(sorted(files)))]
            entries[path] = TreeEntry(
                path, first.kind, first.mode, first.uid, first.gid, first.mtime, first.owner, first.size,
                content=first.content, hardlink=first.path, xattrs=first.xattrs,
            )  # fmt: skip
        else:
            files[path] = draw(contents)
            entries[path] = file(path, files[path], **changes)
    return list(entries.values()), files


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(trees(), st.randoms(use_true_random=False))
def test_every_tree_reads_back_as_it_was_given(tree: tuple[list[TreeEntry], dict[str, bytes]], shuffle: object) -> None:
    entries, files = tree
    with TemporaryDirectory() as folder:
        out = Path(folder) / "image"
        objects = {"g": make_object(Path(folder), "g", files)}
        result = link(entries, objects, out, uuid=IMAGE_UUID, epoch_time=EPOCH)
        again = Path(folder) / "again"
        shuffle.shuffle(entries)  # type: ignore[attr-defined]
        link(entries, objects, again, uuid=IMAGE_UUID, epoch_time=EPOCH)
        assert out.read_bytes() == again.read_bytes()
        assert out.stat().st_size == result.bytes
        found = _read(out)
    expected = {
        entry.path: (
            entry.mode, entry.uid, entry.gid, entry.mtime, tuple(sorted(entry.xattrs)),
            files[entry.content.path] if entry.content else os.fsencode(entry.target),
        )
        for entry in entries
    }  # fmt: skip
    assert found.pop("/")[0] == 0o755
    assert found == expected


def test_large_directory_is_found_whole_and_in_order(tmp_path: Path) -> None:
    wanted = {f"/d/{'n' * (number % 200)}{number}": b"x" for number in range(1500)}
    image, _ = link_files(tmp_path, wanted, directory("/d"))
    with ErofsImage(image) as opened:
        assert {node.path for node in opened.walk()} == {"/", "/d", *wanted}


def test_link_counts_are_those_a_kernel_expects(tmp_path: Path) -> None:
    second = file("/b/two", b"same", hardlink="/a/one", content=FromGroup("g", "/a/one"))
    image, result = link_files(
        tmp_path, {"/a/one": b"same"}, directory("/a"), directory("/b"), directory("/b/c"), second
    )
    with ErofsImage(image) as opened:
        found = {node.path: (node.inode.nlink, node.nid) for node in opened.walk()}
    assert found["/"][0] == 4
    assert found["/b"][0] == 3
    assert found["/a/one"] == found["/b/two"]
    assert found["/a/one"][0] == 2
    assert result.inodes == 5


def test_entries_of_the_base_time_take_the_small_inode(tmp_path: Path) -> None:
    image, _ = link_files(tmp_path, {"/a": b"1"}, symlink("/l", "a", mtime=5))
    with ErofsImage(image) as opened:
        assert {node.path: node.inode.compact for node in opened.walk()} == {"/": True, "/a": True, "/l": False}


def test_one_content_of_two_groups_is_stored_once(tmp_path: Path) -> None:
    content = os.urandom(5 * 4096)
    objects = {key: make_object(tmp_path, key, {f"/{key}": content}) for key in ("g", "h")}
    entries = [file("/g", content, "g"), file("/h", content, "h")]
    result = link(entries, objects, tmp_path / "i", uuid=IMAGE_UUID, epoch_time=EPOCH)
    assert result.data_blocks == 5
    assert {value[-1] for path, value in _read(tmp_path / "i").items() if path != "/"} == {content}


def test_changing_one_group_leaves_the_others_blocks_as_they_are(tmp_path: Path) -> None:
    stable = os.urandom(20 * 4096)
    images = []
    for number, size in enumerate((3, 9)):
        folder = tmp_path / str(number)
        folder.mkdir()
        changed = os.urandom(size * 4096)
        objects = {"g": make_object(folder, "g", {"/g": changed}), "h": make_object(folder, "h", {"/h": stable})}
        entries = [file("/g", changed, "g", owner="package:a"), file("/h", stable, "h", owner="package:b")]
        link(entries, objects, folder / "i", uuid=IMAGE_UUID, epoch_time=EPOCH)
        images.append((folder / "i").read_bytes())
    assert all(stable in image for image in images)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([symlink("/a/b", "x")], "parent directory belongs to nobody"),
        ([symlink("/a", "x"), symlink("/a/b", "x")], "is no directory"),
        ([directory("/a"), symlink("/a/..", "x")], "not a canonical path"),
        ([symlink("//a", "x")], "not a canonical path"),
        ([symlink("/a", "")], "empty or too long target"),
        ([symlink("/" + "n" * 256, "x")], "longer than 255 bytes"),
        ([directory("/a", hardlink="/b")], "no file of the image"),
        ([directory("/a", mode=0o40755)], "out of range"),
    ],
)
def test_entries_that_are_no_tree_are_refused(tmp_path: Path, entries: list[TreeEntry], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        link(entries, {}, tmp_path / "i", uuid=IMAGE_UUID, epoch_time=EPOCH)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (file("/a", b"12"), "no object holds"),
        (file("/known", b"12"), "content has 1 bytes, 2 were planned"),
        (TreeEntry("/a", FileKind.FILE, 0o644, 0, 0, 0, "stage:x", size=1), "file without content"),
    ],
)
def test_content_that_is_not_as_planned_stops_the_link(tmp_path: Path, entry: TreeEntry, message: str) -> None:
    objects = {"g": make_object(tmp_path, "g", {"/known": b"1"})}
    with pytest.raises(BedplateError, match=message):
        link([entry], objects, tmp_path / "i", uuid=IMAGE_UUID, epoch_time=EPOCH)


def test_comparison_names_every_difference(tmp_path: Path) -> None:
    images = []
    for name, files, more in (
        ("one", {"/same": b"1", "/changed": b"abc", "/gone": b""}, [symlink("/l", "a"), directory("/d")]),
        (
            "two",
            {"/same": b"1", "/changed": b"abd", "/new": b""},
            [symlink("/l", "a", uid=7), directory("/d", mode=0o700)],
        ),
    ):
        folder = tmp_path / name
        folder.mkdir()
        images.append(link_files(folder, files, *more)[0])
    with ErofsImage(images[0]) as first, ErofsImage(images[1]) as second:
        found = {(difference.path, difference.what) for difference in compare_images(first, second)}
        assert not list(compare_images(first, first))
    assert found == {
        ("/changed", "content"),
        ("/gone", "only in first"),
        ("/new", "only in second"),
        ("/l", "owner"),
        ("/d", "mode"),
    }
