"""Row 13: all nodes are down for a while; when they return so do their clients, and not all in the same moment."""

import asyncio
import time
from collections.abc import Callable
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path

import pytest

import mesh
from mesh.core.backoff import MOST_S
from mesh.link import Link
from tests.support.clients import connected
from tests.support.faults import Figures, sized, within
from tests.support.nodes import NodeProcess, lasting_address, write_tasks
from tests.support.pauses import Pauses

TASKS = """
@mesh.task
def noop(x: int = 0) -> int:
    return x
"""

CLIENTS = sized(20, 100)
NODES = 2
DOWN_S = 10.0
NOTICED_S = sized(4.0, 1.0)
"""Seconds until every client sees no node any more. The lost connections tell, not the silence, which takes 6 s."""

BACK_S = sized(7.0, 5.0)
"""Seconds in which all are connected again: a back-off of 3 s, and at the small size what a busy machine adds."""

SETTLED_S = 4.0
"""Seconds into the outage after which every back-off has reached its cap."""

BUSIEST_S = 0.1
BUSIEST_SHARE = 0.5
"""Of all links, tried within `BUSIEST_S` at most. A storm is nearly all; full jitter of 40 links comes to 0.2 in the
median and 0.3 in one of some hundred outages (simulated)."""


class Attempts:
    """When a link was begun, by whichever client."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.at: list[float] = []
        attempts = self.at

        class CountedLink(Link):
            def _connect(self) -> None:
                attempts.append(time.monotonic())
                super()._connect()

        monkeypatch.setattr("mesh.turns.Link", CountedLink)

    def between(self, begin: float, end: float) -> list[float]:
        return [at for at in self.at if begin <= at < end]


def busiest(moments: list[float], length: float) -> int:
    """The most moments that lie within `length` seconds of each other."""
    return max((sum(first <= at < first + length for at in moments) for first in moments), default=0)


@pytest.mark.patched
@within(60.0, 90.0)
async def test_clients_return_to_nodes_that_were_all_down_without_a_storm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, figures: Callable[[str, str], Figures]
) -> None:
    line = figures("13", f"all nodes down {DOWN_S:g} s, {CLIENTS} clients")
    attempts = Attempts(monkeypatch)
    write_tasks(tmp_path, TASKS)
    async with AsyncExitStack() as stack:
        with ExitStack() as nodes:
            first = [nodes.enter_context(NodeProcess(tmp_path, bind=lasting_address())) for _ in range(NODES)]
            clients = [await stack.enter_async_context(connected(*first)) for _ in range(CLIENTS)]
            await asyncio.gather(*(client.wait_ready(nodes=NODES) for client in clients))
            pauses = await stack.enter_async_context(Pauses())
            down = time.monotonic()
            for node in first:
                node.kill()
            await asyncio.gather(*(without_nodes(client) for client in clients))
            line.notice = time.monotonic() - down
            await asyncio.sleep(down + DOWN_S - time.monotonic())
        with ExitStack() as nodes:
            begun = time.monotonic()
            again = [
                await asyncio.to_thread(nodes.enter_context, NodeProcess(tmp_path, bind=node.seed)) for node in first
            ]
            up = time.monotonic()
            await asyncio.gather(*(client.wait_ready(nodes=NODES, timeout=30.0) for client in clients))
            line.recover = time.monotonic() - up
            done = time.monotonic()
            assert await asyncio.gather(*(client.call("noop", n) for n, client in enumerate(clients))) == list(
                range(CLIENTS)
            )
            await asyncio.sleep(1.0)  # whoever is connected tries nothing more
            assert attempts.between(done, time.monotonic()) == []
            for client in clients:
                await client.close()
            assert [node.endpoint for node in again] == [node.endpoint for node in first]

    links = CLIENTS * NODES
    settled = attempts.between(down + SETTLED_S, begun)
    rate = len(settled) / (begun - down - SETTLED_S) / links
    judged = sized(pauses.without(settled), settled)
    peak = busiest(judged, BUSIEST_S) / links
    line.more |= {"tries a link and second": rate, "share tried in 100 ms": peak}
    assert line.notice < NOTICED_S
    assert line.recover < BACK_S
    assert 2 * len(judged) >= len(settled), "this machine is too busy to tell"
    assert rate <= 1.5 * 2 / MOST_S  # the mean of full jitter is half its cap
    assert peak <= BUSIEST_SHARE
    assert len(attempts.between(begun, done)) <= links * (1 + 2 * (done - begun) / MOST_S * 1.5)


async def without_nodes(client: mesh.Client) -> None:
    async with asyncio.timeout(5.0):
        while client.nodes():
            await client.changed(timeout=0.1)
