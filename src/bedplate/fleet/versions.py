"""Which of two versions is the newer one; a cached, bounded front of :mod:`bedplate.model.version`."""

from __future__ import annotations

from functools import lru_cache

from bedplate.model.version import compare_versions

# Nodes say what they like. Beyond this many characters it is nonsense and only costs time.
_LONGEST = 256


@lru_cache(maxsize=4096)
def newer(left: str, right: str) -> bool:
    """Whether ``left`` sorts strictly after ``right``. Any text is taken; nonsense sorts somewhere, always the same."""
    return compare_versions(left[:_LONGEST], right[:_LONGEST]) > 0
