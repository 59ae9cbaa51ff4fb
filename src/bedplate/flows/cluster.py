"""Package imports on a dask.distributed cluster."""

from __future__ import annotations

from concurrent.futures import Executor
from typing import Any

from bedplate.model.errors import BedplateError
from bedplate.packages.importer import ExecutorFactory
from bedplate.packages.remote import RemoteImports

CONNECT_SECONDS = 10


def cluster_executor(address: str) -> ExecutorFactory:
    """What an import takes for its executor: the workers of the scheduler at ``address`` (``tcp://HOST:PORT``).

    The workers need Bedplate installed, and nothing of this machine: files travel. Whoever controls a worker controls
    what it converts, and the result is signed here: use machines you trust as this one.
    """

    def connect(jobs: int) -> Executor:
        import distributed

        module: Any = distributed
        try:
            client = module.Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
        except (OSError, ValueError) as error:
            raise BedplateError(
                "the cluster's scheduler does not answer",
                where=address,
                remedy="start it (dask scheduler) with workers that have Bedplate installed, or leave out --cluster",
            ) from error
        if not client.scheduler_info()["workers"]:
            client.close()
            raise BedplateError("the cluster has no workers", where=address, remedy="start some: dask worker ADDRESS")
        return RemoteImports(client.get_executor(pure=False), client.close)

    return connect
