"""A release store in S3-compatible storage (``s3://bucket/prefix``), or any other object storage that obstore knows.

Credentials, endpoint and region come from the environment (``AWS_ACCESS_KEY_ID``, ``AWS_ENDPOINT_URL`` …). Writes are
conditional by ``If-None-Match`` and ``If-Match``, which the storage must support; one that does not refuses the write.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, NotFoundError, PreconditionError
from obstore.store import from_url

from bedplate.model.errors import BedplateError
from bedplate.release.objects import (
    Absent,
    Anything,
    Condition,
    Conflict,
    NotFound,
    ObjectInfo,
    Stored,
    Unchanged,
    require_path,
    too_large,
)

_PIECE = 4 << 20
_RETRY = {"max_retries": 3, "retry_timeout": timedelta(seconds=30)}


class BucketStore:
    """Objects in a bucket.

    Args:
        url: For instance ``s3://bucket/prefix``.
        options: Settings beside those of the environment (``endpoint``, ``region`` …), for embedding and tests.
    """

    def __init__(self, url: str, options: Mapping[str, Any] | None = None) -> None:
        self._url = url
        try:
            self._store: Any = from_url(url, retry_config=_RETRY, **(options or {}))  # type: ignore[call-overload]
        except (BaseError, ValueError) as error:
            raise _failed(error, url) from error

    @property
    def url(self) -> str:
        return self._url

    def get(self, path: str, limit: int) -> Stored:
        try:
            found = obstore.get(self._store, require_path(path))
            if found.meta["size"] > limit:
                raise too_large(self._where(path), limit)
            return Stored(bytes(found.bytes()), found.meta["e_tag"] or "")
        except FileNotFoundError as error:
            raise self._missing(path) from error
        except BaseError as error:
            raise _failed(error, self._where(path)) from error

    def stream(self, path: str, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        info = self.info(path)
        if info is None:
            raise self._missing(path)
        end = info.size if length is None else min(start + length, info.size)
        try:
            for position in range(start, end, _PIECE):
                yield bytes(obstore.get_range(self._store, path, start=position, end=min(position + _PIECE, end)))
        except FileNotFoundError as error:
            raise self._missing(path) from error
        except BaseError as error:
            raise _failed(error, self._where(path)) from error

    def put(self, path: str, source: bytes | Path, condition: Condition) -> None:
        mode: Any
        match condition:
            case Anything():
                mode = "overwrite"
            case Absent():
                mode = "create"
            case Unchanged(tag):
                mode = {"e_tag": tag}
        try:
            # Parts of a multipart upload know no condition; only what is named by its content is large.
            obstore.put(
                self._store, require_path(path), source, mode=mode, use_multipart=None if mode == "overwrite" else False
            )
        except (AlreadyExistsError, PreconditionError) as error:
            raise Conflict(
                "somebody else has just written this", where=self._where(path), remedy="run the same command again"
            ) from error
        except (BaseError, FileNotFoundError) as error:
            raise _failed(error, self._where(path)) from error

    def info(self, path: str) -> ObjectInfo | None:
        try:
            meta = obstore.head(self._store, require_path(path))
        except (FileNotFoundError, NotFoundError):
            return None
        except BaseError as error:
            raise _failed(error, self._where(path)) from error
        return ObjectInfo(path, meta["size"], meta["last_modified"].timestamp())

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        try:
            for page in obstore.list(self._store, require_path(prefix)):
                for meta in page:
                    yield ObjectInfo(meta["path"], meta["size"], meta["last_modified"].timestamp())
        except BaseError as error:
            raise _failed(error, self._where(prefix)) from error

    def delete(self, path: str) -> None:
        try:
            obstore.delete(self._store, require_path(path))
        except FileNotFoundError:
            return
        except BaseError as error:
            raise _failed(error, self._where(path)) from error

    def local(self, path: str) -> Path | None:
        return None

    def public_url(self, path: str, seconds: int) -> str | None:
        try:
            return str(obstore.sign(self._store, "GET", require_path(path), timedelta(seconds=seconds)))
        except (BaseError, TypeError):
            return None  # a storage without signed URLs, such as memory

    def _where(self, path: str) -> str:
        return f"{self._url}/{path}"

    def _missing(self, path: str) -> NotFound:
        return NotFound("the release store has no such object", where=self._where(path))


def _failed(error: Exception, where: str) -> BedplateError:
    # What follows the first line are the library's own structures.
    first = str(error).splitlines()[0][:300] if str(error) else type(error).__name__
    return BedplateError(
        f"the object storage failed: {first}",
        where=where,
        remedy="check endpoint, region, credentials and permissions (AWS_ENDPOINT_URL, AWS_REGION, AWS_ACCESS_KEY_ID)",
    )
