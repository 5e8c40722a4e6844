"""What a client does when jobs fail, workers die, nodes go and come back: told step by step."""

import random

import pytest

from mesh.core.attempts import LATER_MOST, POISON
from mesh.core.budget import FLOOR, PERIOD_S, SHARE
from mesh.core.effects import Close, Greet, Parted, Send
from mesh.core.events import CancelAsked, KeepAsked, LinkLost, Submitted
from mesh.core.liveness import DEAD_S, SUSPECT_S
from mesh.core.record import PENDING, SENT, JobRecord
from mesh.core.session import ASKED, BEAT_S, QUARANTINE_S, WELCOME_S
from mesh.core.standing import EJECTED_S, FAILURES, State
from mesh.errors import JobCancelled, JobLost, JobTimeout, MeshBusy, NoNodes, PoisonTask, UnknownTask
from mesh.wire.messages import (
    RUNNING,
    About,
    Cancel,
    Drain,
    Failed,
    Keep,
    Lost,
    Options,
    Query,
    Reject,
    Result,
    RetrySpec,
    Started,
    Stranger,
    Submit,
    TaskSpec,
    Unknown,
    Welcome,
)
from tests.support.desk import ADD, GRACE, Desk, node_id

SAFE = TaskSpec("safe", idempotent=True)
SOON = TaskSpec("soon", retry=RetrySpec(2, 1.0, 8.0))


class Highest(random.Random):
    """Chance that always gives the upper end."""

    def uniform(self, a: float, b: float) -> float:
        return b


def about(number: int, *tasks: TaskSpec, epoch: bytes = b"epoch---") -> About:
    return About(node_id(number), epoch, f"n{number}", "default", 4, 1, 1000, list(tasks or (ADD,)))


def crash(record: JobRecord, *, started: bool = True) -> Lost:
    return Lost(record.id, record.attempt, "crash", started, "killed")


def state(desk: Desk, key: int) -> State:
    view = desk.session.roster.get(key)
    assert view is not None
    return view.standing.state


def keep_alive(desk: Desk, until: float, *keys: int) -> list[tuple[int, Submit]]:
    """Let time pass while these nodes answer; return what was sent to whom."""
    sent = []
    while desk.now < until:
        effects = desk.at(min(desk.now + BEAT_S, until))
        for key in keys:
            effects = [*effects, *desk.hear(key)]
        sent += [(e.key, i) for e in effects if isinstance(e, Send) for i in e.message.items if isinstance(i, Submit)]
    return sent


# a node that dies


def test_the_idempotent_jobs_of_a_dead_node_go_elsewhere_as_another_attempt() -> None:
    desk = Desk()
    desk.join(1, SAFE)
    record = desk.submit("safe")
    desk.join(2, SAFE)
    desk.tell(LinkLost(1, "it disconnected"))
    assert desk.sent(2) == [Submit(record.id, 2, "safe", 0, None, Options(), b"args")]
    desk.hear(2, Result(record.id, 2, b"3"))
    assert desk.outcome(record) == Result(record.id, 2, b"3")


def test_a_job_that_comes_back_to_the_same_life_of_its_node_is_resent_and_to_another_life_tried_anew() -> None:
    desk = Desk()
    desk.join(1, SAFE)
    record = desk.submit("safe")
    desk.tell(LinkLost(1, "it disconnected"))
    assert (record.state, desk.session.unfinished()) == (PENDING, [record])
    desk.join(2, SAFE, number=1)
    assert [(s.attempt, s.options) for s in desk.sent(2)] == [(1, Options(resent=True))]
    desk.tell(LinkLost(2, "it disconnected"))
    desk.join(3, SAFE, number=1, epoch=b"epoch--2")
    assert [(s.attempt, s.options) for s in desk.sent(3)] == [(2, Options())]


def test_a_resent_job_that_is_rejected_is_resent_again_there_and_anew_elsewhere() -> None:
    desk = Desk()
    desk.join(1, SAFE)
    record = desk.submit("safe")
    desk.tell(LinkLost(1, "it disconnected"))
    desk.join(2, SAFE, number=1)
    desk.hear(2, Reject(record.id, 1, "busy", ""), window=0)
    desk.hear(2)
    assert [(s.attempt, s.options) for s in desk.sent(2)] == [(1, Options(resent=True))]
    desk.hear(2, Reject(record.id, 1, "busy", ""), window=0)
    desk.join(3, SAFE)
    assert [(s.attempt, s.options) for s in desk.sent(3)] == [(2, Options())]


