"""How jobs end that are limited, cancelled, crash or are tried again, told step by step."""

from collections.abc import Sequence

import pytest

from mesh.tasks import LIMIT_KILL_S
from mesh.wire.messages import (
    CANCELLED,
    CRASH,
    DRAINING,
    EXPIRED,
    FORCED,
    LIMIT,
    POISON,
    QUARANTINED,
    RUNNING,
    UNSTARTED,
    WORKER,
    Failed,
    Lost,
    Result,
    TaskSpec,
)
from meshnode.core.effects import Dispatch, Effect, Empty, Interrupt, Kill, TakeBack
from meshnode.core.events import (
    CancelAsked,
    Draining,
    Ended,
    GraceOver,
    Left,
    Submitted,
    TakenBack,
    WorkerLost,
    WorkerReady,
)
from meshnode.core.held import Owner
from meshnode.core.orders import Ran
from meshnode.core.quarantine import CLOSED_S, CRASHES, WITHIN_S
from meshnode.core.scheduler import CRASHES as POISONED
from meshnode.core.scheduler import LATER_MOST
from tests.support.scheduling import (
    Desk,
    LongestWaits,
    bridge,
    client,
    job,
    job_id,
    jobs,
    number_of,
    suspect,
    taken_back_from,
)

KILLED = [TakeBack(1), Kill(1)]


def killed(effects: Sequence[Effect]) -> list[int]:
    return [effect.worker for effect in effects if isinstance(effect, Kill)]


def interrupted(effects: Sequence[Effect]) -> list[Interrupt]:
    return [effect for effect in effects if isinstance(effect, Interrupt)]


def attempts_told(desk: Desk, owner: Owner) -> list[tuple[int, int]]:
    return [
        (number_of(item.id), item.attempt)
        for item in desk.told.get(owner.key, [])
        if isinstance(item, (Result, Failed, Lost))
    ]


# limits


def test_a_job_that_runs_beyond_its_limit_has_its_worker_killed_and_is_lost() -> None:
    desk, owner = Desk(), client()
    desk.tell(Submitted(owner, [job(1, "limited")]))
    assert killed(desk.at(1.49)) == []
    assert desk.scheduler.next_wake() == 1.5
    assert desk.at(1.5) == KILLED, "what it has not read is taken back before it dies"
    assert desk.lost(owner) == []
    desk.die(1)
    assert desk.lost(owner) == [(1, LIMIT, True)]
    (lost,) = [item for item in desk.told[owner.key] if isinstance(item, Lost)]
    assert "1.5 s" in lost.text
    assert desk.scheduler.held == 0


@pytest.mark.parametrize(
    ("task", "limit", "seconds"),
    [
        (TaskSpec("slow"), 2.0, 2.0 + LIMIT_KILL_S),
        (TaskSpec("slow", limit=1.0), 2.0, 1.0 + LIMIT_KILL_S),
        (TaskSpec("slow", limit=1.0), None, 1.0 + LIMIT_KILL_S),
        (TaskSpec("slow", limit=1.0, limit_kill=0.0), 2.0, 1.0),
    ],
)
def test_where_a_task_names_no_limit_the_nodes_own_holds(task: TaskSpec, limit: float | None, seconds: float) -> None:
    desk = Desk(limit=limit, tasks=[task, TaskSpec("short"), TaskSpec("steady")])
    desk.tell(Submitted(client(), [job(1)]))
    assert killed(desk.at(seconds - 0.01)) == []
    assert killed(desk.at(seconds)) == [1]


def test_without_any_limit_a_job_may_run_for_ever() -> None:
    desk = Desk()
    desk.tell(Submitted(client(), [job(1)]))
    assert killed(desk.at(1e6)) == []


def test_nothing_is_killed_for_a_job_that_ended_within_its_limit() -> None:
    desk, owner = Desk(), client()
    desk.tell(Submitted(owner, [job(1, "limited")]))
    desk.at(1.0)
    desk.end(1)
    desk.tell(Submitted(owner, [job(2, "limited")]))
    assert killed(desk.at(1.5)) == []
    assert killed(desk.at(2.5)) == [1]


