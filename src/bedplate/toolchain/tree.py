"""The tools tree: a directory of unpacked packages, and how a program in it is started on any host."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from bedplate.model.errors import BedplateError

_LOADER = "usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"
_LIBRARY_DIRECTORIES = (
    "usr/lib/x86_64-linux-gnu",
    "usr/lib/x86_64-linux-gnu/systemd",
    "usr/lib/x86_64-linux-gnu/swtpm",
    "usr/lib/systemd",
    "usr/lib",
)
_PROGRAM_DIRECTORIES = (
    "usr/bin",
    "usr/sbin",
    "bin",
    "sbin",
    "usr/lib/systemd",
    "usr/libexec/gcc/x86_64-linux-gnu/14",
    "usr/libexec/selinux/hll",
)


@dataclass(frozen=True)
class ToolsTree:
    """Unpacked packages below ``root``; ``wrappers`` holds one small shell script per program."""

    root: Path

    @property
    def wrappers(self) -> Path:
        """Directory that stands in ``PATH`` of every tool."""
        return self.root.with_name(self.root.name + ".bin")

    @cached_property
    def _loader(self) -> list[str]:
        libraries = ":".join(str(self.root / directory) for directory in _LIBRARY_DIRECTORIES)
        return [str(self.root / _LOADER), "--library-path", libraries]

    def path(self, relative: str) -> Path:
        """A file of the tree, for instance a firmware image.

        Raises:
            BedplateError: the tree does not hold it.
        """
        found = self.root / relative
        if not found.exists():
            raise BedplateError(
                "the tools tree lacks this file",
                where=relative,
                remedy="add its package to distro/tools.toml and re-lock",
            )
        return found

    def find(self, tool: str) -> Path:
        """The program file called ``tool``, links resolved within the tree."""
        for directory in _PROGRAM_DIRECTORIES:
            candidate = self._resolve(self.root / directory / tool)
            if candidate is not None:
                return candidate
        raise BedplateError(
            f"the tools tree has no program {tool!r}", remedy="add its package to distro/tools.toml and re-lock"
        )

    def _resolve(self, path: Path) -> Path | None:
        # Links in the tree are written for a root file system of their own: absolute ones stay below our root.
        for _ in range(10):
            if not path.is_symlink():
                return path if path.is_file() else None
            target = path.readlink()
            path = self.root / target.relative_to("/") if target.is_absolute() else path.parent / target
        return None

    def invocation(self, tool: str) -> list[str]:
        """The start of the argument vector that runs ``tool``: loader, libraries, interpreter where it is a script."""
        return self.start(self.find(tool), tool)

    def start(self, program: Path, name: str = "") -> list[str]:
        """The start of the argument vector that runs the file ``program``, calling it ``name``."""
        tool = name or program.name
        with program.open("rb") as stream:
            head = stream.read(256)
        if head.startswith(b"\x7fELF"):
            return [*self._loader, "--argv0", tool, str(program)]
        if head.startswith(b"#!"):
            interpreter, *arguments = shlex.split(head[2:].split(b"\n", 1)[0].decode())
            shell = arguments.pop(0) if Path(interpreter).name == "env" else Path(interpreter).name
            return [*self.invocation(shell), *arguments, str(program)]
        raise BedplateError("neither an ELF program nor a script", where=str(program))

    def environment(self) -> dict[str, str]:
        """Variables that tell programs where their data lies, since it is not below ``/``."""
        lib = self.root / "usr/lib/x86_64-linux-gnu"
        return {
            "QEMU_MODULE_DIR": str(lib / "qemu"),
            "GCONV_PATH": str(lib / "gconv"),
            "OPENSSL_MODULES": str(lib / "ossl-modules"),
            "RPM_CONFIGDIR": str(self.root / "usr/lib/rpm"),
            "MAGIC": str(self.root / "usr/share/misc/magic.mgc"),
            "PYTHONHOME": str(self.root / "usr"),
            "PYTHONPATH": str(self.root / "usr/lib/python3/dist-packages"),
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def write_wrappers(self) -> None:
        """Write :attr:`wrappers` for every program of the tree, so that programs can start one another."""
        self.wrappers.mkdir(parents=True, exist_ok=True)
        for directory in _PROGRAM_DIRECTORIES:
            folder = self.root / directory
            if folder.is_dir():
                for entry in sorted(folder.iterdir()):
                    self._write_wrapper(entry.name)

    def _write_wrapper(self, name: str) -> None:
        wrapper = self.wrappers / name
        if wrapper.exists():
            return
        try:
            command = shlex.join(self.invocation(name))
        except BedplateError:
            return  # a data file, a broken link, or a script for an interpreter the tree does not hold
        temporary = wrapper.with_name(f".{name}.{os.getpid()}")
        temporary.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        temporary.chmod(0o755)
        temporary.rename(wrapper)
