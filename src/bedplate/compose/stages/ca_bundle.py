"""The bundle of certification authorities: every certificate the packages ship, concatenated in sorted order."""

from __future__ import annotations

from dataclasses import dataclass

from bedplate.compose.plan import StageOutput
from bedplate.compose.stages.base import Staged, file_output, output

_SHIPPED = "/usr/share/ca-certificates"
BUNDLE = "/etc/ssl/certs/ca-certificates.crt"


@dataclass(frozen=True, slots=True)
class CaBundle:
    """What update-ca-certificates would have written."""

    name: str = "ca-bundle"
    revision: int = 1
    inputs: tuple[str, ...] = (_SHIPPED,)
    parameters: object = None

    def run(self, staged: Staged) -> StageOutput:
        """One PEM file, and a link to it where OpenSSL looks by default."""
        folder = staged.root / _SHIPPED.lstrip("/")
        parts = [path.read_bytes().rstrip(b"\n") + b"\n" for path in sorted(folder.rglob("*.crt"))]
        if not parts:
            return output(self.name)
        return output(self.name, [file_output(BUNDLE, b"".join(parts))])
