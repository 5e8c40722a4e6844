"""Row 9: endless loops in Python and in C, under a hard limit of two seconds."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

import mesh
from tests.support.faults import Figures, sized
from tests.support.fleet import Fleet
from tests.support.ledger import Ledger
from tests.support.nodes import write_tasks

TASKS = '''
import collections, itertools

from tests.support.ledger import executed


@mesh.task(limit=1.5, limit_kill=0.5)
def python() -> None:
    """Loop, and take no hint."""
    executed()
    while True:
        try:
            while True:
                pass
        except BaseException:
            pass


@mesh.task(limit=1.5, limit_kill=10.0)
def docile() -> None:
    """Loop until the hint. One that has to wait for the CPU takes it late, and is not to be killed for that."""
    executed()
    while True:
        pass


@mesh.task(limit=1.5, limit_kill=0.5)
def in_c() -> None:
    """Never come back from C to where Python looks for signals."""
    executed()
    collections.deque(itertools.count(), maxlen=0)


@mesh.task
def fine(number: int) -> int:
    executed()
    return number
'''

LATE_S = sized(3.0, 0.5)
"""Seconds by which what is due may come later; the small size runs beside other programs."""

HARD = (1.5, 2.0 + LATE_S)
"""Seconds after the start between which the worker is killed, which is due after 2."""

SOFT = (1.0, 1.5 + LATE_S)
"""Seconds after the start between which a job that takes the hint ends: its limit is 1.5."""


@pytest.mark.parametrize("task", ["python", "in_c"])
async def test_an_endless_loop_is_killed_at_its_hard_limit_and_reported(
    task: str, tmp_path: Path, ledger: Ledger, figures: Callable[[str, str], Figures]
) -> None:
    line = figures("9", f"an endless loop, {task}")
    write_tasks(tmp_path, TASKS)
    with Fleet(tmp_path, ledger, [2]) as fleet:
        async with asyncio.timeout(30.0), fleet.client() as client:
            await client.wait_ready(task)
            job = ledger.submit(client, task)
            with pytest.raises(mesh.JobTimeout) as caught:
                await job
            told = time.monotonic()
            (run,) = ledger.executions()
            ended = until_gone(run.pid)
            for number in range(4):
                ledger.submit(client, "fine", number, expected=number)
            await ledger.settle(10.0)
        audit = line.audited(ledger.audit())
    line.notice, line.more["killed s"] = told - run.moment, ended - run.moment
    audit.agrees()
    assert audit.results == 4
    assert audit.twice == []
    assert caught.value.started is True
    assert HARD[0] <= line.notice <= HARD[1]
    assert HARD[0] <= ended - run.moment <= HARD[1]


def until_gone(pid: int) -> float:
    """Wait for the end of a process that is no child of this one; return when it had ended."""
    deadline = time.monotonic() + 5.0
    while psutil.pid_exists(pid) and time.monotonic() < deadline:
        time.sleep(0.005)
    return time.monotonic()


async def test_a_loop_that_takes_the_hint_ends_at_its_soft_limit_and_keeps_its_worker(
    tmp_path: Path, ledger: Ledger, figures: Callable[[str, str], Figures]
) -> None:
    line = figures("9", "an endless loop, which takes the hint")
    write_tasks(tmp_path, TASKS)
    with Fleet(tmp_path, ledger, [2]) as fleet:
        async with asyncio.timeout(30.0), fleet.client() as client:
            await client.wait_ready("docile")
            job = ledger.submit(client, "docile")
            with pytest.raises(mesh.JobTimeout) as caught:
                await job
            told = time.monotonic()
            (run,) = ledger.executions()
            assert psutil.pid_exists(run.pid)
        audit = line.audited(ledger.audit())
    line.notice = told - run.moment
    audit.agrees()
    assert caught.value.started is True
    assert SOFT[0] <= line.notice <= SOFT[1]
