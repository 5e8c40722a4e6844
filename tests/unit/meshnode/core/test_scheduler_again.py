"""Jobs that are found again or outlive their client, workers and tasks that go, told step by step."""

from collections.abc import Sequence

import pytest

from mesh.wire.messages import (
    CRASH,
    DRAINING,
    FORCED,
    GRACE,
    RUNNING,
    STALE,
    UNKNOWN_TASK,
    Accepted,
    Failed,
    Lost,
    NodeItem,
    Pong,
    Reject,
    Result,
    Started,
    TaskSpec,
    Unknown,
)
from meshnode.core.effects import Dismiss, Effect, Empty, Interrupt, Kill, Replace, TakeBack
from meshnode.core.events import (
    CancelAsked,
    Draining,
    Ended,
    GraceOver,
    KeepAsked,
    Left,
    Paused,
    Queried,
    Resumed,
    Retired,
    Served,
    Spoken,
    Stalled,
    Submitted,
    WorkerLost,
    WorkerReady,
)
from meshnode.core.held import Owner
from meshnode.core.orders import Ran
from meshnode.core.outcomes import HEAVY, KEPT_S
from meshnode.core.word import NEWS_S
from tests.support.scheduling import TASKS, Desk, bridge, client, job, job_id, jobs, resent, taken_back_from


def ask(desk: Desk, owner: Owner, *numbers: int) -> list[NodeItem]:
    """Ask for jobs, and return what is said of them at once, before it is said that of those not held no more comes."""
    before = len(desk.told.get(owner.key, []))
    desk.tell(Queried(owner, [job_id(number) for number in numbers]))
    said = desk.told.get(owner.key, [])[before:]
    not_held = [job_id(number) for number in numbers if job_id(number) not in owner.jobs]
    assert [item.ids for item in said if isinstance(item, Unknown)] == ([not_held] if not_held else [])
    assert not not_held or isinstance(said[-1], Unknown)
    return [item for item in said if not isinstance(item, Unknown)]


def end_heavily(desk: Desk, number: int) -> None:
    """Let a job end with a result that lies in a memory file of its own."""
    worker = desk.given[desk.order().index(number)][0]
    body = memoryview(bytearray(HEAVY))
    ends: list[Result | Failed] = [Result(job_id(number), 1, body)]
    desk.tell(Ended(worker, [Ran(desk.seq(number), 20_000_000, 20_000_000, ends)], HEAVY))


def dismissed(effects: Sequence[Effect]) -> list[int]:
    return [effect.worker for effect in effects if isinstance(effect, Dismiss)]


# found again by who asks


def test_what_waited_when_its_client_was_forgotten_surely_did_not_run() -> None:
    desk, former, owner = Desk(), client(1), client(2)
    desk.tell(Submitted(former, jobs([1, 2])))
    desk.tell(Left(former))
    (reject,) = ask(desk, owner, 2)
    assert isinstance(reject, Reject)
    assert (reject.id, reject.attempt, reject.reason) == (job_id(2), 1, STALE)
    desk.end(1)
    assert desk.order() == [1]


def test_what_runs_when_its_client_was_forgotten_is_its_own_again_when_it_asks() -> None:
    desk, former, owner = Desk(), client(1), client(2)
    desk.tell(Submitted(former, [job(1)]))
    desk.tell(Left(former))
    assert desk.scheduler.held == 0
    assert ask(desk, owner, 1) == [Accepted([job_id(1)]), Started([job_id(1)])]
    assert (desk.scheduler.held, owner.running, former.running) == (1, 1, 0)
    desk.end(1)
    assert desk.results(owner) == [1]
    assert desk.told.get(former.key) is None
    assert (desk.scheduler.held, owner.running) == (0, 0)


def test_a_job_that_is_found_again_can_be_cancelled_and_lost_as_any_other() -> None:
    desk, former, owner = Desk(), client(1), client(2)
    desk.tell(Submitted(former, [job(1)]))
    desk.tell(Left(former))
    ask(desk, owner, 1)
    assert desk.tell(CancelAsked(owner, job_id(1), 1)) == [Interrupt(1, 1, False)]
    desk.tell(WorkerLost(1, 1, "killed"))
    assert desk.lost(owner) == [(1, CRASH, True)]
    assert desk.scheduler.held == 0