def test_a_job_does_not_go_to_a_node_where_it_was_while_another_lives_even_if_that_one_is_full() -> None:
    desk = Desk()
    desk.join(1, SAFE)
    desk.join(2, SAFE, window=0)
    record = desk.submit("safe")
    desk.hear(1, crash(record))
    assert (desk.sent(1), desk.sent(2), record.state) == ([], [], PENDING)
    desk.hear(1)
    assert desk.sent(1) == []
    desk.hear(2, window=1)
    assert [submit.attempt for submit in desk.sent(2)] == [2]


def test_a_job_goes_back_to_the_node_where_it_was_when_the_others_are_gone() -> None:
    desk = Desk()
    desk.join(1, SAFE)
    desk.join(2, SAFE, window=0)
    record = desk.submit("safe")
    desk.hear(1, crash(record))
    desk.tell(LinkLost(2, "it disconnected"))
    assert [submit.attempt for submit in desk.sent(1)] == [2]


def test_other_jobs_of_a_dead_node_end_as_perhaps_started() -> None:
    desk = Desk()
    desk.join(1)
    desk.join(2)
    records = [desk.submit() for _ in range(6)]
    there = [record for record in records if record.link == 1]
    desk.tell(LinkLost(1, "it disconnected"))
    assert {type(desk.error(record)) for record in there} == {JobLost}
    assert all(desk.error(record).started is True for record in there)
    assert desk.sent(2) == []


def test_a_job_that_may_have_run_never_ends_as_if_it_had_not() -> None:
    desk = Desk()
    desk.join(1, SAFE)
    late, cancelled, homeless = desk.submit("safe", deadline=1.0), desk.submit("safe"), desk.submit("safe")
    desk.tell(LinkLost(1, "it disconnected"))
    desk.tell(CancelAsked(cancelled))
    desk.live_until(GRACE)
    assert [(type(desk.error(r)), desk.error(r).started) for r in (late, cancelled, homeless)] == [
        (JobTimeout, True), (JobCancelled, True), (NoNodes, True),
    ]  # fmt: skip
    assert "tried again" in str(desk.error(late))
    assert "tried again" in str(desk.error(cancelled))


def test_a_rejection_of_a_later_attempt_does_not_say_that_the_job_never_ran() -> None:
    desk = Desk()
    desk.join(1, SAFE)
    record = desk.submit("safe")
    desk.join(2, SAFE)
    desk.tell(LinkLost(1, "it disconnected"))
    desk.hear(2, Reject(record.id, 2, "expired", ""))
    assert (type(desk.error(record)), desk.error(record).started) == (JobTimeout, True)


# workers that die


def test_the_third_worker_that_dies_of_a_job_is_the_last() -> None:
    desk = Desk()
    for key in range(1, 5):
        desk.join(key, SAFE)
    record = desk.submit("safe")
    nodes = set()
    for attempt in range(1, POISON + 1):
        assert (record.state, record.attempt) == (SENT, attempt)
        nodes.add(record.link)
        desk.hear(record.link, crash(record))
    assert len(nodes) == POISON
    error = desk.error(record)
    assert (type(error), error.started) == (PoisonTask, True)
    assert str(error).startswith("3 workers died while they ran this job, the last one at n")


def test_how_many_workers_died_of_a_job_travels_with_it() -> None:
    desk = Desk()
    desk.join(1, SAFE)
    record = desk.submit("safe")
    desk.hear(1, crash(record))
    assert [(s.attempt, s.options) for s in desk.sent(1)] == [(2, Options(crashes=1))]


def test_a_job_that_may_not_run_twice_is_lost_with_its_worker() -> None:
    desk = Desk()
    desk.join(1)
    desk.join(2)
    record = desk.submit()
    desk.hear(record.link, crash(record))
    assert (type(desk.error(record)), desk.error(record).started) == (JobLost, True)


def test_a_job_that_its_dead_worker_had_not_begun_goes_on_and_is_not_blamed() -> None:
    desk = Desk()
    desk.join(1)
    record = desk.submit()
    desk.hear(1, crash(record, started=False))
    assert [(s.attempt, s.options) for s in desk.sent(1)] == [(2, Options())]
    assert not record.began


