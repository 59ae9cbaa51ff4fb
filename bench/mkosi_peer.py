"""The benchmark behind ``bench/against_mkosi``: the peer's configuration, the scenarios, the table."""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from bedplate.emulator.machine import temporary_state
from bedplate.emulator.seed import write_seed
from bedplate.flows.boot import boot_image, machine_options
from bedplate.flows.definition import copy_definition, read_definition
from bedplate.flows.images import FoundImage
from bedplate.flows.locks import Relock
from bedplate.flows.tools import prepare_tools
from bedplate.flows.upstream import find_all_mirrors
from bedplate.flows.workspace import Workspace

USER_DATA = "#cloud-config\nusers: [default, {name: ada}]\n"
ROOT = Path(__file__).resolve().parent.parent
PEER_BUILD, PEER_IMAGE, OUR_IMAGE = "mkosi, clean build", "mkosi image", "Bedplate image"
FULL, TOGETHER = "full compose, imported packages at hand", "all tracks in one go"


@dataclass
class Figure:
    """One row of the table: seconds of each run, and processor seconds of all its processes where they are known."""

    name: str
    seconds: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


def timed(name: str, action: Callable[[], None], runs: int, prepare: Callable[[], None] = lambda: None) -> Figure:
    """Wall and processor seconds of each of ``runs`` runs; ``prepare`` comes before each and is not counted.

    Processor seconds say more than wall seconds when something else keeps the machine busy.
    """
    figure = Figure(name)
    for _ in range(runs):
        prepare()
        before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        action()
        figure.seconds.append(time.perf_counter() - started)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        figure.processor.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        print(f"{name}: {figure.seconds[-1]:.2f} s, {figure.processor[-1]:.2f} s of processors", file=sys.stderr)
    return figure


class Mkosi:
    """mkosi of the bench tools tree, set to the track's packages; configured so that its image boots to the end."""

    def __init__(self, tree: Path, scratch: Path, names: list[str], sources: str) -> None:
        self.tree, self.scratch = tree, scratch
        self.configuration = scratch / "mkosi"
        _write(self.configuration / "mkosi.sandbox/etc/apt/sources.list.d/mkosi.sources", sources)
        # Without a network file networkd-wait-online holds the boot for two minutes; without answers firstboot asks.
        _write(
            self.configuration / "mkosi.extra/etc/systemd/network/dhcp.network",
            "[Match]\nName=en*\n[Network]\nDHCP=yes\n",
        )
        for name in ("packages", "out", "workspace"):
            (scratch / name).mkdir()
        _write(
            self.configuration / "mkosi.conf",
            "[Distribution]\nDistribution=debian\nRelease=trixie\n"
            f"[Output]\nFormat=disk\nImageId=peer\nOutputDirectory={scratch}/out\n"
            f"[Build]\nIncremental=no\nPackageCacheDirectory={scratch}/packages\nWorkspaceDirectory={scratch}/workspace\n"
            f"ToolsTree={tree}\nWithNetwork=yes\n"
            "[Content]\nBootable=yes\nBootloader=systemd-boot\nWithDocs=no\nHostname=peer\nTimezone=UTC\n"
            "Locale=C.UTF-8\nRootPassword=hashed:*\nKernelCommandLine=console=ttyS0 systemd.firstboot=off\n"
            f"Packages={','.join(names)}\n",
        )

    def build(self) -> None:
        """One clean build."""
        environ = {**os.environ, "PYTHONPATH": str(self.tree / "usr/lib/python3/dist-packages")}
        command = [sys.executable, "-m", "mkosi", "-C", str(self.configuration), "--force", "build"]
        with (self.scratch / "mkosi.log").open("w") as log:
            done = subprocess.run(command, env=environ, stdout=log, stderr=log, check=False)
        if done.returncode:
            tail = (self.scratch / "mkosi.log").read_text(errors="replace").splitlines()[-15:]
            sys.exit("mkosi failed:\n" + "\n".join(tail))

    @property
    def image(self) -> Path:
        """The finished disk image."""
        return next(path for path in (self.scratch / "out").glob("*.raw") if not path.is_symlink())