def test_a_job_that_ended_before_the_kill_reached_its_worker_has_ended_well() -> None:
    desk, owner = Desk(), client()
    desk.tell(Submitted(owner, [job(1, "limited")]))
    desk.at(1.5)
    desk.end(1)
    assert desk.dispatched() == []
    desk.tell(WorkerLost(1, 1, "killed"), WorkerReady(2))
    assert desk.results(owner) == [1]
    assert desk.lost(owner) == []


def test_the_next_job_goes_to_another_worker_than_one_that_is_being_killed() -> None:
    desk, owner = Desk(workers=2), bridge()
    desk.tell(Submitted(owner, [job(1, "limited")]))
    doomed = desk.given[0][0]
    desk.at(1.5)
    desk.turns(owner, [2, 3])
    assert [worker for worker, _ in desk.given[1:]] == [3 - doomed]
    desk.tell(WorkerLost(doomed, 1, "killed"), WorkerReady(3))
    assert desk.at_worker(3) == [3]


def test_the_limit_counts_anew_when_a_job_runs_again_under_the_same_number_at_another_worker() -> None:
    desk, owner = Desk(), bridge()
    desk.tell(Submitted(owner, [job(1, "limited")]))
    desk.now = 1.0
    desk.die(1, successor=2)
    assert desk.given == [(1, 1), (2, 1)]
    assert killed(desk.at(1.5)) == []
    assert killed(desk.at(2.5)) == [2]


def test_limits_of_jobs_that_ended_long_ago_are_not_kept() -> None:
    desk, owner = Desk(tasks=[TaskSpec("slow", limit=3600.0), TaskSpec("short"), TaskSpec("steady")]), bridge()
    for number in range(2500):
        desk.tell(Submitted(owner, [job(number)]))
        desk.end(number)
    assert len(desk.scheduler._limits) < 1100


@pytest.mark.parametrize("seconds", [40e-6, 0.005])
def test_jobs_with_a_limit_never_lie_behind_each_other_however_short_or_steady_they_are(seconds: float) -> None:
    desk, owner = Desk(workers=2), bridge()
    desk.scheduler.tasks["limited"].runtime.observe(100, 100 * seconds, seconds)
    desk.turns(owner, [1, 2, 3], "limited")
    assert sorted(worker for worker, _ in desk.given) == [1, 2]
    desk.turns(owner, [4], "short")
    assert desk.order() == [1, 2]


def test_a_coroutine_beyond_its_limit_takes_those_beside_it_along_but_not_what_was_not_begun() -> None:
    tasks = [TaskSpec("fetch", is_async=True, limit=1.0, limit_kill=0.5), TaskSpec("short"), TaskSpec("steady")]
    desk, owner = Desk(tasks=tasks, concurrency=3), bridge()
    desk.turns(owner, [1], "fetch")
    desk.now = 1.0
    desk.turns(owner, [2, 3], "fetch")
    assert desk.at(1.5) == [Kill(1)], "others run, and nothing waits behind another"
    desk.tell(WorkerLost(1, 2, "killed"), WorkerReady(2))
    assert desk.lost(owner) == [(1, LIMIT, True), (2, WORKER, True)]
    assert desk.at_worker(2) == [3]


# cancelling what runs


def test_a_job_that_runs_is_interrupted_under_its_number() -> None:
    desk, owner = Desk(), client()
    desk.tell(Submitted(owner, jobs([1, 2], "short")))
    desk.end(1)
    assert desk.tell(CancelAsked(owner, job_id(2), RUNNING)) == [Interrupt(1, 2, False)]
    desk.end(2, end=Failed)
    assert [type(item) for item in desk.told[owner.key]] == [Result, Failed]


def test_one_coroutine_of_several_is_interrupted_on_its_loop() -> None:
    desk, owner = Desk(concurrency=3), bridge()
    desk.tell(Submitted(owner, jobs([1, 2, 3], "fetch")))
    assert desk.tell(CancelAsked(owner, job_id(2), RUNNING)) == [Interrupt(1, desk.seq(2), True)]