@pytest.mark.parametrize(
    ("reason", "kind"), [("limit", JobTimeout), ("expired", JobTimeout), ("cancelled", JobCancelled)]
)
def test_a_job_that_its_node_ended_is_not_tried_again_though_it_might_be(reason: str, kind: type[Exception]) -> None:
    desk = Desk()
    desk.join(1, SAFE)
    desk.join(2, SAFE)
    record = desk.submit("safe")
    desk.hear(record.link, Lost(record.id, 1, reason, True, "why"))
    assert (type(desk.error(record)), desk.error(record).started, str(desk.error(record))) == (kind, True, "why")


def test_a_job_with_no_time_left_for_another_attempt_is_lost_at_once() -> None:
    desk = Desk()
    desk.join(1, SAFE, window=1000)
    desk.tell(Submitted([desk.job("safe") for _ in range(int(FLOOR * PERIOD_S) + 60)]))
    last = desk.submit("safe", deadline=1.0)
    records = [record for record in desk.session.unfinished() if record is not last]
    desk.hear(1, *(crash(record) for record in records), window=1000)
    desk.hear(1, crash(last), window=1000)
    assert type(desk.error(last)) is JobLost


# tasks that ask for another attempt


def test_a_task_is_tried_again_as_often_as_it_says_after_waits_that_double() -> None:
    desk = Desk(rng=Highest())
    desk.join(1, SOON)
    record = desk.submit("soon")
    desk.hear(1, Failed(record.id, 1, b"1", 0.0))
    assert (record.state, desk.sent(1), len(desk.session._waiting)) == (PENDING, [], 0)
    assert [s.attempt for _, s in keep_alive(desk, 0.9, 1)] == []
    assert [s.attempt for _, s in keep_alive(desk, 1.0, 1)] == [2]
    desk.hear(1, Failed(record.id, 2, b"2", 0.0))
    assert [s.attempt for _, s in keep_alive(desk, 2.9, 1)] == []
    assert [s.attempt for _, s in keep_alive(desk, 3.0, 1)] == [3]
    desk.hear(1, Failed(record.id, 3, b"3", 0.0))
    assert desk.outcome(record) == Failed(record.id, 3, b"3", 0.0)


def test_each_further_attempt_goes_to_another_node_while_there_is_one() -> None:
    desk = Desk()
    for key in (1, 2, 3):
        desk.join(key, TaskSpec("soon", retry=RetrySpec(2, 0.0, 0.0)))
    record = desk.submit("soon")
    nodes = [record.link]
    for attempt in (1, 2):
        desk.hear(record.link, Failed(record.id, attempt, b"", 0.0))
        nodes.append(record.link)
    assert sorted(nodes) == [1, 2, 3]


def test_a_task_without_a_policy_may_say_when_and_is_believed_a_few_times() -> None:
    desk = Desk()
    desk.join(1)
    record = desk.submit()
    for attempt in range(1, LATER_MOST + 1):
        desk.hear(1, Failed(record.id, attempt, b"", 0.25))
        assert desk.session.next_wake() == pytest.approx(desk.now + 0.25)
        assert [s.attempt for _, s in keep_alive(desk, desk.now + 0.25, 1)] == [attempt + 1]
    desk.hear(1, Failed(record.id, LATER_MOST + 1, b"end", 0.25))
    assert isinstance(desk.outcome(record), Failed)


def test_a_job_whose_time_would_be_up_by_then_ends_as_it_failed() -> None:
    desk = Desk()
    desk.join(1)
    record = desk.submit(deadline=1.0)
    desk.hear(1, Failed(record.id, 1, b"", 1.0))
    assert isinstance(desk.outcome(record), Failed)


def test_a_job_whose_time_is_up_while_it_waits_for_its_next_attempt_may_have_run() -> None:
    desk = Desk()
    desk.join(1)
    record = desk.submit(deadline=1.0)
    desk.hear(1, Failed(record.id, 1, b"", 0.5), window=0)
    desk.live_until(1.0)
    assert (type(desk.error(record)), desk.error(record).started) == (JobTimeout, True)


