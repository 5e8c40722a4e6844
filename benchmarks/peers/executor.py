"""`concurrent.futures.ProcessPoolExecutor`: one host, no network.

Forked, the default on Linux and the smallest. No `max_tasks_per_child`, which would replace workers in between.
"""

import multiprocessing
import os
import time
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from typing import Any

from benchmarks.peers import driver, jobs

START_S = 30.0
"""What 64 workers may take to start on a busy machine."""


def pid(seconds: float) -> int:
    """Which process this is; the wait leaves the next job to another."""
    time.sleep(seconds)
    return os.getpid()


class Executing(driver.Blocking):
    """Any executor of `concurrent.futures`."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    def await_workers(self, count: int) -> None:
        """Wait until so many have run something."""
        until = time.monotonic() + START_S
        seen: set[int] = set()
        while len(seen) < count and time.monotonic() < until:
            jobs = [self._executor.submit(pid, driver.NAP_S) for _ in range(count)]
            seen |= {job.result() for job in jobs}

    def submit(self, nap: float | None) -> "Future[None]":
        return self._executor.submit(jobs.noop) if nap is None else self._executor.submit(jobs.nap, nap)

    def result(self, job: Any) -> None:
        job.result()


@contextmanager
def start(workers: int) -> Iterator[driver.Peer]:
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("fork")) as executor:
        peer = Executing(executor)
        peer.await_workers(workers)
        yield peer


if __name__ == "__main__":
    driver.serve(start)
