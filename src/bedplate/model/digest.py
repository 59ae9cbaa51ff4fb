"""Content digests: hex SHA-256 of bytes and of plain data in one canonical form."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def sha256(data: bytes | bytearray | memoryview) -> str:
    """Hex SHA-256 of ``data``."""
    return hashlib.sha256(data).hexdigest()


def canonical_json(value: Any) -> bytes:
    """``value`` (dicts, lists, strings, integers, booleans, None) as JSON with sorted keys, no spaces, UTF-8."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def identity(value: Any) -> str:
    """Hex SHA-256 of the canonical JSON of ``value``: the name of a cache entry made from it."""
    return sha256(canonical_json(value))
