"""Which job goes where, told step by step."""

import pytest

from mesh.wire.messages import (
    BUSY,
    CANCELLED,
    CRASH,
    DRAINING,
    EXPIRED,
    GRACE,
    STALE,
    UNKNOWN_TASK,
    Accepted,
    Failed,
    Lost,
    Pong,
    Result,
    Started,
)
from meshnode.core.effects import Dismiss, Dispatch, Empty
from meshnode.core.events import (
    CancelAsked,
    Draining,
    Ended,
    ForwardEnded,
    GraceOver,
    Left,
    Resized,
    Retired,
    Spoken,
    Submitted,
    TakenBack,
    Tick,
    Undraining,
    WorkerLost,
    WorkerReady,
)
from meshnode.core.orders import Ran
from meshnode.core.pool import PACKED_S
from meshnode.core.runtime import RunTime
from meshnode.core.watch import DRAG_S, SURE_S
from meshnode.core.word import NEWS_IDS, NEWS_S
from tests.support.scheduling import (
    FAR,
    HIGH,
    LOW,
    SHORT_S,
    STEADY_JOB_S,
    Desk,
    bridge,
    client,
    job,
    job_id,
    jobs,
    taken_back_from,
)

# a job's way


def test_a_job_goes_to_a_worker_and_its_result_to_its_owner() -> None:
    desk, owner = Desk(), client()
    desk.tell(Submitted(owner, [job(1)]))
    (dispatch,) = [effect for effect in desk.effects if isinstance(effect, Dispatch)]
    assert (dispatch.worker, dispatch.first, dispatch.jobs) == (1, 1, [job(1)])
    desk.end(1)
    assert desk.told[owner.key] == [Result(job_id(1), 1, b"done")]
    assert desk.scheduler.held == 0


def test_a_job_that_raised_has_failed() -> None:
    desk, owner = Desk(), client()
    desk.tell(Submitted(owner, [job(1)]))
    desk.end(1, end=Failed)
    assert desk.told[owner.key] == [Failed(job_id(1), 1, b"done")]


def test_a_job_waits_for_a_worker_that_is_not_ready_yet() -> None:
    desk, owner = Desk(workers=0), client()
    desk.tell(Submitted(owner, [job(1)]))
    assert desk.given == []
    desk.tell(WorkerReady(7))
    assert desk.given == [(7, 1)]


def test_slow_jobs_go_to_a_worker_each_and_short_ones_lie_together() -> None:
    desk, owner = Desk(workers=3), bridge()
    desk.tell(Submitted(owner, jobs([1, 2])))
    assert sorted(worker for worker, _ in desk.given) == [2, 3]
    desk.tell(Submitted(owner, jobs([3, 4, 5], "short")))
    assert desk.at_worker(1) == [3, 4, 5]


def test_coroutines_share_a_worker_that_no_whole_job_gets() -> None:
    desk, owner = Desk(workers=1, concurrency=3), bridge()
    desk.tell(Submitted(owner, jobs([1, 2, 3, 4], "fetch")))
    assert desk.order() == [1, 2, 3]
    desk.tell(Submitted(owner, [job(5, options=HIGH)]))
    desk.end(1, 2)
    assert 5 not in desk.order()
    desk.end(3, 4)
    assert desk.order()[-1] == 5


# whose turn it is


def test_a_higher_priority_goes_first_and_equal_ones_in_their_order() -> None:
    desk, owner = Desk(), bridge()
    desk.tell(Submitted(owner, [job(1)]))
    desk.tell(Submitted(owner, [job(2, options=LOW), job(3), job(4, options=HIGH), job(5, options=HIGH)]))
    for number in (1, 4, 5, 3):
        desk.end(number)
    assert desk.order() == [1, 4, 5, 3, 2]


def test_owners_take_turns_however_much_one_of_them_wants() -> None:
    desk, greedy, modest = Desk(), bridge(11), bridge(12)
    desk.tell(Submitted(greedy, jobs(range(1, 9))), Submitted(modest, jobs([21, 22])))
    for _ in range(9):
        desk.end(desk.order()[-1])
    assert desk.order() == [1, 21, 2, 22, 3, 4, 5, 6, 7, 8]


def test_an_owner_runs_no_more_at_once_than_it_may() -> None:
    desk, owner = Desk(workers=4), bridge(most=2)
    desk.tell(Submitted(owner, jobs([1, 2, 3, 4])))
    assert desk.order() == [1, 2]
    desk.end(2)
    assert desk.order() == [1, 2, 3]


def test_an_ordered_owners_jobs_run_one_after_another_while_others_use_the_other_workers() -> None:
    desk, ordered, other = Desk(workers=3, cores=3), bridge(11, most=1), bridge(12)
    desk.tell(Submitted(ordered, [job(1), job(2, "short"), job(3)]), Submitted(other, jobs([21])))
    assert desk.order() == [1, 21]
    desk.end(21)
    assert desk.order() == [1, 21]
    desk.end(1)
    assert desk.order() == [1, 21, 2]
    desk.end(2)
    assert desk.order() == [1, 21, 2, 3]


def test_an_ordered_owners_short_jobs_queue_up_behind_each_other_at_one_worker() -> None:
    desk, ordered = Desk(workers=2, cores=2), bridge(most=1)
    desk.tell(Submitted(ordered, jobs([1, 2, 3], "short")))
    desk.tell(Submitted(ordered, jobs([4], "short")))
    assert desk.order() == [1, 2, 3, 4]
    assert len({worker for worker, _ in desk.given}) == 1


# windows and bounds


def test_active_owners_share_the_slots() -> None:
    desk, one, other = Desk(workers=4), client(1), client(2)
    desk.tell(Submitted(one, [job(1)]), Spoken(one, [Pong(1)]))
    assert desk.replies[-1].window == 4
    desk.tell(Submitted(other, [job(2)]), Spoken(other, [Pong(1)]))
    assert desk.replies[-1].window == 2
    desk.end(1)
    desk.tell(Spoken(other, [Pong(1)]))
    assert desk.replies[-1].window == 4


def test_a_reply_says_how_many_workers_are_free_and_how_many_jobs_were_seen() -> None:
    desk, owner = Desk(workers=3, concurrency=2), client()
    desk.tell(Submitted(owner, [*jobs([1, 2]), job(3, "nonsense")]))
    reply = desk.replies[-1]
    assert (reply.free, reply.free_async, reply.seen) == (1, 2, 3)


def test_a_client_that_sends_more_than_could_start_soon_gets_the_rest_back_and_a_smaller_window() -> None:
    desk, owner = Desk(workers=4), client()
    desk.tell(Spoken(owner, [Pong(1)]))
    assert desk.replies[-1].window == 4
    other = client(2)
    desk.tell(Submitted(other, jobs([1])))
    desk.tell(Submitted(owner, jobs(range(11, 31))))
    refused = desk.rejected(owner)
    assert 0 < len(refused) < 18
    assert {reason for _, reason in refused} == {BUSY}
    kept = 20 - len(refused)
    assert [number for number, _ in refused] == list(range(11 + kept, 31))
    assert desk.replies[-1].window <= 2


