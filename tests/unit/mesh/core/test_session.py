"""What a client does with its jobs, told step by step."""

import pytest

from mesh.core.effects import Answered, Close, Joined, Parted, Progress, Send, Settle
from mesh.core.events import CancelAsked, LinkLost, Opening, OperateAsked, Submitted
from mesh.core.record import ACCEPTED, DONE, PENDING, SENT, STARTED
from mesh.core.session import BEAT_S, STALL_S, WELCOME_S
from mesh.errors import (
    BadArguments,
    JobCancelled,
    JobLost,
    JobTimeout,
    MeshBusy,
    MeshError,
    NoNodes,
    PayloadTooLarge,
    UnknownTask,
)
from mesh.wire.messages import (
    FORCED,
    RUNNING,
    About,
    Accepted,
    Answer,
    Bye,
    Cancel,
    Drain,
    Failed,
    Lost,
    Operate,
    Options,
    Ping,
    Pong,
    Refuse,
    Reject,
    Result,
    ResultLarge,
    Started,
    Submit,
    TaskSpec,
    Welcome,
)
from tests.support.desk import ADD, GRACE, MUL, Desk, node_id

# a job that goes well


def test_a_job_goes_to_a_node_and_its_result_comes_back() -> None:
    desk = Desk()
    joined = desk.join(1)
    assert [type(effect) for effect in joined] == [Joined]
    record = desk.submit()
    (submit,) = desk.sent(1)
    assert submit == Submit(record.id, 1, "add", 0, None, None, b"args")
    assert (record.state, record.node, record.link) == (SENT, "n1", 1)
    desk.hear(1, Result(record.id, 1, b"3"))
    assert desk.outcome(record) == Result(record.id, 1, b"3")
    assert (record.state, record.over) == (DONE, True)
    assert desk.session.unfinished() == []


def test_what_is_due_for_a_node_in_one_turn_leaves_in_one_message_with_epoch_and_stamp() -> None:
    desk = Desk()
    desk.join(1)
    desk.hear(1, stamp=77)
    effects = desk.tell(Submitted([desk.job(), desk.job()]))
    (send,) = effects
    assert isinstance(send, Send)
    assert (send.message.epoch, send.message.stamp, len(send.message.items)) == (b"epoch---", 77, 2)


def test_a_failure_of_the_task_is_handed_on_as_it_came() -> None:
    desk = Desk()
    desk.join(1)
    record = desk.submit()
    desk.hear(1, Failed(record.id, 1, b"why"))
    assert desk.outcome(record) == Failed(record.id, 1, b"why")


def test_options_travel_only_where_they_say_something() -> None:
    desk = Desk()
    desk.join(1)
    desk.submit(priority=9)
    assert desk.sent(1)[0].options == Options(priority=9)
    desk.submit(forwarded=True)
    assert desk.sent(1)[0].options == Options(forwarded=True)
    desk.submit(trace=("parent", "state"))
    assert desk.sent(1)[0].options == Options(trace="parent", state="state")
    desk.submit(forwarded=True, crashes=2)
    assert desk.sent(1)[0].options == Options(forwarded=True, crashes=2)


def test_accepted_and_started_are_told_once_each_and_never_go_back() -> None:
    desk = Desk()
    desk.join(1)
    one, other = desk.submit(), desk.submit()
    effects = desk.hear(1, Accepted([one.id, other.id, b"?" * 16]), Started([one.id]))
    (progress,) = [effect for effect in effects if isinstance(effect, Progress)]
    assert progress.records == [one, other, one]
    assert (one.state, other.state) == (STARTED, ACCEPTED)
    desk.hear(1, Accepted([one.id]))
    assert desk.effects == []
    assert one.state == STARTED


def test_jobs_wait_for_room_by_priority_and_in_their_order() -> None:
    desk = Desk()
    desk.join(1, window=1)
    first, low, high, next_low = (desk.submit(priority=priority) for priority in (5, 1, 9, 1))
    order = []
    running = first
    for _ in range(3):
        desk.hear(1, Result(running.id, 1, b""), window=1)
        (submit,) = desk.sent(1)
        running = next(record for record in (low, high, next_low) if record.id == submit.id)
        order.append(running)
    assert order == [high, low, next_low]


