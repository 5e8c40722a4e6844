"""Row 10: nodes are restarted one after another, again and again, under load; no caller notices."""

import asyncio
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import mesh
from tests.support.faults import Figures, sized, within
from tests.support.fleet import Fleet
from tests.support.ledger import Ledger
from tests.support.nodes import write_tasks

TASKS = """
import time

from tests.support.ledger import executed


@mesh.task
def once(seconds: float) -> float:
    executed()
    time.sleep(seconds)
    return seconds
"""

NODES, WORKERS, JOB_S = 3, 4, 0.05
LOAD = 0.7
"""Of what all nodes together can do. While one is away that is 5 % more than the others can."""

ROUNDS = sized(2, 5)
QUIET_S = sized(6.0, 15.0)
PAUSE_S = 1.0
"""Seconds between two restarts: what an operator's health check takes."""

SLOWER = 3.0
SLOWEST = sized(2.4, 0.0)
"""Seconds of p99 that are no fault at the small size, whose few jobs another program's work can hold up. A job that
waited for a node that is gone would take more: 2.5 s of silence make one suspect."""


class Load:
    """Jobs at random moments, as many a second as the load asks for, whether earlier ones have ended or not."""

    def __init__(self, ledger: Ledger, client: mesh.Client) -> None:
        self.begun: dict[str, float] = {}
        self._ledger = ledger
        self._client = client
        self._rng = random.Random(10)

    async def run(self) -> None:
        due = time.monotonic()
        while True:
            due += self._rng.expovariate(LOAD * NODES * WORKERS / JOB_S)
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            job = self._ledger.submit(self._client, "once", JOB_S, expected=JOB_S)
            self.begun[job.id.hex()] = due


def p99(durations: list[float]) -> float:
    return statistics.quantiles(durations, n=100)[98]


@within(90.0, 180.0)
async def test_a_rolling_restart_under_load_fails_nothing(
    tmp_path: Path, ledger: Ledger, figures: Callable[[str, str], Figures]
) -> None:
    line = figures("10", f"rolling restart of {NODES} nodes × {ROUNDS} at {LOAD:.0%} load")
    write_tasks(tmp_path, TASKS)
    with Fleet(tmp_path, ledger, [WORKERS] * NODES) as fleet:
        async with fleet.client() as client:
            await client.wait_ready("once", nodes=NODES)
            load = Load(ledger, client)
            running = asyncio.create_task(load.run())
            await asyncio.sleep(QUIET_S)
            restarts = time.monotonic()
            absences: list[float] = []
            for name in [*fleet] * ROUNDS:
                begun = time.monotonic()
                assert await asyncio.to_thread(fleet[name].stop) == 0
                await fleet.restart(name)
                await client.wait_ready("once", nodes=NODES)
                absences.append(time.monotonic() - begun)
                await asyncio.sleep(PAUSE_S)
            over = time.monotonic()
            running.cancel()
            await ledger.settle(20.0)
        audit = line.audited(ledger.audit())
    ends = {job: max(at for at, _ in outcomes) for job, outcomes in ledger.outcomes().items()}
    quiet = p99([ends[job] - at for job, at in load.begun.items() if at < restarts - JOB_S])
    loud = p99([ends[job] - at for job, at in load.begun.items() if restarts <= at < over])
    line.recover = max(absences)
    line.more |= {"quiet p99 ms": quiet * 1e3, "p99 ms": loud * 1e3, "p99 / quiet": loud / quiet}
    audit.agrees()
    assert audit.results == audit.executions == audit.submitted
    assert audit.twice == []
    assert loud < max(SLOWEST, SLOWER * quiet)