def test_a_window_that_was_too_large_opens_again_with_each_word() -> None:
    desk, owner = Desk(), client()
    desk.tell(Submitted(owner, jobs([1, 2, 3])))
    assert desk.rejected(owner) == [(3, BUSY)]
    desk.replies.clear()
    desk.end(1, 2, micros=40)
    for token in range(3):
        desk.tell(Spoken(owner, [Pong(token)]))
    assert [reply.window for reply in desk.replies] == [3, 4, 5, 6, 7]
    desk.tell(Spoken(owner, [Pong(3), Pong(4), Pong(5)]))
    desk.tell(Spoken(owner, [Pong(6)]))
    assert [reply.window for reply in desk.replies[-2:]] == [8, 11], "one with many items opens it by as many"


def test_a_client_whose_window_was_full_hears_when_it_has_grown() -> None:
    desk, one, other = Desk(workers=2), client(1), client(2)
    desk.tell(Submitted(one, [job(1)]), Submitted(other, [job(2)]), Spoken(one, [Pong(1)]), Spoken(other, [Pong(1)]))
    assert {reply.owner: reply.window for reply in desk.replies} == {one: 1, other: 1}
    desk.replies.clear()
    desk.end(2)
    wake = desk.scheduler.next_wake()
    assert wake is not None
    assert wake < NEWS_S
    desk.at(wake)
    assert [reply.window for reply in desk.replies if reply.owner is one] == [2]


def test_a_client_that_filled_its_window_with_jobs_that_start_at_once_hears_when_it_has_grown() -> None:
    desk, one, other = Desk(workers=4), client(1), client(2)
    desk.tell(Submitted(other, [job(1)]), Spoken(one, [Pong(1)]))
    assert [reply.window for reply in desk.replies] == [2]
    desk.tell(Submitted(one, jobs([11, 12])))
    assert len(desk.replies) == 1
    desk.end(1)
    wake = desk.scheduler.next_wake()
    assert wake is not None
    assert wake < NEWS_S
    desk.at(wake)
    assert [reply.window for reply in desk.replies if reply.owner is one] == [2, 4]


def test_a_client_with_room_left_hears_nothing_when_its_window_grows() -> None:
    desk, one, other = Desk(workers=4), client(1), client(2)
    desk.tell(Submitted(other, [job(1)]), Spoken(one, [Pong(1)]))
    desk.tell(Submitted(one, [job(11)]))
    desk.end(1)
    desk.at(NEWS_S - 0.001)
    assert [reply.window for reply in desk.replies if reply.owner is one] == [2]


# words at once


def test_a_job_that_starts_at_once_is_no_cause_for_a_word_before_it_ends() -> None:
    desk, owner = Desk(workers=3), client()
    desk.tell(Spoken(owner, [Pong(1)]))
    desk.replies.clear()
    desk.tell(Submitted(owner, jobs([1])))
    desk.tell(Submitted(owner, jobs([2, 3])))
    assert desk.replies == []
    desk.end(2)
    assert [(reply.items, reply.free, reply.seen) for reply in desk.replies] == [
        ([Result(job_id(2), 1, b"done")], 1, 3)
    ]


def test_a_client_whose_job_waits_although_it_was_told_of_an_idle_worker_hears_at_once_that_there_is_none() -> None:
    desk, owner, other = Desk(), client(1), client(2)
    desk.tell(Spoken(owner, [Pong(1)]))
    assert desk.replies[-1].free == 1
    desk.tell(Submitted(other, [job(21)]))
    desk.replies.clear()
    desk.tell(Submitted(owner, [job(1)]))
    assert [(reply.owner, reply.items, reply.free, reply.seen) for reply in desk.replies] == [(owner, [], 0, 1)]


def test_a_client_of_whose_jobs_some_start_and_some_wait_hears_at_once_how_many_came() -> None:
    desk, owner = Desk(), client()
    desk.tell(Spoken(owner, [Pong(1)]))
    desk.replies.clear()
    desk.tell(Submitted(owner, jobs([1, 2])))
    assert desk.order() == [1]
    assert [(reply.items, reply.free, reply.seen) for reply in desk.replies] == [([], 0, 2)]


def test_a_client_that_knows_that_no_worker_is_idle_hears_no_more_of_each_job_that_waits() -> None:
    desk, owner, other = Desk(workers=2), client(1), client(2)
    desk.tell(Submitted(other, jobs([21, 22])), Spoken(owner, [Pong(1)]))
    assert [reply.free for reply in desk.replies if reply.owner is owner] == [0]
    desk.replies.clear()
    desk.tell(Submitted(owner, [job(1)]))
    desk.tell(Submitted(owner, [job(2)]))
    assert desk.rejected(owner) == []
    assert desk.replies == []
    desk.at(NEWS_S)
    assert Accepted([job_id(1)]) in desk.told[owner.key]


def test_a_client_that_was_told_of_a_place_for_a_coroutine_hears_when_its_job_waits() -> None:
    desk, owner, other = Desk(concurrency=2), client(1), client(2)
    desk.tell(Submitted(other, [job(21, "fetch")]), Spoken(owner, [Pong(1)]))
    assert [(reply.free, reply.free_async) for reply in desk.replies] == [(0, 1)]
    desk.tell(Submitted(other, [job(22, "fetch")]))
    desk.replies.clear()
    desk.tell(Submitted(owner, [job(1, "fetch")]))
    assert [(reply.owner, reply.free, reply.free_async) for reply in desk.replies] == [(owner, 0, 0)]


def test_a_caller_of_the_bridge_that_was_told_nothing_hears_nothing_while_its_jobs_wait() -> None:
    desk, owner = Desk(), bridge()
    desk.tell(Submitted(owner, jobs([1, 2, 3])))
    assert desk.replies == []


def test_beyond_the_backlog_jobs_are_refused_until_one_has_ended() -> None:
    desk, owner = Desk(backlog=2), bridge()
    desk.tell(Submitted(owner, jobs([1, 2, 3])))
    assert desk.rejected(owner) == [(3, BUSY)]
    desk.end(1)
    desk.tell(Submitted(owner, jobs([4, 5])))
    assert desk.rejected(owner) == [(3, BUSY), (5, BUSY)]


def test_a_job_of_which_the_node_holds_one_already_is_refused_and_the_first_runs_on() -> None:
    desk, owner, other = Desk(workers=2), client(1), client(2)
    desk.tell(Submitted(owner, [job(1)]), Submitted(owner, [job(1)]), Submitted(other, [job(1)]))
    assert desk.rejected(owner) == [(1, BUSY)]
    assert desk.rejected(other) == []
    assert desk.order() == [1, 1]


def test_a_task_that_is_not_served_here_is_refused() -> None:
    desk, owner = Desk(), client()
    desk.tell(Submitted(owner, [job(1, "nonsense"), job(2)]))
    assert desk.rejected(owner) == [(1, UNKNOWN_TASK)]
    assert desk.order() == [2]


def test_jobs_sent_on_old_word_are_refused() -> None:
    desk, owner = Desk(), client()
    desk.tell(Submitted(owner, [job(1)], stale=True))
    assert desk.rejected(owner) == [(1, STALE)]
    assert desk.given == []


# time