def test_a_task_with_many_jobs_does_not_hold_up_another() -> None:
    desk = Desk()
    desk.join(1, ADD, MUL, window=1)
    busy = [desk.submit() for _ in range(20)]
    other = desk.submit("mul")
    running = busy[0].id
    order = []
    for _ in range(3):
        desk.hear(1, Result(running, 1, b""), window=1)
        running = desk.sent(1)[0].id
        order.append(running)
    assert other.id in order[:2]


def test_jobs_for_several_nodes_are_shared_out() -> None:
    desk = Desk()
    desk.join(1)
    desk.join(2)
    desk.tell(Submitted([desk.job() for _ in range(8)]))
    assert (len(desk.sent(1)), len(desk.sent(2))) == (4, 4)


def test_a_pong_and_a_large_result_without_its_body_say_nothing_more() -> None:
    desk = Desk()
    desk.join(1)
    record = desk.submit()
    assert desk.hear(1, Pong(1), ResultLarge(record.id, 1, 1)) == []
    assert not record.over


def test_word_of_jobs_that_are_not_held_there_is_ignored() -> None:
    desk = Desk()
    desk.join(1)
    record = desk.submit()
    desk.hear(1, Result(record.id, 1, b"1"), Result(record.id, 1, b"2"), Reject(b"?" * 16, 1, "busy", ""))
    assert desk.outcome(record) == Result(record.id, 1, b"1")


# checked before anything is sent


def test_arguments_are_checked_at_first_contact_where_the_task_was_not_known() -> None:
    desk = Desk()
    wrong, right = desk.submit(shape=(3, ())), desk.submit(shape=(2, ()))
    desk.join(1)
    assert [submit.id for submit in desk.sent(1)] == [right.id]
    assert isinstance(desk.error(wrong), BadArguments)
    assert str(desk.error(wrong)) == "add takes 2 positional arguments, 3 given"


def test_a_body_too_large_for_its_node_is_not_sent_and_the_limit_is_named() -> None:
    desk = Desk()
    desk.join(1, max_body=10)
    record = desk.submit(body=b"x" * 11)
    assert desk.sent(1) == []
    assert isinstance(desk.error(record), PayloadTooLarge)
    assert str(desk.error(record)) == "11 bytes of arguments, and node n1 takes 10 (its --max-message)"


# what a node may answer instead of a result


@pytest.mark.parametrize(
    ("reason", "kind", "text"),
    [
        ("cancelled", JobCancelled, "cancelled before it started"),
        ("expired", JobTimeout, "its time was up before a slot was free"),
        ("too-big", PayloadTooLarge, "node says so"),
    ],
)
def test_a_rejection_for_good_ends_the_job_as_not_started(reason: str, kind: type[MeshError], text: str) -> None:
    desk = Desk()
    desk.join(1)
    record = desk.submit()
    desk.hear(1, Reject(record.id, 1, reason, "node says so"))
    error = desk.error(record)
    assert type(error) is kind
    assert error.started is False
    assert str(error) == text


@pytest.mark.parametrize("reason", ["busy", "stale", "draining", "epoch", "unknown-task", "quarantined"])
def test_a_rejected_job_goes_to_another_node(reason: str) -> None:
    desk = Desk()
    desk.join(1)
    record = desk.submit()
    desk.join(2)
    desk.hear(1, Reject(record.id, 1, reason, ""))
    assert [submit.id for submit in desk.sent(2)] == [record.id]
    assert desk.sent(1) == []
    assert (record.state, record.node) == (SENT, "n2")


@pytest.mark.parametrize("reason", ["draining", "epoch", "unknown-task"])
def test_a_rejected_job_waits_where_no_other_node_can_take_it(reason: str) -> None:
    desk = Desk()
    desk.join(1)
    record = desk.submit()
    desk.hear(1, Reject(record.id, 1, reason, ""))
    assert (record.state, desk.effects) == (PENDING, [])
    assert desk.session.unfinished() == [record]


def test_the_only_node_is_tried_again_when_its_window_allows() -> None:
    desk = Desk()
    desk.join(1)
    record = desk.submit()
    desk.hear(1, Reject(record.id, 1, "busy", ""), window=0)
    assert desk.sent(1) == []
    desk.hear(1, window=1)
    assert [submit.id for submit in desk.sent(1)] == [record.id]


def test_all_jobs_of_a_task_that_nobody_serves_any_more_end_within_the_grace() -> None:
    desk = Desk()
    desk.join(1, ADD, MUL, window=1)
    records = [desk.submit() for _ in range(3)]
    desk.hear(1, Reject(records[0].id, 1, "unknown-task", ""))
    desk.live_until(GRACE + 0.1)
    assert {type(desk.error(record)) for record in records} == {UnknownTask}


