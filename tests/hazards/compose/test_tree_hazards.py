"""Trees that must not be made: each case is named after what is wrong with it."""

from __future__ import annotations

import lzma
import struct
from collections.abc import Callable
from dataclasses import replace

import pytest
from tests.support.compose import contents_of, folder, package, plan, regular, symlink

from bedplate.compose import groups
from bedplate.compose.modules import read_index, select
from bedplate.compose.owned import OwnedSet
from bedplate.compose.plan import TreePlan
from bedplate.model.errors import BadInput, BedplateError


def two_packages_one_path() -> TreePlan:
    return plan(package("a", {"/usr/bin/x": b"1"}), package("b", {"/usr/bin/x": b"2"}))


def same_bytes_other_mode() -> TreePlan:
    return plan(package("a", {"/usr/x": b"1"}), package("b", None, regular("/usr/x", b"1", 0o4755)))


def file_and_directory() -> TreePlan:
    return plan(package("a", {"/usr/x": b"1"}), package("b", None, folder("/usr/x")))


def directory_with_two_modes() -> TreePlan:
    return plan(package("a", None, folder("/srv/x", 0o700)), package("b", None, folder("/srv/x", 0o755)))


def path_below_a_link() -> TreePlan:
    return plan(package("a", None, symlink("/lib", "usr/lib")), package("b", {"/lib/x": b"1"}))


def path_below_a_file() -> TreePlan:
    return plan(package("a", {"/usr/x": b"1"}), package("b", {"/usr/x/y": b"2"}))


def links_that_differ() -> TreePlan:
    return plan(package("a", None, symlink("/usr/x", "one")), package("b", None, symlink("/usr/x", "two")))


def owned_file_without_declaration() -> TreePlan:
    return plan(package("a", {"/etc/x": b"1"}), sets=(OwnedSet("base", (regular("/etc/x", b"2"),)),))


def two_sets_one_path() -> TreePlan:
    sets = tuple(OwnedSet(name, (regular("/etc/x", name.encode()),), ("/etc/x",)) for name in ("one", "two"))
    return plan(sets=sets)


def unknown_user() -> TreePlan:
    return plan(package("a", None, regular("/etc/x", b"", 0o600, "mallory")))


def unknown_group() -> TreePlan:
    return plan(package("a", None, regular("/etc/x", b"", 0o600, "root", "mallory")))


def dot_dot() -> TreePlan:
    return plan(package("a", {"/usr/../etc/shadow": b"1"}))


def double_slash() -> TreePlan:
    return plan(package("a", {"//etc/shadow": b"1"}))


def relative_path() -> TreePlan:
    return plan(package("a", {"etc/shadow": b"1"}))


def unknown_capability() -> TreePlan:
    return plan(package("a", None, replace(regular("/usr/bin/x"), capabilities="cap_everything=ep")))


CASES: list[tuple[Callable[[], TreePlan], tuple[str, ...]]] = [
    (two_packages_one_path, ("/usr/bin/x", "package:a", "package:b")),
    (same_bytes_other_mode, ("/usr/x", "0644", "4755")),
    (file_and_directory, ("/usr/x", "file", "directory")),
    (directory_with_two_modes, ("/srv/x", "0700", "0755")),
    (path_below_a_link, ("/lib/x", "package:b", "/lib", "package:a")),
    (path_below_a_file, ("/usr/x/y", "package:b", "a file of package:a")),
    (links_that_differ, ("/usr/x", "one", "two")),
    (owned_file_without_declaration, ("/etc/x", "package:a", "files:base")),
    (two_sets_one_path, ("/etc/x", "files:one", "files:two")),
    (unknown_user, ("/etc/x", "mallory", "ids.toml")),
    (unknown_group, ("/etc/x", "mallory", "ids.toml")),
    (dot_dot, ("/usr/../etc/shadow", "package:a")),
    (double_slash, ("//etc/shadow", "package:a")),
    (relative_path, ("etc/shadow", "package:a")),
    (unknown_capability, ("cap_everything",)),
]


@pytest.mark.parametrize(("case", "named"), CASES, ids=[case.__name__ for case, _ in CASES])
def test_refused_and_explained(case: Callable[[], TreePlan], named: tuple[str, ...]) -> None:
    with pytest.raises(BadInput) as caught:
        case()
    assert all(word in str(caught.value) for word in named), str(caught.value)


def test_all_conflicts_at_once() -> None:
    one = package("a", {f"/usr/{n}": b"1" for n in range(60)})
    two = package("b", {f"/usr/{n}": b"2" for n in range(60)})
    with pytest.raises(BadInput) as caught:
        plan(one, two)
    assert len(caught.value.details) == 41
    assert caught.value.details[-1] == "and 20 more"


def test_content_that_changed_since_it_was_planned() -> None:
    source = package("a", {"/usr/x": b"planned"})
    tree = plan(source)
    source.contents = {"/usr/x": b"swapped"}
    with pytest.raises(BedplateError, match="not what the plan says"):
        list(contents_of(source).read(tree.groups[0]))


def test_content_that_is_missing() -> None:
    source = package("a", {"/usr/x": b"planned"})
    tree = plan(source)
    source.entries = ()
    with pytest.raises(BedplateError, match="does not hold /usr/x"):
        list(contents_of(source).read(tree.groups[0]))


def test_decompression_bomb(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups, "MAX_TRANSFORMED_BYTES", 1 << 20)
    bomb = lzma.compress(bytes(8 << 20), check=lzma.CHECK_CRC32)
    assert len(bomb) < 10_000
    with pytest.raises(BedplateError, match="larger than allowed"):
        groups.unxz(bomb, "bomb")


@pytest.mark.parametrize(
    "data", [b"", b"not xz", lzma.compress(b"x" * 1000)[:-20]], ids=["empty", "foreign", "cut short"]
)
def test_broken_compression(data: bytes) -> None:
    with pytest.raises(BedplateError):
        groups.unxz(data, "module")


@pytest.mark.parametrize("data", [b"", b"\x7fELF\x02\x01" + bytes(20), b"\x7fELF\x02\x01" + b"\xff" * 100])
def test_module_that_is_no_elf_file(data: bytes) -> None:
    kernel = package("linux", {"/usr/lib/modules/1/kernel/a.ko": data})
    with pytest.raises(BedplateError, match="not a kernel module"):
        read_index(kernel, ["a"])


def test_module_list_that_names_nothing() -> None:
    # An ELF header, and one section: that of the names, which is empty.
    header = b"\x7fELF\x02\x01" + bytes(34) + struct.pack("<Q", 64) + bytes(10) + struct.pack("<HHH", 64, 1, 0)
    header += bytes(24) + struct.pack("<QQ", 128, 1) + bytes(24) + bytes(8)
    index = read_index(package("linux", {"/usr/lib/modules/1/kernel/a.ko": header}), ["a"])
    with pytest.raises(BadInput) as caught:
        select(index, ["a", "nowhere", "net/gone/*"], "track")
    assert caught.value.details == ("nowhere", "net/gone/*")