def test_a_job_whose_time_is_up_before_it_starts_never_runs() -> None:
    desk, owner = Desk(), bridge()
    desk.tell(Submitted(owner, [job(1), job(2, remaining=10), job(3)]))
    assert desk.scheduler.next_wake() == pytest.approx(0.01)
    desk.at(0.009)
    assert desk.rejected(owner) == []
    desk.at(0.0101)
    assert desk.rejected(owner) == [(2, EXPIRED)]
    desk.end(1)
    assert desk.order() == [1, 3]


def test_a_job_that_comes_without_time_left_never_runs() -> None:
    desk, owner = Desk(), client()
    desk.tell(Submitted(owner, [job(1, remaining=0)]))
    assert desk.rejected(owner) == [(1, EXPIRED)]
    assert desk.given == []


def test_the_time_of_a_job_that_runs_is_up_for_a_bridge_caller_while_a_client_keeps_its_own_watch() -> None:
    desk, caller, user = Desk(workers=2), bridge(), client()
    desk.tell(Submitted(caller, [job(1, remaining=10)]), Submitted(user, [job(2, remaining=10)]))
    desk.at(0.02)
    assert desk.lost(caller) == [(1, EXPIRED, True)]
    assert desk.lost(user) == []
    desk.end(1, 2)
    assert desk.results(caller) == []
    assert desk.results(user) == [2]


def test_a_client_hears_after_a_while_what_is_held_and_what_runs() -> None:
    desk, owner = Desk(), client()
    desk.tell(Submitted(owner, jobs([1, 2])))
    desk.at(NEWS_S - 0.001)
    assert desk.told.get(owner.key, []) == []
    desk.at(NEWS_S)
    assert desk.told[owner.key] == [Accepted([job_id(1), job_id(2)]), Started([job_id(1)])]
    desk.end(1)
    assert desk.told[owner.key][2:] == [Result(job_id(1), 1, b"done"), Started([job_id(2)])]


def test_a_job_that_ends_soon_makes_no_news_and_bridge_callers_hear_none() -> None:
    desk, owner, caller = Desk(workers=2), client(), bridge()
    desk.tell(Submitted(owner, [job(1)]), Submitted(caller, [job(2)]))
    desk.end(1)
    desk.at(10 * NEWS_S)
    assert desk.told[owner.key] == [Result(job_id(1), 1, b"done")]
    assert desk.told.get(caller.key, []) == []
    assert desk.scheduler.next_wake() is None


def test_news_of_very_many_jobs_come_in_several_items() -> None:
    desk, owner = Desk(), client()
    desk.scheduler.tasks["short"].runtime.observe(1000, 0.0, 0.0)
    desk.tell(Submitted(owner, jobs(range(NEWS_IDS + 50), "short")))
    desk.at(NEWS_S)
    sizes = [len(item.ids) for item in desk.told[owner.key] if isinstance(item, Accepted)]
    assert sizes == [NEWS_IDS, 50]


# cancelling


def test_a_job_that_waits_is_cancelled_at_once_and_never_runs() -> None:
    desk, owner = Desk(), bridge()
    desk.tell(Submitted(owner, jobs([1, 2, 3])))
    desk.tell(CancelAsked(owner, job_id(2)))
    assert desk.rejected(owner) == [(2, CANCELLED)]
    desk.end(1)
    assert desk.order() == [1, 3]


def test_a_job_in_a_workers_socket_is_taken_back_to_be_cancelled() -> None:
    desk, owner = Desk(), client()
    desk.tell(Submitted(owner, jobs([1, 2, 3], "short")))
    desk.tell(CancelAsked(owner, job_id(2)))
    assert taken_back_from(desk.effects) == [1]
    assert desk.rejected(owner) == []
    desk.taken_back(2, 3)
    assert desk.rejected(owner) == [(2, CANCELLED)]
    desk.end(1)
    assert desk.order() == [1, 2, 3, 3]


def test_a_worker_is_asked_once_to_give_back_however_many_are_cancelled() -> None:
    desk, owner = Desk(), client()
    desk.tell(Submitted(owner, jobs([1, 2, 3], "short")))
    effects = desk.tell(CancelAsked(owner, job_id(2)), CancelAsked(owner, job_id(3)))
    effects += desk.at(2 * DRAG_S)
    assert taken_back_from(effects) == [1]


def test_a_job_that_was_read_before_it_could_be_taken_back_runs_and_its_result_counts() -> None:
    desk, owner = Desk(), client()
    desk.tell(Submitted(owner, jobs([1, 2], "short")))
    desk.tell(CancelAsked(owner, job_id(2)))
    desk.tell(TakenBack(1, []))
    desk.end(1, 2)
    assert desk.rejected(owner) == []
    assert desk.results(owner) == [1, 2]


def test_a_job_that_runs_is_not_cancelled() -> None:
    desk, owner = Desk(), client()
    desk.tell(Submitted(owner, [job(1)]))
    desk.tell(CancelAsked(owner, job_id(1)))
    assert desk.effects == []
    desk.end(1)
    assert desk.told[owner.key] == [Result(job_id(1), 1, b"done")]


def test_a_job_that_seemed_to_run_when_it_was_cancelled_but_comes_back_unread_is_not_given_again() -> None:
    desk, owner = Desk(), client()
    desk.tell(Submitted(owner, jobs([1, 2], "short")))
    desk.tell(CancelAsked(owner, job_id(1)))
    assert taken_back_from(desk.at(DRAG_S)) == [1]
    desk.taken_back(1, 2)
    assert desk.rejected(owner) == [(1, CANCELLED)]
    assert desk.order() == [1, 2, 2]


def test_a_cancelled_job_whose_worker_died_before_it_took_it_up_is_rejected() -> None:
    desk, owner = Desk(), client()
    desk.tell(Submitted(owner, jobs([1, 2], "short")))
    desk.tell(CancelAsked(owner, job_id(2)))
    desk.tell(WorkerLost(1, 1, "killed"), WorkerReady(2))
    assert desk.rejected(owner) == [(2, CANCELLED)]
    assert desk.lost(owner) == [(1, CRASH, True)]
    assert desk.at_worker(2) == []


def test_what_is_over_or_of_somebody_else_cannot_be_cancelled() -> None:
    desk, owner, other = Desk(), bridge(11), bridge(12)
    desk.tell(Submitted(owner, jobs([1, 2])))
    desk.end(1)
    desk.tell(CancelAsked(owner, job_id(1)), CancelAsked(other, job_id(2)))
    desk.end(2)
    assert desk.rejected(owner) == desk.rejected(other) == []
    assert desk.results(owner) == [1, 2]


# several at once


def test_jobs_that_end_together_are_all_told_in_one_word_in_their_order() -> None:
    desk, owner = Desk(), client()
    desk.tell(Submitted(owner, jobs([1, 2, 3], "short")))
    ends: list[Result | Failed] = [Result(job_id(1), 1, b"a"), Failed(job_id(2), 1, b"b"), Result(job_id(3), 1, b"c")]
    desk.tell(Ended(1, [Ran(1, 120_000, 40_000, ends)]))
    assert [reply.items for reply in desk.replies] == [ends]
    assert desk.scheduler.held == 0
    assert desk.scheduler.pool.free == 1


