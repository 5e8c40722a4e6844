# mypy: disable-error-code="import-not-found,untyped-decorator"
"""Ray: a pool of actors, one a worker, called in turn.

Calls of an actor go straight from the client to its process, while tasks need leases of workers. Half a window is
collected by one `ray.get`. No dashboard, no usage report, a small object store; actors ask for no CPU, so that 64 fit
on any host.
"""

import itertools
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

os.environ.update(RAY_USAGE_STATS_ENABLED="0", RAY_DISABLE_IMPORT_WARNING="1")

import ray

from benchmarks.peers import driver


class Tasks:
    def noop(self) -> None:
        pass

    def nap(self, seconds: float) -> None:
        time.sleep(seconds)


class Ray(driver.Batching):
    def __init__(self, workers: int) -> None:
        pooled = ray.remote(num_cpus=0)(Tasks)
        actors = [pooled.remote() for _ in range(workers)]
        ray.get([actor.noop.remote() for actor in actors])
        self._turns = itertools.cycle(actors)

    def submit(self, count: int, nap: float | None) -> Any:
        actors = itertools.islice(self._turns, count)
        if nap is None:
            return [actor.noop.remote() for actor in actors]
        return [actor.nap.remote(nap) for actor in actors]

    def results(self, batch: Any) -> None:
        ray.get(batch)


@contextmanager
def start(workers: int) -> Iterator[driver.Peer]:
    with tempfile.TemporaryDirectory(prefix="ray") as folder:
        ray.init(
            address="local",
            num_cpus=workers,
            include_dashboard=False,
            object_store_memory=100_000_000,
            log_to_driver=False,
            _temp_dir=folder,
        )
        try:
            yield Ray(workers)
        finally:
            ray.shutdown()


if __name__ == "__main__":
    driver.serve(start)
