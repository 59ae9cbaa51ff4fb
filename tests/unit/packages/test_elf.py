"""ELF dependencies: held against another implementation here, against rpm's own generator with the tools tree."""

from __future__ import annotations

import io
import shutil
import sys
import sysconfig
from pathlib import Path

import elfdeps
import pytest
import solv
from elftools.elf.elffile import ELFFile

from bedplate.packages.elf import NOTHING, ElfDependencies, dependencies, is_elf
from bedplate.toolchain.run import Toolbox

_LIBRARY_DIRECTORY = "usr/lib/x86_64-linux-gnu"


def _own_files() -> list[Path]:
    extensions = Path(sysconfig.get_config_var("DESTSHARED"))
    bundled = Path(solv.__file__).parent.parent.glob("*.libs/*.so*")
    return [Path(sys.executable).resolve(), *sorted(extensions.glob("*.so")), *sorted(bundled)]


def _reference(path: Path, data: bytes) -> ElfDependencies:
    settings = elfdeps.ELFAnalyzeSettings(filter_soname=True)
    info = elfdeps.analyze_elffile(ELFFile(io.BytesIO(data)), filename=path, is_exec=True, settings=settings)
    return ElfDependencies(tuple(map(str, info.requires)), tuple(map(str, info.provides)))


def test_this_pythons_files_have_the_dependencies_another_implementation_finds() -> None:
    for path in _own_files():
        data = path.read_bytes()
        ours, theirs = dependencies(str(path), data, executable=True), _reference(path, data)
        assert set(ours.requires) == set(theirs.requires), path
        assert set(ours.provides) == set(theirs.provides), path


def test_a_program_requires_its_libraries_and_a_library_provides_its_name() -> None:
    program = Path(sys.executable).resolve().read_bytes()
    assert any(
        text.startswith("libc.so.6(") for text in dependencies("/usr/bin/python", program, executable=True).requires
    )


def test_a_program_without_execute_bit_requires_nothing() -> None:
    program = Path(sys.executable).resolve().read_bytes()
    assert dependencies("/usr/share/doc/python", program, executable=False).requires == ()


@pytest.mark.parametrize("data", [b"", b"#!/bin/sh\n", b"\x7fELF", b"\x7fELF\x02\x01\x01" + bytes(57)])
def test_what_is_no_program_has_no_dependencies(data: bytes) -> None:
    assert dependencies("/usr/bin/x", data, executable=True) == NOTHING


def test_damaged_tables_end_without_an_error() -> None:
    program = bytearray(Path(sys.executable).resolve().read_bytes())
    for position in range(16, 64):
        damaged = bytes(program[:position]) + b"\xff" + bytes(program[position + 1 : 200_000])
        dependencies("/usr/bin/x", damaged, executable=True)


@pytest.mark.tools
def test_rpms_own_generator_finds_the_same(toolbox: Toolbox, tmp_path: Path) -> None:
    root = toolbox.tree.root
    sample = [
        *sorted((root / _LIBRARY_DIRECTORY).glob("lib[a-l]*.so.*"))[::4],
        *sorted((root / "usr/bin").iterdir())[::9],
    ]
    compared = 0
    for source in sample:
        if source.is_symlink() or not source.is_file() or not is_elf(source.read_bytes()[:64]):
            continue
        copy = tmp_path / source.name
        shutil.copyfile(source, copy)
        copy.chmod(0o755)
        found = dependencies(str(copy), copy.read_bytes(), executable=True)
        assert set(found.requires) == _generator(toolbox, copy, "--requires"), source.name
        assert set(found.provides) == _generator(toolbox, copy, "--provides"), source.name
        copy.unlink()
        compared += 1
    assert compared > 20


def _generator(toolbox: Toolbox, path: Path, side: str) -> set[str]:
    return set(toolbox.run("../lib/rpm/elfdeps", side, stdin=f"{path}\n".encode()).text.split())