def test_run_times_are_learnt_from_the_time_that_jobs_took_together_and_the_longest_of_them() -> None:
    desk, owner = Desk(), client()
    desk.tell(Submitted(owner, jobs([1, 2, 3], "short")))
    desk.tell(Ended(1, [Ran(1, 300_000, 200_000, [Result(job_id(n), 1, b"") for n in (1, 2, 3)])]))
    alike = RunTime()
    alike.observe(1, SHORT_S, SHORT_S)
    alike.observe(3, 300e-6, 200e-6)
    entry = desk.scheduler.tasks["short"]
    assert (entry.runtime.mean, entry.runtime.cost) == pytest.approx((alike.mean, alike.cost))
    assert entry.expected == entry.runtime.mean


def test_jobs_of_several_tasks_that_come_together_go_out_in_their_order_each_task_by_itself() -> None:
    desk, owner = Desk(workers=4, cores=4), bridge()
    desk.tell(Submitted(owner, [job(1, "short"), job(2), job(3, "short"), job(4)]))
    dispatched = [effect for effect in desk.effects if isinstance(effect, Dispatch)]
    assert all(len({job.task for job in dispatch.jobs}) == 1 for dispatch in dispatched)
    assert sorted(desk.order()) == [1, 2, 3, 4]
    assert [number for number in desk.order() if number in (1, 3)] == [1, 3]
    assert [number for number in desk.order() if number in (2, 4)] == [2, 4]


# workers that drag on or die


def test_what_lies_behind_a_job_that_drags_on_is_taken_back_and_given_to_another() -> None:
    desk, owner = Desk(workers=2, cores=1), client()
    desk.tell(Submitted(owner, jobs([1, 2, 3], "short")))
    assert desk.at_worker(2) == [1, 2, 3]
    assert desk.scheduler.next_wake() == DRAG_S
    assert taken_back_from(desk.at(DRAG_S - 0.0001)) == []
    assert taken_back_from(desk.at(DRAG_S)) == [2]
    desk.taken_back(2, 3)
    assert desk.at_worker(1) == [2, 3]
    desk.end(2, 3, 1)
    assert desk.results(owner) == [2, 3, 1]


def test_a_worker_that_goes_on_is_left_alone() -> None:
    desk, owner = Desk(), client()
    desk.tell(Submitted(owner, jobs([1, 2], "short")))
    desk.end(1, 2)
    desk.tell(Submitted(owner, jobs([3], "short")))
    assert taken_back_from(desk.at(DRAG_S)) == []


def test_a_worker_that_drags_on_gets_nothing_more_before_its_next_word() -> None:
    desk, owner = Desk(), bridge()
    desk.tell(Submitted(owner, jobs([1, 2], "short")))
    desk.at(DRAG_S)
    desk.taken_back(2)
    desk.tell(Submitted(owner, jobs([3], "short")))
    assert desk.order() == [1, 2]
    desk.end(1)
    assert desk.order() == [1, 2, 2, 3]


def test_what_a_dead_worker_had_taken_up_is_lost_and_the_rest_is_given_again_in_order() -> None:
    desk, owner = Desk(), client()
    desk.tell(Submitted(owner, jobs([1, 2, 3, 4], "short")))
    desk.tell(WorkerLost(1, 1, "killed by signal 9"))
    assert desk.lost(owner) == [(1, CRASH, True)]
    (lost,) = desk.told[owner.key]
    assert isinstance(lost, Lost)
    assert lost.text == "killed by signal 9"
    assert desk.rejected(owner) == []
    desk.tell(WorkerReady(2))
    assert desk.at_worker(2) == [2, 3, 4]


def test_what_is_given_again_goes_before_what_came_later() -> None:
    desk, owner = Desk(), bridge(most=1)
    desk.tell(Submitted(owner, jobs([1, 2], "short")))
    desk.tell(Submitted(owner, jobs([3])))
    desk.tell(WorkerLost(1, 0, "killed"), WorkerReady(2))
    assert desk.lost(owner) == []
    desk.end(1, 2)
    assert desk.at_worker(2) == [1, 2, 3]


def test_a_job_whose_time_is_up_when_its_worker_dies_is_not_given_again() -> None:
    desk, owner = Desk(), client()
    desk.tell(Submitted(owner, [job(1, "short", remaining=10), job(2, "short", remaining=10)]))
    desk.now = 0.02
    desk.tell(WorkerLost(1, 1, "killed"), WorkerReady(2))
    assert desk.lost(owner) == [(1, CRASH, True)]
    assert desk.rejected(owner) == [(2, EXPIRED)]
    assert desk.at_worker(2) == []


def test_late_words_of_a_dead_worker_change_nothing() -> None:
    desk, owner = Desk(), client()
    desk.tell(Submitted(owner, jobs([1])))
    desk.tell(WorkerLost(1, 1, "killed"))
    desk.end(1)
    desk.taken_back(1)
    desk.tell(WorkerLost(1, 1, "killed"))
    assert [type(item) for item in desk.told[owner.key]] == [Lost]
    assert desk.scheduler.held == 0


@pytest.mark.parametrize("goes_on", [True, False])
def test_a_worker_with_short_jobs_that_has_told_of_none_is_left_alone_only_if_it_takes_up_more(
    *, goes_on: bool
) -> None:
    desk, owner = Desk(), client()
    desk.tell(Submitted(owner, jobs([1, 2, 3, 4], "short")))
    for look in range(1, 4):
        desk.taken_up[1] = look if goes_on else 0
        assert taken_back_from(desk.at(look * DRAG_S)) == ([] if goes_on or look > 1 else [1])


def test_a_worker_that_went_on_for_a_while_and_then_drags_on_has_the_rest_taken_back() -> None:
    desk, owner = Desk(), client()
    desk.taken_up[1] = 1
    desk.tell(Submitted(owner, jobs([1, 2, 3, 4], "short")))
    desk.taken_up[1] = 2
    assert taken_back_from(desk.at(DRAG_S)) == []
    assert taken_back_from(desk.at(2 * DRAG_S)) == [1]
    desk.taken_back(3, 4)
    assert desk.scheduler.held == 4
    desk.end(1, 2)
    assert desk.order() == [1, 2, 3, 4, 3, 4]


# one behind another


def test_with_all_workers_at_work_the_next_steady_job_goes_behind_the_one_that_began_first() -> None:
    desk, owner = Desk(workers=3), bridge()
    desk.tell(Submitted(owner, jobs([1, 2, 3], "steady")))
    began = [worker for worker, _ in desk.given]
    assert sorted(began) == [1, 2, 3]
    desk.tell(Submitted(owner, jobs([4], "steady")))
    assert desk.dispatched() == [(began[0], [4])]
    desk.tell(Submitted(owner, jobs([5, 6], "steady")))
    assert desk.dispatched() == [(began[1], [5]), (began[2], [6])]


def test_never_do_two_jobs_wait_behind_one() -> None:
    desk, owner = Desk(workers=2), bridge()
    desk.turns(owner, range(1, 20), "steady")
    assert desk.order() == [1, 2, 3, 4]
    first, second = desk.given[0][0], desk.given[1][0]
    assert (desk.at_worker(first), desk.at_worker(second)) == ([1, 3], [2, 4])
    for number in range(1, 18):
        desk.end(number)
        assert all(len(worker.outstanding) <= 2 for worker in desk.scheduler.pool.workers.values())
    assert desk.order() == list(range(1, 20))


