"""A node and its updates: signed directories, a server that can misbehave, and a machine that is asked by SSH."""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from uuid import UUID

from bedplate.compose.result import BuildResult
from bedplate.compose.verity import VeritySuperblock, tree_of
from bedplate.emulator.accelerator import choose
from bedplate.emulator.machine import Machine, MachineState
from bedplate.emulator.options import MachineOptions
from bedplate.emulator.ssh import wait_until_reachable, with_ssh
from bedplate.flows.build import build_track
from bedplate.flows.definition import copy_definition
from bedplate.flows.locks import Relock
from bedplate.flows.workspace import Workspace
from bedplate.toolchain.run import Toolbox, ToolError
from bedplate.trust.signers import Signer

IMAGE = "bedplate-container"
HOST = "10.0.2.2"  # the host's loopback address as a guest of QEMU's user network sees it
_RANGE = re.compile(r"bytes=(\d+)-(\d*)")

# A node says by itself that it restarts for an update and that a boot was found good, on the port reports go to: asking
# it over SSH costs it more than a second of its emulated processor each time.
_SAY = "[Service]\n{}=bash -c 'read up idle </proc/uptime; echo \"{} %A $$up\" >/dev/virtio-ports/bedplate.report'\n"
ANNOUNCING = {
    "systemd.unit-dropin.bedplate-update-apply.service": _SAY.format("ExecStartPre", "restarts").encode(),
    "systemd.unit-dropin.bedplate-boot-good.service": _SAY.format("ExecStartPost", "good").encode(),
}
_SAID = re.compile(rb"^(restarts|good|waits) (\S+) (\d+\.\d+)\r?$", re.MULTILINE)


def variant(
    workspace: Workspace,
    place: Path,
    version: str,
    files: Mapping[str, bytes] | None = None,
    track: str = "container",
) -> BuildResult:
    """A track's image as ``version``, with further owned files (path in the image -> content)."""
    distro = place / f"distro-{version}"
    copy_definition(workspace.distro, distro)
    for path, data in (files or {}).items():
        target = distro / "files/update" / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    changed = replace(workspace, distro=distro, output=place / f"out-{version}")
    return build_track(changed, track, Relock.WHEN_NEEDED, version=version).build


def artefacts(build: BuildResult) -> dict[str, Path]:
    """What an update of a build consists of: file name -> file."""
    name, halves = f"{IMAGE}_{build.version}", (build.root_hash[:32], build.root_hash[32:])
    root, verity = (str(UUID(half)) for half in halves)
    return {
        f"{name}_{root}.root": build.path("root.erofs"),
        f"{name}_{verity}.verity": build.path("root.verity"),
        f"{name}.efi": build.path("uki.efi"),
    }


