"""The benchmark behind ``bench/against_mkosi``: the peer's configuration, the scenarios, the table."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from bedplate.flows.lock import read_lock
from bedplate.flows.tools import prepare_tools
from bedplate.flows.workspace import Workspace
from bedplate.model.package import Location

ROOT = Path(__file__).resolve().parent.parent
TRACK = "container"


@dataclass
class Figure:
    """One row of the table: seconds of each run."""

    name: str
    seconds: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


def timed(action: Callable[[], None], runs: int, prepare: Callable[[], None] = lambda: None) -> list[float]:
    """Wall seconds of each of ``runs`` runs; ``prepare`` comes before each and is not counted."""
    seconds = []
    for _ in range(runs):
        prepare()
        started = time.perf_counter()
        action()
        seconds.append(time.perf_counter() - started)
    return seconds


class Mkosi:
    """mkosi of the bench tools tree, set to the track's packages."""

    def __init__(self, tree: Path, scratch: Path, names: list[str], mirrors: str, keys: Path) -> None:
        self.tree, self.scratch = tree, scratch
        self.configuration = scratch / "mkosi"
        sources = self.configuration / "mkosi.sandbox/etc/apt/sources.list.d"
        sources.mkdir(parents=True)
        (sources / "mkosi.sources").write_text(mirrors)
        for name in ("packages", "out", "workspace"):
            (scratch / name).mkdir()
        signing = f"SecureBoot=yes\nSecureBootKey={keys}/key.pem\nSecureBootCertificate={keys}/cert.pem\n"
        (self.configuration / "mkosi.conf").write_text(
            "[Distribution]\nDistribution=debian\nRelease=trixie\n"
            f"[Output]\nFormat=disk\nImageId=peer\nOutputDirectory={scratch}/out\n"
            f"[Build]\nIncremental=no\nPackageCacheDirectory={scratch}/packages\nWorkspaceDirectory={scratch}/workspace\n"
            f"ToolsTree={tree}\n"
            "[Content]\nBootable=yes\nBootloader=systemd-boot\nWithDocs=no\nRootPassword=\n"
            f"Packages={','.join(names)}\n"
            f"[Validation]\n{signing}"
        )

    def build(self, network: bool = False) -> None:
        """One clean build."""
        environ = {**os.environ, "PYTHONPATH": str(self.tree / "usr/lib/python3/dist-packages")}
        command = [sys.executable, "-m", "mkosi", "-C", str(self.configuration), "--force"]
        with (self.scratch / "mkosi.log").open("w") as log:
            done = subprocess.run([*command, "build"], env=environ, stdout=log, stderr=log, check=False)
        if done.returncode:
            tail = (self.scratch / "mkosi.log").read_text(errors="replace").splitlines()[-15:]
            sys.exit("mkosi failed:\n" + "\n".join(tail))

    @property
    def image(self) -> Path:
        return next((self.scratch / "out").glob("*.raw"))


class Bedplate:
    """Bedplate on a copy of the definition, with a cache of its own that starts as a copy of the user's."""

    def __init__(self, workspace: Workspace, scratch: Path) -> None:
        self.cache, self.distro, self.output = scratch / "cache", scratch / "distro", scratch / "images"
        shutil.copytree(workspace.cache, self.cache, symlinks=True, copy_function=os.link)
        shutil.copytree(workspace.distro, self.distro, symlinks=True)
        self.environ = {**os.environ, "BEDPLATE_CACHE": str(self.cache), "BEDPLATE_DISTRO": str(self.distro)}

    def run(self, *arguments: str) -> None:
        """Run a command of the checkout."""
        command = [sys.executable, "-m", "bedplate", *arguments]
        done = subprocess.run(command, env=self.environ, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"bedplate {' '.join(arguments)} failed:\n{done.stderr}")

    def build(self) -> None:
        self.run("build", TRACK, "--output", str(self.output))

    def forget_composed(self) -> None:
        """Leave the imported packages, forget everything composed from them."""
        for name in ("objects", "stages"):
            shutil.rmtree(self.cache / name, ignore_errors=True)
        shutil.rmtree(self.output, ignore_errors=True)

    def forget_imported(self) -> None:
        shutil.rmtree(self.cache / "rpms", ignore_errors=True)

    def change_owned_file(self) -> None:
        """Change one file the distribution owns."""
        target = next(path for path in sorted((self.distro / "files").rglob("*.conf")) if path.is_file())
        with target.open("a") as stream:
            stream.write(f"# {time.time_ns()}\n")

    def change_package(self) -> None:
        """Change one package (what it holds), so that it is imported and compressed anew, and lock the result."""
        facts = self.distro / "packages" / "bench.toml"
        facts.write_text(
            f'[[package]]\nname = "bash"\ndrop = ["/usr/share/doc/{time.time_ns()}/*", "/usr/bin/bashbug"]\n'
        )
        self.run("lock", TRACK, "--offline")