def test_a_forced_cancel_kills_the_worker_and_what_it_has_not_read_goes_elsewhere() -> None:
    desk, owner = Desk(), client()
    desk.tell(Submitted(owner, jobs([1, 2, 3], "short")))
    assert desk.tell(CancelAsked(owner, job_id(1), FORCED)) == KILLED
    desk.taken_back(2, 3)
    assert desk.dispatched() == []
    desk.tell(WorkerLost(1, 1, "killed"), WorkerReady(2))
    assert desk.lost(owner) == [(1, CANCELLED, True)]
    assert desk.at_worker(2) == [2, 3]


def test_a_cancel_that_goes_no_further_than_the_start_leaves_a_job_that_runs() -> None:
    desk, owner = Desk(), client()
    desk.tell(Submitted(owner, [job(1)]))
    assert desk.tell(CancelAsked(owner, job_id(1), UNSTARTED)) == []


@pytest.mark.parametrize("how", [RUNNING, FORCED])
def test_however_far_a_cancel_goes_a_job_that_waits_is_just_rejected(how: int) -> None:
    desk, owner = Desk(), bridge()
    desk.tell(Submitted(owner, jobs([1, 2])))
    desk.tell(CancelAsked(owner, job_id(2), how))
    assert desk.rejected(owner) == [(2, CANCELLED)]
    assert not any(isinstance(effect, (Kill, Interrupt)) for effect in desk.effects)


@pytest.mark.parametrize("how", [RUNNING, FORCED])
def test_a_job_behind_another_is_called_back_to_be_cancelled_and_nothing_is_killed(how: int) -> None:
    desk, owner = Desk(), client()
    desk.tell(Submitted(owner, jobs([1, 2], "short")))
    assert desk.tell(CancelAsked(owner, job_id(2), how)) == [TakeBack(1)]
    desk.taken_back(2)
    assert desk.rejected(owner) == [(2, CANCELLED)]
    desk.end(1)
    assert not killed(desk.effects)
    assert not interrupted(desk.effects)


@pytest.mark.parametrize("how", [RUNNING, FORCED])
def test_a_job_that_ran_already_when_it_was_to_be_called_back_is_stopped_as_soon_as_that_shows(how: int) -> None:
    desk, owner = Desk(), client()
    desk.tell(Submitted(owner, jobs([1, 2, 3], "short")))
    assert desk.tell(CancelAsked(owner, job_id(3), how)) == [TakeBack(1)]
    desk.end(1)
    assert not killed(desk.effects) + interrupted(desk.effects)
    desk.end(2)
    assert killed(desk.effects) == ([1] if how == FORCED else [])
    assert interrupted(desk.effects) == ([Interrupt(1, 3, False)] if how == RUNNING else [])
    desk.end(3)
    assert desk.results(owner) == [1, 2, 3], "it may have ended before it heard"


def test_a_job_that_ended_before_it_could_be_called_back_has_ended_and_nothing_is_stopped() -> None:
    desk, owner = Desk(), client()
    desk.tell(Submitted(owner, jobs([1, 2, 3], "short")))
    desk.tell(CancelAsked(owner, job_id(2), FORCED))
    ends: list[Result | Failed] = [Result(job_id(1), 1, b""), Result(job_id(2), 1, b"")]
    desk.tell(Ended(1, [Ran(1, 80_000, 40_000, ends)]))
    assert killed(desk.effects) == []
    assert desk.results(owner) == [1, 2]


def test_a_worker_that_is_killed_for_a_job_it_had_not_read_rejects_it() -> None:
    desk, owner = Desk(), client()
    desk.tell(Submitted(owner, [job(1)]))
    desk.tell(CancelAsked(owner, job_id(1), FORCED))
    desk.tell(WorkerLost(1, 0, "killed"), WorkerReady(2))
    assert desk.rejected(owner) == [(1, CANCELLED)]
    assert desk.at_worker(2) == []


def test_a_worker_is_killed_once_and_ends_for_the_first_reason() -> None:
    desk, owner = Desk(concurrency=2), bridge()
    desk.tell(Submitted(owner, jobs([1, 2], "fetch")))
    desk.tell(CancelAsked(owner, job_id(1), FORCED))
    assert killed(desk.tell(CancelAsked(owner, job_id(2), FORCED))) == []
    desk.tell(WorkerLost(1, 2, "killed"))
    assert desk.lost(owner) == [(1, CANCELLED, True), (2, WORKER, True)]