def publish(folder: Path, builds: list[BuildResult], signer: Signer) -> None:
    """A directory stock systemd-sysupdate can fetch from: files, digests, signature."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for build in builds:
        salt = bytes.fromhex(VeritySuperblock.unpack(build.path("root.verity").read_bytes()).salt)
        for name, source in artefacts(build).items():
            (folder / name).symlink_to(source)
            if name.endswith(".efi"):
                (folder / name.replace(".efi", ".tree")).write_bytes(tree_of(source.read_bytes(), salt, UUID(int=0)))
    sign(folder, signer)


def sign(folder: Path, signer: Signer) -> None:
    """Write SHA256SUMS and its signature anew, for what lies in the directory."""
    names = sorted(path.name for path in folder.iterdir() if not path.name.startswith("SHA256SUMS"))
    text = "".join(f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in names).encode()
    (folder / "SHA256SUMS").write_bytes(text)
    (folder / "SHA256SUMS.gpg").write_bytes(signer.sign(text))


@dataclass
class Behaviour:
    """How a server behaves: ``cut`` (file name part -> bytes after which the connection ends), ``stall`` (the same,
    but nothing more comes), ``claim`` (file name part -> Content-Length that is not true)."""

    cut: dict[str, int] = field(default_factory=dict)
    stall: dict[str, int] = field(default_factory=dict)
    claim: dict[str, int] = field(default_factory=dict)


class UpdateServer:
    """A static file server on the loopback address, as any web server or CDN would be. ``sent`` counts the bytes of
    bodies by file name, ``requests`` are the paths asked for, ``started`` hears of each file as its sending begins."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.behaviour = Behaviour()
        self.sent: dict[str, int] = {}
        self.requests: list[str] = []
        self.on_request: Callable[[str], None] | None = None
        self.released = threading.Event()
        self.stalled = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                outer.answer(self)

            def do_HEAD(self) -> None:
                outer.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        """Where a guest finds it; the version that asks is part of the path, as with the update service."""
        return f"http://{HOST}:{self.port}/%W/%m/%A/"

    def close(self) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()

    def reset(self) -> None:
        """Behave well again, and forget what was counted."""
        self.released.set()
        self.released = threading.Event()
        self.stalled.clear()
        self.behaviour = Behaviour()
        self.sent.clear()
        self.requests.clear()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        name = handler.path.rpartition("/")[2]
        self.requests.append(handler.path)
        if self.on_request is not None:
            self.on_request(name)
        path = self.folder / name
        if not path.is_file():
            handler.send_error(404)
            return
        size = path.stat().st_size
        wanted = _RANGE.fullmatch(handler.headers.get("Range", ""))
        start = int(wanted[1]) if wanted else 0
        end = min(int(wanted[2]) + 1 if wanted and wanted[2] else size, size)
        handler.send_response(206 if wanted else 200)
        if wanted:
            handler.send_header("Content-Range", f"bytes {start}-{end - 1}/{size}")
        claimed = _rule(self.behaviour.claim, name, end - start)
        handler.send_header("Content-Length", str(claimed))
        handler.end_headers()
        if handler.command == "HEAD":
            return
        cut, stall = (_rule(rules, name, size) for rules in (self.behaviour.cut, self.behaviour.stall))
        released = self.released
        try:
            with path.open("rb") as stream:
                stream.seek(start)
                left = min(end, cut, stall) - start
                while left > 0:
                    piece = stream.read(min(1 << 16, left))
                    handler.wfile.write(piece)
                    left -= len(piece)
                    self.sent[name] = self.sent.get(name, 0) + len(piece)
            if stall < end:
                handler.wfile.flush()
                self.stalled.set()
                released.wait()
            if min(cut, stall) < end or claimed != end - start:
                handler.close_connection = True
        except OSError:
            handler.close_connection = True  # the guest hung up, or was switched off


def _rule(rules: Mapping[str, int], name: str, otherwise: int) -> int:
    return next((value for part, value in rules.items() if part in name), otherwise)


@dataclass(frozen=True, slots=True)
class Said:
    """What a node said by itself: ``what`` it does (``restarts``, ``good``), the version that runs, and seconds since
    its kernel started."""

    what: str
    version: str
    up: float