class Bedplate:
    """Bedplate on a copy of the definition, with a cache of its own that starts as a copy of the user's."""

    # Programs of one package, of which each run leaves out another one: the package's content changes each time.
    _LEFT_OUT = ("factor", "shred", "tsort", "ptx", "csplit", "pinky", "vdir", "users", "uptime", "who")

    def __init__(self, workspace: Workspace, scratch: Path, track: str) -> None:
        self.track = track
        self.cache, self.distro, self.output = scratch / "cache", scratch / "distro", scratch / "images"
        self.cache.mkdir(parents=True)
        for name in ("store", "indexes", "descriptions", "rpms", "tools", "compose", "locks"):
            if (workspace.cache / name).is_dir():
                shutil.copytree(workspace.cache / name, self.cache / name, symlinks=True, copy_function=os.link)
        copy_definition(workspace.distro, self.distro)
        self.environ = {**os.environ, "BEDPLATE_CACHE": str(self.cache), "BEDPLATE_DISTRO": str(self.distro)}
        self._changes = iter(self._LEFT_OUT)

    def run(self, *arguments: str) -> str:
        """Run a command of the checkout; what it printed."""
        command = [sys.executable, "-m", "bedplate", *arguments]
        done = subprocess.run(command, env=self.environ, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"bedplate {' '.join(arguments)} failed:\n{done.stderr}")
        return done.stdout

    def build(self) -> None:
        """The command a user types."""
        self.run("build", self.track, "--output", str(self.output))

    def build_together(self) -> None:
        """Every track in one go."""
        self.run("build", "--output", str(self.output))

    def set_of(self, name: str, groups: list[str]) -> Path:
        """A package set of some groups of another one."""
        whole = tomllib.loads((self.distro / "sets" / f"{name}.toml").read_text())
        lines = [f"{key} = {json.dumps(whole[key])}" for key in ("title", "prefer", "files", "exclude") if key in whole]
        for group in groups:
            lines += [
                f"[groups.{group}]",
                *(f"{key} = {json.dumps(value)}" for key, value in whole["groups"][group].items()),
            ]
        target = self.distro.with_name("set.toml")
        target.write_text("\n".join(lines) + "\n")
        return target

    def forget_composed(self) -> None:
        """Leave the imported packages, forget everything composed from them."""
        shutil.rmtree(self.cache / "compose", ignore_errors=True)
        shutil.rmtree(self.output, ignore_errors=True)

    def forget_imported(self) -> None:
        """Forget our packages; the upstream files stay in the store."""
        for name in ("rpms", "signed", "repository", "descriptions"):
            shutil.rmtree(self.cache / name, ignore_errors=True)

    def change_owned_file(self) -> None:
        """Change one file the distribution owns."""
        target = next(path for path in sorted((self.distro / "files").rglob("*.conf")) if path.is_file())
        with target.open("a") as stream:
            stream.write(f"# {time.time_ns()}\n")

    def change_package(self) -> None:
        """Change what one package holds, and lock the result: it is imported, not yet composed."""
        drop = f"/usr/bin/{next(self._changes)}"
        (self.distro / "packages/bench.toml").write_text(f'[[package]]\nname = "coreutils"\ndrop = ["{drop}"]\n')
        self.run("lock", self.track)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def host_sources(workspace: Workspace) -> str:
    """The mirrors Bedplate uses, as deb822 sources."""
    definition = read_definition(workspace)
    stanzas = []
    for mirrors in find_all_mirrors(workspace, definition).values():
        for suite, kind in mirrors.suites.items():
            stanzas.append(
                f"Types: deb\nURIs: {mirrors.bases[kind][0]}\nSuites: {suite}\nComponents: main\n"
                "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n"
            )
    return "\n".join(stanzas)


def main() -> None:
    """Run the benchmark and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--track", default="container", help="whose packages and image")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--together", action="store_true", help="build all tracks in one go too")
    parser.add_argument("--groups", type=lambda text: text.split(","), help="import these groups of --set too")
    parser.add_argument("--set", dest="package_set", default="server", help="a package set of distro/sets")
    parser.add_argument("--brief", action="store_true", help="without the rebuilds after a change")
    parser.add_argument("--alone", action="store_true", help="Bedplate without the peer, which takes minutes")
    parser.add_argument("--boot", action="store_true", help="boot both images too")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    workspace = Workspace.from_environment(os.environ)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit("ended"))
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(dir=workspace.cache) as name:
        try:
            compare(workspace, Path(name), options, figures)
        finally:  # what was measured before something failed is worth reading
            report(figures, options.json)


def compare(workspace: Workspace, scratch: Path, options: argparse.Namespace, rows: list[Figure]) -> None:
    """All scenarios, the peer's first; each is added to ``rows`` when it was measured."""
    runs = options.runs
    images: dict[str, Path] = {}
    if not options.alone:
        peer = prepare_peer(workspace, scratch / "peer", options.track)
        rows.append(timed(PEER_BUILD, peer.build, runs))
        images[PEER_IMAGE] = peer.image
    ours = Bedplate(workspace, scratch / "ours", options.track)
    ours.build()
    rows.append(timed(FULL, ours.build, runs, ours.forget_composed))
    if options.together:
        ours.build_together()  # what the other tracks need is imported
        rows.append(timed(TOGETHER, ours.build_together, runs, ours.forget_composed))
    if not options.brief:
        rows.append(timed("after one package changed", ours.build, runs, ours.change_package))
        rows.append(timed("after one owned file changed", ours.build, runs, ours.change_owned_file))
        rows.append(timed("nothing changed", ours.build, runs))
    # After the builds: it forgets what they need.
    track = ("packages", "import", "--track", options.track)
    rows.append(timed("import of all packages, empty cache", lambda: ours.run(*track), runs, ours.forget_imported))
    if options.groups:
        groups = ("packages", "import", "--json", "--set", str(ours.set_of(options.package_set, options.groups)))
        count = len(json.loads(ours.run(*groups))["packages"])  # downloads, too
        rows.append(
            timed(f"import of {count} packages, empty cache", lambda: ours.run(*groups), runs, ours.forget_imported)
        )
    if options.boot:
        rows += boots(workspace, {**images, OUR_IMAGE: ours.output / options.track / "disk.raw"}, runs)


