# mypy: disable-error-code="import-not-found"
"""arq on Redis.

Workers poll, here every 5 ms instead of 500, and get into each other's way at the sorted set that is the queue, 64 of
them most of the time. So 10 ms jobs run in threads, as its documentation has it for synchronous jobs, eight in each of
eight processes. Forked from one process, on uvloop; no-op results are looked for every millisecond, oldest first.
"""

import asyncio
import logging
import sys
import time
from collections.abc import Awaitable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import Any

import uvloop
from arq import create_pool, func
from arq.connections import RedisSettings
from arq.worker import Worker

from benchmarks.peers import driver, forks, servers


async def noop(_context: Any) -> None:
    pass


async def nap(_context: Any, seconds: float) -> None:
    await asyncio.to_thread(time.sleep, seconds)


PROCESSES = 8


class Arq(driver.Looping):
    window = 512
    nap_window = 256

    def __init__(self, url: str) -> None:
        super().__init__()
        self._pool = self.run(self._connect(url))

    async def _connect(self, url: str) -> Any:
        pool = await create_pool(RedisSettings.from_dsn(url))
        pool.connection_pool.max_connections = 2 * self.nap_window  # a hundred would be too few to poll with
        return pool

    async def submit(self, nap: float | None) -> Awaitable[Any]:
        job = await (self._pool.enqueue_job("noop") if nap is None else self._pool.enqueue_job("nap", nap))
        return self._result(job, 0.001 if nap is None else 0.02)

    async def _result(self, job: Any, delay: float) -> Any:
        """As `Job.result`, which also asks for the queue each time, and takes a job that ends in between for lost."""
        until = time.monotonic() + 30
        while (found := await job.result_info()) is None:
            if time.monotonic() > until:
                raise TimeoutError("a job of arq did not end")
            await asyncio.sleep(delay)
        return found.result

    def close(self) -> None:
        self.run(self._pool.aclose())
        super().close()


@contextmanager
def start(workers: int) -> Iterator[driver.Peer]:
    words = [sys.executable, "-m", "benchmarks.peers.arq", "work"]
    with servers.redis() as url, closing(Arq(url)) as peer, servers.program([*words, url, str(workers)]):
        yield peer


def work(url: str, workers: int, processes: int) -> None:
    """One of so many processes with all the workers, until it is killed."""
    logging.disable(logging.ERROR)

    async def run() -> None:
        # The default has four threads more than there are CPUs: too few where those are few.
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(workers // processes))
        await Worker(
            [func(noop, name="noop"), func(nap, name="nap")],
            redis_settings=RedisSettings.from_dsn(url),
            handle_signals=False,
            poll_delay=0.005,
            max_jobs=100 if processes == workers else workers // processes,
            keep_result=600,
            max_tries=1,
        ).async_run()

    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    asyncio.set_event_loop(asyncio.new_event_loop())
    asyncio.get_event_loop().run_until_complete(run())


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["work", url, count]:
            processes = min(int(count), PROCESSES)
            forks.fork(processes, lambda _: work(url, int(count), processes))
        case _:
            driver.serve(start)