def test_what_ended_while_its_client_was_forgotten_is_told_when_it_asks() -> None:
    desk, former, owner = Desk(workers=3), client(1), client(2)
    desk.tell(Submitted(former, jobs([1, 2, 3])))
    desk.tell(Left(former))
    desk.end(1)
    desk.end(2, end=Failed)
    desk.die(3)
    assert ask(desk, owner, 1, 2, 3, 4) == [
        Result(job_id(1), 1, b"done"),
        Failed(job_id(2), 1, b"done"),
        Lost(job_id(3), 1, CRASH, True, "killed"),
    ]
    assert ask(desk, owner, 1) == [Result(job_id(1), 1, b"done")], "as often as it asks"


def billing(key: int) -> Owner:
    return Owner(key, member="client billing")


def other(key: int) -> Owner:
    return Owner(key, member="client other")


def test_a_member_has_its_jobs_again_over_another_connection() -> None:
    desk, former, owner = Desk(), billing(1), billing(2)
    desk.tell(Submitted(former, jobs([1, 2])))
    assert ask(desk, owner, 1, 2) == [Accepted([job_id(1), job_id(2)]), Started([job_id(1)])]
    desk.end(1)
    desk.end(2)
    assert desk.results(owner) == [1, 2]


def test_who_knows_the_id_of_another_members_job_neither_hears_of_it_nor_takes_it_over() -> None:
    desk, owner, stranger = Desk(workers=2), billing(1), other(2)
    desk.tell(Submitted(owner, jobs([1, 2, 3])))
    assert ask(desk, stranger, 1, 3) == [], "what runs and what waits"
    assert desk.tell(CancelAsked(stranger, job_id(1), RUNNING)) == []
    desk.tell(Left(owner))
    assert ask(desk, stranger, 1, 3) == [], "what runs though its owner is gone, and what was dropped"
    desk.end(1)
    desk.die(2)
    assert ask(desk, stranger, 1, 2, 3) == [], "what has ended"
    again = ask(desk, billing(3), 1, 2, 3)
    assert {type(item) for item in again} == {Result, Lost, Reject}


def test_a_resent_attempt_with_the_id_of_another_members_job_is_a_job_of_its_own() -> None:
    desk, owner, stranger = Desk(workers=1), billing(1), other(2)
    desk.tell(Submitted(owner, [job(1)]))
    desk.end(1)
    desk.tell(Submitted(stranger, [resent(1)]))
    assert desk.results(stranger) == [], "the result of before is not told"
    desk.end(1)
    assert desk.results(stranger) == [1]
    assert desk.results(owner) == [1]


def test_outcomes_of_several_members_that_end_together_are_found_by_each_for_itself() -> None:
    desk, one, two = Desk(), billing(1), other(2)
    desk.tell(Submitted(one, jobs([1, 3], "short")), Submitted(two, jobs([2], "short")))
    assert sorted(desk.order()) == [1, 2, 3]
    first = min(desk.seq(number) for number in (1, 2, 3))
    ends: list[Result | Failed] = [Result(job_id(number), 1, b"done") for number in desk.order()]
    desk.tell(Ended(1, [Ran(first, 1000, 1000, ends)], 12))
    desk.tell(Left(one), Left(two))
    assert {item.id for item in ask(desk, billing(3), 1, 2, 3) if isinstance(item, Result)} == {job_id(1), job_id(3)}
    assert {item.id for item in ask(desk, other(4), 1, 2, 3) if isinstance(item, Result)} == {job_id(2)}


def test_a_heavy_result_is_found_too_if_its_client_was_gone_when_it_came() -> None:
    desk, former, owner = Desk(workers=2), client(1), client(2)
    desk.tell(Submitted(former, jobs([1, 2])))
    end_heavily(desk, 1)
    desk.tell(Left(former))
    end_heavily(desk, 2)
    assert ask(desk, owner, 1, 2) == [Result(job_id(2), 1, bytes(HEAVY))]


def test_what_a_client_that_could_not_be_reached_was_told_before_it_was_forgotten_is_found_too() -> None:
    desk, former, owner = Desk(workers=2), client(1), client(2)
    desk.tell(Submitted(former, jobs([1, 2, 3])))
    desk.end(1)
    desk.die(2)
    desk.tell(CancelAsked(former, job_id(3)))
    desk.tell(Left(former))
    assert ask(desk, owner, 1, 2, 3) == [
        Result(job_id(1), 1, b"done"),
        Lost(job_id(2), 1, CRASH, True, "killed"),
        Accepted([job_id(3)]),
        Started([job_id(3)]),
    ]