def test_a_bridge_callers_job_that_was_cancelled_is_not_run_again() -> None:
    desk, owner = Desk(), bridge()
    desk.tell(Submitted(owner, [job(1, "safe")]))
    desk.tell(CancelAsked(owner, job_id(1), FORCED))
    desk.die(1, successor=2)
    assert desk.lost(owner) == [(1, CANCELLED, True)]
    desk.tell(Submitted(owner, [job(2, "safe")]))
    desk.tell(CancelAsked(owner, job_id(2), RUNNING))
    desk.die(2, successor=3)
    assert desk.lost(owner)[1:] == [(2, CRASH, True)]
    assert desk.order() == [1, 2]


# crashes


def test_only_the_job_that_ran_is_blamed_for_a_crash_and_what_was_not_read_goes_elsewhere() -> None:
    desk, owner = Desk(), client()
    desk.tell(Submitted(owner, jobs([1, 2, 3, 4], "short")))
    desk.tell(WorkerLost(1, 2, "killed"), WorkerReady(2))
    assert desk.lost(owner) == [(1, WORKER, True), (2, CRASH, True)]
    assert desk.at_worker(2) == [3, 4]


def test_of_several_coroutines_none_is_known_to_be_innocent() -> None:
    desk, owner = Desk(concurrency=3), client()
    desk.tell(Submitted(owner, jobs([1, 2, 3], "fetch")))
    desk.tell(WorkerLost(1, 2, "killed"), WorkerReady(2))
    assert desk.lost(owner) == [(1, CRASH, True), (2, CRASH, True)]
    assert desk.at_worker(2) == [3]


def test_no_job_is_blamed_where_the_node_killed_the_worker() -> None:
    desk, owner = Desk(), client()
    desk.tell(Submitted(owner, jobs([1, 2], "short")))
    desk.tell(CancelAsked(owner, job_id(1), FORCED))
    desk.tell(WorkerLost(1, 2, "killed"))
    assert desk.lost(owner) == [(1, CANCELLED, True), (2, WORKER, True)]


def test_jobs_that_workers_have_died_of_run_each_alone_on_a_worker_however_short_their_task() -> None:
    desk, owner = Desk(workers=3), client()
    desk.tell(Submitted(owner, [suspect(1, "short"), suspect(2, "short")]))
    desk.tell(Submitted(owner, jobs([3, 4, 5], "short")))
    assert len({worker for worker, number in desk.given if number in (1, 2)}) == 2
    assert sorted(desk.at_worker(1) + desk.at_worker(2) + desk.at_worker(3)) == [1, 2, 3, 4, 5]
    assert len({worker for worker, number in desk.given if number in (3, 4, 5)}) == 1
    desk.tell(Submitted(owner, [suspect(6, "short")]))
    assert 6 not in desk.order()


def test_a_coroutine_that_workers_have_died_of_runs_alone_on_a_worker() -> None:
    desk, owner = Desk(workers=2, concurrency=3), client()
    desk.tell(Submitted(owner, [suspect(1, "fetch")]))
    desk.tell(Submitted(owner, jobs([2, 3, 4, 5], "fetch")))
    alone = desk.given[0][0]
    assert desk.at_worker(alone) == [1]
    assert desk.at_worker(3 - alone) == [2, 3, 4]
    desk.tell(WorkerLost(alone, 1, "killed"))
    assert desk.lost(owner) == [(1, CRASH, True)]


def test_a_suspect_job_has_the_limit_of_its_task() -> None:
    desk = Desk()
    desk.tell(Submitted(client(), [suspect(1, "limited")]))
    assert killed(desk.at(1.5)) == [1]


# bridge callers' jobs that run again


def test_an_idempotent_job_of_a_bridge_caller_runs_again_as_the_next_attempt_when_its_worker_died() -> None:
    desk, owner = Desk(), bridge()
    desk.tell(Submitted(owner, [job(1, "safe")]))
    desk.die(1, successor=2)
    assert desk.told.get(owner.key) is None
    assert desk.at_worker(2) == [1]
    desk.end(1)
    assert attempts_told(desk, owner) == [(1, 2)]
    assert desk.scheduler.held == 0


