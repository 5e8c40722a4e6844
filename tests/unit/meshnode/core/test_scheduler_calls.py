"""Jobs that running jobs call, and the spare workers that do them, told step by step."""

from mesh.wire.messages import BUSY, EXPIRED, FORCED, Result
from meshnode.core.callers import SPARE_S
from meshnode.core.effects import Dismiss, Dispatch, Empty, Spare
from meshnode.core.events import (
    Called,
    CancelAsked,
    Draining,
    SpareLost,
    Submitted,
    WorkerLost,
    WorkerReady,
)
from tests.support.scheduling import LOW, Desk, bridge, client, job, job_id, jobs, taken_back_from


def call(desk: Desk, parent: int, number: int, task: str = "slow", *, remaining: int | None = None) -> None:
    """Let a job that runs call another one."""
    worker = desk.given[desk.order().index(parent)][0]
    desk.tell(Called(worker, desk.seq(parent), job(number, task, remaining=remaining)))


def answers(desk: Desk, worker: int) -> list[bytes]:
    return [item.id for item in desk.told.get(-worker, []) if isinstance(item, Result)]


def spares(desk: Desk) -> int:
    return desk.effects.count(Spare())


def test_a_call_goes_to_a_free_worker_and_its_result_to_the_one_that_called() -> None:
    desk, owner = Desk(workers=2), client()
    desk.tell(Submitted(owner, [job(1)]))
    parent = desk.given[0][0]
    call(desk, 1, 2)
    assert spares(desk) == 0
    assert desk.given[1] == (3 - parent, 2)
    desk.end(2)
    assert answers(desk, parent) == [job_id(2)]
    assert desk.told.get(owner.key) is None


def test_a_call_for_which_no_worker_is_free_has_a_spare_one_come_which_does_nothing_else() -> None:
    desk, owner = Desk(), bridge()
    desk.tell(Submitted(owner, [job(1)]))
    call(desk, 1, 2)
    assert spares(desk) == 1
    desk.tell(Submitted(owner, [job(3)]))
    assert spares(desk) == 0, "one is on its way"
    desk.tell(WorkerReady(9, spare=True))
    assert desk.at_worker(9) == [2]
    desk.end(2)
    assert desk.order() == [1, 2]
    assert (desk.scheduler.pool.free, answers(desk, 1)) == (0, [job_id(2)])
    desk.end(1)
    assert desk.at_worker(1) == [1, 3]


def test_a_spare_worker_goes_when_nobody_has_waited_for_a_while() -> None:
    desk, owner = Desk(), bridge()
    desk.tell(Submitted(owner, [job(1)]))
    call(desk, 1, 2)
    desk.tell(WorkerReady(9, spare=True))
    desk.end(2)
    assert desk.scheduler.next_wake() == SPARE_S
    assert desk.at(SPARE_S - 0.1) == []
    assert desk.at(SPARE_S) == [Dismiss(9)]


def test_a_spare_worker_that_does_not_come_is_asked_for_again() -> None:
    desk, owner = Desk(), bridge()
    desk.tell(Submitted(owner, [job(1)]))
    call(desk, 1, 2)
    desk.tell(SpareLost())
    assert spares(desk) == 1
    desk.tell(WorkerReady(9, spare=True))
    assert desk.at_worker(9) == [2]


def test_a_call_that_finds_all_workers_and_all_spare_ones_waiting_for_calls_is_refused() -> None:
    desk, owner = Desk(), bridge()
    desk.tell(Submitted(owner, [job(1)]))
    call(desk, 1, 2)
    desk.tell(WorkerReady(9, spare=True))
    call(desk, 2, 3)
    rejected = [item for item in desk.told[-9] if not isinstance(item, Result)]
    assert [getattr(item, "reason", "") for item in rejected] == [BUSY]
    desk.end(2, 1)
    assert desk.scheduler.held == 0


def test_what_lies_behind_a_job_that_calls_is_taken_back() -> None:
    desk, owner = Desk(), client()
    desk.tell(Submitted(owner, jobs([1, 2], "short")))
    call(desk, 1, 3)
    assert taken_back_from(desk.effects) == [1]


def test_a_call_goes_before_everything_else() -> None:
    desk, owner = Desk(), bridge()
    desk.tell(Submitted(owner, [job(1), job(4)]))
    worker = desk.given[0][0]
    inner = job(2, options=LOW)
    desk.tell(Called(worker, 1, inner))
    desk.tell(WorkerReady(7))
    assert desk.at_worker(7) == [2]


def test_a_call_has_no_more_time_than_is_left_to_the_job_that_makes_it() -> None:
    desk, owner = Desk(), bridge()
    desk.tell(Submitted(owner, [job(1, remaining=1000)]))
    desk.now = 0.4
    call(desk, 1, 2)
    call(desk, 1, 3, remaining=100)
    desk.at(0.5)
    assert [(item.id, getattr(item, "reason", "")) for item in desk.told[-1] if hasattr(item, "id")] == [
        (job_id(3), EXPIRED)
    ]
    desk.at(1.0)
    assert len(desk.told[-1]) == 2


def test_calls_of_a_worker_that_died_are_dropped_where_they_wait_and_end_unheard_where_they_run() -> None:
    desk, owner = Desk(workers=2), bridge()
    desk.tell(Submitted(owner, [job(1)]))
    parent = desk.given[0][0]
    call(desk, 1, 2)
    call(desk, 1, 3)
    assert desk.order() == [1, 2]
    desk.tell(WorkerLost(parent, 1, "killed"))
    desk.end(2)
    assert desk.told.get(-parent) is None
    assert desk.order() == [1, 2]
    assert desk.scheduler.held == 0


def test_a_call_can_be_cancelled() -> None:
    desk, owner = Desk(), bridge()
    desk.tell(Submitted(owner, [job(1)]))
    call(desk, 1, 2)
    caller = desk.scheduler._callers.of(1)
    desk.tell(CancelAsked(caller, job_id(2), FORCED))
    assert [item.id for item in desk.told[-1] if hasattr(item, "id")] == [job_id(2)]


def test_a_call_of_a_worker_that_is_gone_means_nothing() -> None:
    desk = Desk()
    assert desk.tell(Called(7, 1, job(1))) == []


def test_a_node_that_drains_still_takes_what_running_jobs_call_and_is_empty_with_its_spare_workers_idle() -> None:
    desk, owner = Desk(), bridge()
    desk.tell(Submitted(owner, [job(1)]), Draining())
    call(desk, 1, 2)
    desk.tell(WorkerReady(9, spare=True))
    assert any(isinstance(effect, Dispatch) for effect in desk.effects)
    desk.end(2, 1)
    assert Empty() in desk.effects


def test_coroutines_go_on_beside_one_that_calls() -> None:
    desk, owner = Desk(concurrency=3), bridge()
    desk.tell(Submitted(owner, jobs([1, 2], "fetch")))
    call(desk, 1, 3, "fetch")
    assert taken_back_from(desk.effects) == []
    assert desk.at_worker(1) == [1, 2, 3]
