# mypy: disable-error-code="import-not-found,untyped-decorator"
"""aiozmq.rpc: calls over a DEALER, spread in turn over one ROUTER a worker.

A library for calls rather than a system of workers: the worker processes, forked from one, are ours. Loopback TCP, as
for the mesh; uvloop at both ends; no timeout for calls, which would start a timer for each.
"""

import asyncio
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import aiozmq.rpc
import uvloop

from benchmarks.peers import driver, forks, servers


class Aiozmq(driver.Looping):
    def __init__(self, endpoints: list[str]) -> None:
        super().__init__()
        self._client = self.run(self._connect(endpoints))

    async def _connect(self, endpoints: list[str]) -> Any:
        return await aiozmq.rpc.connect_rpc(connect=endpoints)

    async def submit(self, nap: float | None) -> "asyncio.Future[Any]":
        call = self._client.call
        future: asyncio.Future[Any] = call.noop() if nap is None else call.nap(nap)
        return future

    def close(self) -> None:
        self._client.close()
        super().close()


class Tasks(aiozmq.rpc.AttrHandler):  # type: ignore[misc]  # its base is unknown here
    @aiozmq.rpc.method
    def noop(self) -> None:
        pass

    @aiozmq.rpc.method
    def nap(self, seconds: float) -> None:
        time.sleep(seconds)


@contextmanager
def start(workers: int) -> Iterator[driver.Peer]:
    endpoints = [f"tcp://127.0.0.1:{port}" for port in servers.free_ports(workers)]
    words = [sys.executable, "-m", __spec__.name, "work", *endpoints]
    with servers.program(words), closing(Aiozmq(endpoints)) as peer:
        yield peer


def work(endpoint: str) -> None:
    """One worker, until it is killed."""

    async def run() -> None:
        await aiozmq.rpc.serve_rpc(Tasks(), bind=endpoint)
        await asyncio.Event().wait()

    uvloop.run(run())


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["work", *endpoints]:
            forks.fork(len(endpoints), lambda n: work(endpoints[n]))
        case _:
            driver.serve(start)
