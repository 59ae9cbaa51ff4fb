"""What a finished build says of itself: ``manifest.json`` beside the image."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from bedplate.model.errors import BadInput

MANIFEST_NAME = "manifest.json"
LOCK_NAME = "lock.toml"
MANIFEST_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Artefact:
    """One file of a build: its name in the image's directory, hex SHA-256, size in bytes."""

    file: str
    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class ImageManifest:
    """One finished image.

    ``artefacts`` are keyed by role (``disk``, ``root``, ``verity``, ``initrd``, ``uki``, ``uki-unsigned``, ``loader``).
    ``identity`` is the digest of all inputs; ``expected_pcr11`` the hex values PCR 11 has in the phases a boot passes.
    ``development`` says that a development key signed it: it must never be taken for a release. ``seconds`` are of each
    stage of the build that made it.
    """

    track: str
    version: str
    distribution: str
    identity: str
    root_hash: str
    expected_pcr11: tuple[str, ...]
    development: bool
    packages: int
    artefacts: dict[str, Artefact]
    seconds: dict[str, float] = field(default_factory=dict)
    format: int = MANIFEST_FORMAT

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def parse_manifest(text: str, where: str) -> ImageManifest:
    """Read ``manifest.json``.

    Raises:
        BadInput: it is not one, or of another format.
    """
    remedy = "build the image again: bedplate build TRACK"
    try:
        data = json.loads(text)
        if data["format"] != MANIFEST_FORMAT:
            raise BadInput(f"manifest format {data['format']!r}, this Bedplate reads {MANIFEST_FORMAT}", where=where)
        data["artefacts"] = {role: Artefact(**artefact) for role, artefact in data["artefacts"].items()}
        data["expected_pcr11"] = tuple(data["expected_pcr11"])
        for artefact in data["artefacts"].values():
            if "/" in artefact.file or artefact.file in ("", ".", ".."):
                raise BadInput(f"the manifest names a file {artefact.file!r} outside its directory", where=where)
        return ImageManifest(**data)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadInput(f"the image's manifest is damaged ({error})", where=where, remedy=remedy) from error
