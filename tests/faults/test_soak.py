"""Row 22: a long run with exceptions, crashes and restarts: nothing is lost, and nothing grows."""

import asyncio
import signal
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import count, cycle
from pathlib import Path

import psutil

import mesh
from tests.support.faults import FULL, Figures, sized, within
from tests.support.fleet import Fleet
from tests.support.ledger import Ledger
from tests.support.nodes import write_tasks
from tests.support.processes import workers_of

TASKS = """
import os

from tests.support.ledger import executed


@mesh.task(idempotent=True)
def work(number: int) -> int:
    executed()
    if number % 100 == 50:
        raise ValueError(number)
    if number % 1000 == 500 and mesh.context().attempt == 1:
        os._exit(3)
    return number
"""

SOAK_S = sized(120.0, 900.0)
WARM_UP_S = sized(40.0, 150.0)
"""Seconds until caches, pools and buffers have their size; a restart is among them."""

RESTARTS_S = (15.0, 60.0)
"""When the first node is restarted, and how often one is after that."""

RATE = 1500
"""Jobs a second: a million in a quarter of an hour, and a third of them to spare."""

TICK_S = 0.05
MOST_OPEN = 3000
MIB = 1 << 20
SLOPE = 1.0
"""MiB that a process may grow in 100,000 jobs."""

WORKERS = 3

REST_S = 2.0
"""Seconds for which what the processes hold stays as it is, once they are at rest."""

Held = dict[str, tuple[int, int]]


@dataclass(frozen=True)
class Sample:
    """A process's own memory, after so many jobs."""

    jobs: int
    mib: float


class Growth:
    """One process over the run: its memory, and what it holds when at rest."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._samples: list[Sample] = []

    def look(self, jobs: int) -> None:
        self._samples.append(Sample(jobs, self._process.memory_full_info().uss / MIB))

    def slope(self, *, since: int) -> float:
        """MiB in 100,000 jobs, by least squares over what was seen after the first `since` jobs."""
        seen = [sample for sample in self._samples if sample.jobs >= since]
        line = statistics.linear_regression([sample.jobs for sample in seen], [sample.mib for sample in seen])
        return line.slope * 100_000

    def held(self) -> tuple[int, int]:
        """Descriptors and threads."""
        return self._process.num_fds(), self._process.num_threads()


async def feed(ledger: Ledger, client: mesh.Client, numbers: Iterator[int], seconds: float) -> None:
    """Hand in jobs at the rate, as long as not too many are open."""
    begun, handed_in = time.monotonic(), 0
    while (now := time.monotonic() - begun) < seconds:
        due = min(int(now * RATE) - handed_in, MOST_OPEN - ledger.open)
        for _ in range(due):
            number = next(numbers)
            ledger.submit(client, "work", number, expected=number)
        handed_in = int(now * RATE)
        await asyncio.sleep(TICK_S)


async def restarts(fleet: Fleet, enough: asyncio.Event) -> None:
    """Restart the first two nodes by turns until it is enough. The third lives on: it is the one that is measured."""
    pause = RESTARTS_S[0]
    for name in cycle("ab"):
        with suppress(TimeoutError):
            await asyncio.wait_for(enough.wait(), pause)
            return
        begun = time.monotonic()
        fleet[name].signal(signal.SIGTERM)
        assert await asyncio.to_thread(fleet[name].wait) == 0
        await fleet.restart(name)
        pause = max(0.0, begun + RESTARTS_S[1] - time.monotonic())


async def at_rest(ledger: Ledger, fleet: Fleet, client: mesh.Client, growth: dict[str, Growth]) -> Held:
    """Wait until all jobs have ended and every process is there; return what those that are measured hold then."""
    await ledger.settle(30.0)
    async with asyncio.timeout(30.0):
        while any(fleet.seen(client, name) is None or len(workers_of(fleet[name])) < WORKERS for name in fleet):
            await client.changed(timeout=0.1)
        # A successor of a worker says that it is ready, and nobody else is told.
        held, since = held_by(growth), time.monotonic()
        while time.monotonic() < since + REST_S:
            await asyncio.sleep(0.1)
            if (now := held_by(growth)) != held:
                held, since = now, time.monotonic()
    return held


def held_by(growth: dict[str, Growth]) -> Held:
    return {name: process.held() for name, process in growth.items()}


@within(SOAK_S + 120.0)
async def test_a_long_run_loses_nothing_and_grows_by_nothing(
    tmp_path: Path, ledger: Ledger, figures: Callable[[str, str], Figures]
) -> None:
    line = figures("22", f"soak, {SOAK_S / 60:g} min: 1 % exceptions, 0.1 % crashes, a restart a minute")
    write_tasks(tmp_path, TASKS)
    # One thread for what this test itself has others wait for: the loop's own pool grows for hours.
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    await asyncio.to_thread(int)
    numbers = count()
    with Fleet(tmp_path, ledger, [WORKERS] * 3) as fleet:
        async with asyncio.timeout(SOAK_S + 100.0), fleet.client() as client:
            await client.wait_ready("work", nodes=3)
            growth = {"client": Growth(psutil.Process().pid), "node": Growth(fleet["c"].pid)}
            enough = asyncio.Event()
            chaos = asyncio.create_task(restarts(fleet, enough))
            await feed(ledger, client, numbers, WARM_UP_S)
            held = await at_rest(ledger, fleet, client, growth)
            warm = ledger.submitted
            run = asyncio.create_task(feed(ledger, client, numbers, SOAK_S - WARM_UP_S))
            while not run.done():
                for process in growth.values():
                    process.look(ledger.submitted)
                await asyncio.wait((run,), timeout=SOAK_S / 60.0)
            await run
            enough.set()
            await chaos
            held_after = await at_rest(ledger, fleet, client, growth)
        slopes = {name: process.slope(since=warm) for name, process in growth.items()}
        audit = line.audited(ledger.audit())
    line.more |= {f"{name}, MiB in 100k": slope for name, slope in slopes.items()}
    line.more |= {f"{name}, descriptors more": held_after[name][0] - held[name][0] for name in held}
    total = next(numbers)
    audit.agrees()
    assert audit.submitted == total
    assert total >= 1_000_000 or not FULL
    assert audit.errors == {"ValueError(started=True)": len(range(50, total, 100))}
    assert audit.results + audit.errors.total() == total
    assert audit.lost == 0
    assert held_after == held
    assert all(slope < SLOPE for slope in slopes.values()), slopes