def test_what_was_cancelled_before_its_client_was_forgotten_is_found_as_rejected() -> None:
    desk, former, owner = Desk(), client(1), client(2)
    desk.tell(Submitted(former, jobs([1, 2])))
    desk.tell(CancelAsked(former, job_id(2)), Left(former), Queried(owner, [job_id(2)]))
    assert [type(item) for item in desk.told[owner.key]] == [Reject, Unknown]


def test_what_lay_unread_behind_another_when_its_client_was_forgotten_did_not_run() -> None:
    desk, former, owner = Desk(), client(1), client(2)
    desk.tell(Submitted(former, jobs([1, 2, 3], "short")))
    desk.tell(Left(former))
    desk.taken_back(3)
    desk.tell(WorkerLost(1, 1, "killed"))
    kinds = {item.id: type(item) for item in ask(desk, owner, 1, 2, 3) if isinstance(item, (Lost, Reject))}
    assert kinds == {job_id(1): Lost, job_id(2): Reject, job_id(3): Reject}
    assert desk.scheduler.held == 0
    assert desk.order() == [1, 2, 3]


def test_what_is_asked_for_too_late_is_unknown() -> None:
    desk, former, owner = Desk(), client(1), client(2)
    desk.tell(Submitted(former, [job(1)]))
    desk.end(1)
    desk.at(KEPT_S + 1.0)
    assert ask(desk, owner, 1) == []


def test_a_job_of_a_connection_that_still_stands_goes_over_to_who_asks_for_it() -> None:
    desk, former, owner = Desk(), client(1), client(2)
    desk.tell(Submitted(former, jobs([1, 2])))
    assert ask(desk, owner, 1, 2) == [Accepted([job_id(1), job_id(2)]), Started([job_id(1)])]
    assert (former.running, former.queued, former.jobs) == (0, 0, {})
    assert (owner.running, owner.queued, desk.scheduler.held) == (1, 1, 2)
    desk.tell(Left(former))
    desk.end(1, 2)
    assert desk.results(owner) == [1, 2]


def test_a_job_that_waits_keeps_its_deadline_when_it_goes_over() -> None:
    desk, former, owner = Desk(), client(1), client(2)
    desk.tell(Submitted(former, [job(1), job(2, remaining=1000)]))
    ask(desk, owner, 2)
    desk.at(1.0)
    assert [number for number, _ in desk.rejected(owner)] == [2]
    assert desk.rejected(former) == []
    assert (desk.scheduler.held, desk.scheduler.backlog.count) == (1, 0)


def test_who_asks_for_its_own_jobs_hears_that_they_are_held() -> None:
    desk, owner = Desk(), client()
    desk.tell(Submitted(owner, jobs([1, 2])))
    assert ask(desk, owner, 2, 1) == [Accepted([job_id(2), job_id(1)]), Started([job_id(1)])]
    desk.end(1, 2)
    assert desk.results(owner) == [1, 2]


def test_a_bridge_callers_job_is_nobody_elses() -> None:
    desk, caller, owner = Desk(), bridge(), client()
    desk.tell(Submitted(caller, jobs([1, 2])))
    assert ask(desk, owner, 1, 2) == []


def test_who_asks_and_leaves_in_one_turn_gets_nothing() -> None:
    desk, former, owner = Desk(), client(1), client(2)
    desk.tell(Submitted(former, [job(1)]))
    desk.tell(Left(former), Left(owner), Queried(owner, [job_id(1)]))
    assert desk.told.get(owner.key) is None
    assert desk.scheduler.held == 0
    assert ask(desk, client(3), 1)[0] == Accepted([job_id(1)])


def test_news_of_jobs_of_which_some_went_over_reach_whose_they_are() -> None:
    desk, former, owner = Desk(workers=2), client(1), client(2)
    desk.tell(Submitted(former, jobs([1, 2])))
    desk.tell(Submitted(owner, [resent(1)]))
    desk.at(NEWS_S)
    assert desk.told[former.key] == [Accepted([job_id(2)]), Started([job_id(2)])]
    assert desk.told[owner.key] == [Accepted([job_id(1)]), Started([job_id(1)])]


# attempts that may have been handed in before


