"""What is said of a security fix: which packages bring it, its names elsewhere, and what the statement rests on."""

from __future__ import annotations

from dataclasses import dataclass

from bedplate.model.package import Nevra, SourceRef


@dataclass(frozen=True, slots=True)
class AdvisedPackage:
    """A package that holds the fix. ``reboot`` says that only a reboot brings it to all that runs."""

    nevra: Nevra
    source: SourceRef
    reboot: bool = False


@dataclass(frozen=True, slots=True)
class Advisory:
    """One advisory.

    ``id`` never changes for the same fix. ``issued`` is in seconds since the epoch. ``severity`` is empty while nobody
    rated it, which does not mean that it is low. ``rests_on`` says how sure the statement is.
    """

    id: str
    title: str
    issued: int
    packages: tuple[AdvisedPackage, ...]
    cves: tuple[str, ...] = ()
    severity: str = ""
    description: str = ""
    rests_on: str = ""
