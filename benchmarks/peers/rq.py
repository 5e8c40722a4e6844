# mypy: disable-error-code="import-not-found"
"""RQ on Redis.

`SimpleWorker`, which runs jobs in its own process: RQ's own notes on performance give it six times the rate of the
default, which forks for each job. Forked from one process; JSON instead of pickle; jobs are handed over in pipelines
(`enqueue_many`) and each result is waited for on its stream, without polling.
"""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from redis import Redis
from rq import Queue, SimpleWorker
from rq.serializers import JSONSerializer

from benchmarks.peers import driver, forks, jobs, servers


class Rq(driver.Batching):
    window = 512

    def __init__(self, url: str) -> None:
        self._queue = Queue("jobs", connection=Redis.from_url(url), serializer=JSONSerializer)

    def submit(self, count: int, nap: float | None) -> Any:
        task, arguments = (jobs.noop, ()) if nap is None else (jobs.nap, (nap,))
        if count == 1:
            return [self._queue.enqueue_call(task, arguments, result_ttl=600)]
        prepared = [Queue.prepare_data(task, arguments, result_ttl=600) for _ in range(count)]
        return self._queue.enqueue_many(prepared)

    def results(self, batch: Any) -> None:
        for job in batch:
            if job.latest_result(timeout=30) is None:
                raise TimeoutError("a job of RQ did not end")


@contextmanager
def start(workers: int) -> Iterator[driver.Peer]:
    words = [sys.executable, "-m", "benchmarks.peers.rq", "work"]
    with servers.redis() as url, servers.program([*words, url, str(workers)]):
        yield Rq(url)


def work(url: str) -> None:
    """One worker, until it is killed."""
    logging.disable(logging.WARNING)
    SimpleWorker(["jobs"], connection=Redis.from_url(url), serializer=JSONSerializer, log_job_description=False).work()


if __name__ == "__main__":
    forks.main(start, work)
