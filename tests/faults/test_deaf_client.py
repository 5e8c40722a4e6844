"""Row 14: a client asks for much and reads nothing; the node holds a bounded part of it, and others do not notice."""

import asyncio
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import zmq

import mesh
from mesh.wire.messages import Welcome
from tests.support.clients import connected
from tests.support.faults import Figures, sized, within
from tests.support.nodes import NodeProcess, write_tasks
from tests.support.peers import Peer

TASKS = """
@mesh.task
def blob(length: int) -> bytes:
    return b"x" * length
"""

RESULTS = 10_000
DEAF_S = sized(2.0, 60.0)
"""Seconds that the client reads nothing after it has asked for all."""

GROWTH = 32 * 2**20
SLOWEST = sized(0.25, 0.005)
"""Seconds, the p99 of the others' calls. Behind a deaf client's results it would be whole seconds; a machine that does
other work besides stays far below the wide bound, and the figures show the ratio to the quiet p99."""

BATCH = 20


def p99(durations: list[float]) -> float:
    return statistics.quantiles(durations, n=100)[98]


async def one_by_one(client: mesh.Client, until: Callable[[], bool], *, least: int = 500) -> list[float]:
    """Call again and again; return how long each took."""
    durations: list[float] = []
    while len(durations) < least or not until():
        begun = time.monotonic()
        assert await client.call("blob", 1) == b"x"
        durations.append(time.monotonic() - begun)
        await asyncio.sleep(0.002)
    return durations


async def ask_for_all(peer: Peer, size: int) -> None:
    """Hand in a few at a time, read no result, and then stay, with a ping each second so as not to be forgotten."""
    for _ in range(RESULTS // BATCH):
        peer.say(*peer.jobs("blob", *[(size,)] * BATCH))
        await asyncio.sleep(0.004)
    for _ in range(int(DEAF_S)):
        peer.ping()
        await asyncio.sleep(1.0)


@pytest.mark.parametrize("size", sized([4096, 65536], [1024, 4096, 65536]))
@within(60.0, 180.0)
async def test_results_that_nobody_reads_take_a_bounded_part_of_the_nodes_memory(
    size: int, tmp_path: Path, figures: Callable[[str, str], Figures]
) -> None:
    line = figures("14", f"a client reads nothing of {RESULTS:,} results of {size >> 10} KiB")
    write_tasks(tmp_path, TASKS)
    with NodeProcess(tmp_path, workers=2) as node:
        process = psutil.Process(node.pid)
        deaf = Peer(node.endpoint, options=[(zmq.RCVHWM, 1), (zmq.RCVBUF, 4096)])
        with deaf:
            async with connected(node) as client:
                assert isinstance(await asyncio.to_thread(deaf.greet), Welcome)
                # Run times are learnt and buffers have grown before anything is compared.
                assert {len(x) async for x in client.map("blob", [size] * 2000, in_flight=64)} == {size}
                quiet = p99(await one_by_one(client, lambda: True, least=1000))
                memory = [process.memory_info().rss]
                fault = asyncio.create_task(ask_for_all(deaf, size))

                def over() -> bool:
                    memory.append(process.memory_info().rss)
                    return fault.done()

                loud = p99(await one_by_one(client, over))
                await fault
                assert await client.call("blob", 3) == b"xxx"
    growth = max(memory) - memory[0]
    line.jobs = RESULTS
    line.more |= {"memory MiB": growth / 2**20, "p99 ms": loud * 1e3, "p99 / quiet": loud / quiet}
    assert growth <= GROWTH
    assert loud <= SLOWEST


async def test_a_client_that_stands_still_gets_all_of_its_large_results_when_it_goes_on(tmp_path: Path) -> None:
    write_tasks(tmp_path, TASKS)
    with NodeProcess(tmp_path, workers=2) as node:
        async with connected(node) as client:
            jobs = [client.submit("blob", 2**20) for _ in range(64)]
            await asyncio.gather(*(job.accepted() for job in jobs[:8]))
            time.sleep(2.0)  # noqa: ASYNC251  # its loop stands still, and what the node sends piles up
            assert {len(await job) for job in jobs} == {2**20}