def prepare_peer(workspace: Workspace, scratch: Path, track: str) -> Mkosi:
    """mkosi with its package cache filled."""
    definition = read_definition(workspace)
    names = [name for name in definition.track(track).packages if name not in definition.own]
    tree = prepare_tools(workspace, "bench", Relock.WHEN_NEEDED).tree.root
    scratch.mkdir()
    peer = Mkosi(tree, scratch, names, host_sources(workspace))
    peer.build()
    return peer


def boots(workspace: Workspace, images: dict[str, Path], runs: int) -> list[Figure]:
    """Seconds from power-on to ``running``, Secure Boot and TPM on: each image's first boot and the one after.

    Both find a seed for cloud-init, so that an image that has it configures itself on its first boot.
    """
    toolbox, rows = prepare_tools(workspace), []
    for name, path in images.items():
        image = FoundImage(path, None, None)
        options = machine_options(workspace, image)
        if name == PEER_IMAGE:
            # Unsigned: Secure Boot off for the peer alone, which can only make it quicker.
            options = replace(options, certificates=())
        first, second = Figure(f"{name}, first boot"), Figure(f"{name}, second boot")
        for number in range(runs):
            with temporary_state() as state:
                state.directory.mkdir(exist_ok=True)
                seed = write_seed(
                    toolbox, state.directory / "seed", USER_DATA, instance=f"bench-{number}", hostname="bench"
                )
                drives = (*options.drives, seed)
                for figure in (first, second):
                    report = boot_image(
                        workspace, image, options=replace(options, drives=drives), state=state, with_container=False
                    )
                    figure.seconds.append(report.boot_seconds.total)
                    figure.notes.append(f"{report.state}, SELinux {report.selinux or 'off'}")
                    print(f"{figure.name}: {figure.notes[-1]}, {report.boot_seconds}", file=sys.stderr, flush=True)
        rows += [first, second]
    return rows


RATIOS = (
    ("mkosi's clean build by a full compose", PEER_BUILD, FULL),
    ("all tracks by the track alone", TOGETHER, FULL),
    ("mkosi's first boot by ours", f"{PEER_IMAGE}, first boot", f"{OUR_IMAGE}, first boot"),
    ("mkosi's second boot by ours", f"{PEER_IMAGE}, second boot", f"{OUR_IMAGE}, second boot"),
)


def report(figures: list[Figure], target: Path | None) -> None:
    """Print medians and ratios, and keep them as JSON when asked to."""
    known = {figure.name: figure for figure in figures}
    peer = known.get(PEER_BUILD)
    print(f"{'':44} {'median':>8} {'min':>8} {'max':>8} {'processors':>10}  mkosi is slower by")
    for figure in figures:
        ratio = f"{peer.median / figure.median:6.1f}" if peer and figure.processor and figure is not peer else ""
        busy = f"{statistics.median(figure.processor):9.2f}s" if figure.processor else f"{'':10}"
        wall = f"{figure.median:7.2f}s {min(figure.seconds):7.2f}s {max(figure.seconds):7.2f}s"
        print(f"{figure.name:44} {wall} {busy}  {ratio:6} {', '.join(sorted(set(figure.notes)))}".rstrip())
    ratios = {
        name: round(known[over].median / known[under].median, 3)
        for name, over, under in RATIOS
        if over in known and under in known
    }
    for name, ratio in ratios.items():
        print(f"{name:44} {ratio:7.2f}")
    load = os.getloadavg()[0]
    print(f"{'load of the machine at the end':44} {load:7.2f}")
    if target:
        rows = {
            one.name: {"seconds": one.seconds, "processor_seconds": one.processor, "notes": one.notes}
            for one in figures
        }
        target.write_text(json.dumps({"figures": rows, "ratios": ratios, "load": load}, indent=2) + "\n")


if __name__ == "__main__":
    main()
