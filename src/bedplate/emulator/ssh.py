"""Getting into a booted machine by SSH: a free port, a key for this one boot, and when it can be reached."""

from __future__ import annotations

import os
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from multiprocessing.connection import wait
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bedplate.emulator.credentials import ssh_credentials
from bedplate.emulator.machine import Machine
from bedplate.emulator.options import Forward, MachineOptions
from bedplate.model.errors import BadInput

SSH_PORT = 22
_PAUSE_SECONDS = 0.5
# QEMU's network keeps a connection that the guest does not answer for 75 s, closed or not, and repeats it after 6, 18
# and 42 s: 7 s between tries spread the repeats, and when the server comes up there are 11 at most, all at once.
_TRY_SECONDS = 7.0
_KEPT_CONNECTIONS = 11


@dataclass(frozen=True, slots=True)
class SshAccess:
    """How to get in: ``ssh`` options for root on the loopback address."""

    port: int
    identity: Path

    def command(self) -> list[str]:
        """The command line a user can type. The host key is new on every first boot, so it is not remembered."""
        return [
            "ssh",
            *("-i", str(self.identity), "-p", str(self.port)),
            *("-o", "IdentitiesOnly=yes", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"),
            "root@127.0.0.1",
        ]


PrivateKey = Ed25519PrivateKey | ec.EllipticCurvePrivateKey


def approved_key() -> PrivateKey:
    """A new key on a curve of NIST's: a machine in FIPS mode takes no Ed25519 key, every other one takes both."""
    return ec.generate_private_key(ec.SECP256R1())


def with_ssh(
    options: MachineOptions, directory: Path, new_key: Callable[[], PrivateKey] = Ed25519PrivateKey.generate
) -> tuple[MachineOptions, SshAccess]:
    """Options for the same machine with a way in.

    Args:
        directory: Where the new private key is written (mode 0600).
    """
    key = new_key()
    identity = directory / "ssh-key"
    descriptor = os.open(identity, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
            )
        )
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    access = SshAccess(free_port(), identity)
    changed = replace(
        options,
        forwards=(*options.forwards, Forward(access.port, SSH_PORT)),
        credentials={**options.credentials, **ssh_credentials(public.decode())},
    )
    return changed, access


def free_port() -> int:
    """A TCP port of the loopback address that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def require_free(ports: Iterable[int]) -> None:
    """Stop when somebody listens on one of these ports of the loopback address: the emulator would only end.

    Raises:
        BadInput: with the port.
    """
    for port in ports:
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError as error:
            raise BadInput(
                f"port {port} cannot be forwarded: {error.strerror}", remedy="name another port, or end what uses it"
            ) from error


def wait_until_reachable(machine: Machine, access: SshAccess, seconds: float) -> bool:
    """Wait until the guest's SSH server greets; False when ``seconds`` passed or the machine ended first.

    Tries are few and kept until one of them is greeted: a server shuts out for a while who made more than some 15
    connections without logging in (PerSourcePenalties, sshd_config(5)).
    """
    end = time.monotonic() + seconds
    waiting: deque[socket.socket] = deque()
    try:
        while machine.running and time.monotonic() < end:
            if len(waiting) == _KEPT_CONNECTIONS:
                waiting.popleft().close()  # it may lead to a system that has gone down since
            try:
                waiting.append(socket.create_connection(("127.0.0.1", access.port), timeout=_TRY_SECONDS))
            except OSError:
                machine.wait(_PAUSE_SECONDS)
            answered = wait(list(waiting), _TRY_SECONDS)
            for one in [one for one in waiting if one in answered]:
                if _greets(one):
                    return True
                waiting.remove(one)
                one.close()
                machine.wait(_PAUSE_SECONDS)
        return False
    finally:
        for one in waiting:
            one.close()


def _greets(connection: socket.socket) -> bool:
    # QEMU accepts the connection whether or not anyone listens in the guest: only the greeting tells.
    try:
        return connection.recv(4) == b"SSH-"
    except OSError:
        return False