def test_a_job_that_is_not_idempotent_or_is_a_clients_does_not_run_again() -> None:
    desk, caller, user = Desk(workers=2), bridge(), client()
    desk.tell(Submitted(caller, [job(1)]), Submitted(user, [job(2, "safe")]))
    desk.die(1, successor=3)
    desk.die(2, successor=4)
    assert desk.lost(caller) == [(1, CRASH, True)]
    assert desk.lost(user) == [(2, CRASH, True)]
    assert desk.order() == [1, 2]


def test_a_job_that_ran_when_a_worker_died_of_it_runs_alone_the_next_time() -> None:
    desk, owner = Desk(workers=2, cores=1), bridge()
    desk.scheduler.tasks["safe"].runtime.observe(100, 100 * 40e-6, 40e-6)
    desk.tell(Submitted(owner, jobs([1, 2, 3], "safe")))
    first = desk.given[0][0]
    assert desk.at_worker(first) == [1, 2, 3]
    desk.tell(WorkerLost(first, 1, "killed"), WorkerReady(3))
    assert sorted(sorted(numbers) for _, numbers in desk.dispatched()) == [[1], [2, 3]]


def test_what_was_lost_with_a_worker_that_died_of_another_job_is_no_suspect() -> None:
    desk, owner = Desk(cores=1), bridge()
    desk.scheduler.tasks["safe"].runtime.observe(100, 100 * 40e-6, 40e-6)
    desk.tell(Submitted(owner, jobs([1, 2], "safe")))
    desk.tell(WorkerLost(1, 2, "killed"), WorkerReady(2), WorkerReady(3), WorkerReady(4))
    both = owner.jobs
    assert {number_of(one): held.crashes for one, held in both.items()} == {1: 0, 2: 1}
    assert {number_of(one): held.submit.attempt for one, held in both.items()} == {1: 2, 2: 2}


def test_the_third_worker_that_dies_of_a_bridge_callers_job_is_the_last() -> None:
    desk, owner = Desk(), bridge()
    desk.tell(Submitted(owner, [job(1, "safe")]))
    for successor in range(2, 2 + POISONED):
        assert desk.lost(owner) == []
        desk.die(1, successor=successor)
    assert desk.lost(owner) == [(1, POISON, True)]
    assert desk.attempts(1) == POISONED


def test_a_job_whose_time_is_up_when_it_is_to_run_again_may_have_run() -> None:
    desk, owner = Desk(), bridge()
    desk.tell(Submitted(owner, [job(1, "safe", remaining=1000)]))
    desk.now = 0.5
    desk.die(1)
    desk.at(1.0)
    assert desk.rejected(owner) == []
    assert desk.lost(owner) == [(1, EXPIRED, True)]


# a task that wants to be tried again


def test_a_task_that_wants_to_be_tried_again_is_after_its_backoff_as_often_as_it_says() -> None:
    desk, owner = Desk(), bridge()
    desk.tell(Submitted(owner, [job(1, "retried")]))
    desk.fail(1, again=0.0)
    assert desk.scheduler.next_wake() == 1.0
    assert desk.scheduler.held == 1
    desk.at(0.99)
    assert desk.attempts(1) == 1
    desk.at(1.0)
    assert desk.attempts(1) == 2
    desk.fail(1, again=0.0)
    desk.at(2.49)
    assert desk.attempts(1) == 2, "twice the first wait, but no more than the cap"
    desk.at(2.5)
    assert desk.attempts(1) == 3
    assert desk.told.get(owner.key) is None
    desk.fail(1, again=0.0)
    assert desk.told[owner.key] == [Failed(job_id(1), 3, b"no", 0.0)]
    assert (desk.scheduler.held, desk.scheduler.next_wake()) == (0, None)


def test_a_task_that_wants_to_wait_longer_than_its_backoff_does() -> None:
    desk, owner = Desk(), bridge()
    desk.tell(Submitted(owner, [job(1, "retried")]))
    desk.fail(1, again=5.0)
    desk.at(4.9)
    assert desk.attempts(1) == 1
    desk.at(5.0)
    desk.end(1)
    assert attempts_told(desk, owner) == [(1, 2)]


