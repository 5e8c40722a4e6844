# mypy: disable-error-code="import-not-found"
"""Taskiq on Redis.

`ListQueueBroker`, one pop a job and no acknowledgement: the cheapest of its brokers, and at most once as the mesh.
Tasks are coroutines, so that none goes through a thread pool; a nap blocks its worker, and then a worker takes one job
at a time (`--max-async-tasks 1`, little prefetch). Results expire and are looked for every millisecond, oldest first.
"""

import os
import sys
import time
from collections.abc import Awaitable, Iterator
from contextlib import closing, contextmanager
from typing import Any

from taskiq_redis import ListQueueBroker, RedisAsyncResultBackend

from benchmarks.peers import driver, servers

URL = "PEERS_TASKIQ_URL"


async def noop() -> None:
    pass


async def nap(seconds: float) -> None:
    time.sleep(seconds)  # noqa: ASYNC251  # a synchronous job


def make_broker(url: str) -> Any:
    made = ListQueueBroker(url).with_result_backend(RedisAsyncResultBackend(url, result_ex_time=600))
    made.register_task(noop, task_name="noop")
    made.register_task(nap, task_name="nap")
    return made


class Taskiq(driver.Looping):
    window = 512
    nap_window = 256

    def __init__(self, url: str) -> None:
        super().__init__()
        self._broker = make_broker(url)
        self._noop = self._broker.find_task("noop")
        self._nap = self._broker.find_task("nap")
        self.run(self._broker.startup())

    async def submit(self, nap: float | None) -> Awaitable[Any]:
        job = await (self._noop.kiq() if nap is None else self._nap.kiq(nap))
        result: Awaitable[Any] = job.wait_result(check_interval=0.001 if nap is None else 0.02, timeout=30)
        return result

    def close(self) -> None:
        self.run(self._broker.shutdown())
        super().close()


@contextmanager
def start(workers: int) -> Iterator[driver.Peer]:
    words = [sys.executable, "-m", "taskiq", "worker", "benchmarks.peers.taskiq:broker", "--workers", str(workers)]
    words += ["--log-level", "ERROR"]
    words += ["--max-async-tasks", "100"] if workers <= 2 else ["--max-async-tasks", "1", "--max-prefetch", "1"]
    with (
        servers.redis() as url,
        servers.program(words, env=servers.environment(**{URL: url})),
        closing(Taskiq(url)) as peer,
    ):
        yield peer


if URL in os.environ:
    broker = make_broker(os.environ[URL])

if __name__ == "__main__":
    driver.serve(start)