def test_a_job_that_goes_behind_another_in_the_turn_of_that_one_travels_alone_so_that_it_can_be_called_back() -> None:
    desk, owner = Desk(workers=2), bridge()
    desk.tell(Submitted(owner, jobs([1, 2, 3, 4], "steady")))
    assert sorted(numbers for _, numbers in desk.dispatched()) == [[1], [2], [3], [4]]


def test_what_is_sure_and_soon_to_end_is_not_waited_for_by_a_job_of_which_nothing_is_known() -> None:
    desk, owner = Desk(), bridge()
    desk.tell(Submitted(owner, jobs([1], "steady")))
    desk.tell(Submitted(owner, jobs([2])))
    assert desk.order() == [1]
    desk.end(1)
    assert desk.order() == [1, 2]
    desk.tell(Submitted(owner, jobs([3], "steady")))
    assert desk.order() == [1, 2]


def test_no_steady_job_goes_behind_short_ones() -> None:
    desk, owner = Desk(), bridge()
    desk.turns(owner, [1, 2], "short")
    desk.turns(owner, [3], "steady")
    assert desk.order() == [1, 2]
    desk.end(1)
    assert desk.order() == [1, 2]


@pytest.mark.parametrize("known", [False, True])
def test_no_steady_job_goes_behind_coroutines_however_steady_they_are(*, known: bool) -> None:
    desk, owner = Desk(concurrency=2), bridge()
    if known:
        desk.scheduler.tasks["fetch"].runtime.observe(1, STEADY_JOB_S, STEADY_JOB_S)
    desk.turns(owner, [1], "fetch")
    desk.turns(owner, [2], "steady")
    assert desk.order() == [1]


def test_what_waits_behind_another_is_called_back_when_a_worker_goes_idle_and_given_to_that_one() -> None:
    desk, owner = Desk(workers=2), bridge()
    desk.tell(Submitted(owner, jobs([1, 2], "steady")))
    first, second = desk.given[0][0], desk.given[1][0]
    desk.tell(Submitted(owner, jobs([3], "steady")))
    assert desk.at_worker(first) == [1, 3]
    desk.end(2)
    assert taken_back_from(desk.effects) == [first]
    desk.taken_back(3)
    assert desk.dispatched() == [(second, [3])]
    desk.end(3, 1)
    assert desk.results(owner) == [2, 3, 1]
    assert desk.scheduler.pool.free == 2


def test_nothing_is_called_back_for_an_idle_worker_while_more_is_queued() -> None:
    desk, owner = Desk(workers=2), bridge()
    desk.turns(owner, [1, 2, 3, 4, 5], "steady")
    assert desk.order() == [1, 2, 3, 4]
    desk.end(2)
    assert taken_back_from(desk.effects) == []
    assert desk.order() == [1, 2, 3, 4, 5]


def test_as_many_are_called_back_as_workers_are_idle_those_first_that_have_longest_to_wait() -> None:
    desk, owner = Desk(workers=4), bridge()
    desk.tell(Submitted(owner, jobs([1, 2, 3, 4], "steady")))
    began = [worker for worker, _ in desk.given]
    desk.tell(Submitted(owner, jobs([5, 6, 7], "steady")))
    desk.end(4)
    assert taken_back_from(desk.effects) == [began[2]]
    assert taken_back_from(desk.tell(Tick())) == []
    desk.taken_back(7)
    assert desk.dispatched() == [(began[3], [7])]


def test_a_job_that_was_read_before_it_could_be_called_back_runs_where_it_is() -> None:
    desk, owner = Desk(workers=2), bridge()
    desk.turns(owner, [1, 2, 3], "steady")
    first = desk.given[0][0]
    desk.end(2)
    assert taken_back_from(desk.effects) == [first]
    desk.end(1)  # and nothing was in its socket any more
    assert taken_back_from(desk.effects) == []
    desk.end(3)
    assert desk.results(owner) == [2, 1, 3]
    assert desk.order() == [1, 2, 3]
    assert desk.scheduler.pool.free == 2


def test_a_worker_that_was_called_on_and_keeps_its_first_job_gets_none_behind_it_before_its_next_word() -> None:
    desk, owner = Desk(workers=2), bridge()
    desk.turns(owner, [1, 2, 3], "steady")
    first, second = desk.given[0][0], desk.given[1][0]
    desk.end(2)
    desk.taken_back(3)
    desk.tell(Submitted(owner, jobs([4], "steady")))
    assert desk.at_worker(second) == [2, 3, 4]
    assert desk.at_worker(first) == [1, 3]


def test_the_death_of_a_worker_costs_what_it_ran_and_not_what_waited_behind_that() -> None:
    desk, owner = Desk(workers=2), bridge()
    desk.turns(owner, [1, 2, 3], "steady")
    first, second = desk.given[0][0], desk.given[1][0]
    desk.tell(WorkerLost(first, 1, "killed"))
    assert desk.lost(owner) == [(1, CRASH, True)]
    assert desk.dispatched() == [(second, [3])]
    desk.tell(WorkerReady(9))
    assert taken_back_from(desk.effects) == [second]
    desk.taken_back(3)
    assert desk.at_worker(9) == [3]


def test_what_waits_behind_one_that_drags_on_after_all_is_called_back() -> None:
    desk, owner = Desk(), bridge()
    desk.turns(owner, [1, 2], "steady")
    assert desk.order() == [1, 2]
    assert desk.scheduler.next_wake() == pytest.approx(SURE_S)
    assert taken_back_from(desk.at(SURE_S - 0.001)) == []
    assert taken_back_from(desk.at(SURE_S)) == [1]
    desk.taken_back(2)
    assert desk.order() == [1, 2], "it waits for a worker now"
    desk.end(1)
    assert desk.order() == [1, 2, 2]


def test_a_job_behind_another_can_be_cancelled() -> None:
    desk, owner = Desk(), bridge()
    desk.turns(owner, [1, 2], "steady")
    assert taken_back_from(desk.tell(CancelAsked(owner, job_id(2)))) == [1]
    desk.taken_back(2)
    assert desk.rejected(owner) == [(2, CANCELLED)]
    desk.end(1)
    assert desk.results(owner) == [1]
    assert desk.order() == [1, 2]


def test_an_ordered_owners_jobs_do_not_go_behind_each_other_where_they_are_steady() -> None:
    desk, owner = Desk(workers=1), bridge(most=1)
    desk.tell(Submitted(owner, jobs([1, 2, 3], "steady")))
    assert desk.order() == [1]
    desk.end(1)
    assert desk.order() == [1, 2]


# how many workers short jobs wake


def test_short_jobs_wake_no_third_worker_on_two_cores_while_little_waits() -> None:
    desk, owner = Desk(workers=4, cores=2), bridge()
    few = 2 * 7 + int(PACKED_S / SHORT_S)
    desk.tell(Submitted(owner, jobs(range(few), "short")))
    assert len({worker for worker, _ in desk.given}) == 2
    assert desk.scheduler.pool.free == 2
    assert 0 < len(desk.order()) < few


def test_short_jobs_wake_a_third_worker_when_much_waits() -> None:
    desk, owner = Desk(workers=4, cores=2), bridge()
    many = 3 * 7 + int(2 * PACKED_S / SHORT_S) + 8
    desk.tell(Submitted(owner, jobs(range(many), "short")))
    assert len({worker for worker, _ in desk.given}) >= 3