def test_a_task_without_a_retry_of_its_own_may_ask_for_so_many() -> None:
    desk, owner = Desk(), bridge()
    desk.tell(Submitted(owner, [job(1)]))
    for _ in range(LATER_MOST):
        desk.fail(1, again=0.0)
        assert desk.told.get(owner.key) is None
    desk.fail(1, again=0.0)
    assert attempts_told(desk, owner) == [(1, LATER_MOST + 1)]


def test_a_job_is_not_tried_again_after_its_deadline() -> None:
    desk, owner = Desk(), bridge()
    desk.tell(Submitted(owner, [job(1, "retried", remaining=1000), job(2, "retried", remaining=1001)]))
    desk.fail(1, again=0.0)
    assert attempts_told(desk, owner) == [(1, 1)]
    desk.fail(2, again=0.0)
    assert attempts_told(desk, owner) == [(1, 1)]


def test_a_client_is_told_that_a_task_wants_to_be_tried_again_and_does_so_itself() -> None:
    desk, owner = Desk(), client()
    desk.tell(Submitted(owner, [job(1, "retried")]))
    desk.fail(1, again=2.0)
    assert desk.told[owner.key] == [Failed(job_id(1), 1, b"no", 2.0)]
    assert desk.scheduler.held == 0


def test_a_failure_that_asks_for_nothing_is_told() -> None:
    desk, owner = Desk(), bridge()
    desk.tell(Submitted(owner, [job(1, "retried")]))
    desk.fail(1, again=None)
    assert attempts_told(desk, owner) == [(1, 1)]


def test_others_run_while_a_job_waits_for_its_time_to_be_tried_again() -> None:
    desk, owner = Desk(), bridge()
    desk.tell(Submitted(owner, [job(1, "retried"), job(2)]))
    desk.fail(1, again=0.0)
    assert desk.order() == [1, 2]
    desk.at(1.0)
    desk.tell(Submitted(owner, [job(3)]))
    desk.end(2)
    assert desk.order() == [1, 2, 1]


def test_a_job_that_is_cancelled_while_it_waits_to_be_tried_again_ran_before() -> None:
    desk, owner = Desk(), bridge()
    desk.tell(Submitted(owner, [job(1, "retried")]))
    desk.fail(1, again=0.0)
    desk.tell(CancelAsked(owner, job_id(1)))
    assert desk.lost(owner) == [(1, CANCELLED, True)]
    desk.at(1.0)
    assert desk.order() == [1]
    assert (desk.scheduler.held, desk.scheduler.backlog.count) == (0, 0)


def test_a_job_that_was_cancelled_while_it_ran_is_not_tried_again() -> None:
    desk, owner = Desk(), bridge()
    desk.tell(Submitted(owner, [job(1, "retried")]))
    desk.tell(CancelAsked(owner, job_id(1), RUNNING))
    desk.fail(1, again=0.0)
    assert attempts_told(desk, owner) == [(1, 1)]


def test_who_leaves_while_its_job_waits_to_be_tried_again_leaves_nothing_behind() -> None:
    desk, owner = Desk(), bridge()
    desk.tell(Submitted(owner, [job(1, "retried")]))
    desk.fail(1, again=0.0)
    desk.tell(Left(owner))
    desk.at(1.0)
    assert desk.order() == [1]
    assert desk.scheduler.held == 0
    assert desk.tell(Draining()) == [Empty()]


def test_a_node_that_drains_tries_again_what_it_holds_until_the_grace_is_over() -> None:
    desk, owner = Desk(), bridge()
    desk.tell(Submitted(owner, [job(1, "retried")]), Draining())
    desk.fail(1, again=0.0)
    assert Empty() not in desk.effects
    desk.at(1.0)
    assert desk.attempts(1) == 2
    desk.fail(1, again=0.0)
    desk.tell(GraceOver())
    assert desk.lost(owner) == [(1, DRAINING, True)]


def test_the_longest_of_all_waits_is_what_these_tests_take() -> None:
    assert LongestWaits().uniform(0.0, 3.0) == 3.0


# quarantine


