# mypy: disable-error-code="import-not-found"
"""Dask.distributed: a scheduler and workers as processes of their own, all on one host.

After "Efficiency" and "Configuration" of its documentation: all that costs per task and is not used here is off (work
stealing, profiling, the active memory manager, the dashboard, nannies); `worker-saturation` is infinite, so that the
scheduler sends jobs to the workers ahead of time; `client.map` hands half a window over in one message and `gather`
collects it. One thread a worker; workers are forked from one process.
"""

import asyncio
import itertools
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from distributed import Client, Worker

from benchmarks.peers import driver, forks, jobs, servers

SETTINGS = {
    "DASK_DISTRIBUTED__SCHEDULER__WORK_STEALING": "False",
    "DASK_DISTRIBUTED__SCHEDULER__WORKER_SATURATION": "inf",
    "DASK_DISTRIBUTED__SCHEDULER__ACTIVE_MEMORY_MANAGER__START": "False",
    "DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "False",
    "DASK_DISTRIBUTED__ADMIN__LOW_LEVEL_LOG_LENGTH": "0",
    "DASK_DISTRIBUTED__DIAGNOSTICS__NVML": "False",
}


class Dask(driver.Batching):
    def __init__(self, client: Any) -> None:
        self._client = client
        self._numbers = itertools.count()

    def submit(self, count: int, nap: float | None) -> Any:
        numbers = list(itertools.islice(self._numbers, count))
        if nap is None:
            return self._client.map(jobs.noop_numbered, numbers, pure=False)
        return self._client.map(jobs.nap_numbered, numbers, seconds=nap, pure=False)

    def results(self, batch: Any) -> None:
        self._client.gather(batch)


@contextmanager
def start(workers: int) -> Iterator[driver.Peer]:
    [port] = servers.free_ports(1)
    url = f"tcp://127.0.0.1:{port}"
    scheduler = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", str(port)]
    scheduler += ["--no-dashboard"]
    work = [sys.executable, "-m", "benchmarks.peers.dask", "work", url, str(workers)]
    environment = servers.environment(**SETTINGS)
    with (
        servers.program(scheduler, env=environment),
        servers.program(work, env=environment),
        Client(url, timeout=servers.READY_S, set_as_default=False) as client,
    ):
        client.wait_for_workers(workers, timeout=60)
        yield Dask(client)


def work(url: str) -> None:
    """One worker, until it is killed."""

    async def run() -> None:
        async with Worker(url, nthreads=1, dashboard=False) as worker:
            await worker.finished()

    asyncio.run(run())


if __name__ == "__main__":
    forks.main(start, work)
