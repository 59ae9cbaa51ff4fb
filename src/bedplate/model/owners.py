"""Whose each path of an image is, as a file beside it: ``owners.json``."""

from __future__ import annotations

import json
from collections.abc import Mapping

from bedplate.model.digest import canonical_json
from bedplate.model.errors import BadInput

OWNERS_NAME = "owners.json"


def format_owners(owners: Mapping[str, str]) -> bytes:
    """The text of ``owners.json`` (owner -> its sorted paths) from path -> owner."""
    grouped: dict[str, list[str]] = {}
    for path, owner in sorted(owners.items()):
        grouped.setdefault(owner, []).append(path)
    return canonical_json(grouped) + b"\n"


def parse_owners(text: str | bytes, where: str) -> dict[str, str]:
    """Path -> owner (``package:NAME``, ``files:SET``, ``stage:NAME``) from ``owners.json``.

    Raises:
        BadInput: it is not one, or gives a path to two owners.
    """
    remedy = "build the image again: bedplate build TRACK"
    owners: dict[str, str] = {}
    try:
        for owner, paths in json.loads(text).items():
            for path in paths:
                if not isinstance(path, str) or path in owners:
                    raise BadInput(f"{path!r} is there twice, or is no path", where=where, remedy=remedy)
                owners[path] = owner
    except (ValueError, TypeError, AttributeError) as error:
        raise BadInput(f"the list of owners is damaged ({error})", where=where, remedy=remedy) from error
    return owners