def test_a_job_that_does_not_want_to_wait_bounces_where_no_node_has_room() -> None:
    desk = Desk()
    desk.join(1, window=1)
    sent, *bounced = (desk.job(bounce=True) for _ in range(3))
    desk.tell(Submitted([sent, *bounced]))
    assert {type(desk.error(record)) for record in bounced} == {MeshBusy}
    desk.hear(1, Reject(sent.id, 1, "busy", "full"), window=1)
    assert str(desk.error(sent)) == "full"
    assert desk.session.unfinished() == []


def test_a_lost_job_says_how_it_was_lost() -> None:
    desk = Desk()
    desk.join(1)
    record = desk.submit()
    desk.hear(1, Lost(record.id, 1, "crash", True, "its worker was killed by SIGKILL"))
    error = desk.error(record)
    assert isinstance(error, JobLost)
    assert error.started
    assert str(error) == "the job's end is not known: its worker was killed by SIGKILL"


def test_a_lost_job_that_surely_did_not_run_goes_elsewhere() -> None:
    desk = Desk()
    desk.join(1)
    record = desk.submit()
    desk.join(2)
    desk.hear(1, Lost(record.id, 1, "grace", False, "the node stopped"))
    (submit,) = desk.sent(2)
    assert (submit.id, submit.attempt) == (record.id, 2)


def test_a_job_lost_to_its_deadline_is_a_timeout() -> None:
    desk = Desk()
    desk.join(1)
    record = desk.submit()
    desk.hear(1, Lost(record.id, 1, "expired", True, "its time was up while it ran"))
    assert isinstance(desk.error(record), JobTimeout)


# nodes that come and go


def test_when_a_link_is_lost_what_was_sent_may_have_run_and_the_rest_goes_elsewhere() -> None:
    desk = Desk()
    desk.join(1, window=1)
    sent, waiting = desk.submit(), desk.submit()
    effects = desk.tell(LinkLost(1, "it disconnected"))
    assert [type(effect) for effect in effects] == [Parted, Settle]
    error = desk.error(sent)
    assert isinstance(error, JobLost)
    assert error.started is True
    assert str(error) == (
        "the job's end is not known: the connection to its node was lost (it disconnected)"
    )  # fmt: skip
    desk.join(2)
    assert [submit.id for submit in desk.sent(2)] == [waiting.id]


def test_a_draining_node_gets_nothing_new_and_finishes_what_it_has() -> None:
    desk = Desk()
    desk.join(1)
    held = desk.submit()
    desk.hear(1, Drain())
    waiting = desk.submit()
    assert desk.sent(1) == []
    desk.hear(1, Result(held.id, 1, b""))
    desk.hear(1, Bye())
    assert desk.closed() == [1]
    assert desk.left() == [1]
    assert desk.session.unfinished() == [waiting]


def test_a_node_that_leaves_says_so_to_whoever_greets_and_has_not_joined() -> None:
    desk = Desk()
    desk.tell(Opening(1))
    desk.hear(1, Bye())
    assert desk.left() == [1]
    assert len(desk.session.roster) == 0
    waiting, impatient = desk.submit(deadline=60.0), desk.submit()
    assert [type(effect) for effect in desk.live_until(2 * WELCOME_S)] == [Settle]
    assert isinstance(desk.error(impatient), NoNodes)
    assert desk.session.unfinished() == [waiting]
    desk.join(2)
    assert [submit.id for submit in desk.sent(2)] == [waiting.id]


def test_a_goodbye_ends_what_the_node_held_and_whatever_follows_is_ignored() -> None:
    desk = Desk()
    desk.join(1)
    record = desk.submit()
    desk.hear(1, Bye(), Result(record.id, 1, b""), Drain(), Welcome(1, about_of(1)))
    assert isinstance(desk.error(record), JobLost)
    assert len(desk.session.roster) == 0


def about_of(number: int) -> About:
    return About(node_id(number), b"epoch---", f"n{number}", "default", 4, 1, 1000, [ADD])


def test_a_second_link_to_the_same_node_is_closed_as_a_twin() -> None:
    desk = Desk()
    desk.join(1, number=7)
    (close,) = desk.join(2, number=7)
    assert isinstance(close, Close)
    assert (close.key, close.same_as) == (2, 1)
    assert len(desk.session.roster) == 1