def test_an_attempt_that_runs_already_is_not_run_again_but_answered_when_it_ends() -> None:
    desk, former, owner = Desk(workers=2), client(1), client(2)
    desk.tell(Submitted(former, [job(1)]))
    desk.tell(Left(former))
    desk.tell(Submitted(owner, [resent(1), job(2)]))
    desk.end(1, 2)
    assert desk.order() == [1, 2]
    assert desk.results(owner) == [1, 2]
    assert owner.seen == 2


def test_an_attempt_that_has_ended_is_answered_at_once() -> None:
    desk, former, owner = Desk(), client(1), client(2)
    desk.tell(Submitted(former, [job(1)]))
    desk.end(1)
    desk.tell(Submitted(owner, [resent(1), resent(2)]))
    assert desk.results(owner) == [1]
    assert desk.order() == [1, 2]


def test_an_attempt_that_waits_waits_for_its_new_owner() -> None:
    desk, former, owner = Desk(), client(1), client(2)
    desk.tell(Submitted(former, jobs([1, 2])))
    desk.tell(Submitted(owner, [resent(2)]))
    desk.tell(Left(former))
    desk.end(1, 2)
    assert desk.results(owner) == [2]
    assert desk.order() == [1, 2]


def test_an_attempt_that_was_dropped_or_is_not_known_runs() -> None:
    desk, former, owner = Desk(), client(1), client(2)
    desk.tell(Submitted(former, jobs([1, 2])))
    desk.tell(Left(former))
    desk.tell(Submitted(owner, [resent(2)]))
    desk.end(1, 2)
    assert desk.order() == [1, 2]
    assert desk.results(owner) == [2]


def test_another_attempt_of_a_job_that_ended_or_runs_is_run() -> None:
    desk, former, owner = Desk(workers=3), client(1), client(2)
    desk.tell(Submitted(former, jobs([1, 2])))
    desk.end(1)
    desk.tell(Left(former))
    desk.tell(Submitted(owner, [resent(1, attempt=2), resent(2, attempt=2)]))
    assert desk.order() == [1, 2, 1, 2]
    desk.end(1)
    desk.tell(Ended(desk.given[1][0], [Ran(1, 1, 1, [Result(job_id(2), 1, b"first")])]))
    desk.end(2)
    assert [item for item in desk.told[owner.key] if isinstance(item, Result)] == [
        Result(job_id(1), 2, b"done"),
        Result(job_id(2), 2, b"done"),
    ]


def test_an_attempt_that_its_owner_holds_already_is_answered_once() -> None:
    desk, owner = Desk(), client()
    desk.tell(Submitted(owner, [job(1)]))
    desk.tell(Submitted(owner, [resent(1)]))
    assert desk.rejected(owner) == []
    desk.end(1)
    assert desk.results(owner) == [1]


def test_an_attempt_of_a_job_that_its_owner_holds_under_another_number_is_refused() -> None:
    desk, owner = Desk(workers=2), client()
    desk.tell(Submitted(owner, [job(1)]))
    desk.tell(Submitted(owner, [resent(1, attempt=2)]))
    assert [number for number, _ in desk.rejected(owner)] == [1]
    assert desk.order() == [1]


@pytest.mark.parametrize("ended", [True, False])
def test_an_attempt_of_a_task_that_is_no_longer_served_is_found_all_the_same(*, ended: bool) -> None:
    desk, former, owner = Desk(), client(1), client(2)
    desk.tell(Submitted(former, [job(1)]))
    if ended:
        desk.end(1)
    desk.tell(Served(TASKS[1:]), Left(former))
    desk.tell(Submitted(owner, [resent(1), resent(2)]))
    assert desk.rejected(owner) == [(2, UNKNOWN_TASK)]
    if not ended:
        desk.end(1)
    assert desk.results(owner) == [1]


def test_a_node_that_drains_finds_attempts_and_takes_no_new_ones() -> None:
    desk, former, owner = Desk(), client(1), client(2)
    desk.tell(Submitted(former, [job(1)]), Draining())
    desk.tell(Left(former))
    desk.tell(Submitted(owner, [resent(1), resent(2)]))
    assert desk.rejected(owner) == [(2, DRAINING)]
    assert Empty() not in desk.effects
    desk.end(1)
    assert desk.results(owner) == [1]
    assert Empty() in desk.effects


# jobs that outlive their client


