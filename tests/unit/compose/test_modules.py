"""Kernel modules: only those that are wanted are unpacked, each of them once."""

from __future__ import annotations

import lzma
import struct

import pytest
from tests.support.compose import MemoryPackage, package

from bedplate.compose import groups
from bedplate.compose.groups import Unpacked
from bedplate.compose.modules import load_order, read_index, select
from bedplate.model.tree import Transform

BELOW = "/usr/lib/modules/1/kernel/"


def _module(info: str) -> bytes:
    """An ELF file with a ``.modinfo`` section (System V gABI): header, both sections' bytes, section headers."""
    body, names = info.replace("\n", "\0").encode() + b"\0", b"\0.modinfo\0.shstrtab\0"
    table = 64 + len(body) + len(names)
    head = b"\x7fELF\x02\x01" + bytes(34) + struct.pack("<Q", table) + bytes(10) + struct.pack("<HHH", 64, 2, 1)
    rows = [(1, 64, len(body)), (10, 64 + len(body), len(names))]
    return head + body + names + b"".join(struct.pack("<IIQQQQ24x", n, 1, 0, 0, at, size) for n, at, size in rows)


def _kernel() -> MemoryPackage:
    modules = {
        "net/card": "depends=bus-core,lib\nsoftdep=pre: helper post: later",
        "bus/bus-core": "depends=",
        "lib/lib": "depends=bus_core",
        "lib/helper": "",
    }
    files = {f"{BELOW}{path}.ko.xz": lzma.compress(_module(info)) for path, info in modules.items()}
    files[f"{BELOW}sound/broken.ko.xz"] = b"no xz stream, and nobody wants it"
    files["/usr/lib/modules/1/modules.builtin"] = b"kernel/fs/built-in-one.ko\n"
    return package("linux", files)


@pytest.mark.parametrize("wanted", [["card"], ["net/*"], ["card", "built_in_one"]])
@pytest.mark.parametrize("jobs", [1, 3])
def test_wanted_modules_and_what_they_need_are_read_and_nothing_else(wanted: list[str], jobs: int) -> None:
    index = read_index(_kernel(), wanted, jobs=jobs)
    assert set(index.modules) == {"card", "bus_core", "lib", "helper"}
    assert set(select(index, wanted, "track")) == set(index.modules)
    order = [module.name for module in load_order(index, ["card"], "track")]
    assert order[-1] == "card"
    assert order.index("bus_core") < order.index("lib")


def test_one_content_is_unpacked_once_in_a_build(monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[str] = []
    unxz = groups.unxz
    monkeypatch.setattr(groups, "unxz", lambda data, where: counted.append(where) or unxz(data, where))
    unpacked, packed = Unpacked(), lzma.compress(b"module")
    read_index(_kernel(), ["card"], unpacked)
    read_index(_kernel(), ["card"], unpacked)
    assert len(counted) == 4
    assert [unpacked.transformed(packed, Transform.UNXZ, "a") for _ in range(3)] == [b"module"] * 3
    assert unpacked.transformed(b"plain", Transform.NONE, "b") == b"plain"
    assert len(counted) == 5
