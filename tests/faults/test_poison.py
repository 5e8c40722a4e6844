"""Row 8: jobs that kill every worker that runs them, among many that do not."""

import asyncio
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

import mesh
from tests.support.faults import Figures, within
from tests.support.fleet import Fleet
from tests.support.ledger import Ledger
from tests.support.nodes import write_tasks

TASKS = """
import ctypes

from tests.support.ledger import executed


@mesh.task(idempotent=True)
def sometimes(number: int) -> int:
    executed()
    if number % 1000 == 500:
        ctypes.string_at(0)
    return number
"""

JOBS = 10_000
POISON = [number for number in range(JOBS) if number % 1000 == 500]
CRASHES = (2, 3)
"""Executions that a poisonous job may have."""


@within(60.0)
async def test_poison_is_stopped_and_all_others_are_done(
    tmp_path: Path, ledger: Ledger, figures: Callable[[str, str], Figures]
) -> None:
    line = figures("8", "10 poisonous jobs among 10,000")
    write_tasks(tmp_path, TASKS)
    jobs: dict[str, mesh.Job[int]] = {}
    with Fleet(tmp_path, ledger, [4, 4]) as fleet:
        async with asyncio.timeout(50.0), fleet.client() as client:
            await client.wait_ready("sometimes", nodes=2)
            await ledger.feed(
                client, "sometimes", range(JOBS), expected=lambda number: number,
                on_end=lambda job: jobs.update({job.id.hex(): job} if failed(job) else {}),
            )  # fmt: skip
        audit = line.audited(ledger.audit())
    runs = Counter(run.id for run in ledger.executions())
    line.more["others run twice"] = len(set(audit.twice) - set(jobs))
    audit.agrees()
    assert audit.errors == {"PoisonTask(started=True)": len(POISON)}
    assert audit.results == JOBS - len(POISON)
    assert all(CRASHES[0] <= runs[id] <= CRASHES[1] for id in jobs), [runs[id] for id in jobs]
    for job in jobs.values():
        with pytest.raises(mesh.PoisonTask) as caught:
            job.outcome()
        assert not caught.value.retryable


def failed(job: mesh.Job[int]) -> bool:
    try:
        job.outcome()
    except mesh.MeshError:
        return True
    return False