@pytest.mark.parametrize("heavy", [False, True])
def test_a_job_that_is_kept_runs_although_its_client_left_and_is_found(*, heavy: bool) -> None:
    desk, former, owner = Desk(workers=2), client(1), client(2)
    desk.tell(Submitted(former, jobs([0, 1, 2, 3])))
    desk.tell(KeepAsked(former, job_id(2)))
    desk.tell(Left(former))
    desk.end(0, 1)
    assert desk.order() == [0, 1, 2]
    if heavy:
        end_heavily(desk, 2)
    else:
        desk.end(2)
    kinds = {item.id: type(item) for item in ask(desk, owner, 1, 2, 3) if isinstance(item, (Result, Reject))}
    assert kinds == {job_id(1): Result, job_id(2): Result, job_id(3): Reject}
    assert desk.scheduler.held == 0
    assert former.replies == []
    assert former.key not in desk.scheduler.word.active


def test_what_a_client_kept_is_dropped_with_it_when_its_key_is_revoked() -> None:
    desk, owner = Desk(), client(1)
    desk.tell(Submitted(owner, jobs([1, 2])), KeepAsked(owner, job_id(1)), KeepAsked(owner, job_id(2)))
    desk.tell(Left(owner, revoked=True))
    desk.end(1)
    assert desk.order() == [1], "what runs ends, what waits does not begin"
    assert desk.scheduler.held == 0
    assert owner.key not in desk.scheduler.word.active


def test_a_job_that_is_kept_while_it_runs_is_its_owners_again_when_that_asks() -> None:
    desk, former, owner = Desk(), client(1), client(2)
    desk.tell(Submitted(former, [job(1)]))
    desk.tell(KeepAsked(former, job_id(1)), Left(former))
    assert desk.scheduler.held == 1
    assert ask(desk, owner, 1) == [Accepted([job_id(1)]), Started([job_id(1)])]
    desk.end(1)
    assert desk.results(owner) == [1]


def test_a_job_that_is_kept_is_kept_whoever_it_goes_over_to() -> None:
    desk, former, again, owner = Desk(), client(1), client(2), client(3)
    desk.tell(Submitted(former, jobs([1, 2])))
    desk.tell(KeepAsked(former, job_id(1)), KeepAsked(former, job_id(2)), Left(former))
    ask(desk, again, 1, 2)
    desk.tell(Left(again))
    desk.end(1, 2)
    assert {type(item) for item in ask(desk, owner, 1, 2)} == {Result}


def test_a_kept_job_that_is_lost_or_whose_time_is_up_is_found_as_that() -> None:
    desk, former, owner = Desk(), client(1), client(2)
    desk.tell(Submitted(former, [job(1), job(2, remaining=1000)]))
    desk.tell(KeepAsked(former, job_id(1)), KeepAsked(former, job_id(2)), Left(former))
    desk.at(1.0)
    desk.die(1)
    assert {type(item) for item in ask(desk, owner, 1, 2)} == {Lost, Reject}
    assert former.replies == []


def test_what_is_kept_goes_on_after_its_worker_died_before_it_was_read() -> None:
    desk, former, owner = Desk(), client(1), client(2)
    desk.tell(Submitted(former, jobs([1, 2], "short")))
    desk.tell(KeepAsked(former, job_id(2)), Left(former))
    desk.tell(WorkerLost(1, 1, "killed"), WorkerReady(2))
    desk.end(2)
    assert ask(desk, owner, 2) == [Result(job_id(2), 1, b"done")]


def test_to_keep_what_is_not_held_means_nothing() -> None:
    desk, owner = Desk(), client()
    assert desk.tell(KeepAsked(owner, job_id(1))) == []


# windows where no worker is


def test_without_workers_no_window_is_open_and_a_word_follows_when_one_is_ready() -> None:
    desk, owner = Desk(workers=0), client()
    desk.tell(Spoken(owner, [Pong(1)]))
    assert [reply.window for reply in desk.replies] == [0]
    desk.tell(WorkerReady(1))
    wake = desk.scheduler.next_wake()
    assert wake is not None
    assert wake < NEWS_S
    desk.at(wake)
    assert [(reply.items, reply.window, reply.free) for reply in desk.replies[1:]] == [([], 1, 1)]


def test_who_asks_after_the_last_worker_died_hears_that_no_window_is_open() -> None:
    desk, owner = Desk(workers=1), client()
    desk.tell(WorkerLost(1, 0, "killed"), Spoken(owner, [Pong(1)]))
    assert [reply.window for reply in desk.replies] == [0]
    desk.tell(Submitted(owner, [job(1)]))
    assert desk.rejected(owner) == []
    desk.tell(WorkerReady(2))
    desk.end(1)
    assert desk.replies[-1].window == 1