def test_further_attempts_keep_to_their_budget() -> None:
    desk = Desk()
    desk.join(1, TaskSpec("soon", retry=RetrySpec(100, 0.0, 0.0)), window=1000)
    desk.tell(Submitted([desk.job("soon") for _ in range(100)]))
    sent = 0
    while desk.now < 20.0:
        held = [record for record in desk.session.unfinished() if record.state == SENT]
        desk.hear(1, *(Failed(record.id, record.attempt, b"", 0.0) for record in held), window=1000)
        sent += len(desk.sent(1))
        desk.at(desk.now + 0.1)
        sent += len(desk.sent(1))
    rate = FLOOR + SHARE * 100 / PERIOD_S
    assert FLOOR * 20 <= sent <= rate * (20 + PERIOD_S)


def test_a_job_that_waits_for_its_next_attempt_when_every_node_leaves_still_ends() -> None:
    desk = Desk()
    desk.join(1)
    record = desk.submit()
    desk.hear(1, Failed(record.id, 1, b"", 5.0))
    desk.tell(LinkLost(1, "it disconnected"))
    desk.live_until(5.0 + GRACE)
    assert (type(desk.error(record)), desk.error(record).started) == (NoNodes, True)
    assert desk.session.next_wake() is None


def test_a_cancelled_job_is_never_tried_again() -> None:
    desk = Desk()
    desk.join(1, SAFE, TaskSpec("soon", retry=RetrySpec(9, 0.0, 0.0)))
    lost, dead, failed, gone = (desk.submit(task) for task in ("safe", "safe", "soon", "safe"))
    desk.tell(*(CancelAsked(record) for record in (lost, dead, failed, gone)))
    desk.hear(1, crash(dead), Failed(failed.id, 1, b"", 0.0), Unknown([gone.id]))
    desk.join(2, SAFE)
    desk.tell(LinkLost(1, "it disconnected"))
    assert [type(desk.outcome(record)) for record in (lost, dead, failed, gone)] == [JobLost, JobLost, Failed, JobLost]
    assert desk.sent(2) == []


def test_a_job_that_is_cancelled_while_it_waits_for_its_next_attempt_ends_at_once() -> None:
    desk = Desk()
    desk.join(1)
    record = desk.submit()
    desk.hear(1, Failed(record.id, 1, b"", 60.0))
    desk.tell(CancelAsked(record, RUNNING))
    assert (type(desk.error(record)), desk.error(record).started) == (JobCancelled, True)
    assert desk.session._waiting.next_time() is None


@pytest.mark.parametrize("how", ["crash", "gone", "unknown"])
def test_a_job_that_is_not_to_wait_goes_home_rather_than_elsewhere(how: str) -> None:
    desk = Desk()
    desk.join(1, SAFE)
    record = desk.submit("safe", bounce=True)
    desk.join(2, SAFE)
    if how == "gone":
        desk.tell(LinkLost(1, "it disconnected"))
    else:
        desk.hear(1, crash(record) if how == "crash" else Unknown([record.id]))
    assert isinstance(desk.error(record), MeshBusy)
    assert desk.sent(2) == []


# quarantine of a task


def test_a_task_in_quarantine_moves_to_other_nodes_for_a_while() -> None:
    desk = Desk()
    desk.join(1)
    record = desk.submit()
    desk.join(2)
    desk.hear(1, Reject(record.id, 1, "quarantined", ""))
    assert [submit.attempt for submit in desk.sent(2)] == [1]
    desk.tell(Submitted([desk.job() for _ in range(6)]))
    assert (len(desk.sent(1)), len(desk.sent(2))) == (0, 6)
    keep_alive(desk, QUARANTINE_S, 1, 2)
    desk.hear(2, window=0)
    desk.submit()
    assert len(desk.sent(1)) == 1


def test_a_task_in_quarantine_everywhere_ends_its_jobs_within_the_grace() -> None:
    desk = Desk()
    desk.join(1, window=2)
    ran, same, waiting = (desk.submit() for _ in range(3))
    desk.hear(1, Reject(ran.id, 1, "quarantined", ""), Reject(same.id, 1, "quarantined", ""))
    assert desk.sent(1) == []
    keep_alive(desk, GRACE, 1)
    for record in (ran, same, waiting):
        assert (type(desk.error(record)), desk.error(record).started) == (PoisonTask, False)


