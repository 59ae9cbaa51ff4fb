"""A killed build and two builds at once on one cache leave nothing half-written."""

from __future__ import annotations

import signal
import time

import pytest
from tests.support.builds import require_root, root_digest, start_build

pytestmark = pytest.mark.vm
_LOOKS = 600


def test_killed_in_the_middle_then_two_at_once(workspace, container_build, place):
    first = start_build(workspace, place)
    for _ in range(_LOOKS):
        # In the middle of the import: some packages are finished, others are being written.
        if len(list((place / "cache/rpms").rglob("*.rpm"))) >= 20 or first.poll() is not None:
            break
        time.sleep(0.1)
    assert first.poll() is None, first.communicate()[1]
    first.send_signal(signal.SIGKILL)
    first.communicate(timeout=60)  # its workers have gone too, or its pipes would stay open
    again = [start_build(workspace, place, output=name) for name in ("one", "two")]
    for process in again:
        require_root(process, root_digest(container_build))
    assert not [path for path in place.iterdir() if path.name.startswith(".")]
