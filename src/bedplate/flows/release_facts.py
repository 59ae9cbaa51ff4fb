"""What a release holds, as plain data beside it, so that two releases can be compared without opening an image."""

from __future__ import annotations

from typing import Any

from bedplate.compose.result import BuildResult
from bedplate.model.definition.track import Track
from bedplate.model.lock import Lock
from bedplate.verify.inspection import Inspection

FACTS = "facts.json"
FACTS_FORMAT = 1


def image_facts(inspection: Inspection, track: Track, lock: Lock, build: BuildResult) -> dict[str, Any]:
    """Facts of a finished image, read from its bytes where they are there to be read.

    ``listening`` and ``limits`` are what the track's definition allows, which the build and its tests hold.
    """
    contents = inspection.root.contents if inspection.root else None
    return {
        "format": FACTS_FORMAT,
        "kernel": inspection.uki.kernel_version if inspection.uki else "",
        "command_line": build.command_line.split(),
        "root_bytes": build.root_bytes,
        "uki_bytes": build.uki_bytes,
        "package_count": build.package_count,
        "packages": {
            p.nevra.name: {"evr": str(p.nevra.evr), "source": p.source.name, "source_evr": str(p.source.evr)}
            for p in sorted(lock.packages, key=lambda p: p.nevra.name)
        },
        "setid": sorted(file.path for file in contents.setid) if contents else [],
        "capabilities": sorted(file.path for file in contents.capabilities) if contents else [],
        "interpreters": sorted({one.path for one in contents.interpreters}) if contents else [],
        "world_writable": sorted(contents.world_writable) if contents else [],
        "listening": sorted(track.limits.listening),
        "slots": track.slots.model_dump(mode="json"),
    }
