"""`multiprocessing.Pool`: one host, no network.

`apply_async` and a result a job, as everything here: `map` with chunks sends many calls as one and would
measure another thing. Forked, which is the default on Linux and the smallest.
"""

import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.peers import driver, jobs


class Pool(driver.Blocking):
    def __init__(self, pool: Any) -> None:
        self._pool = pool

    def submit(self, nap: float | None) -> Any:
        return self._pool.apply_async(jobs.noop) if nap is None else self._pool.apply_async(jobs.nap, (nap,))

    def result(self, job: Any) -> None:
        job.get()


@contextmanager
def start(workers: int) -> Iterator[driver.Peer]:
    with multiprocessing.get_context("fork").Pool(workers) as pool:
        yield Pool(pool)


if __name__ == "__main__":
    driver.serve(start)
