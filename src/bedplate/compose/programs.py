"""The few programs of an image that are the distribution's own: C, compiled by the tools tree, the same bytes anywhere.

The steps are named one by one (compiler, assembler, linker): the compiler's driver would look for them in places of the
host. Hardened as Debian's own packages are: position independent, read-only relocations, stack protector, checked
string functions, control-flow marks.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from bedplate.toolchain.run import Toolbox

REVISION = 1
_GCC = "usr/lib/gcc/x86_64-linux-gnu/14"
_LIBRARIES = "usr/lib/x86_64-linux-gnu"
_C_FLAGS = (
    "-quiet", "-std=gnu17", "-O2", "-Wall", "-Wextra", "-Werror", "-fno-ident", "-fPIE", "-fstack-protector-strong",
    "-fstack-clash-protection", "-fcf-protection", "-D_FORTIFY_SOURCE=3",
)  # fmt: skip
_LINK_FLAGS = (
    "-pie", "-z", "relro", "-z", "now", "-z", "noexecstack", "-z", "separate-code", "--as-needed", "--strip-all",
    "--hash-style=gnu", "--build-id=none", "-dynamic-linker", "/lib64/ld-linux-x86-64.so.2",
    "--unresolved-symbols=ignore-in-shared-libs",
)  # fmt: skip


def compile_program(source: Path, target: Path, libraries: tuple[str, ...], toolbox: Toolbox) -> None:
    """Compile one C file to a program.

    Args:
        libraries: File names of the shared libraries it is linked with.
        toolbox: A tools tree with gcc 14, binutils and libc's development files.

    Raises:
        ToolError: the compiler found something; any warning is an error.
    """
    root = toolbox.tree.root
    headers = [root / "usr/include", root / "usr/include/x86_64-linux-gnu"]
    own, libs = root / _GCC, root / _LIBRARIES
    with tempfile.TemporaryDirectory(prefix="bedplate-program-") as folder:
        text, unit = Path(folder) / "unit.s", Path(folder) / "unit.o"
        # From within its directory: no path of this machine gets into what is compiled.
        toolbox.run(
            "cc1", *_C_FLAGS, "-isystem", own / "include", *(word for path in headers for word in ("-isystem", path)),
            source.name, "-o", text, cwd=source.parent,
        )  # fmt: skip
        toolbox.run("x86_64-linux-gnu-as", "--64", text, "-o", unit)
        toolbox.run(
            "x86_64-linux-gnu-ld.bfd", f"--sysroot={root}", *_LINK_FLAGS, "-o", target,
            libs / "Scrt1.o", libs / "crti.o", own / "crtbeginS.o", unit, f"-L{own}", f"-L{libs}",
            *(f"-l:{name}" for name in libraries), "-lc", "-lgcc", own / "crtendS.o", libs / "crtn.o",
        )  # fmt: skip