def host_sources(workspace: Workspace) -> str:
    """The host's mirrors of the default upstream as deb822 sources."""
    from bedplate.flows.upstream import mirrors_of

    stanzas = []
    for suite, url in mirrors_of(workspace).items():
        stanzas.append(
            f"Types: deb\nURIs: {url}\nSuites: {suite}\nComponents: main\n"
            "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n"
        )
    return "\n".join(stanzas)


def main() -> None:
    """Run the benchmark and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--boot", action="store_true", help="boot both images too")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    workspace = Workspace.from_environment(os.environ)
    with tempfile.TemporaryDirectory(dir=workspace.cache) as name:
        figures = compare(workspace, Path(name), options)
    report(figures, options.json)


def compare(workspace: Workspace, scratch: Path, options: argparse.Namespace) -> list[Figure]:
    """All scenarios, the peer's first."""
    from bedplate.trust.keys import KeyStore

    lock = read_lock(workspace, TRACK)
    names = sorted(p.nevra.name for p in lock.packages if isinstance(p.location, Location) and p.why == "track")
    keys = KeyStore(workspace.keys).boot_key_paths()[0].parent
    tree = prepare_tools(workspace, "bench").tree.root
    peer = Mkosi(tree, scratch / "peer", names, host_sources(workspace), keys)
    peer.build(network=True)  # fills its package cache
    ours = Bedplate(workspace, scratch / "ours")
    ours.build()
    rows = [
        Figure("mkosi, clean build", timed(peer.build, options.runs)),
        Figure("full compose, imported packages at hand", timed(ours.build, options.runs, ours.forget_composed)),
        Figure("after one package changed", timed(ours.build, options.runs, ours.change_package)),
        Figure("after one owned file changed", timed(ours.build, options.runs, ours.change_owned_file)),
        Figure("nothing changed", timed(ours.build, options.runs)),
        Figure(
            "import of all packages, empty cache",
            timed(lambda: ours.run("packages", "import", "--track", TRACK), options.runs, ours.forget_imported),
        ),
    ]
    if options.boot:
        rows += boots(workspace, peer.image, ours.output, options.runs)
    return rows


def boots(workspace: Workspace, peer: Path, output: Path, runs: int) -> list[Figure]:
    """Seconds from power-on to ``running`` of both images under the same emulator."""
    from bedplate.flows.boot import boot_image

    rows = []
    for name, image in (("mkosi image, boot", peer), ("Bedplate image, boot", output)):
        seconds = [boot_image(workspace, image).boot_seconds.total for _ in range(runs)]
        rows.append(Figure(name, seconds))
    return rows


def report(figures: list[Figure], target: Path | None) -> None:
    """Print medians and ratios, and keep them as JSON when asked to."""
    peer = figures[0].median
    print(f"{'':44} {'median':>8} {'min':>8} {'max':>8}  mkosi is slower by")
    for figure in figures:
        ratio = f"{peer / figure.median:6.1f}" if figure is not figures[0] else ""
        print(
            f"{figure.name:44} {figure.median:7.2f}s {min(figure.seconds):7.2f}s {max(figure.seconds):7.2f}s  {ratio}"
        )
    if target:
        target.write_text(json.dumps({figure.name: figure.seconds for figure in figures}, indent=2) + "\n")


if __name__ == "__main__":
    main()
