"""The SELinux policy, linked and compiled: semodule(8) on a store of its own, as a plain user, without SELinux.

The modules are those the policy package ships and those the distribution owns; the store is part of the image, so that
``semodule`` on the machine goes on from it. They are written into the store as ``semodule -i`` would, which reads all
that are there again for each that comes, and compiled by one ``semodule -B``.
Sources: semanage.conf(5), semodule(8), and the layout of the store, ``PRIORITY/NAME/{cil,lang_ext}`` below
``active/modules`` (https://github.com/SELinuxProject/selinux/wiki/Policy-Store-Migration).
"""

from __future__ import annotations

import bz2
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from bedplate.compose.plan import StageOutput
from bedplate.compose.stages.base import Staged, file_output, output
from bedplate.model.package import FileEntry

_SHIPPED = "/usr/share/selinux"
OWN_MODULES = f"{_SHIPPED}/bedplate"
_STORE = "/var/lib/selinux"
_PACKAGE_PRIORITY, _OWN_PRIORITY = "100", "200"
# The newest policy format the kernels of the distribution read: libsemanage writes its own newest otherwise.
POLICY_VERSION = 33
_LOCKS = (".LOCK",)
_AT_ONCE = 2


@dataclass(frozen=True, slots=True)
class SelinuxPolicy:
    """Compile the policy called ``policy`` (a directory of /etc/selinux), where its package is in the image."""

    policy: str = "default"
    name: str = "selinux"
    revision: int = 4
    inputs: tuple[str, ...] = (_SHIPPED, "/etc/selinux")

    @property
    def parameters(self) -> object:
        """What the result depends on besides the inputs."""
        return [self.policy, POLICY_VERSION]

    def run(self, staged: Staged) -> StageOutput:
        """The policy, its file contexts, the mapping of logins and the module store."""
        shipped = sorted((staged.root / _SHIPPED.lstrip("/") / self.policy).glob("*.pp*"))
        if not shipped:
            return output(self.name)
        own = sorted((staged.root / OWN_MODULES.lstrip("/")).glob("*.cil"))
        _configure(staged, self.policy)
        before = set(_files(staged, self.policy))
        store = staged.root / _STORE.lstrip("/") / self.policy / "active/modules"
        _translate(staged, shipped, store / _PACKAGE_PRIORITY)
        for module in own:
            _put(store / _OWN_PRIORITY, module.stem, module.read_bytes())
        staged.toolbox.run("semodule", "-p", staged.root, "-s", self.policy, "-n", "-B")
        made = [path for path in _files(staged, self.policy) if path not in before and not path.name.endswith(_LOCKS)]
        return output(self.name, [_entry(staged, path) for path in made])


def _translate(staged: Staged, modules: list[Path], store: Path) -> None:
    """Put modules into the store in the language policies are compiled from. semodule would do it too, one after the
    other."""

    def put(module: Path) -> None:
        data = module.read_bytes()
        packed = bz2.decompress(data) if module.suffix == ".bz2" else data
        _put(store, module.name.partition(".pp")[0], staged.toolbox.run("pp", stdin=packed).stdout)

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        list(pool.map(put, modules))


def _put(store: Path, name: str, source: bytes) -> None:
    folder = store / name
    folder.mkdir(parents=True)
    (folder / "cil").write_bytes(source)
    (folder / "lang_ext").write_text("cil")


def _files(staged: Staged, policy: str) -> list[Path]:
    folders = (staged.root / "etc/selinux" / policy, staged.root / _STORE.lstrip("/") / policy)
    return sorted(path for folder in folders for path in folder.rglob("*") if path.is_file())


def _entry(staged: Staged, path: Path) -> tuple[FileEntry, bytes]:
    name = "/" + str(path.relative_to(staged.root))
    return file_output(name, path.read_bytes(), 0o600 if name.startswith(_STORE) else 0o644)


def _configure(staged: Staged, policy: str) -> None:
    """Settings for this run alone: programs of the tools tree, and no account of this machine is looked at."""
    tree = staged.toolbox.tree
    folder = staged.root / "etc/selinux"
    folder.mkdir(parents=True, exist_ok=True)
    (staged.root / _STORE.lstrip("/")).mkdir(parents=True, exist_ok=True)
    (folder / "config").write_text(f"SELINUX=enforcing\nSELINUXTYPE={policy}\n")
    (folder / "semanage.conf").write_text(
        "module-store = direct\n"
        "expand-check = 0\n"
        f"policy-version = {POLICY_VERSION}\n"
        "usepasswd = False\n"
        # Packing the modules takes a fifth of the time; each semodule on the machine would unpack them again.
        "bzip-blocksize = 0\n"
        f"[sefcontext_compile]\npath = {tree.wrappers / 'sefcontext_compile'}\nargs = -r $@\n[end]\n"
        f"[setfiles]\npath = {tree.wrappers / 'setfiles'}\nargs = -q -c $@ $<\n[end]\n"
    )
