"""What a transaction would change, and who can make it: a value and an interface."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

# 5 minutes, 90 seconds a package, 15 minutes for a reboot.
_BASE_SECONDS, _PACKAGE_SECONDS, _REBOOT_SECONDS = 300.0, 90.0, 900.0


@dataclass(frozen=True, slots=True)
class Change:
    """One package of a transaction. ``action`` is ``upgrade``, ``install``, ``remove``, ``downgrade``; ``old`` and
    ``new`` are EVRs, empty where there is none."""

    name: str
    arch: str
    action: str
    old: str = ""
    new: str = ""
    advisories: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """A resolved transaction: its changes, bytes to download, bytes once unpacked, and absolute paths of all files of
    the packages that go. Those of the packages that come are known once these are fetched."""

    changes: tuple[Change, ...] = ()
    download_bytes: int = 0
    installed_bytes: int = 0
    old_files: frozenset[str] = frozenset()

    @property
    def seconds(self) -> float:
        """The time to reckon with, for windows."""
        return _BASE_SECONDS + _PACKAGE_SECONDS * len(self.changes) + _REBOOT_SECONDS


@dataclass(frozen=True, slots=True)
class Request:
    """What is wanted: ``scope`` is ``all`` or ``security``; ``exclude`` are patterns of package names; ``only`` limits
    it to these."""

    scope: str = "all"
    exclude: tuple[str, ...] = ()
    only: Sequence[str] = ()


class PackageManager(Protocol):
    """Resolves, downloads, checks signatures, changes packages."""

    def plan(self, request: Request) -> Plan:
        """What ``request`` would change.

        Raises:
            NotStarted: repositories cannot be read, or it cannot be resolved.
        """

    def fetch(self) -> frozenset[str]:
        """Download what was planned and check every signature; nothing is changed.

        Returns:
            Absolute paths of all files of the packages that come.

        Raises:
            NotStarted: a package cannot be had or is not signed by a trusted key.
        """

    def commit(self) -> None:
        """Change the packages.

        Raises:
            PatchError: the transaction or one of its triggers failed.
        """

    def close(self) -> None:
        """Let go of the package database."""