def test_a_node_that_was_started_anew_replaces_its_earlier_life() -> None:
    desk = Desk()
    desk.join(1, number=7)
    record = desk.submit()
    desk.join(2, number=7, epoch=b"epoch--2")
    assert desk.closed() == [1]
    assert isinstance(desk.error(record), JobLost)
    desk.submit()
    assert len(desk.sent(2)) == 1


def test_a_second_welcome_over_the_same_link_changes_nothing() -> None:
    desk = Desk()
    desk.join(1)
    record = desk.submit()
    assert desk.hear(1, Welcome(1, about_of(9))) == []
    desk.hear(1, Result(record.id, 1, b""))
    assert desk.outcome(record) == Result(record.id, 1, b"")


def test_a_way_to_ourselves_is_closed_for_good() -> None:
    desk = Desk(not_node=node_id(7))
    (close,) = desk.join(1, number=7)
    assert isinstance(close, Close)
    assert (close.key, close.same_as) == (1, 1)
    assert len(desk.session.roster) == 0


def test_a_refusal_closes_the_link_and_is_told_to_who_finds_no_node() -> None:
    desk = Desk()
    record = desk.submit()
    desk.tell(Opening(1))
    (close,) = desk.hear(1, Refuse("mesh", "this node belongs to the mesh 'other'"))
    assert isinstance(close, Close)
    assert close.refused
    assert close.why == "this node belongs to the mesh 'other'"
    desk.live_until(GRACE + 0.1)
    assert str(desk.error(record)).endswith("One refused: this node belongs to the mesh 'other'.")


def test_a_refusal_after_the_greeting_ends_what_the_node_held() -> None:
    desk = Desk()
    desk.join(1)
    record = desk.submit()
    desk.hear(1, Refuse("busy", "go away"))
    assert desk.closed() == [1]
    assert isinstance(desk.error(record), JobLost)
    desk.submit()
    assert desk.effects == []


def test_items_of_a_node_that_has_not_greeted_are_ignored() -> None:
    desk = Desk()
    desk.tell(Opening(1))
    assert desk.hear(1, Drain(), Result(b"?" * 16, 1, b"")) == []


def test_a_link_that_is_lost_before_the_greeting_leaves_nothing() -> None:
    desk = Desk()
    desk.tell(Opening(1))
    desk.tell(LinkLost(1, "no connection"))
    desk.live_until(2 * WELCOME_S)
    assert desk.session.next_wake() is None


def test_a_link_without_an_answer_to_the_greeting_is_closed() -> None:
    desk = Desk()
    desk.tell(Opening(1))
    passed = desk.live_until(WELCOME_S + BEAT_S)
    (close,) = passed
    assert isinstance(close, Close)
    assert close.why == "no answer to the greeting within 5 s"
    assert desk.session.next_wake() is None


# life and death


def test_a_silent_node_is_pinged_then_gets_nothing_then_is_given_up() -> None:
    desk = Desk()
    desk.join(1)
    desk.join(2)
    held = desk.job()
    desk.tell(Submitted([held, desk.job(), desk.job(), desk.job()]))
    by_link = {record.id: record.link for record in desk.session.unfinished()}
    pings = []
    for tick in range(1, 13):
        effects = desk.at(tick * BEAT_S)
        pings += [e for e in effects if isinstance(e, Send) and e.key == 1 and type(e.message.items[0]) is Ping]
        desk.hear(2, Pong(1))
        if tick == 6:
            desk.tell(Submitted([desk.job() for _ in range(4)]))
            assert desk.sent(1) == []
            assert len(desk.sent(2)) == 4
    assert len(pings) in (4, 5)
    assert len(desk.session.roster) == 1
    lost = [record_id for record_id, link in by_link.items() if link == 1]
    assert lost
    assert all(isinstance(desk.outcomes[record_id], JobLost) for record_id in lost)


def test_a_node_is_told_that_we_live_even_while_it_talks_all_the_time() -> None:
    desk = Desk()
    desk.join(1)
    pings = 0
    for tick in range(1, 41):
        desk.now = tick * 0.5
        desk.hear(1)
        pings += any(isinstance(item, Ping) for item in desk.said(1))
    assert pings >= 15


