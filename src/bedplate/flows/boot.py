"""Booting an image in the emulator: for a report, or for a person at its console."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from bedplate.compose.limits import check_listening
from bedplate.emulator.accelerator import choose
from bedplate.emulator.boot import BootRequest, boot_and_report
from bedplate.emulator.channel import Listener
from bedplate.emulator.machine import Machine, MachineState, temporary_state
from bedplate.emulator.oci import ContainerFile, oci_archive, proof_command
from bedplate.emulator.options import HOST_ADDRESS, Accelerator, Forward, MachineOptions
from bedplate.emulator.report import BootReport
from bedplate.emulator.seed import write_seed
from bedplate.emulator.ssh import SshAccess, approved_key, require_free, with_ssh
from bedplate.flows.cache import part
from bedplate.flows.definition import read_definition
from bedplate.flows.images import FoundImage
from bedplate.flows.imports import import_locked
from bedplate.flows.keys import key_store
from bedplate.flows.locks import Relock, read_lock_file
from bedplate.flows.tools import prepare_tools
from bedplate.flows.workspace import Workspace
from bedplate.model.errors import BedplateError, Finding, Level
from bedplate.model.lock import Lock
from bedplate.packages.rpm.reader import RpmPackage
from bedplate.packages.serving import repository_server

PROOF_PACKAGE = "busybox-static"
_PROOF_PROGRAM = "/usr/bin/busybox"
REPOSITORY_CREDENTIAL = "bedplate.repository"


def machine_options(workspace: Workspace, image: FoundImage) -> MachineOptions:
    """A machine for ``image``: Secure Boot with the boot key in use as the only key the firmware knows, and a TPM."""
    certificate = key_store(workspace, read_definition(workspace)).signer("boot").public
    return MachineOptions(image=image.disk, certificates=(certificate,))


def boot_image(
    workspace: Workspace,
    image: FoundImage,
    *,
    relock: Relock = Relock.NEVER,
    with_container: bool = True,
    state: MachineState | None = None,
    on_console: Listener | None = None,
    options: MachineOptions | None = None,
) -> BootReport:
    """Boot ``image``, ask it how it is, let it run a container, and power it down.

    Raises:
        BootFailed: it did not come up; the error holds the last console lines and what they mean.
    """
    toolbox = prepare_tools(workspace, "tools", relock)
    expected = tuple(image.build.pcr11.values()) if image.build else ()
    with tempfile.TemporaryDirectory(prefix="bedplate-") as scratch:
        archive = None
        if with_container and image.lock is not None and _runs_containers(workspace, image):
            archive = Path(scratch) / "proof.oci"
            archive.write_bytes(proof_archive(workspace, read_lock_file(image.lock)))
        request = BootRequest(
            expected_pcr11=expected, container=archive, accelerator_cache=_accelerator_cache(workspace)
        )
        return boot_and_report(
            options or machine_options(workspace, image), toolbox, workspace.progress, request, state, on_console
        )


def check_report(workspace: Workspace, track: str, report: BootReport) -> list[Finding]:
    """What a booted host says of itself, held against what its track must prove: healthy, a signed chain, and
    listening only where the track allows it. Every finding is an error; what could not be checked is a finding too."""
    definition = read_definition(workspace).track(track)
    proofs = {name: _PROOFS[name](report) for name in definition.proofs}
    expected = (
        ("boot.state", report.state == "running", f"the host's state is {report.state}, not running"),
        ("boot.failed-units", not report.failed_units, f"failed units: {', '.join(report.failed_units)}"),
        ("boot.secure-boot", report.secure_boot, "Secure Boot is not enforced"),
        *((f"boot.{name}", holds, cause) for name, (holds, cause) in proofs.items()),
    )
    findings = [Finding(name, Level.ERROR, cause, track) for name, holds, cause in expected if not holds]
    sockets = [_socket(one.protocol, one.address) for one in report.listening]
    return [*findings, *check_listening(sockets, definition.limits)]


_PROOFS: Mapping[str, Callable[[BootReport], tuple[bool, str]]] = {
    "verity": lambda report: (report.verity, "the root file system is not verified"),
    "pcr11": lambda report: (
        report.pcr11_matches is True,
        "PCR 11 is not what the image's signed policy says, or could not be checked",
    ),
    "container": lambda report: (report.containers_ran is True, "containerd was not seen to run a container"),
    "selinux": lambda report: (
        report.selinux == "enforcing" and not report.selinux_denials,
        f"SELinux is {report.selinux or 'off'}, {len(report.selinux_denials)} denials",
    ),
}


def _socket(protocol: str, address: str) -> str:
    """``tcp/22`` for a socket bound to every address or to the machine's own, ``tcp/53@127.0.0.53`` for one on the
    loopback network: who can reach it is what the allow list is about."""
    host, _, port = address.rpartition(":")
    place = host.partition("%")[0].strip("[]")
    local = place.startswith("127.") or place == "::1"
    return f"{protocol[:3]}/{port}" + (f"@{place}" if local else "")


def _runs_containers(workspace: Workspace, image: FoundImage) -> bool:
    tracks = read_definition(workspace).tracks
    track = tracks.get(image.build.track) if image.build is not None else None
    return track is None or "container" in track.proofs


def proof_archive(workspace: Workspace, lock: Lock) -> bytes:
    """An OCI archive made from the locked, imported busybox package alone: nothing is fetched for it.

    Raises:
        BedplateError: the lock holds no such package.
    """
    locked = lock.by_name().get(PROOF_PACKAGE)
    if locked is None:
        raise BedplateError(
            f"the lock of {lock.track} has no {PROOF_PACKAGE} to make a container from",
            remedy="add it to the track's boot_packages, or boot with --no-container",
        )
    alone = Lock(lock.track, lock.definition, (locked,), lock.indexes)
    (imported,) = import_locked(workspace, read_definition(workspace), alone)
    package = RpmPackage.open(imported.path)
    content = {entry.path: data for entry, data in package.read(_PROOF_PROGRAM.__eq__)}
    files = [
        ContainerFile("bin/busybox", content[_PROOF_PROGRAM], 0o755),
        ContainerFile("bin/sh", target="busybox"),
    ]
    return oci_archive(files, proof_command())


@contextmanager
def running_machine(
    workspace: Workspace,
    image: FoundImage,
    *,
    ssh: bool = False,
    state_directory: Path | None = None,
    on_console: Listener | None = None,
    repository: Path | None = None,
    user_data: str = "",
    forwards: Sequence[Forward] = (),
) -> Iterator[tuple[Machine, SshAccess | None, Accelerator]]:
    """A running machine for a person: its console's bytes go to ``on_console``, input through ``machine.console``.

    ``state_directory`` keeps disk changes, firmware variables and the TPM from one call to the next; without it they
    are gone when the machine ends. ``repository`` is served to the machine and named to it by a credential;
    ``user_data`` is what cloud-init finds; ``forwards`` are ports of the loopback address that lead into the machine.

    Raises:
        BadInput: a port that is to be forwarded, or that a kept machine knows its repository by, is taken.
    """
    require_free(forward.host_port for forward in forwards)
    toolbox = prepare_tools(workspace)
    accelerator = choose(toolbox, _accelerator_cache(workspace))
    options = replace(machine_options(workspace, image), forwards=tuple(forwards))
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bedplate-")))
        state = stack.enter_context(_state(state_directory))
        access = None
        if ssh:
            options, access = with_ssh(options, scratch, approved_key)
        if user_data:
            hostname = image.build.track if image.build else "guest"
            seed = write_seed(toolbox, scratch / "seed.img", user_data, instance=state.identity, hostname=hostname)
            options = replace(options, drives=(*options.drives, seed))
        if repository is not None:
            port = stack.enter_context(_repository(repository, state))
            address = f"http://{HOST_ADDRESS}:{port}\n".encode()
            options = replace(options, credentials={**options.credentials, REPOSITORY_CREDENTIAL: address})
        with Machine(options, accelerator, toolbox, state, on_console) as machine:
            yield machine, access, accelerator


@contextmanager
def _repository(root: Path, state: MachineState) -> Iterator[int]:
    """Serve on the same port on every boot of a kept machine: it wrote the address down on its first one."""
    kept = state.directory / "repository-port"
    port = int(kept.read_text()) if kept.is_file() else 0
    with repository_server(root, port=port) as served:
        state.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        kept.write_text(f"{served}\n")
        yield served


@contextmanager
def _state(directory: Path | None) -> Iterator[MachineState]:
    if directory is None:
        with temporary_state() as state:
            yield state
    else:
        directory.mkdir(parents=True, exist_ok=True)
        yield MachineState(directory)


def _accelerator_cache(workspace: Workspace) -> Path:
    return part(workspace, "state") / "accelerator.json"
