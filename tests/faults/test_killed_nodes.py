"""Rows 1 and 2: nodes killed in the midst of many jobs, and one of them started again."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.faults import Figures, sized, within
from tests.support.fleet import Fleet
from tests.support.ledger import Audit, Ledger
from tests.support.nodes import write_tasks

TASKS = """
import time

from tests.support.ledger import executed


@mesh.task(idempotent=True)
def again(number: int) -> int:
    executed()
    time.sleep(0.002)
    return number + 1


@mesh.task
def once(number: int) -> int:
    executed()
    time.sleep(0.002)
    return number + 1
"""

JOBS = sized(10_000, 100_000)
IN_FLIGHT = 256
LIMIT_S = sized(60.0, 300.0)


class Milestones:
    """Awaits a share of the jobs that have ended."""

    def __init__(self, jobs: int) -> None:
        self._jobs = jobs
        self._ended = 0
        self._due: dict[int, asyncio.Event] = {}

    def ended(self, _job: Any) -> None:
        self._ended += 1
        if (event := self._due.get(self._ended)) is not None:
            event.set()

    async def reached(self, share: float) -> None:
        """Wait until this share of all jobs has ended, if it has not yet."""
        due = int(self._jobs * share)
        if self._ended < due:
            await self._due.setdefault(due, asyncio.Event()).wait()


async def storm(ledger: Ledger, fleet: Fleet, task: str, jobs: int, line: Figures) -> Audit:
    """Kill a node at 25 %, start it again at 50 %, kill another at 60 %; return what the ledger says.

    The line gets the jobs in flight at the kills (`in flight`), and how long both took to be noticed.
    """
    milestones = Milestones(jobs)
    in_flight = 0
    notice: list[float] = []

    async def kill(name: str) -> None:
        nonlocal in_flight
        about = fleet.seen(client, name)
        assert about is not None
        in_flight += about.outstanding
        fleet[name].kill()
        killed = time.monotonic()
        while fleet.seen(client, name) is not None:
            await client.changed(timeout=1.0)
        notice.append(time.monotonic() - killed)

    async def faults() -> None:
        await milestones.reached(0.25)
        await kill("a")
        await milestones.reached(0.50)
        restarted = time.monotonic()
        await fleet.restart("a")
        while fleet.seen(client, "a") is None:
            await client.changed(timeout=1.0)
        line.recover = time.monotonic() - restarted

    async def fault_at_60() -> None:
        await milestones.reached(0.60)
        await kill("b")

    async with asyncio.timeout(LIMIT_S), fleet.client() as client:
        await client.wait_ready(task, nodes=3)
        begun = time.monotonic()
        async with asyncio.TaskGroup() as group:
            group.create_task(faults())
            group.create_task(fault_at_60())
            await ledger.feed(
                client, task, range(jobs), in_flight=IN_FLIGHT, expected=lambda number: number + 1,
                on_end=milestones.ended,
            )  # fmt: skip
        line.more["jobs/s"] = int(jobs / (time.monotonic() - begun))
    line.notice = max(notice)
    line.more["in flight"] = in_flight
    audit = line.audited(ledger.audit())
    audit.agrees()
    assert audit.submitted == jobs
    return audit


@within(90.0, 360.0)
async def test_idempotent_jobs_survive_two_killed_nodes(
    tmp_path: Path, ledger: Ledger, figures: Callable[[str, str], Figures]
) -> None:
    line = figures("1", "kill -9 of two nodes of three, idempotent")
    write_tasks(tmp_path, TASKS)
    with Fleet(tmp_path, ledger, [2, 2, 2]) as fleet:
        audit = await storm(ledger, fleet, "again", JOBS, line)
    assert audit.results == JOBS
    assert len(audit.twice) <= line.more["in flight"]


@within(90.0)
async def test_jobs_that_are_not_idempotent_run_once_and_end_when_nodes_are_killed(
    tmp_path: Path, ledger: Ledger, figures: Callable[[str, str], Figures]
) -> None:
    line = figures("2", "kill -9 of two nodes of three, not idempotent")
    write_tasks(tmp_path, TASKS)
    with Fleet(tmp_path, ledger, [2, 2, 2]) as fleet:
        audit = await storm(ledger, fleet, "once", 10_000, line)
    assert audit.twice == []
    assert set(audit.errors) <= {"JobLost(started=True)"}
    assert audit.results + audit.lost == audit.submitted
    assert audit.lost <= line.more["in flight"]
