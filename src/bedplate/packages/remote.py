"""Imports on other machines: the files travel, so that the workers share nothing with this one.

An adapter of the ``concurrent.futures`` interface: whoever imports submits :func:`~bedplate.packages.importer.convert`
with paths, as to processes of this machine; the adapter sends the upstream file's bytes and writes what comes back.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

from bedplate.model.errors import BedplateError
from bedplate.packages.atomic import caching
from bedplate.packages.draft import Recipe
from bedplate.packages.importer import convert

WINDOW_BYTES = 512 * 1024 * 1024
"""Upstream files under way at one time, in bytes: what this machine and the cluster hold in memory for one import."""


def convert_bytes(recipe: Recipe, data: bytes) -> tuple[bytes, bytes]:
    """Our RPM of an upstream file and its record, as bytes. Runs on a machine of the cluster.

    Raises:
        BadInput: the package is damaged or hostile.
    """
    with tempfile.TemporaryDirectory(prefix="bedplate-") as folder:
        source, target = Path(folder) / "upstream", Path(folder) / "ours.rpm"
        source.write_bytes(data)
        convert(recipe, source, target)
        return target.read_bytes(), target.with_suffix(".json").read_bytes()


class RemoteImports(Executor):
    """Conversions on the workers behind ``inner``; results are written here, the record last.

    Submitting waits while more than :data:`WINDOW_BYTES` are under way. ``leave`` is called when all is done.
    """

    def __init__(self, inner: Executor, leave: Callable[[], object] = lambda: None) -> None:
        self._inner = inner
        self._leave = leave
        self._free = threading.Condition()
        self._under_way = 0

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Submit ``convert(recipe, source, target)``; anything else is refused."""
        if fn is not convert or kwargs or len(args) != 3:
            raise BedplateError("only package imports can be sent to a cluster")
        recipe, source, target = args
        data = source.read_bytes()
        with self._free:
            self._free.wait_for(lambda: not self._under_way or self._under_way + len(data) <= WINDOW_BYTES)
            self._under_way += len(data)
        done: Future[None] = Future()
        running = self._inner.submit(convert_bytes, recipe, data)
        running.add_done_callback(lambda result: self._finish(result, target, len(data), done))
        return done

    def _finish(self, result: Future[tuple[bytes, bytes]], target: Path, size: int, done: Future[None]) -> None:
        with self._free:
            self._under_way -= size
            self._free.notify_all()
        try:
            package, record = result.result()
            if json.loads(record)["rpm_sha256"] != hashlib.sha256(package).hexdigest():
                raise BedplateError("a worker's result was damaged on its way", where=str(target))
            target.parent.mkdir(parents=True, exist_ok=True)
            for path, data in ((target, package), (target.with_suffix(".json"), record)):
                with caching(path) as stream:
                    stream.write(data)
        except BaseException as error:  # noqa: BLE001 - whatever it is, it belongs to whoever waits
            done.set_exception(error)
        else:
            done.set_result(None)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Leave the cluster."""
        self._inner.shutdown(wait=wait)
        self._leave()
