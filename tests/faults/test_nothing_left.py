"""Row 23: whatever its workers do, none outlives its node by two seconds, and its ports are free at once."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.clients import connected, until_started
from tests.support.faults import Figures, sized
from tests.support.nodes import NodeProcess, lasting_address, write_tasks
from tests.support.processes import is_alive

TASKS = """
import asyncio, signal, subprocess, time


@mesh.task(bridge=True)
def noop(x: int = 0) -> int:
    return x


@mesh.task
def spin() -> None:
    while True:
        pass


@mesh.task
def compute() -> int:
    return 3 ** (3 ** 20)


@mesh.task
def deaf() -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    time.sleep(600)


@mesh.task
async def coro() -> None:
    await asyncio.sleep(600)
"""

KINDS = ("spin", "compute", "deaf", "coro")
GONE_S = sized(4.0, 2.0)
"""Seconds; the small size runs beside other programs."""


@pytest.mark.parametrize("round_", range(sized(1, 10)))
async def test_a_killed_node_leaves_no_worker_and_its_ports_bind_again_at_once(
    round_: int, tmp_path: Path, figures: Callable[[str, str], Figures]
) -> None:
    line = figures("23", "kill -9 a node with busy workers")
    write_tasks(tmp_path, TASKS)
    front, bridge = lasting_address(), lasting_address()
    with NodeProcess(tmp_path, "--bridge", bridge, workers=2 * len(KINDS), bind=front) as node:
        async with connected(node) as client:
            await client.wait_ready("spin")
            jobs = [client.submit(kind) for kind in KINDS for _ in range(2)]
            await until_started(client, *jobs)
            family = node.family()
            assert len(family) >= 2 * len(KINDS) + 1
            node.kill()
            begun = time.monotonic()
            with NodeProcess(tmp_path, "--bridge", bridge, bind=front) as again:
                line.more["ready again s"] = time.monotonic() - begun
                while left := [process for process in family if is_alive(process)]:
                    assert time.monotonic() < begun + GONE_S, left
                    await asyncio.sleep(0.01)
                line.recover = time.monotonic() - begun
                assert again.endpoint == node.endpoint
                assert await client.call("noop", 7) == 7
            await client.close(timeout=0)
            for job in jobs:
                assert job.over
