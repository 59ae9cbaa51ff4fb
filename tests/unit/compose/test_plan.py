"""The tree plan: owners, drops, replacements, numbers, hard links, modules."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.support.compose import EPOCH, IDS, contents_of, folder, package, plan, regular, symlink

from bedplate.compose.modules import KernelModule
from bedplate.compose.owned import OwnedSet
from bedplate.compose.plan import PlannedPackage, StageOutput, add_stages, plan_tree
from bedplate.model.definition.facts import Mode, PackageFacts
from bedplate.model.digest import sha256
from bedplate.model.errors import BadInput
from bedplate.model.package import FileFlag, FileKind
from bedplate.model.tree import Transform


def owned(name: str, *entries: object, replaces: tuple[str, ...] = ()) -> OwnedSet:
    return OwnedSet(name, tuple(entries), replaces)  # type: ignore[arg-type]


def test_every_path_has_an_owner_and_a_parent() -> None:
    tree = plan(package("a", {"/usr/bin/tool": b"1"}), package("b", {"/etc/b.conf": b"2"}))
    paths = [entry.path for entry in tree.entries]
    assert paths == sorted(paths)
    assert paths == ["/", "/etc", "/etc/b.conf", "/usr", "/usr/bin", "/usr/bin/tool"]
    assert tree.by_path()["/usr/bin/tool"].owner == "package:a"
    assert all(entry.mtime == EPOCH and entry.owner for entry in tree.entries)


def test_order_of_packages_does_not_matter() -> None:
    one, two = package("a", {"/usr/a": b"1"}), package("b", {"/usr/b": b"2"})
    assert plan(one, two) == plan(two, one)


def test_directories_may_be_shared_and_the_filesystem_package_decides_their_mode() -> None:
    base = package("filesystem", None, folder("/tmp", 0o1777))
    tree = plan(package("a", None, folder("/tmp", 0o755)), base, package("z", None, folder("/tmp", 0o755)))
    assert tree.by_path()["/tmp"].mode == 0o1777
    assert tree.by_path()["/tmp"].owner == "package:filesystem"


def test_two_packages_may_bring_the_same_bytes() -> None:
    tree = plan(package("a", {"/usr/x": b"same"}), package("b", {"/usr/x": b"same"}))
    assert tree.by_path()["/usr/x"].owner == "package:a"


def test_dropped_paths_and_all_below_are_gone_with_their_content() -> None:
    tree = plan(package("a", {"/usr/share/doc/a/copyright": b"c", "/usr/bin/a": b"a"}), drop=("/usr/share/doc",))
    assert "/usr/share/doc/a/copyright" not in tree.by_path()
    assert [file.path for group in tree.groups for file in group.files] == ["/usr/bin/a"]


def test_a_set_stands_in_for_what_it_declares() -> None:
    own = owned("base", regular("/etc/hosts", b"ours"), replaces=("/etc/hosts",))
    tree = plan(package("a", {"/etc/hosts": b"theirs"}), sets=(own,))
    assert tree.by_path()["/etc/hosts"].owner == "files:base"
    assert {group.owner for group in tree.groups} == {"files:base"}


def test_ghosts_are_not_in_the_image() -> None:
    ghost = replace(regular("/var/log/lastlog"), flags=FileFlag.GHOST)
    assert "/var/log/lastlog" not in plan(package("a", None, ghost)).by_path()


def test_names_become_numbers() -> None:
    tree = plan(package("a", None, regular("/etc/x", b"", 0o640, "alice", "shadow")))
    entry = tree.by_path()["/etc/x"]
    assert (entry.uid, entry.gid, entry.mode) == (900, 42, 0o640)


def test_facts_set_modes_that_scripts_would_have_set() -> None:
    facts = {"a": PackageFacts(name="a", modes={"/usr/bin/agent": Mode(mode="2755", group="shadow")})}
    entry = plan(package("a", {"/usr/bin/agent": b"1"}), facts=facts).by_path()["/usr/bin/agent"]
    assert (entry.mode, entry.gid) == (0o2755, 42)


def test_hard_links_share_one_content_even_when_the_first_name_is_dropped() -> None:
    links = tuple(
        replace(regular(path, b"z"), hardlink="/usr/bin/a") for path in ("/usr/bin/a", "/usr/bin/b", "/usr/bin/c")
    )
    tree = plan(package("p", None, *links), drop=("/usr/bin/a",))
    first, second = tree.by_path()["/usr/bin/b"], tree.by_path()["/usr/bin/c"]
    assert first.hardlink == second.hardlink == "/usr/bin/b"
    assert first.content == second.content
    assert [file.path for file in tree.groups[0].files] == ["/usr/bin/b"]


def test_a_link_with_one_name_left_is_a_plain_file() -> None:
    links = tuple(replace(regular(path, b"z"), hardlink="/usr/bin/a") for path in ("/usr/bin/a", "/usr/bin/b"))
    assert plan(package("p", None, *links), drop=("/usr/bin/b",)).by_path()["/usr/bin/a"].hardlink == ""


def test_file_capabilities_become_an_attribute() -> None:
    able = replace(regular("/usr/bin/ping"), capabilities="cap_net_raw=ep")
    ((name, value),) = plan(package("p", None, able)).by_path()["/usr/bin/ping"].xattrs
    assert name == "security.capability"
    assert value == bytes.fromhex("0100000200200000000000000000000000000000")


def test_only_listed_modules_stay_and_lie_decompressed() -> None:
    packed = regular("/usr/lib/modules/1/kernel/a.ko.xz", b"packed")
    other = regular("/usr/lib/modules/1/kernel/b.ko.xz", b"packed too")
    module = KernelModule("a", packed.path, "a", (), (), 3, sha256(b"abc"))
    tree = plan_tree([PlannedPackage("linux", (packed, other))], (), {}, IDS, (), {"a": module}, EPOCH)
    assert "/usr/lib/modules/1/kernel/b.ko.xz" not in tree.by_path()
    assert tree.by_path()["/usr/lib/modules/1/kernel/a.ko"].size == 3
    (file,) = tree.groups[0].files
    assert (file.transform, file.source) == (Transform.UNXZ, packed.path)


def test_stage_output_joins_the_tree_and_replaces_only_what_it_says() -> None:
    base = plan(package("a", {"/usr/lib/os-release": b"theirs", "/usr/bin/a": b"1"}))
    output = StageOutput("who", (regular("/usr/lib/os-release", b"ours"),), {}, ("/usr/lib/os-release",))
    tree = add_stages(base, [output], IDS, EPOCH)
    assert tree.by_path()["/usr/lib/os-release"].owner == "stage:who"
    assert tree.by_path()["/usr/bin/a"].owner == "package:a"
    with pytest.raises(BadInput, match="conflicts"):
        add_stages(base, [replace(output, replaces=())], IDS, EPOCH)


def test_a_changed_file_changes_the_key_of_its_group_alone() -> None:
    before = plan(package("a", {"/usr/a": b"1"}), package("b", {"/usr/b": b"2"}))
    after = plan(package("a", {"/usr/a": b"9"}), package("b", {"/usr/b": b"2"}))
    keys = [{group.owner: group.key for group in tree.groups} for tree in (before, after)]
    assert keys[0]["package:a"] != keys[1]["package:a"]
    assert keys[0]["package:b"] == keys[1]["package:b"]


def test_contents_come_as_the_plan_says() -> None:
    source = package("a", {"/usr/a": b"1", "/usr/b": b"2"}, symlink("/usr/c", "b"))
    tree = plan(source)
    assert dict(contents_of(source).read(tree.groups[0])) == {"/usr/a": b"1", "/usr/b": b"2"}
    assert source.reads == 1
    assert tree.by_path()["/usr/c"].kind is FileKind.SYMLINK
