"""Whether a job is tried again, and when."""

import random
from typing import Any

import pytest

from mesh.core.attempts import LATER_MOST, LATEST_S, MOST_TRIED, POISON, Attempts, options
from mesh.core.budget import FLOOR, PERIOD_S
from mesh.core.record import Extras, JobRecord
from mesh.core.roster import NodeView, ServedTask
from mesh.errors import JobCancelled, JobLost, JobTimeout, MeshBusy, MeshError, PayloadTooLarge, PoisonTask
from mesh.wire.messages import About, Failed, Lost, Options, Reject, RetrySpec, TaskSpec

JOB_ID = bytes(16)
SAFE = ServedTask(TaskSpec("safe", idempotent=True))
ONCE = ServedTask(TaskSpec("once"))


class Highest(random.Random):
    """Chance that always gives the upper end."""

    def uniform(self, a: float, b: float) -> float:
        return b


def attempts() -> Attempts:
    return Attempts(Highest())


def node(number: int = 1, epoch: bytes = b"epoch---") -> NodeView:
    return NodeView(number, About(f"{number:032x}", epoch, f"n{number}", "default", 1, 1, 1, []), 0.0)


def job(**fields: Any) -> JobRecord:
    record = JobRecord(JOB_ID, "task", b"")
    for name, value in fields.items():
        setattr(record.own_extras() if hasattr(Extras, name) else record, name, value)
    return record


def failed(again: float | None = 0.0) -> Failed:
    return Failed(JOB_ID, 1, b"", again)


def lost(reason: str = "crash", *, started: bool = True) -> Lost:
    return Lost(JOB_ID, 1, reason, started, "why")


def policy(n: int, first: float, cap: float) -> ServedTask:
    return ServedTask(TaskSpec("soon", retry=RetrySpec(n, first, cap)))


def exhaust(some: Attempts) -> None:
    for _ in range(int(FLOOR * PERIOD_S) + 1):
        some.after_failure(node(), job(), policy(1, 0.0, 0.0), failed(), 0.0)


# a task that raised


@pytest.mark.parametrize(
    ("record", "again"),
    [(job(), None), (job(bounce=True), 0.0), (job(cancelled=True), 0.0), (job(retries=2), 0.0)],
)
def test_a_failure_is_the_outcome_unless_another_attempt_is_wanted_and_allowed(
    record: JobRecord, again: float | None
) -> None:
    item = failed(again)
    assert attempts().after_failure(node(), record, policy(2, 1.0, 9.0), item, 0.0) is item
    assert (record.attempt, record.extras.tried, record.began) == (1, (), False)


def test_waits_double_up_to_their_cap_and_are_never_shorter_than_the_task_asks() -> None:
    some, record = attempts(), job()
    waits = [some.after_failure(node(), record, policy(6, 1.0, 5.0), failed(), 0.0) for _ in range(5)]
    assert waits == [1.0, 2.0, 4.0, 5.0, 5.0]
    assert some.after_failure(node(), record, policy(6, 1.0, 5.0), failed(7.5), 0.0) == 7.5
    assert (record.attempt, record.extras.retries, record.began) == (7, 6, True)


@pytest.mark.parametrize("served", [None, ONCE])
def test_without_a_policy_the_task_says_when_a_bounded_number_of_times(served: ServedTask | None) -> None:
    some, record = attempts(), job()
    waits = [some.after_failure(node(), record, served, failed(0.5), 0.0) for _ in range(LATER_MOST)]
    assert waits == [0.5] * LATER_MOST
    item = failed(0.5)
    assert some.after_failure(node(), record, served, item, 0.0) is item


def test_a_wait_without_end_has_one() -> None:
    assert attempts().after_failure(node(), job(), ONCE, failed(float("inf")), 0.0) == LATEST_S


def test_an_attempt_that_would_come_too_late_is_not_made_and_costs_nothing() -> None:
    some, item = attempts(), failed(1.0)
    for _ in range(10_000):
        assert some.after_failure(node(), job(deadline=1.0), ONCE, item, 0.0) is item
    assert some.after_failure(node(), job(deadline=1.1), ONCE, item, 0.0) == 1.0


def test_attempts_beyond_the_budget_wait_for_their_turn() -> None:
    some = attempts()
    exhaust(some)
    wait = some.after_failure(node(), job(), policy(1, 0.0, 0.0), failed(), 0.0)
    assert isinstance(wait, float)
    assert 0 < wait < 0.5


def test_the_budget_grows_with_the_jobs() -> None:
    some = attempts()
    some.handed_in(100_000, 0.0)
    exhaust(some)
    assert some.after_failure(node(), job(), policy(1, 0.0, 0.0), failed(), 0.0) == 0.0


# a job that was lost


@pytest.mark.parametrize(
    ("reason", "kind"), [("limit", JobTimeout), ("expired", JobTimeout), ("cancelled", JobCancelled)]
)
def test_what_the_node_ended_on_purpose_stays_ended(reason: str, kind: type[MeshError]) -> None:
    error = attempts().after_loss(node(), job(), SAFE, lost(reason), 0.0)
    assert isinstance(error, kind)
    assert error.started is True