def test_the_jobs_that_a_node_held_of_a_task_in_quarantine_end_too_when_it_leaves() -> None:
    desk = Desk()
    desk.join(1, SAFE, window=2)
    rejected, held = desk.submit("safe"), desk.submit("safe")
    desk.hear(1, Reject(rejected.id, 1, "quarantined", ""))
    keep_alive(desk, GRACE, 1)
    desk.tell(LinkLost(1, "it disconnected"))
    desk.live_until(2 * GRACE)
    assert type(desk.error(held)) is NoNodes


def test_when_a_quarantine_is_over_the_time_of_the_task_holds_for_what_waited() -> None:
    desk = Desk(grace=20.0)
    desk.join(1, TaskSpec("add", timeout=12.0), window=1)
    first = desk.submit()
    desk.hear(1, Reject(first.id, 1, "quarantined", ""), window=1)
    desk.now = 1.0
    waits = desk.submit()
    assert waits.extras.deadline is None
    keep_alive(desk, QUARANTINE_S + BEAT_S, 1)
    assert waits.extras.deadline == 13.0


# ejection


def fail(desk: Desk, key: int, times: int) -> None:
    """Let so many workers die at a node, one after the other."""
    view = desk.session.roster.get(key)
    assert view is not None
    others = [other for other in desk.session.roster if other is not view]
    windows = {other.key: other.window for other in others}
    for other in others:
        other.window = 0
    for _ in range(times):
        record = desk.submit()
        assert record.link == key
        desk.hear(key, crash(record))
    for other in others:
        other.window = windows[other.key]


def test_a_node_is_ejected_after_failures_in_a_row_and_returns_on_trial() -> None:
    desk = Desk()
    desk.join(1)
    desk.join(2)
    fail(desk, 1, FAILURES - 1)
    assert state(desk, 1) is State.ALIVE
    fail(desk, 1, 1)
    assert state(desk, 1) is State.EJECTED
    desk.submit()
    assert desk.sent(1) == []
    keep_alive(desk, EJECTED_S, 1, 2)
    assert state(desk, 1) is State.TRIAL
    desk.hear(2, window=0)
    desk.tell(Submitted([desk.job(), desk.job()]))
    (trial,) = desk.sent(1)
    desk.hear(1, Result(trial.id, 1, b""))
    assert state(desk, 1) is State.ALIVE
    assert len(desk.sent(1)) == 1


def test_a_node_that_fails_its_trial_is_out_for_longer_and_a_success_redeems_it() -> None:
    desk = Desk()
    desk.join(1)
    desk.join(2)
    fail(desk, 1, FAILURES)
    keep_alive(desk, EJECTED_S, 1, 2)
    fail(desk, 1, 1)
    assert state(desk, 1) is State.EJECTED
    keep_alive(desk, desk.now + 2 * EJECTED_S - BEAT_S, 1, 2)
    assert state(desk, 1) is State.EJECTED
    keep_alive(desk, desk.now + BEAT_S, 1, 2)
    assert state(desk, 1) is State.TRIAL
    desk.hear(2, window=0)
    record = desk.submit()
    desk.hear(1, Failed(record.id, 1, b"raised"))
    assert state(desk, 1) is State.ALIVE
    fail(desk, 1, FAILURES - 1)
    assert state(desk, 1) is State.ALIVE


def test_a_success_in_between_starts_the_count_anew() -> None:
    desk = Desk()
    desk.join(1)
    desk.join(2, window=0)
    fail(desk, 1, FAILURES - 1)
    record = desk.submit()
    desk.hear(1, Result(record.id, 1, b""))
    fail(desk, 1, FAILURES - 1)
    assert state(desk, 1) is State.ALIVE


def test_no_more_than_half_of_the_nodes_are_ejected() -> None:
    desk = Desk()
    for key in (1, 2, 3):
        desk.join(key)
    for key in (1, 2, 3):
        fail(desk, key, 2 * FAILURES if key > 1 else FAILURES)
    assert [state(desk, key) for key in (1, 2, 3)] == [State.EJECTED, State.ALIVE, State.ALIVE]


