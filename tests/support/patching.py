"""A small root to patch: real files, hard links and databases, a package manager that replaces files as rpm does, and a
machine whose state a test decides."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

from bedplate_patch.config import Config, Health
from bedplate_patch.door import Completed
from bedplate_patch.errors import PatchError
from bedplate_patch.health import Clock
from bedplate_patch.journal import Checkpoint, Journal, no_checkpoint
from bedplate_patch.patching import Patcher
from bedplate_patch.processes import Process
from bedplate_patch.saved import Layout
from bedplate_patch.services import Snapshot
from bedplate_patch.transaction import Change, Plan, Request

UPGRADE = Plan(
    (Change("web", "x86_64", "upgrade", "1-1", "2-1", ("BSA-1",)),),
    download_bytes=1 << 20,
    installed_bytes=2 << 20,
    old_files=frozenset({"/usr/bin/web", "/usr/lib/libweb.so.1", "/opt/web/data"}),
)
NEW_FILES = frozenset({"/usr/bin/web", "/usr/lib/libweb.so.2", "/opt/web/more"})


def make_root(root: Path) -> Path:
    """A root with the package ``web`` in version 1."""
    for folder in (
        "usr/bin",
        "usr/lib/web",
        "usr/local/bin",
        "etc/web",
        "var/lib/rpm",
        "var/lib/dnf",
        "opt/web",
        "srv",
    ):
        (root / folder).mkdir(parents=True)
    (root / "usr/bin/web").write_text("web 1\n")
    (root / "usr/bin/web").chmod(0o4755)
    (root / "usr/bin/other").write_text("other\n")
    (root / "usr/lib/libweb.so.1").write_text("library 1\n")
    (root / "usr/lib/libweb.so").symlink_to("libweb.so.1")
    (root / "usr/lib/web/plugin").write_text("plugin\n")
    (root / "usr/local/bin/mine").write_text("the administrator's\n")
    (root / "etc/web/web.conf").write_text("port 80\n")
    (root / "etc/ld.so.cache").write_text("cache 1\n")
    (root / "etc/passwd").write_text("root:x:0:0\n")
    (root / "opt/web/data").write_text("data 1\n")
    (root / "srv/page").write_text("a page\n")
    with closing(sqlite3.connect(root / "var/lib/rpm/rpmdb.sqlite")) as database:
        database.execute("pragma journal_mode=wal")
        database.execute("create table packages (name text, version text)")
        database.execute("insert into packages values ('web', '1')")
        database.commit()
    return root


def contents(root: Path) -> dict[str, object]:
    """Everything below ``root`` that counts: kinds, modes, contents, targets; databases by their rows."""
    found: dict[str, object] = {}
    for folder, names, files in os.walk(root):
        for name in (*names, *files):
            path = Path(folder) / name
            key = path.relative_to(root).as_posix()
            if key.startswith("var/lib/bedplate-patch") or name.endswith(("-wal", "-shm")):
                continue
            status = path.lstat()
            mode = stat.S_IMODE(status.st_mode)
            if path.is_symlink():
                found[key] = ("link", str(path.readlink()))
            elif path.is_dir():
                found[key] = ("directory", mode)
            elif path.suffix == ".sqlite":
                with closing(sqlite3.connect(path)) as database:
                    found[key] = ("database", database.execute("select * from packages").fetchall())
            else:
                found[key] = ("file", mode, status.st_mtime_ns if key.startswith("usr/") else 0, path.read_bytes())
    return found


@dataclass
class TreePackages:
    """Upgrades ``web`` as rpm does: each new file beside the old one, then renamed; the database last."""

    root: Path
    checkpoint: Checkpoint = no_checkpoint
    planned: Plan = UPGRADE
    coming: frozenset[str] = NEW_FILES
    fails: str = ""

    def plan(self, request: Request) -> Plan:
        self.request = request
        return self.planned

    def fetch(self) -> frozenset[str]:
        return self.coming

    def commit(self) -> None:
        self._replace("usr/bin/web", "web 2\n", 0o4755)
        self._replace("usr/lib/libweb.so.2", "library 2\n", 0o644)
        self._step("link")
        (self.root / "usr/lib/libweb.so.new").symlink_to("libweb.so.2")
        (self.root / "usr/lib/libweb.so.new").rename(self.root / "usr/lib/libweb.so")
        self._replace("opt/web/data", "data 2\n", 0o644)
        self._replace("opt/web/more", "more\n", 0o644)
        self._step("configuration")
        (self.root / "etc/web/web.conf.rpmnew").write_text("port 8080\n")
        self._replace("etc/ld.so.cache", "cache 2\n", 0o644)
        self._step("erase")
        (self.root / "usr/lib/libweb.so.1").unlink()
        (self.root / "usr/lib/web/plugin").unlink()
        (self.root / "usr/lib/web").rmdir()
        (self.root / "usr/lib/web").write_text("a directory became a file\n")
        if self.fails:
            raise PatchError(self.fails)
        self._step("database")
        with closing(sqlite3.connect(self.root / "var/lib/rpm/rpmdb.sqlite")) as database:
            database.execute("update packages set version = '2'")
            database.commit()
        self._step("committed")

    def close(self) -> None:
        pass

    def _replace(self, path: str, text: str, mode: int) -> None:
        self._step(path)
        beside = self.root / f"{path};5f00aa11"
        beside.write_text(text)
        beside.chmod(mode)
        self._step(f"{path} beside")
        beside.rename(self.root / path)

    def _step(self, name: str) -> None:
        self.checkpoint(f"rpm {name}")


@dataclass
class FakeTime:
    """Time that passes only when somebody waits."""

    seconds: float = 1000.0

    def monotonic(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds


WELL = Snapshot((), ("web.service",), ("tcp/80@0.0.0.0",), ("eth0",), ("eth0 10.0.2.2",))


@dataclass
class FakeMachine:
    """A machine that is in the state ``sick`` when the program on its disk is version 2 and ``breaks`` is set."""

    root: Path
    breaks: bool = False
    sick: Snapshot = field(default_factory=lambda: replace(WELL, failed=("web.service",), active=(), sockets=()))
    boot: str = "boot-1"
    done: list[str] = field(default_factory=list)
    checks: Callable[[Sequence[str]], Completed] = lambda _command: Completed(0, "")
    restart_code: int = 0
    reloads: int = 0

    def snapshot(self) -> Snapshot:
        new = (self.root / "usr/bin/web").read_text() == "web 2\n"
        return self.sick if new and self.breaks else WELL

    def active(self, unit: str) -> bool:
        return unit in self.snapshot().active

    def expected(self, unit: str) -> bool:
        return True

    def run_check(self, command: Sequence[str], seconds: float) -> Completed:
        return self.checks(command)

    def ordering(self, units: Sequence[str]) -> dict[str, tuple[str, ...]]:
        return {}

    def restart(self, unit: str) -> Completed:
        self.done.append(f"restart {unit}")
        return Completed(self.restart_code, "")

    def start(self, unit: str) -> Completed:
        self.done.append(f"start {unit}")
        return Completed(0, "")

    def reload_manager(self) -> None:
        self.reloads += 1

    def reboot(self) -> None:
        self.done.append("reboot")

    def reboot_at_once(self) -> None:
        self.done.append("reboot at once")

    def boot_id(self) -> str:
        return self.boot


@dataclass
class Site:
    """A root, its machine and its packages; ``patcher`` makes what works on them."""

    root: Path
    machine: FakeMachine
    packages: TreePackages
    config: Config = field(default_factory=lambda: Config(health=Health(settle_seconds=3, watch_seconds=2)))
    now: float = 1_790_000_000.0
    processes: list[Process] = field(default_factory=lambda: [Process(7, "web", "web.service", ("/usr/bin/web",))])
    kernel: str = "6.12"
    disagreements: list[str] = field(default_factory=list)

    @property
    def store(self) -> Path:
        return self.root / "var/lib/bedplate-patch"

    def patcher(self, checkpoint: Checkpoint = no_checkpoint) -> Patcher:
        self.packages.checkpoint = checkpoint
        clock = FakeTime()
        return Patcher(
            Journal(self.store, checkpoint, flush=lambda: None),
            Layout(self.root),
            lambda: self.packages,
            self.machine,
            self.config,
            Clock(clock.monotonic, clock.sleep),
            now=lambda: self.now,
            processes=lambda: self.processes,
            verify=lambda _: list(self.disagreements),
            kernel=lambda: self.kernel,
        )


def make_site(root: Path) -> Site:
    """A root with version 1, on a machine that is well."""
    make_root(root)
    return Site(root, FakeMachine(root), TreePackages(root))