def crash_in_a_row(desk: Desk, owner: Owner, count: int, *, task: str = "slow", every: float = 0.0) -> None:
    """Let a task bring down one worker after another."""
    for n in range(count):
        desk.now += every
        number = 1000 + len(desk.given)
        desk.tell(Submitted(owner, [job(number, task)]))
        desk.die(number, successor=100 + number + n)


def test_a_task_that_brings_down_worker_after_worker_is_refused_for_a_while() -> None:
    desk, owner, other = Desk(), client(), bridge()
    crash_in_a_row(desk, owner, CRASHES)
    desk.tell(Submitted(owner, [job(1), job(2, "safe")]), Submitted(other, [job(3)]))
    assert desk.rejected(owner) == [(1, QUARANTINED)]
    assert desk.rejected(other) == [(3, QUARANTINED)]
    desk.end(2)
    desk.at(CLOSED_S - 0.1)
    desk.tell(Submitted(other, [job(4)]))
    assert desk.rejected(other) == [(3, QUARANTINED), (4, QUARANTINED)]
    desk.at(CLOSED_S)
    desk.tell(Submitted(other, [job(5)]))
    desk.end(5)
    assert desk.results(other) == [5]


def test_the_worker_that_dies_next_closes_a_task_again_that_is_open_on_trial() -> None:
    desk, owner = Desk(), client()
    crash_in_a_row(desk, owner, CRASHES, every=5.0)
    desk.now += CLOSED_S - 10.0
    desk.tell(Submitted(owner, [job(1)]))
    assert desk.rejected(owner) == [(1, QUARANTINED)]
    desk.now += 10.0
    desk.tell(Submitted(owner, [job(2)]))
    assert desk.rejected(owner) == [(1, QUARANTINED)]


@pytest.mark.parametrize("crashes", [1, CRASHES - 1])
def test_a_task_that_left_a_worker_alive_in_between_is_not_refused(crashes: int) -> None:
    desk, owner = Desk(), client()
    crash_in_a_row(desk, owner, crashes)
    desk.tell(Submitted(owner, [job(1)]))
    desk.end(1)
    crash_in_a_row(desk, owner, CRASHES - 1)
    desk.tell(Submitted(owner, [job(2)]))
    assert desk.rejected(owner) == []


def test_workers_that_die_of_a_task_now_and_then_do_not_close_it() -> None:
    desk, owner = Desk(), client()
    crash_in_a_row(desk, owner, 3 * CRASHES, every=WITHIN_S / (CRASHES - 1))
    assert desk.rejected(owner) == []


def test_jobs_that_wait_are_given_back_when_their_task_is_closed() -> None:
    desk, owner, other = Desk(workers=1), client(), bridge()
    crash_in_a_row(desk, owner, CRASHES - 1)
    desk.tell(Submitted(other, [job(1), job(2), job(3, "safe"), job(4)]))
    desk.die(1, successor=9)
    assert desk.lost(other) == [(1, CRASH, True)]
    assert desk.rejected(other) == [(2, QUARANTINED), (4, QUARANTINED)]
    assert desk.at_worker(9) == [3]


def test_what_lay_unread_behind_the_job_that_closed_its_task_is_given_back() -> None:
    desk, owner, other = Desk(), client(), bridge()
    crash_in_a_row(desk, owner, CRASHES - 1, task="short")
    desk.tell(Submitted(other, jobs([1, 2], "short")))
    desk.die(1, successor=9)
    assert desk.rejected(other) == [(2, QUARANTINED)]
    assert desk.at_worker(9) == []


def test_an_idempotent_job_that_closes_its_task_does_not_run_again() -> None:
    desk, owner, other = Desk(), client(), bridge()
    crash_in_a_row(desk, owner, CRASHES - 1, task="safe")
    desk.tell(Submitted(other, [job(1, "safe")]))
    desk.die(1, successor=9)
    assert desk.lost(other) == [(1, QUARANTINED, True)]
    assert desk.at_worker(9) == []


def test_a_worker_that_dies_with_many_coroutines_is_one_worker() -> None:
    desk, owner = Desk(concurrency=2 * CRASHES), bridge()
    desk.tell(Submitted(owner, jobs(range(2 * CRASHES), "fetch")))
    desk.tell(WorkerLost(1, 2 * CRASHES, "killed"), WorkerReady(2))
    assert len(desk.lost(owner)) == 2 * CRASHES
    desk.tell(Submitted(owner, jobs([99], "fetch")))
    assert desk.rejected(owner) == []