def test_time_in_which_this_process_stood_still_is_not_held_against_a_node() -> None:
    desk = Desk()
    desk.join(1)
    record = desk.submit()
    desk.at(BEAT_S)
    desk.at(30.0)
    assert not record.over
    assert len(desk.session.roster) == 1
    desk.live_until(37.0)
    assert isinstance(desk.error(record), JobLost)


def test_a_stall_gives_the_greeting_more_time_too() -> None:
    desk = Desk()
    desk.tell(Opening(1))
    desk.at(BEAT_S)
    desk.at(BEAT_S + WELCOME_S + STALL_S)
    desk.live_until(desk.now + BEAT_S)
    assert desk.closed() == []
    assert len(desk.hear(1, Welcome(1, about_of(1)))) == 1


def test_a_short_delay_is_no_stall() -> None:
    desk = Desk()
    desk.join(1)
    desk.at(5.5)
    desk.at(6.4)
    assert len(desk.session.roster) == 1
    desk.live_until(12.0)
    assert len(desk.session.roster) == 0


# deadlines


def test_a_job_that_waits_ends_at_its_deadline_as_not_started() -> None:
    desk = Desk()
    desk.join(1, window=0)
    record = desk.submit(deadline=1.5, timeout=1.5)
    desk.live_until(1.4)
    assert not record.over
    desk.live_until(1.5)
    error = desk.error(record)
    assert isinstance(error, JobTimeout)
    assert (error.started, str(error)) == (False, "1.5 s passed before any node had room")


def test_a_job_that_was_sent_ends_at_its_deadline_as_perhaps_started_and_is_cancelled() -> None:
    desk = Desk()
    desk.join(1)
    record = desk.submit(deadline=1.0)
    assert desk.sent(1)[0].remaining == 1000
    desk.at(1.0)
    error = desk.error(record)
    assert (type(error), error.started) == (JobTimeout, True)
    assert "its time" in str(error)
    assert Cancel(record.id) in desk.said(1)
    desk.hear(1, Result(record.id, 1, b"late"))
    assert desk.session.roster.get(1) is not None
    assert not next(iter(desk.session.roster)).outstanding


@pytest.mark.parametrize("item", [Reject(b"", 1, "busy", ""), Failed(b"", 1, b""), Lost(b"", 1, "crash", True, "")])
def test_what_comes_after_the_deadline_is_passed_over(item: Reject | Failed | Lost) -> None:
    desk = Desk()
    desk.join(1)
    record = desk.submit(deadline=1.0)
    desk.at(1.0)
    item.id = record.id
    desk.hear(1, item)
    assert isinstance(desk.error(record), JobTimeout)
    assert desk.session.unfinished() == []


def test_a_link_that_is_lost_after_the_deadline_ends_nothing_twice() -> None:
    desk = Desk()
    desk.join(1)
    record = desk.submit(deadline=1.0)
    desk.at(1.0)
    desk.tell(LinkLost(1, "it disconnected"))
    assert isinstance(desk.error(record), JobTimeout)


def test_a_deadline_that_is_past_or_very_far_is_told_as_the_wire_can_say_it() -> None:
    desk = Desk()
    desk.join(1)
    desk.submit(deadline=1e300)
    assert desk.sent(1)[0].remaining == 2**53


def test_the_time_of_the_task_holds_where_the_caller_names_none() -> None:
    desk = Desk()
    desk.join(1, TaskSpec("add", timeout=2.0), window=1)
    given, waiting, own = desk.submit(), desk.submit(), desk.submit(deadline=50.0, timeout=50.0)
    desk.live_until(2.0)
    assert {type(desk.error(record)) for record in (given, waiting)} == {JobTimeout}
    assert not own.over


def test_the_time_of_the_task_holds_from_the_first_contact_for_jobs_that_waited_for_it() -> None:
    desk = Desk()
    desk.now = 10.0
    early, own, cancelled = desk.submit(), desk.submit(deadline=60.0), desk.submit()
    desk.tell(CancelAsked(cancelled))
    desk.now = 11.0
    desk.join(1, TaskSpec("add", timeout=5.0), MUL, window=0)
    desk.live_until(15.0)
    assert isinstance(desk.error(early), JobTimeout)
    assert not own.over


# cancelling


def test_a_job_that_waits_is_cancelled_here() -> None:
    desk = Desk()
    record = desk.submit()
    desk.tell(CancelAsked(record))
    assert isinstance(desk.error(record), JobCancelled)
    assert desk.tell(CancelAsked(record)) == []
    desk.join(1)
    assert desk.sent(1) == []


