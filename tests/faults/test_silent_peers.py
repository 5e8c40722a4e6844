"""Row 17: callers that connect and say nothing, or half a line: a good caller does not notice, and they are let go."""

import resource
import socket
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from tests.support.clients import connected
from tests.support.faults import Figures, sized, within
from tests.support.nodes import NodeProcess, write_tasks
from tests.support.waiting import until

TASKS = """
@mesh.task(bridge=True)
def noop(x: int = 0) -> int:
    return x
"""

SILENT = {"front": sized(500, 10_000), "bridge": sized(500, 8_000)}
"""Connections from one address; the bridge takes 8,192."""

GONE_S = 15.0
EACH = sized(1, 5)
"""So many connections for each call: of the few of the small size, too, more than one call makes the p99."""

P99_S = sized(1.0, 0.1)
"""Seconds. Whoever waits behind the others waits for many; the small size runs beside other programs."""


def p99(durations: list[float]) -> float:
    return statistics.quantiles(durations, n=100)[98]


@pytest.fixture(autouse=True)
def descriptors() -> None:
    """Where the limit of descriptors is lower and hard there is nothing to test."""
    wanted = max(SILENT.values()) + 2000
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        pytest.skip(f"the limit of descriptors is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))


@pytest.mark.parametrize("side", ["front", "bridge"])
@within(60.0, 120.0)
async def test_callers_who_say_nothing_are_let_go_and_hold_nobody_up(
    side: str, tmp_path: Path, figures: Callable[[str, str], Figures]
) -> None:
    count = SILENT[side]
    line = figures("17", f"{count:,} silent peers at the front" if side == "front" else f"{count:,} half lines")
    write_tasks(tmp_path, TASKS)
    with NodeProcess(tmp_path, bridge=True) as node:
        process = psutil.Process(node.pid)
        async with connected(node) as client:
            assert await client.call("noop", 1) == 1
            at_first = process.num_fds()
            host, _, port = (node.seed if side == "front" else node.bridge).rpartition(":")
            durations: list[float] = []
            with ExitStack() as stack:
                began = time.monotonic()
                for number in range(count):
                    caller = stack.enter_context(socket.create_connection((host, int(port))))
                    if side == "bridge":
                        caller.send(b'{"function":"noop","ar')
                    if number % EACH == 0:
                        asked = time.monotonic()
                        assert await client.call("noop", number) == number
                        durations.append(time.monotonic() - asked)
                if side == "bridge":
                    await until(lambda: process.num_fds() >= at_first + count)
                else:
                    # Nobody but the node ends them.
                    await until(lambda: process.num_fds() <= at_first + 1, timeout=GONE_S)
                    line.recover = time.monotonic() - began
            if side == "bridge":
                began = time.monotonic()
                await until(lambda: process.num_fds() <= at_first + 1, timeout=GONE_S)
                line.recover = time.monotonic() - began
            assert await client.call("noop", 2) == 2
        assert "Traceback" not in node.log
    line.lost = 0
    line.more["p99 ms"] = p99(durations) * 1e3
    assert p99(durations) <= P99_S