def test_suspects_and_others_of_a_task_are_counted_together() -> None:
    desk, owner = Desk(), client()
    crash_in_a_row(desk, owner, CRASHES - 2)
    for number, successor in ((1, 8), (2, 9)):
        desk.tell(Submitted(owner, [suspect(number)]))
        desk.die(number, successor=successor)
    desk.tell(Submitted(owner, [job(3)]))
    assert desk.rejected(owner) == [(3, QUARANTINED)]


def test_a_job_that_other_nodes_had_no_room_for_is_given_back_if_its_task_was_closed_meanwhile() -> None:
    desk, owner, other = Desk(tasks=[TaskSpec("slow"), TaskSpec("short"), TaskSpec("steady")]), client(), bridge()
    crash_in_a_row(desk, owner, CRASHES - 1)
    desk.tell(Submitted(owner, [job(1)]))
    desk.mesh.places = 1
    desk.tell(Submitted(other, [job(2)]))
    (held,) = desk.forwards
    desk.mesh.places = 0
    desk.die(1)
    desk.forward_ended(held)
    assert desk.rejected(other) == [(2, QUARANTINED)]


def test_a_worker_that_takes_up_orders_it_was_to_give_back_tells_so_by_ending_them() -> None:
    desk, owner = Desk(workers=2), client()
    desk.tell(Submitted(owner, jobs([1, 2], "short")))
    worker = desk.given[0][0]
    desk.tell(CancelAsked(owner, job_id(2), FORCED))
    desk.tell(TakenBack(worker, []))
    desk.end(1)
    assert killed(desk.effects) == [worker]
    assert not any(isinstance(effect, Dispatch) for effect in desk.effects)
    assert taken_back_from(desk.effects) == [worker]


# what comes late, or in an order of its own


def test_what_a_worker_says_of_an_order_that_it_did_not_have_is_passed_over() -> None:
    desk, owner = Desk(), client()
    desk.tell(Submitted(owner, [job(1)]))
    ends: list[Result | Failed] = [Result(job_id(1), 1, b"done"), Result(job_id(2), 1, b"?")]
    desk.tell(Ended(1, [Ran(1, 80_000, 40_000, ends)]), Ended(1, [Ran(7, 1, 1, [Result(job_id(3), 1, b"?")])]))
    assert desk.results(owner) == [1]
    assert desk.scheduler.pool.free == 1


def test_a_worker_that_dies_after_its_bridge_caller_left_leaves_nothing_behind() -> None:
    desk, owner = Desk(), bridge()
    desk.tell(Submitted(owner, jobs([1, 2, 3], "short")))
    desk.tell(Left(owner))
    desk.taken_back(3)
    desk.tell(WorkerLost(1, 1, "killed"), WorkerReady(2))
    assert desk.told.get(owner.key) is None
    assert (desk.scheduler.held, desk.at_worker(2)) == (0, [])


def test_an_ordered_callers_next_job_waits_for_what_it_needs_when_the_one_before_it_is_cancelled() -> None:
    desk, owner, other = Desk(concurrency=2), bridge(11, most=1), bridge(12)
    desk.tell(Submitted(other, [job(9)]))
    desk.tell(Submitted(owner, [job(1, "fetch"), job(2)]))
    desk.tell(CancelAsked(owner, job_id(1)))
    desk.end(9)
    assert desk.order() == [9, 2]


def test_what_runs_again_after_a_crash_goes_before_what_lay_unread_behind_it() -> None:
    desk, owner = Desk(), bridge(most=1)
    desk.scheduler.tasks["safe"].runtime.observe(100, 100 * 40e-6, 40e-6)
    desk.tell(Submitted(owner, jobs([1, 2, 3, 4], "safe")))
    desk.tell(WorkerLost(1, 2, "killed"), WorkerReady(2))
    for number in (1, 2, 3, 4):
        desk.end(number)
    assert desk.at_worker(2) == [1, 2, 3, 4]