# workers that go


def test_an_idle_worker_goes_as_soon_as_its_successor_is_there() -> None:
    desk = Desk()
    assert desk.tell(WorkerReady(2), Retired(1)) == [Dismiss(1)]
    assert desk.tell(Retired(1)) == []
    desk.tell(Submitted(client(), [job(1)]))
    assert desk.given == [(2, 1)]


def test_a_worker_at_work_goes_when_its_job_has_ended_and_gets_nothing_more() -> None:
    desk, owner = Desk(), bridge()
    desk.tell(Submitted(owner, [job(1)]))
    assert desk.tell(WorkerReady(2), Retired(1)) == []
    assert desk.tell(Retired(1)) == []
    desk.turns(owner, [2, 3])
    assert desk.given == [(1, 1), (2, 2)]
    desk.end(1)
    assert dismissed(desk.effects) == [1]
    assert desk.results(owner) == [1]
    assert desk.given == [(1, 1), (2, 2)]
    assert desk.scheduler.pool.free == 0


def test_what_a_retired_worker_has_not_read_goes_to_its_successor() -> None:
    desk, owner = Desk(), client()
    desk.tell(Submitted(owner, jobs([1, 2, 3], "short")))
    desk.tell(WorkerReady(2), Retired(1))
    assert desk.effects == [TakeBack(1)]
    desk.taken_back(2, 3)
    assert dismissed(desk.effects) == []
    assert desk.at_worker(2) == [2, 3]
    desk.end(1)
    assert dismissed(desk.effects) == [1]


def test_a_retired_worker_that_gave_back_all_that_it_had_goes() -> None:
    desk, owner = Desk(), client()
    desk.tell(Submitted(owner, jobs([1, 2], "short")))
    desk.tell(WorkerReady(2), Retired(1))
    desk.taken_back(1, 2)
    assert dismissed(desk.effects) == [1]
    assert desk.at_worker(2) == [1, 2]


def test_coroutines_of_a_retired_worker_end_where_they_are() -> None:
    desk, owner = Desk(concurrency=3), bridge()
    desk.tell(Submitted(owner, jobs([1, 2], "fetch")))
    assert desk.tell(WorkerReady(2), Retired(1)) == []
    desk.turns(owner, [3], "fetch")
    assert desk.at_worker(2) == [3]
    desk.end(1)
    assert dismissed(desk.effects) == []
    desk.end(2)
    assert dismissed(desk.effects) == [1]


def test_a_steady_job_does_not_go_behind_one_at_a_retired_worker() -> None:
    desk, owner = Desk(), bridge()
    desk.turns(owner, [1, 2], "steady")
    assert desk.at_worker(1) == [1, 2]
    desk.tell(WorkerReady(2), Retired(1))
    desk.taken_back(2)
    desk.turns(owner, [3, 4], "steady")
    assert desk.at_worker(1) == [1, 2]
    assert desk.at_worker(2) == [2, 3]


def test_an_ordered_owners_short_jobs_do_not_follow_to_a_retired_worker() -> None:
    desk, owner = Desk(), bridge(most=1)
    desk.tell(Submitted(owner, [job(1, "short")]))
    desk.tell(WorkerReady(2), Retired(1))
    desk.turns(owner, [2], "short")
    assert desk.at_worker(1) == [1]
    desk.end(1)
    assert desk.given == [(1, 1), (2, 2)]


def test_a_retired_worker_that_dies_is_nothing_special() -> None:
    desk, owner = Desk(), client()
    desk.tell(Submitted(owner, [job(1)]))
    desk.tell(WorkerReady(2), Retired(1))
    desk.die(1)
    assert desk.lost(owner) == [(1, CRASH, True)]
    assert dismissed(desk.effects) == []
    assert desk.tell(WorkerLost(1, 1, "killed")) == []


def test_a_worker_that_is_being_killed_is_not_dismissed_when_its_successor_is_there() -> None:
    desk, owner = Desk(), client()
    desk.tell(Submitted(owner, [job(1, "limited")]))
    assert Kill(1) in desk.at(1.5)
    assert dismissed(desk.tell(WorkerReady(2), Retired(1))) == []
    desk.end(1)
    assert dismissed(desk.effects) == []