class Node:
    """One machine over many boots: its disk, firmware variables and TPM are kept. ``announcing`` are credentials by
    which it says itself how far it is."""

    announcing: Mapping[str, bytes] = ANNOUNCING

    def __init__(
        self,
        options: MachineOptions,
        toolbox: Toolbox,
        directory: Path,
        announcing: Mapping[str, bytes] | None = None,
    ) -> None:
        self.toolbox = toolbox
        self.directory = directory
        self.state = MachineState(directory / "state")
        directory.mkdir(parents=True, exist_ok=True)
        voice = self.announcing if announcing is None else announcing
        self.options, self.access = with_ssh(replace(options, credentials={**options.credentials, **voice}), directory)
        self.console = bytearray()
        self.machine: Machine | None = None
        self._stack = ExitStack()
        self._sockets = tempfile.TemporaryDirectory(prefix="bedplate-ssh-")  # a socket's path must be short

    def start(self) -> None:
        """Switch it on."""
        accelerator = choose(self.toolbox)
        machine = Machine(self.options, accelerator, self.toolbox, self.state, self.console.extend)
        self.machine = self._stack.enter_context(machine)

    def kill(self) -> None:
        """Pull the plug: SIGKILL."""
        if self.machine is not None:
            self.machine.kill()
        self._stack.close()
        self.machine = None

    def stop(self) -> None:
        """Press the power button and wait until it is off."""
        if self.machine is not None:
            self.machine.power_down(120.0)
        self._stack.close()
        self.machine = None

    def session(self) -> list[str]:
        """The command line that leads to root's shell: one login for all commands of a boot, for a login costs ten
        times what a command does."""
        ssh, *arguments = self.access.command()
        options = {
            "ConnectTimeout": "10",
            "ServerAliveInterval": "10",
            "ServerAliveCountMax": "12",
            "ControlMaster": "auto",
            "ControlPersist": "1200",
            "ControlPath": f"{self._sockets.name}/login",
        }
        return [ssh, *(word for key, value in options.items() for word in ("-o", f"{key}={value}")), *arguments]

    def run(self, command: str, ok: tuple[int, ...] = (0,)) -> str:
        """Run a command as root; its output.

        Raises:
            ToolError: it failed, or nobody answered.
        """
        ssh, *arguments = self.session()
        return self.toolbox.run(ssh, *arguments, command, ok=ok).text

    def try_run(self, command: str) -> str | None:
        """The same; None when it failed."""
        try:
            return self.run(command)
        except ToolError:
            return None

    def wait_for(self, command: str, pattern: str, seconds: float) -> str:
        """Ask until the answer fits a pattern; a machine that restarts in between does not answer for a while.

        Raises:
            AssertionError: it never did; with the end of the console.
        """
        end, answer = time.monotonic() + seconds, None
        while time.monotonic() < end:
            if self.machine is not None and not wait_until_reachable(self.machine, self.access, end - time.monotonic()):
                break
            answer = self.try_run(command)
            if answer is not None and re.search(pattern, answer):
                return answer
            if self.machine is not None:
                self.machine.wait(1.0)
        tail = bytes(self.console[-4000:]).decode(errors="replace")
        raise AssertionError(f"{command!r} never answered {pattern!r} but {answer!r}\n{tail}")

    def wait_until_good(self, version: str = "", seconds: float = 600.0) -> str:
        """Wait until a boot (of ``version``) was found good; the version that runs."""
        pattern = rf"IMAGE_VERSION={re.escape(version) if version else '.*'}\nactive"
        # The node waits for itself: each login costs it more than that does.
        text = self.wait_for(
            ". /usr/lib/os-release; echo IMAGE_VERSION=$IMAGE_VERSION; n=0; "
            "until systemctl is-active -q bedplate-boot-good.service || [ $n = 60 ]; do sleep 1; n=$((n+1)); done; "
            "systemctl is-active bedplate-boot-good.service",
            pattern,
            seconds,
        )
        return text.splitlines()[0].partition("=")[2]

    @property
    def said(self) -> list[Said]:
        """What it said by itself since it was switched on."""
        data = self.machine.report.data if self.machine is not None else b""
        return [Said(found[1].decode(), found[2].decode(), float(found[3])) for found in _SAID.finditer(data)]

    def wait_until_said(self, what: str, count: int = 1, seconds: float = 1200.0) -> Said:
        """Wait until it said ``what`` for the ``count``-th time since it was switched on.

        Raises:
            AssertionError: it never did; with the end of the console.
        """
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            found = [said for said in self.said if said.what == what]
            if len(found) >= count:
                return found[count - 1]
            assert self.machine is not None and self.machine.running, "it does not run any more"
            self.machine.wait(0.1)
        tail = bytes(self.console[-4000:]).decode(errors="replace")
        raise AssertionError(f"it did not say {what!r} {count} times but {self.said}\n{tail}")

    def wait_for_console(self, pattern: bytes, seconds: float) -> None:
        """Wait until the console says something.

        Raises:
            AssertionError: it never did.
        """
        end = time.monotonic() + seconds
        while not re.search(pattern, bytes(self.console)):
            assert self.machine is not None and time.monotonic() < end, bytes(self.console[-2000:])
            self.machine.wait(0.2)

    @property
    def boot_id(self) -> str:
        """The id of the current boot."""
        return self.run("cat /proc/sys/kernel/random/boot_id").strip()

    def entries(self) -> list[str]:
        """Boot images on the ESP."""
        return sorted(self.run("ls -A /efi/EFI/Linux").split())
