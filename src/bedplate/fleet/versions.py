"""The order of release versions: rpm's, which agrees with systemd's for the dotted numbers releases have."""

from __future__ import annotations

from functools import lru_cache

from bedplate.model.evr import rpmvercmp


# What follows is nonsense, and would cost; numbers of thousands of digits also cannot be read.
_LONGEST = 256


@lru_cache(maxsize=4096)
def newer(left: str, right: str) -> bool:
    """Whether ``left`` sorts strictly after ``right``. Any text is taken; nonsense sorts somewhere, always the same."""
    return rpmvercmp(left[:_LONGEST], right[:_LONGEST]) > 0