def test_a_node_that_drains_is_empty_when_its_retired_workers_are_done_too() -> None:
    desk, owner = Desk(), client()
    desk.tell(Submitted(owner, [job(1)]))
    desk.tell(WorkerReady(2), Retired(1), Left(owner))
    assert Empty() not in desk.tell(Draining())
    desk.end(1)
    assert [type(effect) for effect in desk.effects] == [Dismiss, Empty]


def test_a_worker_that_has_run_as_many_jobs_as_it_may_is_replaced_once() -> None:
    desk, owner = Desk(workers=0), bridge()
    desk.tell(WorkerReady(1, lease=3))
    for number in (1, 2):
        desk.tell(Submitted(owner, [job(number)]))
        desk.end(number)
        assert Replace(1) not in desk.effects
    desk.tell(Submitted(owner, [job(3)]))
    desk.end(3)
    assert Replace(1) in desk.effects
    desk.tell(Submitted(owner, [job(4)]))
    desk.end(4)
    assert Replace(1) not in desk.effects
    assert desk.tell(WorkerReady(2, lease=3), Retired(1)) == [Dismiss(1)]


def test_jobs_that_end_together_count_each_for_the_lease_of_their_worker() -> None:
    desk, owner = Desk(workers=0), client()
    desk.tell(WorkerReady(1, lease=2))
    desk.tell(Submitted(owner, jobs([1, 2], "short")))
    ends: list[Result | Failed] = [Result(job_id(n), 1, b"") for n in (1, 2)]
    desk.tell(Ended(1, [Ran(1, 80_000, 40_000, ends)]))
    assert Replace(1) in desk.effects


# a node that stood still, and tasks that change


def test_a_node_that_stood_still_gives_back_what_clients_have_waiting_there() -> None:
    desk, owner, caller = Desk(workers=2), client(), bridge()
    desk.tell(Submitted(owner, jobs([0, 1, 2, 3])), Submitted(caller, jobs([11, 12])))
    desk.tell(KeepAsked(owner, job_id(2)), Stalled())
    assert desk.rejected(owner) == [(1, STALE), (3, STALE)]
    assert desk.rejected(caller) == []
    for _ in range(3):
        for number in desk.order():
            if number not in desk.results(owner) + desk.results(caller):
                desk.end(number)
    assert sorted(desk.results(owner) + desk.results(caller)) == [0, 2, 11, 12]
    assert sorted(desk.order()) == [0, 2, 11, 12]


def test_jobs_of_a_task_that_is_served_no_longer_are_given_back_and_those_that_run_end() -> None:
    desk, owner, caller = Desk(), client(), bridge()
    desk.tell(Submitted(owner, jobs([1, 2])), Submitted(caller, [job(3), job(4, "short")]))
    desk.tell(Served([task for task in TASKS if task.name != "slow"]))
    assert desk.rejected(owner) == [(2, UNKNOWN_TASK)]
    assert desk.rejected(caller) == [(3, UNKNOWN_TASK)]
    assert desk.scheduler.knows("slow") is None
    desk.tell(Submitted(owner, [job(5)]))
    assert desk.rejected(owner)[1:] == [(5, UNKNOWN_TASK)]
    desk.end(1, 4)
    assert desk.results(owner) == [1]
    assert desk.results(caller) == [4]


def test_a_task_that_is_served_as_before_keeps_its_run_times_and_one_that_changed_is_new() -> None:
    desk = Desk()
    before = dict(desk.scheduler.tasks)
    desk.tell(Served([*TASKS[1:], TaskSpec("slow", doc="new"), TaskSpec("more")]))
    after = desk.scheduler.tasks
    assert after["short"] is before["short"]
    assert after["slow"] is not before["slow"]
    assert after["more"].spec == TaskSpec("more")


def test_jobs_of_a_task_that_becomes_a_coroutine_function_run_as_what_they_were_handed_in_for() -> None:
    desk, owner = Desk(workers=1, concurrency=2), bridge()
    desk.turns(owner, [1, 2])
    desk.tell(Served([TaskSpec("slow", is_async=True), *TASKS[1:]]))
    desk.turns(owner, [3, 4])
    assert desk.order() == [1]
    desk.end(1)
    desk.end(desk.order()[-1])
    for _ in range(4):
        for number in desk.order():
            if number not in desk.results(owner):
                desk.end(number)
    assert sorted(desk.results(owner)) == [1, 2, 3, 4]


