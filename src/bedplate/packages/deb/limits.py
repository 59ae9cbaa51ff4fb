"""Named limits of what a Debian package may unpack to. They bound memory and time, not what Debian ships."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """Upper bounds, in bytes unless the name says otherwise.

    The payload is bounded twice: by ``payload_factor`` times the package's own ``Installed-Size`` plus
    ``payload_slack`` (``Installed-Size`` is an estimate, and tar adds a header to every file), and by
    ``payload`` whatever the package says.
    """

    control: int = 64 * MIB
    control_file: int = 16 * MIB
    payload: int = 4096 * MIB
    payload_factor: int = 2
    payload_slack: int = 64 * MIB
    file: int = 1024 * MIB
    members: int = 200_000
    path: int = 4095
    decoder_memory: int = 256 * MIB

    def payload_for(self, installed_kib: int) -> int:
        """Bytes the payload's tar may have when the package declares ``installed_kib`` KiB."""
        return min(self.payload, self.payload_factor * installed_kib * 1024 + self.payload_slack)


DEFAULT_LIMITS = Limits()