def test_what_waits_while_no_third_worker_is_woken_is_given_as_soon_as_one_of_the_two_has_room() -> None:
    desk, owner = Desk(workers=4, cores=2), bridge()
    desk.tell(Submitted(owner, jobs(range(20), "short")))
    given = len(desk.order())
    assert given < 20
    desk.end(*desk.at_worker(desk.given[0][0]))
    assert len(desk.order()) > given
    while len(desk.results(owner)) < 20:
        desk.end(next(number for number in desk.order() if number not in desk.results(owner)))
    assert len({worker for worker, _ in desk.given}) == 2


# one datagram a worker and turn


def test_short_jobs_of_several_owners_that_come_in_one_turn_go_to_a_worker_in_one_datagram() -> None:
    desk, owners = Desk(), [client(1), bridge(11), bridge(12)]
    desk.tell(*(Submitted(owner, jobs([10 * n, 10 * n + 1], "short")) for n, owner in enumerate(owners, 1)))
    ((worker, together),) = desk.dispatched()
    assert worker == 1
    assert sorted(together) == [10, 11, 20, 21, 30, 31]
    for n, owner in enumerate(owners, 1):
        mine = [number for number in together if number // 10 == n]
        assert mine == sorted(mine)
        desk.end(*mine)
        assert desk.results(owner) == mine


def test_single_jobs_of_several_callers_that_come_in_one_turn_go_to_a_worker_in_one_datagram() -> None:
    desk, callers = Desk(), [bridge(11, most=1), bridge(12, most=1), bridge(13)]
    desk.tell(*(Submitted(caller, jobs([n], "short")) for n, caller in enumerate(callers, 1)))
    assert desk.dispatched() == [(1, [1, 2, 3])]
    ends: list[Result | Failed] = [Result(job_id(n), 1, b"") for n in (1, 2, 3)]
    desk.tell(Ended(1, [Ran(1, 120_000, 40_000, ends)]))
    assert [desk.results(caller) for caller in callers] == [[1], [2], [3]]
    assert desk.scheduler.pool.free == 1


def test_jobs_of_two_tasks_that_go_to_one_worker_in_one_turn_go_in_datagrams_with_numbers_that_join_up() -> None:
    desk, owner = Desk(), bridge()
    desk.scheduler.tasks["slow"].runtime.observe(1000, 1000 * SHORT_S, SHORT_S)
    desk.tell(Submitted(owner, [job(1, "short"), job(2), job(3, "short"), job(4)]))
    dispatches = [effect for effect in desk.effects if isinstance(effect, Dispatch)]
    assert all(len({job.task for job in dispatch.jobs}) == 1 for dispatch in dispatches)
    seqs = [seq for one in dispatches for seq in range(one.first, one.first + len(one.jobs))]
    assert seqs == [1, 2, 3, 4]


# single jobs of plain sockets


def test_a_single_job_of_a_caller_is_given_at_once() -> None:
    desk, caller = Desk(), bridge(most=1)
    desk.tell(Submitted(caller, jobs([1])))
    assert desk.dispatched() == [(1, [1])]
    assert desk.replies == []
    desk.end(1)
    assert desk.results(caller) == [1]
    assert desk.scheduler.held == 0


def test_single_jobs_for_which_no_worker_has_room_wait_in_their_order() -> None:
    desk, callers = Desk(), [bridge(11, most=1), bridge(12, most=1), bridge(13, most=1)]
    desk.tell(*(Submitted(caller, jobs([n])) for n, caller in enumerate(callers, 1)))
    assert sorted(desk.order()) == [1]
    desk.end(1)
    desk.end(desk.order()[-1])
    assert sorted(desk.order()) == [1, 2, 3]


def test_two_single_jobs_of_an_ordered_caller_in_one_turn_run_one_after_another_in_their_order() -> None:
    desk, caller = Desk(workers=2, cores=2), bridge(most=1)
    desk.tell(Submitted(caller, jobs([1])), Submitted(caller, jobs([2])), Submitted(caller, jobs([3])))
    assert desk.order() == [1]
    desk.end(1)
    assert desk.order() == [1, 2]
    desk.end(2, 3)
    assert desk.results(caller) == [1, 2, 3]


def test_two_single_jobs_of_an_ordered_caller_that_find_no_worker_keep_their_order() -> None:
    desk, caller, other = Desk(), bridge(11, most=1), bridge(12)
    desk.tell(Submitted(other, jobs([9])))
    desk.tell(Submitted(caller, jobs([1])), Submitted(caller, jobs([2])), Submitted(caller, [job(3, "short")]))
    for number in (9, 1, 2, 3):
        desk.end(number)
    assert desk.order() == [9, 1, 2, 3]


def test_a_single_job_does_not_overtake_what_waits() -> None:
    desk, caller, other = Desk(), bridge(11), bridge(12)
    desk.tell(Submitted(other, jobs([1, 2])))
    desk.tell(Submitted(caller, jobs([3])))
    desk.end(1, micros=60_000_000)
    assert desk.order() == [1, 2]


def test_a_single_job_that_is_cancelled_in_the_turn_in_which_it_comes_never_runs() -> None:
    desk, caller = Desk(), bridge(most=1)
    desk.tell(Submitted(caller, jobs([1])), CancelAsked(caller, job_id(1)))
    assert desk.given == []
    assert desk.rejected(caller) == [(1, CANCELLED)]
    assert desk.scheduler.held == 0
    desk.tell(Submitted(caller, jobs([2])))
    assert desk.order() == [2]


def test_a_single_job_whose_caller_leaves_in_the_turn_in_which_it_comes_never_runs() -> None:
    desk, caller, other = Desk(), bridge(11, most=1), bridge(12, most=1)
    desk.tell(Submitted(caller, jobs([1])), Left(caller), Submitted(other, jobs([2])))
    assert desk.order() == [2]
    assert desk.scheduler.held == 1
    desk.end(2)
    assert desk.tell(Draining()) == [Empty()]


def test_a_single_job_that_comes_before_the_node_drains_runs_and_one_that_comes_after_is_refused() -> None:
    desk, caller, other = Desk(workers=2), bridge(11, most=1), bridge(12, most=1)
    desk.tell(Submitted(caller, jobs([1])), Draining(), Submitted(other, jobs([2])))
    assert desk.order() == [1]
    assert desk.rejected(other) == [(2, DRAINING)]
    assert Empty() not in desk.effects
    desk.end(1)
    assert desk.results(caller) == [1]
    assert Empty() in desk.effects


def test_a_single_job_that_is_held_already_is_refused_whether_it_runs_or_comes_in_this_turn() -> None:
    desk, caller = Desk(workers=2), bridge()
    desk.tell(Submitted(caller, jobs([1])), Submitted(caller, jobs([1])))
    assert desk.rejected(caller) == [(1, BUSY)]
    desk.tell(Submitted(caller, jobs([1])))
    assert desk.rejected(caller) == [(1, BUSY), (1, BUSY)]
    assert desk.order() == [1]
    desk.end(1)
    assert desk.results(caller) == [1]
    assert desk.scheduler.held == 0


def test_a_single_job_beyond_the_backlog_or_of_an_unknown_task_is_refused() -> None:
    desk, caller = Desk(backlog=1), bridge()
    desk.tell(Submitted(caller, jobs([1], "nonsense")))
    assert desk.rejected(caller) == [(1, UNKNOWN_TASK)]
    desk.tell(Submitted(caller, jobs([2])), Submitted(caller, jobs([3])))
    assert desk.rejected(caller) == [(1, UNKNOWN_TASK), (3, BUSY)]


def test_a_single_job_that_comes_without_time_left_never_runs_and_leaves_the_books_in_order() -> None:
    desk, caller = Desk(), bridge(most=1)
    desk.tell(Submitted(caller, [job(1, remaining=0)]))
    assert desk.given == []
    assert desk.rejected(caller) == [(1, EXPIRED)]
    assert (desk.scheduler.held, desk.scheduler.next_wake()) == (0, None)
    desk.tell(Submitted(caller, jobs([2])))
    desk.tell(Submitted(caller, jobs([3])))
    desk.end(2, 3)
    assert desk.results(caller) == [2, 3]
    assert desk.tell(Draining()) == [Empty()]


def test_of_single_jobs_that_come_together_only_those_without_time_left_do_not_run() -> None:
    desk, callers = Desk(workers=3), [bridge(11), bridge(12), bridge(13)]
    submitted = [job(1, "short"), job(2, "short", remaining=0), job(3, "short")]
    desk.tell(*(Submitted(caller, [one]) for caller, one in zip(callers, submitted, strict=True)))
    assert sorted(desk.order()) == [1, 3]
    assert desk.rejected(callers[1]) == [(2, EXPIRED)]
    desk.end(1, 3)
    assert desk.scheduler.held == 0


def test_single_jobs_of_several_tasks_that_come_together_each_go_where_their_task_belongs() -> None:
    desk, callers = Desk(workers=3, concurrency=2), [bridge(key) for key in range(11, 15)]
    tasks = ["short", "slow", "fetch", "short"]
    desk.tell(*(Submitted(caller, [job(n, tasks[n])]) for n, caller in enumerate(callers)))
    assert sorted(desk.order()) == [0, 1, 2, 3]
    assert len({worker for worker, number in desk.given if number in (0, 3)}) == 1
    assert len({worker for worker, _ in desk.given}) == 3


def test_a_single_job_is_lost_with_its_worker_and_its_caller_may_ask_again() -> None:
    desk, caller = Desk(), bridge(most=1)
    desk.tell(Submitted(caller, jobs([1])))
    desk.tell(WorkerLost(1, 1, "killed"), WorkerReady(2))
    assert desk.lost(caller) == [(1, CRASH, True)]
    desk.tell(Submitted(caller, jobs([2])))
    assert desk.at_worker(2) == [2]


# owners that leave


def test_what_an_owner_queued_is_dropped_when_it_leaves_and_what_runs_ends_unheard() -> None:
    desk, owner, other = Desk(), bridge(11), bridge(12)
    desk.tell(Submitted(owner, jobs([1, 2])), Submitted(other, jobs([21])))
    desk.tell(Left(owner))
    assert desk.scheduler.held == 1
    desk.end(1)
    assert desk.told.get(owner.key, []) == []
    assert desk.order() == [1, 21]
    desk.tell(Submitted(owner, jobs([3])), Spoken(owner, [Pong(1)]))
    desk.end(21)
    assert desk.order() == [1, 21]
    assert desk.told.get(owner.key, []) == []


def test_an_owner_that_leaves_in_the_turn_in_which_its_jobs_come_is_told_nothing_any_more() -> None:
    desk, owner = Desk(), client()
    desk.tell(Submitted(owner, jobs([1, 2])), Left(owner))
    assert desk.scheduler.held == 0
    desk.at(2 * NEWS_S)
    desk.tell(Tick())
    assert desk.given == []
    assert desk.replies == []
    assert desk.scheduler.next_wake() is None


# other nodes


def test_a_bridge_callers_job_goes_on_to_a_node_with_a_free_slot_when_none_is_free_here() -> None:
    desk, owner = Desk(), bridge()
    desk.mesh.places = 1
    desk.tell(Submitted(owner, jobs([1, 2, 3])))
    assert desk.order() == [1]
    (held,) = desk.forwards
    assert held.submit.id == job_id(2)
    desk.tell(ForwardEnded(held, Result(job_id(2), 1, b"there")))
    assert desk.told[owner.key] == [Result(job_id(2), 1, b"there")]


def test_a_job_that_no_other_node_took_waits_here_where_it_stood() -> None:
    desk, owner = Desk(), bridge()
    desk.mesh.places = 1
    desk.tell(Submitted(owner, jobs([1, 2])))
    desk.mesh.places = 0
    desk.tell(Submitted(owner, jobs([3])))
    desk.tell(ForwardEnded(desk.forwards[0], None))
    desk.end(1, 2)
    assert desk.order() == [1, 2, 3]


def test_a_clients_job_does_not_go_on_to_another_node() -> None:
    desk, owner = Desk(), client()
    desk.mesh.places = 5
    desk.tell(Submitted(owner, [*jobs([1, 2]), job(3, "far")]))
    assert desk.forwards == []
    assert desk.rejected(owner) == [(3, UNKNOWN_TASK)]


def test_a_task_that_only_other_nodes_serve_waits_for_a_slot_there() -> None:
    desk, owner = Desk(), bridge()
    desk.tell(Submitted(owner, [job(1, "far"), job(2)]))
    assert desk.forwards == []
    assert desk.order() == [2]
    desk.mesh.places = 1
    desk.tell(Tick())
    assert [held.submit.id for held in desk.forwards] == [job_id(1)]
    assert desk.scheduler.knows("far") is FAR


def test_an_ordered_owners_next_job_waits_for_the_one_at_another_node() -> None:
    desk, owner = Desk(workers=2), bridge(most=1)
    desk.mesh.places = 5
    desk.tell(Submitted(owner, [job(1, "far"), job(2), job(3, "far")]))
    assert len(desk.forwards) == 1
    assert desk.given == []
    desk.tell(ForwardEnded(desk.forwards[0], Result(job_id(1), 1, b"there")))
    assert desk.order() == [2]
    assert len(desk.forwards) == 1
    desk.end(2)
    assert [held.submit.id for held in desk.forwards] == [job_id(1), job_id(3)]


def test_no_short_job_of_an_ordered_owner_follows_at_its_last_worker_while_one_is_at_another_node() -> None:
    desk, owner = Desk(), bridge(most=1)
    desk.mesh.places = 5
    desk.tell(Submitted(owner, [job(1, "short"), job(2, "far")]))
    desk.end(1)
    assert [held.submit.id for held in desk.forwards] == [job_id(2)]
    desk.tell(Submitted(owner, [job(3, "short")]))
    assert desk.order() == [1]
    desk.tell(ForwardEnded(desk.forwards[0], Result(job_id(2), 1, b"there")))
    assert desk.order() == [1, 3]


def test_a_job_at_another_node_is_not_cancelled_here_and_its_time_runs_on() -> None:
    desk, owner = Desk(), bridge()
    desk.mesh.places = 1
    desk.tell(Submitted(owner, [job(1), job(2, remaining=10)]))
    desk.tell(CancelAsked(owner, job_id(2)))
    assert desk.rejected(owner) == []
    desk.at(0.02)
    assert desk.lost(owner) == [(2, EXPIRED, True)]
    desk.tell(ForwardEnded(desk.forwards[0], Result(job_id(2), 1, b"too late")))
    assert desk.results(owner) == []


# the end


def test_a_node_that_drains_takes_nothing_new_and_finishes_what_it_holds() -> None:
    desk, owner = Desk(), client()
    desk.tell(Submitted(owner, jobs([1, 2])))
    assert Empty() not in desk.tell(Draining())
    desk.tell(Submitted(owner, jobs([3])))
    assert desk.rejected(owner) == [(3, DRAINING)]
    assert desk.replies[-1].window == 0
    desk.end(1)
    assert Empty() not in desk.effects
    desk.end(2)
    assert desk.results(owner) == [1, 2]
    assert Empty() in desk.effects


def test_a_node_that_does_not_drain_is_never_said_to_be_empty() -> None:
    desk = Desk()
    assert desk.tell(Tick()) == []
    assert desk.tell(Draining()) == [Empty()]


def test_a_node_is_not_empty_while_a_worker_works_for_an_owner_that_left() -> None:
    desk, owner = Desk(), client()
    desk.tell(Submitted(owner, jobs([1])))
    assert desk.tell(Left(owner), Draining()) == []
    desk.end(1)
    assert desk.effects == [Empty()]


def test_a_node_that_takes_work_again_tells_those_their_window_who_heard_that_they_have_none() -> None:
    desk, told, unaware = Desk(workers=4), client(1), client(2)
    desk.tell(Spoken(unaware, [Pong(1)]))
    desk.tell(Draining(), Spoken(told, [Pong(1)]))
    assert [(reply.owner, reply.window) for reply in desk.replies] == [(unaware, 4), (told, 0)]
    desk.replies.clear()
    assert Empty() not in desk.tell(Undraining())
    assert [(reply.owner, reply.items, reply.window, reply.free) for reply in desk.replies] == [(told, [], 4, 4)]
    assert not desk.scheduler.draining
    desk.tell(Submitted(told, jobs([1])), Submitted(unaware, jobs([2])))
    assert desk.rejected(told) == desk.rejected(unaware) == []
    assert sorted(desk.order()) == [1, 2]


def test_a_node_that_takes_work_again_has_kept_what_it_held_meanwhile() -> None:
    desk, owner = Desk(), client()
    desk.tell(Submitted(owner, jobs([1, 2])))
    desk.tell(Draining(), Spoken(owner, [Pong(1)]))
    desk.tell(Undraining())
    assert [reply.window for reply in desk.replies if reply.owner is owner][-2:] == [0, 1]
    desk.end(1, 2)
    assert desk.results(owner) == [1, 2]
    assert Empty() not in desk.effects


def test_who_left_while_the_node_drained_is_told_nothing_when_it_takes_work_again() -> None:
    desk, owner = Desk(), client()
    desk.tell(Draining(), Spoken(owner, [Pong(1)]))
    desk.tell(Left(owner))
    desk.replies.clear()
    desk.tell(Undraining())
    assert desk.replies == []


def test_to_take_work_again_is_nothing_to_a_node_that_does_not_drain() -> None:
    desk, one, other = Desk(workers=2), client(1), client(2)
    desk.tell(Submitted(one, [job(1)]), Submitted(other, [job(2)]), Spoken(one, [Pong(1)]))
    desk.end(2)
    desk.replies.clear()
    wake = desk.scheduler.next_wake()
    assert desk.tell(Undraining()) == []
    assert desk.scheduler.next_wake() == wake


def test_when_the_grace_is_over_what_waits_is_given_back_and_what_runs_is_lost() -> None:
    desk, owner, other = Desk(), bridge(), client()
    desk.mesh.places = 1
    desk.tell(Submitted(owner, [job(1), job(2, "far")]))
    desk.mesh.places = 0
    desk.tell(Submitted(owner, jobs([3])), Submitted(other, jobs([21])), Draining())
    desk.tell(GraceOver())
    assert desk.lost(owner) == [(2, GRACE, True), (1, GRACE, True)]
    assert desk.rejected(owner) == [(3, DRAINING)]
    assert desk.rejected(other) == [(21, DRAINING)]
    assert desk.scheduler.held == 0
    desk.end(1)
    assert desk.results(owner) == []
    assert desk.order() == [1]


# more and fewer workers


def test_a_node_that_is_to_have_more_workers_opens_its_windows_when_they_come() -> None:
    desk, owner = Desk(workers=1), client()
    desk.tell(Submitted(owner, [job(1)]))
    before = desk.replies[-1].window if desk.replies else 1
    desk.tell(Resized(8), *(WorkerReady(key) for key in range(2, 9)))
    desk.tell(Spoken(owner, [Pong(1)]))
    assert desk.replies[-1].window >= before + 7
    assert desk.replies[-1].free == 7


def test_a_worker_too_many_ends_what_it_runs_gets_nothing_more_and_goes() -> None:
    desk, owner = Desk(workers=2), bridge()
    desk.tell(Submitted(owner, jobs([1, 2])))
    (leaving,) = [key for key in (1, 2) if desk.at_worker(key) == [1]]
    desk.tell(Resized(1), Retired(leaving))
    desk.tell(Submitted(owner, jobs([3, 4])))
    desk.end(1)
    assert Dismiss(leaving) in desk.effects
    desk.end(2)
    desk.end(3)
    assert leaving not in [worker for worker, number in desk.given if number in (3, 4)]
    assert desk.results(owner) == [1, 2, 3]


def test_a_job_that_a_leaving_worker_ends_takes_no_place_from_its_successor() -> None:
    desk, owner = Desk(workers=1), client()
    desk.tell(Submitted(owner, [job(1)]))
    desk.tell(WorkerReady(2), Retired(1))
    desk.tell(Spoken(owner, [Pong(1)]))
    widest = desk.replies[-1].window
    desk.tell(Submitted(owner, [job(2)]))
    assert desk.given == [(1, 1), (2, 2)]
    desk.end(1)
    desk.tell(Spoken(owner, [Pong(2)]))
    assert desk.replies[-1].window == widest - 1


def test_short_jobs_are_packed_onto_no_more_workers_than_there_are_and_than_cores() -> None:
    desk = Desk(workers=4, cores=2)
    desk.tell(Resized(1))
    assert desk.scheduler.pool.cores == 1
    desk.tell(Resized(8))
    assert desk.scheduler.pool.cores == 2


# counting


def test_what_ended_well_what_failed_and_what_was_lost_is_counted() -> None:
    desk, owner = Desk(workers=1), bridge()
    desk.tell(Submitted(owner, jobs([1, 2, 3])))
    desk.end(1)
    desk.fail(2, again=None)
    assert (desk.scheduler.done, desk.scheduler.failed, desk.scheduler.lost) == (1, 1, 0)
    (worker,) = desk.scheduler.pool.workers.values()
    assert (worker.done, worker.failed) == (1, 1)
    desk.die(3)
    assert (desk.scheduler.done, desk.scheduler.failed, desk.scheduler.lost) == (1, 1, 1)
