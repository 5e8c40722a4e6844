"""Rows 3, 4 and 6: a node stopped, a node whose loop is blocked while its I/O thread lives, a client that stalls."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest

import mesh
from mesh.core.liveness import DEAD_S, SUSPECT_S
from tests.support.faults import Figures, sized, within
from tests.support.fleet import Fleet
from tests.support.ledger import Ledger
from tests.support.nodes import NodeProcess, write_tasks
from tests.support.pauses import Pauses
from tests.support.waiting import until

TASKS = """
import time

from tests.support.ledger import executed


@mesh.task(idempotent=True)
def again(seconds: float) -> float:
    executed()
    time.sleep(seconds)
    return seconds


@mesh.task
def once(seconds: float) -> float:
    executed()
    time.sleep(seconds)
    return seconds
"""

STALL_S = 10.0
"""Seconds for which the node stands still."""

TOLERANCE_S = sized(0.5, 0.1)
"""Seconds between what a client decides and when these tests see it: they look every 20 ms, and a busy machine needs
some."""

TAKEN_OVER = (DEAD_S - sized(2.0, 1.0), DEAD_S + sized(2.0, 1.0))
"""Seconds after the stall began between which its jobs are taken over. A busy machine may have silenced the node before
that, and keep the others from what they take over."""

USED_AGAIN_S = sized(4.0, 2.5)
"""Seconds after the stall for which jobs go on to come."""

BLOCKED = """
import signal, time
from meshnode.cli import main
signal.signal(signal.SIGUSR2, lambda *_: time.sleep(10.0))
main()
"""
"""A node whose main thread can be blocked from outside; the zygote is started by exec and has no such handler."""


def stop(node: NodeProcess) -> None:
    node.signal(signal.SIGSTOP)
    asyncio.get_running_loop().call_later(STALL_S, node.signal, signal.SIGCONT)


def block(node: NodeProcess) -> None:
    node.signal(signal.SIGUSR2)


@dataclass(frozen=True)
class Stall:
    """A way to make a node stand still: `program` is what to start it with."""

    row: str
    fault: str
    program: tuple[str, str]
    begin: Callable[[NodeProcess], None]


STALLS = [
    Stall("3", "SIGSTOP a node 10 s", ("-m", "meshnode"), stop),
    Stall("4", "a node's loop blocked 10 s", ("-c", BLOCKED), block),
]


@dataclass(frozen=True)
class Look:
    """What the client knew of the stalled node, so many seconds after the stall began."""

    after: float
    state: str
    outstanding: int


@asynccontextmanager
async def looks(fleet: Fleet, client: mesh.Client, name: str) -> AsyncIterator[list[Look]]:
    """Look at a node every 20 ms from now until the block is left."""
    begun = time.monotonic()
    seen: list[Look] = []

    async def look() -> None:
        while True:
            about = fleet.seen(client, name)
            state, outstanding = (about.state, about.outstanding) if about else ("gone", 0)
            seen.append(Look(time.monotonic() - begun, state, outstanding))
            await asyncio.sleep(0.02)

    task = asyncio.create_task(look())
    try:
        yield seen
    finally:
        task.cancel()


async def stream(ledger: Ledger, client: mesh.Client, seconds: float) -> None:
    """Hand in a job of each kind every 125 ms, without waiting for any."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for task in ("again", "once"):
            ledger.submit(client, task, 0.01, expected=0.01)
        await asyncio.sleep(0.125)


@pytest.mark.parametrize("stall", STALLS, ids=["stopped", "blocked"])
@within(60.0)
async def test_a_node_that_stands_still_gets_no_jobs_and_its_jobs_are_taken_over(
    stall: Stall, tmp_path: Path, ledger: Ledger, figures: Callable[[str, str], Figures]
) -> None:
    line = figures(stall.row, stall.fault)
    write_tasks(tmp_path, TASKS)
    # The one that stalls has room for all that comes in 2.5 s and more: only the client's judgement keeps jobs away.
    with Fleet(tmp_path, ledger, [64, 4], program=stall.program) as fleet:
        async with asyncio.timeout(50.0), fleet.client() as client:
            await client.wait_ready("again", nodes=2)
            await stream(ledger, client, 1.0)
            stall.begin(fleet["a"])
            begun = time.monotonic()
            async with looks(fleet, client, "a") as seen, Pauses() as pauses:
                await stream(ledger, client, STALL_S + USED_AGAIN_S)
            await ledger.settle(20.0)
        audit = line.audited(ledger.audit())
    runs, outcomes = ledger.executions(), ledger.outcomes()

    line.notice = next(look.after for look in seen if look.state != "alive")
    gone = next(look.after for look in seen if look.state in ("gone", "dead"))
    sent = [now for before, now in pairwise(seen) if now.after < gone and now.outstanding > before.outstanding]
    taken_over = [run.moment - begun for run in runs if run.attempt > 1]
    given_up = [at - begun for ends in outcomes.values() for at, word in ends if word.startswith("JobLost")]
    back = [run.moment - begun - STALL_S for run in runs if run.node == "a" and run.moment > begun + STALL_S]
    line.recover = min(back, default=None)
    line.more |= {
        "last job sent s": sent[-1].after,
        "sent meanwhile": sent[-1].outstanding,
        "given up s": gone,
        "taken over": len(taken_over),
    }

    # A client does not count the time for which it had to wait for the CPU itself.
    excused = sized(pauses.total(), 0.0)
    noticed = SUSPECT_S + TOLERANCE_S + excused
    first, last = TAKEN_OVER[0], TAKEN_OVER[1] + excused

    audit.agrees()
    assert len(sent) > 10, "it got too few jobs for this to tell anything"
    assert sent[-1].after <= noticed
    assert line.notice <= noticed
    assert first <= gone <= last
    assert taken_over
    assert first <= min(taken_over) <= max(taken_over) <= last
    assert all(first <= at <= last for at in given_up), given_up
    assert len(taken_over) + len(given_up) <= sent[-1].outstanding
    assert set(audit.errors) <= {"JobLost(started=True)"}
    assert line.recover is not None, "it got no job after it went on"


@within(60.0)
@pytest.mark.parametrize("stall", sized([4.0], [4.0, 8.0]))
async def test_a_client_that_stalls_blames_itself_and_not_the_nodes(
    stall: float, tmp_path: Path, ledger: Ledger, figures: Callable[[str, str], Figures]
) -> None:
    line = figures("6", f"the client's loop stalls {stall:g} s")
    write_tasks(tmp_path, TASKS)
    length = stall + 1.0
    with Fleet(tmp_path, ledger, [4, 4]) as fleet:
        async with asyncio.timeout(40.0), fleet.client() as client:
            await client.wait_ready("again", nodes=2)
            for number in range(8):
                ledger.submit(client, ("again", "once")[number % 2], length, expected=length)
            await until(lambda: len(ledger.executions()) == 8)  # all of them run
            begun = time.monotonic()
            time.sleep(stall)  # noqa: ASYNC251  # the fault itself
            await ledger.settle(20.0)
            line.recover = time.monotonic() - begun - stall
        audit = line.audited(ledger.audit())
    audit.agrees()
    assert audit.results == audit.executions == 8
    assert audit.twice == []