def test_a_lone_node_that_is_out_is_let_in_when_the_others_leave() -> None:
    desk = Desk()
    desk.join(1)
    desk.join(2)
    fail(desk, 1, FAILURES)
    waiting = desk.job()
    desk.tell(LinkLost(2, "it disconnected"), Submitted([waiting]))
    assert state(desk, 1) is State.TRIAL
    assert [submit.id for submit in desk.sent(1)] == [waiting.id]


def test_a_connection_that_breaks_with_jobs_under_way_counts_and_is_remembered() -> None:
    desk = Desk()
    desk.join(100)
    desk.hear(100, window=0)
    for key in range(1, FAILURES + 1):
        desk.join(key, number=1)
        assert state(desk, key) is State.ALIVE
        desk.submit()
        desk.tell(LinkLost(key, "it disconnected"))
    desk.join(50, number=1)
    assert state(desk, 50) is State.EJECTED
    desk.tell(LinkLost(50, "it disconnected"))
    desk.join(51, number=1, epoch=b"epoch--2")
    assert state(desk, 51) is State.EJECTED


# a node that forgot who we are


def test_a_node_that_forgot_us_is_greeted_and_then_asked_what_became_of_our_jobs() -> None:
    desk = Desk()
    desk.join(1, window=1000)
    records = [desk.job() for _ in range(2 * ASKED + 1)]
    desk.tell(Submitted(records))
    rejected = records.pop()
    (greet,) = desk.hear(1, Reject(rejected.id, 1, "busy", ""), Stranger(), window=1000)
    assert greet == Greet(1)
    assert desk.hear(1, Stranger(), window=0) == []
    desk.hear(1, Welcome(1, about(1)), window=1000)
    queries = [item for item in desk.said(1) if isinstance(item, Query)]
    assert [len(query.ids) for query in queries] == [ASKED, ASKED]
    assert [job_id for query in queries for job_id in query.ids] == [record.id for record in records]
    assert [submit.id for submit in desk.sent(1)] == [rejected.id]
    desk.hear(1, Result(records[0].id, 1, b""), Started([records[1].id]), Unknown([records[2].id, b"?" * 16]))
    assert isinstance(desk.outcome(records[0]), Result)
    assert records[1].state == "started"
    assert (type(desk.error(records[2])), desk.error(records[2]).started) == (JobLost, True)


def test_a_job_that_its_node_knows_nothing_of_is_tried_again_where_it_may() -> None:
    desk = Desk()
    desk.join(1, SAFE)
    record = desk.submit("safe")
    desk.join(2, SAFE)
    desk.hear(1, Unknown([record.id]))
    assert [(submit.attempt, submit.options) for submit in desk.sent(2)] == [(2, Options())]


def test_a_job_that_is_over_is_not_tried_again_when_its_node_does_not_know_it() -> None:
    desk = Desk()
    desk.join(1, SAFE)
    record = desk.submit("safe", deadline=1.0)
    desk.at(1.0)
    desk.hear(1, Unknown([record.id]))
    assert (type(desk.error(record)), desk.effects) == (JobTimeout, [])


def test_a_node_that_does_not_greet_us_again_is_given_up_with_its_link() -> None:
    desk = Desk()
    desk.join(1)
    record = desk.submit()
    desk.hear(1, Stranger(), window=0)
    closes = []
    while desk.now < WELCOME_S + 3.0:
        effects = desk.at(desk.now + BEAT_S)
        closes += [effect for effect in effects if isinstance(effect, (Close, Parted))]
        if desk.session.roster.get(1):
            desk.hear(1, window=0)
    assert [type(effect) for effect in closes] == [Parted, Close]
    assert isinstance(desk.error(record), JobLost)
    assert desk.session.next_wake() is None


def test_a_node_that_greets_back_with_another_epoch_is_a_new_one() -> None:
    desk = Desk()
    desk.join(1, SAFE)
    record = desk.submit("safe")
    desk.hear(1, Stranger(), window=0)
    desk.hear(1, Welcome(1, about(1, SAFE, epoch=b"epoch--2")), window=5)
    assert desk.closed() == []
    assert [(submit.attempt, submit.options) for submit in desk.sent(1)] == [(2, Options())]
    assert len(desk.session.roster) == 1
    desk.tell(LinkLost(1, "it disconnected"))
    desk.tell(CancelAsked(record))
    assert len(desk.session.roster) == 0


# a node that describes itself anew