def test_a_task_that_is_new_is_served() -> None:
    desk, owner = Desk(), client()
    desk.tell(
        Submitted(owner, [job(1, "more")]), Served([*TASKS, TaskSpec("more")]), Submitted(owner, [job(2, "more")])
    )
    assert desk.rejected(owner) == [(1, UNKNOWN_TASK)]
    assert desk.order() == [2]


def test_when_the_grace_is_over_what_ran_for_a_client_that_left_is_told_nobody() -> None:
    desk, owner, kept = Desk(workers=2), client(1), client(2)
    desk.tell(Submitted(owner, [job(1)]), Submitted(kept, [job(2)]), KeepAsked(kept, job_id(2)))
    desk.tell(Left(owner), Left(kept), Draining())
    assert Empty() not in desk.effects
    desk.tell(GraceOver())
    assert desk.told == {}
    assert desk.scheduler.held == 0
    lost = ask(desk, client(3), 2)
    assert [(type(item), getattr(item, "reason", "")) for item in lost] == [(Lost, GRACE)]
    assert taken_back_from(desk.effects) == []


def test_a_worker_whose_successor_is_there_is_not_replaced_once_more() -> None:
    desk, owner = Desk(workers=0), client()
    desk.tell(WorkerReady(1, lease=1))
    desk.tell(Submitted(owner, [job(1)]))
    desk.tell(WorkerReady(2), Retired(1))
    desk.end(1)
    assert Replace(1) not in desk.effects
    assert dismissed(desk.effects) == [1]


def test_of_two_attempts_whose_clients_are_gone_the_last_is_found_whichever_ends_first() -> None:
    desk, first, second, owner = Desk(workers=2), client(1), client(2), client(3)
    desk.tell(Submitted(first, [job(1)]))
    worker, seq = desk.given[0][0], desk.seq(1)
    desk.tell(Left(first), Submitted(second, [resent(1, attempt=2)]))
    desk.tell(Left(second))
    desk.tell(Ended(worker, [Ran(seq, 1, 1, [Result(job_id(1), 1, b"first")])]))
    assert ask(desk, owner, 1) == [Accepted([job_id(1)]), Started([job_id(1)])]
    desk.end(1)
    assert desk.told[owner.key][-1] == Result(job_id(1), 2, b"done")


def test_an_attempt_whose_client_goes_after_that_of_the_next_attempt_is_not_looked_for() -> None:
    desk, first, second, owner = Desk(workers=2), client(1), client(2), client(3)
    desk.tell(Submitted(first, [job(1)]))
    worker, seq = desk.given[0][0], desk.seq(1)
    desk.tell(Submitted(second, [resent(1, attempt=2)]))
    desk.tell(Left(second), Left(first))
    desk.tell(WorkerLost(worker, seq, "killed"))
    assert ask(desk, owner, 1) == [Accepted([job_id(1)]), Started([job_id(1)])]
    desk.end(1)
    assert desk.results(owner) == [1]


def test_a_cancel_of_a_job_that_was_found_again_goes_as_far_as_it_says_whatever_was_said_before() -> None:
    desk, former, owner = Desk(), client(1), client(2)
    desk.tell(Submitted(former, jobs([1, 2], "short")))
    desk.tell(CancelAsked(former, job_id(2), FORCED), Left(former))
    desk.end(1)
    ask(desk, owner, 2)
    assert Kill(1) not in desk.effects
    assert Kill(1) in desk.tell(CancelAsked(owner, job_id(2), FORCED))


def test_nothing_is_started_for_a_client_that_does_not_read_until_it_does() -> None:
    desk, deaf, other = Desk(workers=1), client(1), client(2)
    desk.tell(Submitted(deaf, [job(1), job(2)]))
    desk.tell(Paused(deaf))
    desk.end(1)
    assert desk.results(deaf) == [1]
    assert desk.order() == [1]
    desk.tell(Submitted(other, [job(4)]))
    desk.end(4)
    assert desk.results(other) == [4]
    desk.tell(Resumed(deaf))
    desk.end(2)
    assert desk.results(deaf) == [1, 2]


def test_what_came_of_a_plain_sockets_job_is_not_kept_since_nobody_asks_for_it_again() -> None:
    desk = Desk(workers=1)
    for number, owner in enumerate((bridge(1), client(2)), 1):
        desk.tell(Submitted(owner, [job(number)]))
        desk.end(number)
    assert len(desk.scheduler._outcomes) == 1
