"""What the package database and the disk disagree on: ``rpm --verify``, rpm(8)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from bedplate_patch.door import run

# `S.5....T.  c /etc/web.conf`, `missing     /usr/bin/web`: configuration and ghosts may differ, or be away.
_EXPECTED = re.compile(r"\S+ +[cg] +/")


def rpm_verify(names: Sequence[str]) -> list[str]:
    """What the packages called ``names`` and the disk disagree on, as lines, configuration apart; modes and owners that
    something changed in place are set right first."""
    wanted = sorted(set(names))
    if not wanted or not _ask(wanted):
        return []
    run(["rpm", "--restore", *wanted], seconds=600)
    return _ask(wanted)


def _ask(names: Sequence[str]) -> list[str]:
    return disagreements(run(["rpm", "-V", "--nodeps", *names], seconds=600).text)


def disagreements(text: str) -> list[str]:
    """The lines of ``rpm -V`` that say something is wrong."""
    return [line for line in text.splitlines() if line.strip() and not _EXPECTED.match(line)]
