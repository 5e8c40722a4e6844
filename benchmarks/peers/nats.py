# mypy: disable-error-code="import-not-found"
"""NATS: nats-server and nats-py, worker processes in a queue group.

`request()` keeps books for every call, so the client publishes with a reply subject of its own below one subscription
for all replies, and keeps its futures in a dict: the cheapest that nats-py allows. uvloop at both ends; the workers are
forked from one process. The server spreads jobs over a queue group at random, so 10 ms jobs get the whole window too:
queues at the workers are what keeps them busy. Core NATS, which delivers at most once as the mesh does; JetStream would
store every job.
"""

import asyncio
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import nats
import uvloop

from benchmarks.peers import driver, forks, servers


class Nats(driver.Looping):
    """A client and its reply subscription."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._futures: dict[str, asyncio.Future[Any]] = {}
        self._last = 0
        self._ready = asyncio.Semaphore(0)
        self._nats = self.run(self._connect(url))

    async def _connect(self, url: str) -> Any:
        client = await nats.connect(url, allow_reconnect=False)
        self._inbox = client.new_inbox()
        await client.subscribe(f"{self._inbox}.*", cb=self._answered, pending_msgs_limit=-1, pending_bytes_limit=-1)
        await client.subscribe("ready", cb=self._worker_ready)
        await client.flush()
        return client

    async def _worker_ready(self, _message: Any) -> None:
        self._ready.release()

    async def _answered(self, message: Any) -> None:
        self._futures.pop(message.subject).set_result(message.data)

    async def await_workers(self, count: int) -> None:
        """Wait until so many have subscribed: what is published before is lost."""
        async with asyncio.timeout(servers.READY_S):
            for _ in range(count):
                await self._ready.acquire()

    async def submit(self, nap: float | None) -> "asyncio.Future[Any]":
        self._last += 1
        reply = f"{self._inbox}.{self._last}"
        future = self._futures[reply] = asyncio.get_running_loop().create_future()
        await self._nats.publish("jobs", b"" if nap is None else repr(nap).encode(), reply)
        return future

    def close(self) -> None:
        self.run(self._nats.close())
        super().close()


@contextmanager
def start(workers: int) -> Iterator[driver.Peer]:
    words = [sys.executable, "-m", __spec__.name, "work"]
    with servers.nats() as url, closing(Nats(url)) as peer, servers.program([*words, url, str(workers)]):
        peer.run(peer.await_workers(workers))
        yield peer


def work(url: str) -> None:
    """One worker, until it is killed."""

    async def run() -> None:
        client = await nats.connect(url, allow_reconnect=False)

        async def do(message: Any) -> None:
            if message.data:
                time.sleep(float(message.data))  # noqa: ASYNC251  # what a synchronous job does to its worker
            await client.publish(message.reply, b"")

        await client.subscribe("jobs", "workers", cb=do, pending_msgs_limit=-1, pending_bytes_limit=-1)
        await client.publish("ready", b"")
        await asyncio.Event().wait()

    uvloop.run(run())


if __name__ == "__main__":
    forks.main(start, work)