def test_a_job_that_was_sent_is_cancelled_by_its_node_as_far_as_it_is_to_go() -> None:
    desk = Desk()
    desk.join(1)
    record = desk.submit()
    desk.tell(CancelAsked(record))
    assert desk.said(1) == [Cancel(record.id, RUNNING)]
    desk.tell(CancelAsked(record, FORCED))
    assert desk.said(1) == [Cancel(record.id, FORCED)]
    desk.hear(1, Result(record.id, 1, b""))
    assert isinstance(desk.outcome(record), Result)


def test_a_cancelled_job_that_is_rejected_goes_nowhere_else() -> None:
    desk = Desk()
    desk.join(1)
    record = desk.submit()
    desk.join(2)
    desk.tell(CancelAsked(record))
    desk.hear(1, Reject(record.id, 1, "busy", ""))
    assert isinstance(desk.error(record), JobCancelled)
    assert desk.sent(2) == []


# nobody serves it


def test_without_any_node_a_job_ends_within_the_grace() -> None:
    desk = Desk()
    record = desk.submit(deadline=60.0)
    desk.live_until(GRACE - 0.1)
    assert not record.over
    desk.live_until(GRACE)
    error = desk.error(record)
    assert isinstance(error, NoNodes)
    assert str(error).startswith("no node of this mesh was found within 2 s: is one running (meshnode)")
    assert "refused" not in str(error)


def test_once_nodes_have_been_seen_a_job_with_a_deadline_waits_for_one_to_return() -> None:
    desk = Desk()
    desk.join(1)
    desk.tell(LinkLost(1, "it disconnected"))
    patient, other = desk.submit(deadline=60.0, timeout=60.0), desk.submit()
    desk.live_until(30.0)
    assert isinstance(desk.error(other), NoNodes)
    assert not patient.over
    desk.join(2)
    assert [submit.id for submit in desk.sent(2)] == [patient.id]


def test_a_task_that_no_node_serves_is_unknown_and_near_names_are_named() -> None:
    desk = Desk()
    desk.join(1, ADD, MUL)
    typo, other = desk.submit("ad"), desk.submit("xyz")
    desk.live_until(GRACE)
    assert str(desk.error(typo)) == "no node serves 'ad'; did you mean add?"
    assert str(desk.error(other)) == "no node serves 'xyz'; served are add, mul"


def test_a_long_list_of_tasks_is_cut_and_an_empty_one_is_said() -> None:
    desk = Desk()
    desk.join(1, *(TaskSpec(f"task{n}") for n in range(20)))
    many = desk.submit("xyz")
    desk.live_until(GRACE)
    assert str(desk.error(many)).endswith("task14, task15 …")
    bare = Desk()
    bare.tell(Opening(1))
    bare.hear(1, Welcome(1, About(node_id(1), b"epoch---", "n1", "default", 1, 1, 10, [])))
    none = bare.submit("xyz")
    bare.live_until(GRACE)
    assert str(bare.error(none)).endswith("served are no tasks at all")


def test_a_node_that_comes_within_the_grace_is_in_time() -> None:
    desk = Desk()
    record = desk.submit()
    desk.live_until(GRACE - 0.5)
    desk.join(1)
    assert [submit.id for submit in desk.sent(1)] == [record.id]
    desk.live_until(GRACE + 0.5)
    assert not record.over


def test_jobs_wait_for_a_node_that_is_there_and_full() -> None:
    desk = Desk()
    desk.join(1, window=0)
    record = desk.submit()
    for second in range(20):
        desk.at(float(second))
        desk.hear(1, window=0)
    assert not record.over


# asking nodes


def test_a_node_is_asked_and_its_answer_passed_on() -> None:
    desk = Desk()
    desk.join(1)
    desk.tell(OperateAsked(1, 7, "status", b"args"))
    assert desk.said(1) == [Operate(7, "status", b"args")]
    assert desk.hear(1, Answer(7, True, b"body")) == [Answered(1, 7, True, b"body")]


def test_a_node_that_is_gone_is_asked_nothing_and_one_that_has_not_greeted_answers_nothing() -> None:
    desk = Desk()
    assert desk.tell(OperateAsked(1, 7, "status", b"")) == []
    desk.tell(Opening(1))
    assert desk.hear(1, Answer(7, True, b"")) == []