def test_a_welcome_unasked_replaces_the_tasks_and_takes_back_the_drain() -> None:
    desk = Desk()
    desk.join(1)
    desk.hear(1, Drain())
    old = desk.submit()
    assert (state(desk, 1), desk.sent(1)) == (State.DRAINING, [])
    desk.hear(1, Welcome(1, about(1, SAFE)))
    assert state(desk, 1) is State.ALIVE
    desk.submit("safe")
    assert [submit.task for submit in desk.sent(1)] == ["safe"]
    keep_alive(desk, GRACE, 1)
    assert isinstance(desk.error(old), UnknownTask)


def test_a_welcome_of_another_node_over_the_same_link_leaves_the_books_as_they_are() -> None:
    desk = Desk()
    desk.join(1)
    desk.hear(1, Welcome(1, about(9)))
    assert desk.session.roster.by_id(node_id(1)) is desk.session.roster.get(1)
    desk.tell(LinkLost(1, "it disconnected"))
    assert desk.session.roster.by_id(node_id(1)) is None


# keeping, lateness, and the moments at which silence counts


def test_a_job_that_is_to_outlive_the_client_is_kept_wherever_it_goes() -> None:
    desk = Desk()
    waits = desk.job("safe")
    desk.tell(Submitted([waits]), KeepAsked(waits))
    desk.join(1, SAFE)
    assert desk.said(1)[1:] == [Keep(waits.id)]
    sent = desk.submit("safe")
    desk.tell(KeepAsked(sent))
    assert desk.said(1) == [Keep(sent.id)]
    desk.join(2, SAFE)
    desk.tell(LinkLost(1, "it disconnected"))
    assert [type(item) for item in desk.said(2)].count(Keep) == 2
    desk.hear(2, Result(sent.id, 2, b""), Result(waits.id, 2, b""))
    assert desk.tell(KeepAsked(sent)) == []


def test_late_outcomes_are_counted() -> None:
    desk = Desk()
    desk.join(1, SAFE, SOON)
    over, other, again = desk.submit("safe", deadline=1.0), desk.submit("safe", deadline=1.0), desk.submit("soon")
    desk.at(1.0)
    assert Cancel(over.id) in desk.said(1)
    desk.hear(1, Result(over.id, 1, b""), Lost(other.id, 1, "crash", True, ""), Result(b"?" * 16, 1, b""))
    desk.hear(1, Reject(b"?" * 16, 1, "busy", ""))
    assert desk.session.late == 4
    desk.hear(1, Failed(again.id, 1, b"", 0.0))
    keep_alive(desk, 3.0, 1)
    assert again.attempt == 2
    desk.hear(1, Lost(again.id, 1, "crash", True, "of the first attempt"))
    assert (desk.session.late, again.over, again.state) == (5, False, SENT)


@pytest.mark.parametrize("began", [0.0, 0.1, 7.3, 1234.567])
def test_silence_is_noticed_at_the_very_moment_at_which_it_counts(began: float) -> None:
    desk = Desk()
    desk.now = began
    desk.join(1)
    noticed: dict[str, float] = {}
    for _ in range(40):
        wake = desk.session.next_wake()
        if wake is None:
            break
        assert wake > desk.now
        desk.at(wake)
        view = desk.session.roster.get(1)
        noticed.setdefault(view.standing.state.value if view else "dead", desk.now - began)
    assert noticed["suspect"] == pytest.approx(SUSPECT_S)
    assert noticed["dead"] == pytest.approx(DEAD_S)


def test_our_own_stall_is_not_held_against_a_node_that_holds_jobs() -> None:
    desk = Desk()
    desk.join(1, SAFE)
    desk.join(2, SAFE)
    record = desk.submit("safe")
    desk.at(4.5)
    assert [state(desk, key) for key in (1, 2)] == [State.ALIVE, State.ALIVE]
    assert (record.state, record.attempt) == (SENT, 1)


def test_a_suspect_that_speaks_gets_jobs_again_in_the_same_turn() -> None:
    desk = Desk()
    desk.join(1)
    desk.live_until(SUSPECT_S)
    assert state(desk, 1) is State.SUSPECT
    record = desk.submit()
    assert desk.sent(1) == []
    desk.hear(1)
    assert [submit.id for submit in desk.sent(1)] == [record.id]
