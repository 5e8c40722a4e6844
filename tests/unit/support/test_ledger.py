"""The ledger tells what is wrong: it is trusted by every test of a fault."""

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

import mesh
from mesh.errors import JobLost, JobTimeout, MeshError
from mesh.tasks import Context, current
from mesh.wire.messages import Result
from mesh.wire.payload import pack_result
from tests.support.ledger import Ledger, executed


class Mesh:
    """Hands out jobs as a client does, and tells them what it is told to."""

    def __init__(self) -> None:
        self.last = 0
        self.on_end: Callable[[mesh.Job[Any]], None] | None = None

    def submit(self, task: str, *_args: Any, **_kwargs: Any) -> mesh.Job[Any]:
        self.last += 1
        return mesh.Job(self, self.last.to_bytes(16, "big"), task, b"")  # type: ignore[arg-type]

    def cancel(self, job: mesh.Job[Any], how: int) -> None:
        raise NotImplementedError

    def keep(self, job: mesh.Job[Any]) -> None:
        raise NotImplementedError


def tell(job: mesh.Job[Any], outcome: object) -> None:
    """End a job as a client's turn does, once or once more."""
    end = outcome if isinstance(outcome, MeshError) else Result(job.id, 1, pack_result(outcome))
    job.over = True
    job.finish(end)
    client = cast("Mesh", job._client)
    if client.on_end is not None:
        client.on_end(job)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """`run(job)` is an execution in a worker of the node "a"."""
    monkeypatch.setenv("LEDGER", str(tmp_path / "executed"))
    monkeypatch.setenv("LEDGER_NODE", "a")

    def run(job: mesh.Job[Any], *, attempt: int = 1) -> None:
        token = current.set(lambda: Context(SimpleNamespace(), job.id.hex(), job.task, attempt))
        try:
            executed()
        finally:
            current.reset(token)

    return run


def handed_in(ledger: Ledger, client: Mesh, *, expected: object = None) -> mesh.Job[Any]:
    return ledger.submit(client, "task", expected=expected)  # type: ignore[arg-type]


@pytest.fixture
def client() -> Mesh:
    return Mesh()


def test_a_job_that_ran_once_and_returned_what_was_expected_is_in_order(
    tmp_path: Path, client: Mesh, run: Callable[..., None]
) -> None:
    with Ledger(tmp_path) as ledger:
        job = handed_in(ledger, client, expected=5)
        run(job, attempt=2)
        tell(job, 5)
        audit = ledger.audit()
        (execution,) = ledger.executions()
    audit.agrees()
    assert (audit.submitted, audit.results, audit.executions, audit.lost) == (1, 1, 1, 0)
    assert (execution.id, execution.attempt, execution.pid, execution.node) == (job.id.hex(), 2, os.getpid(), "a")


def test_what_is_wrong_is_named(tmp_path: Path, client: Mesh, run: Callable[..., None]) -> None:
    with Ledger(tmp_path) as ledger:
        jobs = [handed_in(ledger, client, expected=1) for _ in range(7)]
        silent, wrong, again, twice, liar, ghost, lost = jobs
        for job in (wrong, again, twice, twice, liar, lost):
            run(job)
        tell(wrong, 2)
        tell(again, 1)
        tell(again, JobLost("late", started=True))
        tell(twice, 1)
        tell(liar, JobTimeout("too late", started=False))
        tell(ghost, 1)
        tell(lost, JobLost("gone", started=True))
        audit = ledger.audit()
    assert audit.unanswered == [silent.id.hex()]
    assert audit.wrong == [wrong.id.hex()]
    assert audit.second == [again.id.hex()]
    assert audit.twice == [twice.id.hex()]
    assert audit.untrue == [liar.id.hex(), ghost.id.hex()]
    assert audit.errors == Counter({"JobLost(started=True)": 1, "JobTimeout(started=False)": 1})
    assert audit.lost == 2
    with pytest.raises(AssertionError):
        audit.agrees()


def test_a_run_that_nobody_asked_for_is_strange(tmp_path: Path, client: Mesh, run: Callable[..., None]) -> None:
    with Ledger(tmp_path) as ledger:
        job = client.submit("task")
        run(job)
        assert ledger.audit().strange == [job.id.hex()]


async def test_settling_ends_with_the_last_outcome_or_its_time(tmp_path: Path, client: Mesh) -> None:
    with Ledger(tmp_path) as ledger:
        job = handed_in(ledger, client)
        await ledger.settle(0.01)
        assert ledger.open == 1
        tell(job, None)
        await ledger.settle(0.01)
        assert ledger.open == 0