def test_a_job_goes_elsewhere_from_a_worker_that_died_until_it_has_killed_too_many() -> None:
    some, record = attempts(), job()
    for number in range(1, POISON):
        assert some.after_loss(node(number), record, SAFE, lost(), 0.0) == 0.0
        assert (record.attempt, record.extras.crashes, len(record.extras.tried)) == (number + 1, number, number)
    assert isinstance(some.after_loss(node(9), record, SAFE, lost(), 0.0), PoisonTask)


@pytest.mark.parametrize("served", [None, ONCE])
def test_a_job_that_may_run_once_only_is_lost(served: ServedTask | None) -> None:
    error = attempts().after_loss(node(), job(), served, lost(), 0.0)
    assert isinstance(error, JobLost)
    assert error.started is True


@pytest.mark.parametrize("reason", ["crash", "grace", "another"])
def test_a_job_that_had_not_begun_goes_on_whatever_its_task(reason: str) -> None:
    record = job()
    assert attempts().after_loss(node(), record, None, lost(reason, started=False), 0.0) == 0.0
    assert (record.extras.crashes, record.began, record.attempt) == (0, False, 2)


def test_a_cancelled_job_is_lost_and_one_that_does_not_wait_goes_home() -> None:
    assert isinstance(attempts().after_loss(node(), job(cancelled=True), SAFE, lost(), 0.0), JobLost)
    record = job(bounce=True, crashes=POISON)
    error = attempts().after_loss(node(), record, SAFE, lost(), 0.0)
    assert isinstance(error, MeshBusy)
    assert error.started is True
    assert not record.extras.tried


def test_a_lost_job_whose_turn_in_the_budget_comes_too_late_is_lost() -> None:
    some = attempts()
    exhaust(some)
    assert isinstance(some.after_loss(node(), job(deadline=0.001), SAFE, lost(), 0.0), JobLost)


# a node that is gone


def test_a_job_of_a_node_that_is_gone_is_resent_there_and_made_anew_elsewhere() -> None:
    some, record = attempts(), job(priority=7, forwarded=True)
    assert some.after_silence(node(), record, SAFE, "gone", ended=False) == 0.0
    assert (record.attempt, record.began, record.extras.lost_at) == (1, True, (node().about.node, b"epoch---"))
    assert options(node(), record) == Options(7, True, 0, True)
    assert options(node(), record) == Options(7, True, 0, True)
    assert options(node(epoch=b"epoch--2"), record) == Options(7, True, 0, False)
    assert (record.attempt, record.extras.lost_at) == (2, None)
    assert options(node(), record) == Options(7, True)
    assert record.attempt == 2


def test_a_job_that_its_node_has_forgotten_is_made_anew() -> None:
    some, record = attempts(), job()
    assert some.after_silence(node(), record, SAFE, "forgotten", ended=True) == 0.0
    assert (record.attempt, record.extras.lost_at) == (2, None)


def test_the_jobs_of_a_dead_node_do_not_wait_for_the_budget() -> None:
    some = attempts()
    exhaust(some)
    assert some.after_silence(node(), job(), SAFE, "gone", ended=False) == 0.0


def test_a_job_that_may_run_once_only_is_lost_with_its_node() -> None:
    error = attempts().after_silence(node(), job(), ONCE, "its node is gone", ended=False)
    assert isinstance(error, JobLost)
    assert (error.started, str(error)) == (True, "the job's end is not known: its node is gone")


def test_only_so_many_nodes_are_remembered_as_tried_and_each_once() -> None:
    some, record = attempts(), job()
    for number in [*range(1, MOST_TRIED + 3), MOST_TRIED]:
        some.after_silence(node(number), record, SAFE, "gone", ended=True)
    assert record.extras.tried == tuple(f"{number:032x}" for number in range(3, MOST_TRIED + 3))


# a job that was rejected


@pytest.mark.parametrize(
    ("reason", "record", "kind"),
    [
        ("cancelled", job(), JobCancelled),
        ("expired", job(), JobTimeout),
        ("too-big", job(), PayloadTooLarge),
        ("busy", job(bounce=True), MeshBusy),
        ("busy", job(cancelled=True), JobCancelled),
    ],
)
def test_a_rejected_job_may_end_and_surely_did_not_run(reason: str, record: JobRecord, kind: type[MeshError]) -> None:
    error = attempts().after_rejection(record, Reject(JOB_ID, 1, reason, "why"))
    assert isinstance(error, kind)
    assert error.started is False


def test_a_rejected_job_waits_for_another_node_as_the_same_attempt() -> None:
    record = job()
    assert attempts().after_rejection(record, Reject(JOB_ID, 1, "busy", "")) == 0.0
    assert (record.attempt, record.extras.tried) == (1, ())


def test_every_attempt_belongs_to_the_jobs_own_trace() -> None:
    assert options(node(), job(trace=("parent", None))) == Options(trace="parent")
