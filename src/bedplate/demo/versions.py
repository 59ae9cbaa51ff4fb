"""The three versions of the demonstration: the one nodes begin with, a good successor, and one that is not healthy."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from bedplate.flows.build import build_track
from bedplate.flows.definition import copy_definition
from bedplate.flows.images import FoundImage, find_image
from bedplate.flows.locks import Relock
from bedplate.flows.workspace import Workspace

TRACK = "container"
FIRST, GOOD, BAD = "1.0.1", "1.0.2", "1.0.3"
# A unit of the image's own that cannot start: what a release with a broken service looks like to its node.
_BROKEN = {
    "usr/lib/systemd/system/demo-broken.service": (
        "[Unit]\nDescription=A service that this release broke\nDefaultDependencies=no\nBefore=bedplate-health.target\n"
        "[Service]\nType=oneshot\nExecStart=false\n"
    ),
    "usr/lib/systemd/system/bedplate-health.target.d/50-demo.conf": "[Unit]\nRequires=demo-broken.service\n",
}
_CONTENTS: Mapping[str, Mapping[str, str]] = {FIRST: {}, GOOD: {}, BAD: _BROKEN}


@dataclass(frozen=True)
class Version:
    """One built version: its number and its image."""

    number: str
    image: FoundImage
    directory: Path


def build_version(workspace: Workspace, place: Path, number: str) -> Version:
    """Build one of the versions below ``place``; what was built before is taken as it is.

    Raises:
        Whatever a build raises.
    """
    distro = place / f"distro-{number}"
    if distro.exists():
        shutil.rmtree(distro)
    copy_definition(workspace.distro, distro)
    for path, text in _CONTENTS[number].items():
        target = distro / "files/update" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
    changed = replace(workspace, distro=distro, output=place / f"image-{number}")
    outcome = build_track(changed, TRACK, Relock.WHEN_NEEDED, version=number)
    return Version(number, find_image(changed, str(outcome.directory)), outcome.directory)
