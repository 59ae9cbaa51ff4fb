"""A store by the name a user gives it: a directory, or a URL of object storage."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from bedplate.model.errors import BadInput
from bedplate.release.client import VerifiedStore
from bedplate.release.directory import DirectoryStore
from bedplate.release.objects import ObjectStore

_BUCKETS = ("s3", "gs", "az", "abfs", "abfss", "memory")


def open_objects(name: str) -> ObjectStore:
    """The objects of a store: a path, ``file:`` URL, or ``s3://bucket/prefix`` (``gs://``, ``az://`` likewise).

    Raises:
        BadInput: a URL of an unknown kind.
        BedplateError: the settings in the environment do not do.
    """
    parts = urlsplit(name)
    if parts.scheme in _BUCKETS:
        from bedplate.release.bucket import BucketStore  # heavy, and not needed for directories

        return BucketStore(name)
    if parts.scheme == "file":
        return DirectoryStore(Path(unquote(parts.path)).absolute())
    if parts.scheme and len(parts.scheme) > 1:
        raise BadInput(
            f"no release store under {parts.scheme}: URLs",
            where=name,
            remedy=f"name a directory, or one of: {', '.join(f'{scheme}://' for scheme in _BUCKETS[:-1])}",
        )
    return DirectoryStore(Path(name).absolute())


def open_store(name: str, root: bytes, seen: Path) -> VerifiedStore:
    """A store to read from, see :class:`~bedplate.release.client.VerifiedStore`.

    Raises:
        BadInput: see :func:`open_objects`.
    """
    return VerifiedStore(open_objects(name), root, seen)
