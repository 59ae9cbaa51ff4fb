"""Secrets the service gives out, and what it keeps of them: a SHA-256, since each has 256 random bits of its own.

A slow password hash protects secrets people choose. These cannot be guessed, so a fast hash at rest is as good, and
a poll can afford it.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from enum import StrEnum

_TEXT = re.compile(r"(bn1|be1|bt1)_[A-Za-z0-9_-]{43}")


class SecretKind(StrEnum):
    """What a secret is for; the value is its prefix, so that a leaked one can be told in a log or by a scanner."""

    NODE = "bn1"
    ENROLMENT = "be1"
    PERSON = "bt1"


def new_secret(kind: SecretKind) -> str:
    """A secret of 256 bits: prefix, ``_`` and 43 characters of base64url."""
    return f"{kind.value}_{secrets.token_urlsafe(32)}"


def secret_digest(text: str) -> bytes:
    """What is stored and looked up in the place of a secret (32 bytes)."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def has_form(text: str, kind: SecretKind) -> bool:
    """Whether ``text`` can be a secret of ``kind`` at all."""
    return text.startswith(kind.value) and _TEXT.fullmatch(text) is not None


def redacted(text: str) -> str:
    """``text`` with every secret in it cut after its prefix; for logs."""
    return _TEXT.sub(r"\1_…", text)
