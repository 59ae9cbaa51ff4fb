"""Asking the update service: what the address says of this machine, downloads with limits, and signatures.

The service's word counts for nothing: a listing is used once gpgv found it signed by a key that lies in the image.
"""

from __future__ import annotations

import re
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bedplate_patch.door import run
from bedplate_patch.errors import BadInput, NotStarted, PatchError

LISTING, SIGNATURE = "SHA256SUMS", "SHA256SUMS.gpg"
MAX_LISTING = 1 << 20
_MAX_SIGNATURE = 64 * 1024
# A server that sends nothing for so long is left alone; the unit limits the whole.
_SECONDS = 60.0
_SPECIFIER = re.compile(r"%(.)")
# What gpgv says of a signature that is good in every respect, and what takes that away again.
_GOOD = re.compile(rb"^\[GNUPG:\] VALIDSIG [0-9A-F]{40}", re.MULTILINE)
_BAD = re.compile(rb"^\[GNUPG:\] (BADSIG|ERRSIG|EXPSIG|EXPKEYSIG|REVKEYSIG|NODATA)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Machine:
    """Who this machine is: machine id and boot id, 32 hex digits each."""

    machine_id: str
    boot_id: str


def address(template: str, machine: Machine, version: str) -> str:
    """The address to ask, from the one that was given: ``%m``, ``%b``, ``%A`` and ``%%`` are filled in, like systemd's.

    Raises:
        BadInput: not an address, or an unknown specifier.
    """
    known = {"m": machine.machine_id, "b": machine.boot_id, "A": version, "%": "%"}

    def fill(found: re.Match[str]) -> str:
        if found[1] not in known:
            raise BadInput(f"the update address has an unknown specifier %{found[1]}", remedy="there are %m %b %A %%")
        return known[found[1]]

    filled = _SPECIFIER.sub(fill, template.strip())
    if not filled.startswith(("http://", "https://")) or any(char.isspace() for char in filled):
        raise BadInput("the update address is none", remedy="it begins with http:// or https://")
    return filled if filled.endswith("/") else f"{filled}/"


class Service:
    """The service at an address (see :func:`address`).

    Args:
        keyring: Keys whose signature counts.
        failed: Releases that were taken back here: the service is told.
    """

    def __init__(self, base: str, keyring: Path, failed: Sequence[str] = ()) -> None:
        self._base = base
        self._keyring = keyring
        self._query = f"?{urllib.parse.urlencode({'failed': ','.join(failed)})}" if failed else ""

    def listing(self) -> bytes:
        """The verified listing.

        Raises:
            NotStarted: the service cannot be asked, or has none for this machine.
            PatchError: it is not signed by a key that counts.
        """
        content = self.fetch(LISTING, MAX_LISTING)
        signature = self.fetch(SIGNATURE, _MAX_SIGNATURE)
        check_signature(content, signature, self._keyring)
        return content

    def fetch(self, name: str, limit: int) -> bytes:
        """One file.

        Raises:
            NotStarted: it cannot be had.
        """
        query = self._query if name in (LISTING, SIGNATURE) else ""
        request = urllib.request.Request(f"{self._base}{name}{query}", headers={"User-Agent": "bedplate-follow"})
        try:
            with urllib.request.urlopen(request, timeout=_SECONDS) as answer:
                content: bytes = answer.read(limit + 1)
        except urllib.error.HTTPError as error:
            said = " ".join(error.read(200).decode("utf-8", "replace").split())[:100]
            raise NotStarted(f"the update service answers {error.code} to {name}: {said}") from error
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", error)
            raise NotStarted(f"the update service cannot be asked: {reason}", remedy="it is asked again") from error
        if len(content) > limit:
            raise NotStarted(f"{name} is larger than such a file can be")
        return content


def check_signature(content: bytes, signature: bytes, keyring: Path, gpgv: Sequence[str] = ("gpgv",)) -> None:
    """Refuse a listing that is not signed by a key of ``keyring``.

    Args:
        gpgv: The program that judges, with its first arguments.

    Raises:
        PatchError: the signature is not good.
    """
    with tempfile.TemporaryDirectory(prefix="bedplate-follow-") as scratch:
        folder = Path(scratch)
        (folder / LISTING).write_bytes(content)
        (folder / SIGNATURE).write_bytes(signature)
        options = ["--homedir", scratch, "--keyring", str(keyring), "--status-fd", "1"]
        done = run([*gpgv, *options, str(folder / SIGNATURE), str(folder / LISTING)], seconds=_SECONDS)
    said = done.text.encode()
    if done.code != 0 or not _GOOD.search(said) or _BAD.search(said):
        detail = next((line for line in done.text.splitlines() if "signature" in line.lower()), f"status {done.code}")
        raise PatchError(
            f"the listing is not signed by a key of this system: {detail}",
            remedy="do not trust this update service; tell who runs it",
        )


def this_machine(root: Path = Path("/")) -> Machine:
    """Who this is, from the kernel and systemd.

    Raises:
        BadInput: the system has no machine id yet.
    """
    machine_id = (root / "etc/machine-id").read_text().strip()
    boot_id = (root / "proc/sys/kernel/random/boot_id").read_text().strip().replace("-", "")
    if not re.fullmatch(r"[0-9a-f]{32}", machine_id):
        raise BadInput("this system has no machine id")
    return Machine(machine_id, boot_id)
