# mypy: disable-error-code="import-not-found,untyped-decorator"
"""Celery 5 on Redis, prefork.

After the guide "Optimizing" of Celery's own documentation: a large prefetch multiplier for many short tasks. `-O fair`,
the only order that its command line still offers, gives a child its next job when it is idle. Results are kept, since
every job here is waited for; events, gossip, mingle, heartbeat and rate limits are off, hiredis parses. Results are
awaited with `get`, oldest first, which is twice as fast here as `ResultSet.join_native`.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from celery import Celery

from benchmarks.peers import driver, jobs, servers

URL = "PEERS_CELERY_URL"


def application(url: str) -> Any:
    made = Celery("peers", broker=url, backend=url)
    made.conf.update(
        worker_prefetch_multiplier=128,
        worker_disable_rate_limits=True,
        broker_connection_retry_on_startup=True,
        result_expires=600,
    )
    made.task(name="noop")(jobs.noop)
    made.task(name="nap")(jobs.nap)
    return made


class CeleryPeer(driver.Blocking):
    window = 512

    def __init__(self, app: Any) -> None:
        self._noop = app.tasks["noop"]
        self._nap = app.tasks["nap"]

    def submit(self, nap: float | None) -> Any:
        return self._noop.apply_async() if nap is None else self._nap.apply_async((nap,))

    def result(self, job: Any) -> None:
        job.get()


@contextmanager
def start(workers: int) -> Iterator[driver.Peer]:
    words = [sys.executable, "-m", "celery", "-A", __spec__.name, "worker", "-P", "prefork", "-c", str(workers)]
    words += ["-O", "fair", "-l", "ERROR", "--without-gossip", "--without-mingle", "--without-heartbeat"]
    with (
        servers.redis() as url,
        servers.program(words, env=servers.environment(**{URL: url})),
        application(url) as app,
    ):
        yield CeleryPeer(app)


if URL in os.environ:
    app = application(os.environ[URL])

if __name__ == "__main__":
    driver.serve(start)
