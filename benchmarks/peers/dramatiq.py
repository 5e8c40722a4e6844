# mypy: disable-error-code="import-not-found"
"""Dramatiq 2 on Redis.

One thread a process for no-ops, since threads of one process share its interpreter; eight threads in each of eight
processes for 10 ms jobs, which wait. Of the middleware only Results is left: time limits, age limits, retries and
callbacks cost and are not used here. No-op messages are prefetched deeply (`dramatiq_queue_prefetch`). A shorter
`dramatiq_worker_timeout` makes a single job faster and more than halves the rate: it stays as it is.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

from benchmarks.peers import driver, jobs, servers

URL = "PEERS_DRAMATIQ_URL"


def make_broker(url: str) -> Any:
    made = RedisBroker(url=url, middleware=[Results(backend=RedisBackend(url=url))])
    dramatiq.set_broker(made)
    dramatiq.actor(jobs.noop, broker=made, store_results=True)
    dramatiq.actor(jobs.nap, broker=made, store_results=True)
    return made


class Dramatiq(driver.Blocking):
    def __init__(self, broker: Any) -> None:
        self._noop = broker.get_actor("noop")
        self._nap = broker.get_actor("nap")

    def submit(self, nap: float | None) -> Any:
        return self._noop.send() if nap is None else self._nap.send(nap)

    def result(self, job: Any) -> None:
        job.get_result(block=True, timeout=30_000)


@contextmanager
def start(workers: int) -> Iterator[driver.Peer]:
    processes = min(workers, 8)
    threads = workers // processes
    words = [sys.executable, "-m", "dramatiq", f"{__spec__.name}:broker"]
    words += ["-p", str(processes), "-t", str(threads), "--skip-logging"]
    with servers.redis() as url:
        settings = {URL: url} | ({"dramatiq_queue_prefetch": "128"} if threads == 1 else {})
        with servers.program(words, env=servers.environment(**settings)):
            broker = make_broker(url)
            yield Dramatiq(broker)
            broker.close()


if URL in os.environ:
    broker = make_broker(os.environ[URL])

if __name__ == "__main__":
    driver.serve(start)
