"""One bridge connection, told step by step: lines in, jobs and reply lines out."""

import json
from collections.abc import Callable
from itertools import count, pairwise, permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.errors import NotAllowed
from mesh.wire.messages import (
    CRASH,
    DRAINING,
    FORM_JSON,
    Failed,
    Lost,
    NodeItem,
    Options,
    Reject,
    Result,
    Submit,
    TaskSpec,
)
from meshnode.core.conversation import (
    BURST,
    CROWDED_BYTES,
    HUSH_S,
    LINGER_S,
    LOOK_S,
    ORDERED_AHEAD,
    PARALLEL,
    PLAIN_BYTES,
    QUIET_S,
    READ_BYTES,
    READ_LINES,
    Conversation,
    Phase,
)
from meshnode.core.events import CancelAsked, Submitted
from meshnode.core.held import TaskEntry
from meshnode.core.limits import LINE_RATE, LINE_S, SLOW_S, Limits

ORDERED_KEY, PARALLEL_KEY = 1, 2
LINE = 1000


class Tasks:
    """What this node serves."""

    def __init__(self) -> None:
        specs = [
            TaskSpec("note", bridge=True),
            TaskSpec("timed", bridge=True, timeout=2.0, priority=7),
            TaskSpec("shut"),
        ]
        self.tasks = {spec.name: TaskEntry(spec) for spec in specs}

    def knows(self, task: str) -> TaskSpec | None:
        entry = self.tasks.get(task)
        return None if entry is None else entry.spec


class Talk:
    """A conversation, the jobs that came of it, and what was said. `said` is all lines so far.

    `plain`: nothing is to be done for its socket. `at_once`: answers that were not left to `output` therefore.
    """

    def __init__(self, limits: Limits | None = None, *, draining: bool = False) -> None:
        numbers = count(1)
        self.now = 0.0
        self.jobs: list[Submit] = []
        self.owners: list[int] = []
        self.cancelled: list[bytes] = []
        self.said: list[Any] = []
        self.plain = True
        self.at_once: list[bytes] = []
        self.conversation = Conversation(
            Tasks(),
            (ORDERED_KEY, PARALLEL_KEY),
            new_id=lambda: next(numbers).to_bytes(16, "big"),
            limits=limits or Limits(line=LINE),
            draining=draining,
            now=0.0,
        )

    def hear(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.conversation.received(piece, self.now)
            self.take()

    def ask(self, *requests: dict[str, Any]) -> None:
        """Requests that come in one piece."""
        self.hear(b"".join(map(line, requests)))

    def end(self, number: int, body: bytes | None = None) -> None:
        """The job that was handed over as the nth, counted from 0, ends; with its arguments, unless told otherwise."""
        job = self.jobs[number]
        self.told(Result(job.id, job.attempt, bytes(job.body or b"null") if body is None else body))

    def told(self, *items: NodeItem) -> None:
        """The scheduler tells one of the two owners these items."""
        at_once = self.conversation.answer(list(items), self.now, plain=self.plain)
        if at_once:
            self.at_once.append(at_once)
        self.take()

    def phase(self) -> Phase:
        return self.conversation.phase

    def do(self, what: Callable[[float], None]) -> None:
        what(self.now)
        self.take()

    def take(self) -> None:
        for event in self.conversation.events():
            if isinstance(event, Submitted):
                self.jobs += event.jobs
                self.owners += [event.owner.key] * len(event.jobs)
            else:
                assert isinstance(event, CancelAsked)
                self.cancelled.append(event.id)

    def hushed(self) -> bool:
        return self.conversation.hushed(self.now)

    def listen(self) -> list[Any]:
        """Take what is said now."""
        lines = b"".join(self.at_once)
        self.at_once.clear()
        if self.conversation.speaks:
            lines += self.conversation.output()
        assert lines[-1:] in (b"", b"\n")
        assert lines.isascii()
        heard = [json.loads(one) for one in lines.splitlines()]
        self.said += heard
        return heard

    def asked_with(self) -> list[bytes]:
        return [bytes(job.body) for job in self.jobs]


def line(request: dict[str, Any]) -> bytes:
    return json.dumps(request).encode() + b"\n"


def note(value: Any = None, **options: Any) -> dict[str, Any]:
    return {"function": "note", "args": [value], **options}


def kinds(answers: list[Any]) -> list[str]:
    """The errors' names; for results the word."""
    return [one["error"]["type"] if isinstance(one, dict) and "error" in one else "result" for one in answers]


# a lone request


def test_a_lone_request_is_handed_over_at_once_and_its_answer_is_all_that_is_said() -> None:
    talk = Talk()
    talk.hear(b'{"function": "note", "args": {"a": 1}}\n')
    assert talk.jobs == [Submit((1).to_bytes(16, "big"), 1, "note", FORM_JSON, None, Options(), b'{"a": 1}')]
    assert talk.owners == [ORDERED_KEY]
    assert talk.conversation.requests == 1
    assert talk.conversation.calm
    assert not talk.conversation.speaks
    talk.end(0)
    assert talk.conversation.speaks
    assert not talk.hushed()
    assert talk.conversation.output() == b'{"a": 1}\n'
    assert not talk.conversation.speaks
    assert talk.conversation.calm
    assert talk.conversation.next_wake(0.0) is None


def test_once_spoken_to_the_answer_to_a_lone_request_may_be_written_at_once() -> None:
    talk = Talk()
    for number in range(3):
        talk.ask(note(number))
        talk.end(number)
        assert bool(talk.at_once) is (number > 0)
        assert talk.listen() == [[number]]
        assert not talk.conversation.speaks


def test_an_answer_that_the_socket_is_not_ready_for_is_not_given_to_be_written_at_once() -> None:
    talk = Talk()
    talk.ask(note(0))
    talk.end(0)
    talk.listen()
    talk.plain = False
    talk.ask(note(1))
    talk.end(1)
    assert talk.at_once == []
    talk.plain = True
    talk.ask(note(2))
    talk.end(2)
    assert talk.listen() == [[1], [2]]


def test_answers_are_given_to_be_written_at_once_where_nothing_more_is_owed() -> None:
    talk = Talk()
    talk.ask(note(0))
    talk.end(0)
    talk.listen()
    talk.ask(note(1), note(2), note(3, id=3))
    for number in (2, 1):
        talk.end(number)
        assert talk.at_once == []
    talk.end(3)
    assert len(talk.at_once) == 1
    assert talk.listen() == [[1], [2], {"id": 3, "ok": True, "result": [3]}]
    talk.ask(note(4))
    talk.told(Failed(talk.jobs[4].id, 1, b"{}"))
    assert len(talk.at_once) == 1
    assert talk.listen() == [{"error": {}}]


def test_no_answer_is_given_to_be_written_at_once_while_a_line_has_begun_or_an_end_is_in_sight() -> None:
    happens: list[Callable[[Talk], None]] = [
        lambda talk: talk.hear(b"{"),
        lambda talk: talk.do(talk.conversation.ended),
        lambda talk: talk.do(talk.conversation.drain),
        lambda talk: talk.do(talk.conversation.paused),
        lambda talk: talk.conversation.refuse("full", 0.0),
    ]
    for unusual in happens:
        talk = Talk()
        talk.ask(note(0))
        talk.end(0)
        talk.listen()
        talk.ask(note(1))
        unusual(talk)
        talk.end(1)
        assert talk.at_once == []
        assert talk.listen()[0] == [1]


def test_lone_requests_one_after_another_are_answered_one_after_another() -> None:
    talk = Talk()
    for number in range(5):
        talk.ask(note(number))
        talk.end(number)
        assert talk.listen() == [[number]]
        assert talk.conversation.calm
    assert talk.conversation.requests == 5
    assert set(talk.owners) == {ORDERED_KEY}


def test_a_lone_request_has_its_tasks_time_and_priority() -> None:
    talk = Talk()
    talk.now = 10.0
    talk.hear(b'{"function": "timed"}\n')
    (job,) = talk.jobs
    assert (job.remaining, job.options, job.body) == (2000, Options(priority=7), b"")


@pytest.mark.parametrize(
    ("item", "answer"),
    [
        (Failed((1).to_bytes(16, "big"), 1, b'{"type": "ValueError"}'), "ValueError"),
        (Reject((1).to_bytes(16, "big"), 1, DRAINING, "leaving"), "MeshBusy"),
        (Lost((1).to_bytes(16, "big"), 1, CRASH, True, "killed"), "JobLost"),
    ],
    ids=["failed", "rejected", "lost"],
)
def test_a_lone_request_that_comes_to_nothing_is_answered_with_its_error_and_the_next_one_as_ever(
    item: Failed | Reject | Lost, answer: str
) -> None:
    talk = Talk()
    talk.ask(note(1))
    talk.told(item)
    assert kinds(talk.listen()) == [answer]
    talk.ask(note(2))
    talk.end(1)
    assert talk.listen() == [[2]]


def test_what_is_told_of_another_job_is_no_answer_to_a_lone_request() -> None:
    talk = Talk()
    talk.ask(note(1))
    talk.told(Result(bytes(16), 1, b'"not mine"'))
    assert talk.listen() == []
    talk.end(0)
    assert talk.listen() == [[1]]


@pytest.mark.parametrize(
    ("piece", "owner", "answer"),
    [
        (b'{"function": "note", "args": [1]}\r\n', ORDERED_KEY, [1]),
        (b'\xef\xbb\xbf{"function": "note", "args": [1]}\n', ORDERED_KEY, [1]),
        (b' {"function": "note", "args": [1]}\n', ORDERED_KEY, [1]),
        (b'\n{"function": "note", "args": [1]}\n', ORDERED_KEY, [1]),
        (b'{"function": "note", "args": [1]}\n\n', ORDERED_KEY, [1]),
        (b'{"function": "note", "args": [1], "more": 1}\n', ORDERED_KEY, [1]),
        (b'{"function": "note", "args": [1], "id": null}\n', ORDERED_KEY, [1]),
        (b'{"function": "note", "args": [1], "id": 0}\n', PARALLEL_KEY, {"id": 0, "ok": True, "result": [1]}),
        (b'{"function": "note", "args": [1], "id": ""}\n', PARALLEL_KEY, {"id": "", "ok": True, "result": [1]}),
        (b'{"function": "note", "args": [1], "timeout": 3}\n', ORDERED_KEY, [1]),
        (b'{"function": "note", "args": [1], "priority": 0}\n', ORDERED_KEY, [1]),
        (b'{"function": "note", "args": [1], "cancel_on_disconnect": true}\n', ORDERED_KEY, [1]),
    ],
)
def test_a_single_request_that_is_in_the_least_unusual_is_answered_all_the_same(
    piece: bytes, owner: int, answer: Any
) -> None:
    talk = Talk()
    talk.hear(piece)
    assert talk.owners == [owner]
    assert talk.conversation.requests == 1
    talk.end(0)
    assert talk.listen() == [answer]
    talk.ask(note(2))
    talk.end(1)
    assert talk.listen() == [[2]]


def test_options_of_a_single_request_reach_its_job() -> None:
    talk = Talk()
    talk.ask(note(1, timeout=3, priority=0))
    (job,) = talk.jobs
    assert (job.remaining, job.options) == (3000, Options(priority=0))


@pytest.mark.parametrize(
    ("piece", "answer"),
    [
        (b'{"function": "nothing"}\n', "UnknownTask"),
        (b'{"function": "shut"}\n', "NotAllowed"),
        (b'{"function": 1}\n', "ProtocolError"),
        (b"{nonsense}\n", "ProtocolError"),
        (b"nonsense\n", "ProtocolError"),
        (b"[]\n", "ProtocolError"),
        (b'{"function": "note", "priority": 10}\n', "ProtocolError"),
    ],
)
def test_a_single_line_that_asks_for_nothing_that_could_run_is_answered_at_once(piece: bytes, answer: str) -> None:
    talk = Talk()
    talk.hear(piece)
    assert talk.jobs == []
    assert talk.conversation.calm
    assert kinds(talk.listen()) == [answer]
    talk.ask(note(2))
    talk.end(0)
    assert talk.listen() == [[2]]


def test_a_ping_is_answered_without_a_job() -> None:
    talk = Talk()
    talk.ask({"function": "$ping"})
    assert talk.jobs == []
    assert talk.listen() == [{"ok": True}]


@pytest.mark.parametrize(
    "piece", [b'{"function":\n"note"}\n', b'{"function": "note"\n}\n', b'{\n"function": "note", "args": [1]}\n']
)
def test_a_request_with_an_inner_newline_is_two_bad_lines_and_no_request(piece: bytes) -> None:
    talk = Talk()
    talk.hear(piece)
    assert talk.jobs == []
    assert kinds(talk.listen()) == ["ProtocolError", "ProtocolError"]
    assert talk.conversation.requests == 2


# several plain requests that come together


def test_plain_requests_that_come_together_are_handed_over_together_and_answered_in_their_order() -> None:
    talk = Talk()
    talk.ask(note(1), note(2), note(3))
    assert talk.asked_with() == [b"[1]", b"[2]", b"[3]"]
    assert set(talk.owners) == {ORDERED_KEY}
    assert talk.conversation.requests == 3
    assert talk.conversation.calm
    talk.end(0)
    assert talk.hushed()
    talk.now = QUIET_S
    assert talk.listen() == [[1]]
    talk.told(*(Result(talk.jobs[number].id, 1, b"%d" % number) for number in (1, 2)))
    assert talk.listen() == [1, 2]
    assert talk.conversation.calm


def test_plain_requests_that_come_behind_others_of_their_kind_go_over_at_once_and_are_answered_in_their_order() -> None:
    talk = Talk()
    talk.ask(note(1), note(2))
    talk.ask(note(3))
    assert talk.asked_with() == [b"[1]", b"[2]", b"[3]"]
    assert talk.conversation.calm
    talk.told(*(Result(talk.jobs[number].id, 1, b"%d" % number) for number in (0, 1)))
    talk.ask(note(4))
    assert len(talk.jobs) == 4
    talk.told(*(Result(talk.jobs[number].id, 1, b"%d" % number) for number in (2, 3)))
    talk.now = QUIET_S
    assert talk.listen() == [0, 1, 2, 3]


@pytest.mark.parametrize("order", list(permutations(range(4))))
def test_whatever_ends_first_plain_requests_are_answered_in_their_order(order: tuple[int, ...]) -> None:
    talk = Talk()
    talk.ask(*(note(number) for number in range(4)))
    for done, number in enumerate(order, 1):
        talk.end(number)
        talk.listen()
        begun = [n for n in range(4) if set(range(n + 1)) <= set(order[:done])]
        assert talk.said == [[n] for n in begun]
    assert talk.conversation.calm


@pytest.mark.parametrize("failing", range(3))
def test_one_plain_request_that_fails_is_answered_in_its_place(failing: int) -> None:
    talk = Talk()
    talk.ask(*(note(number) for number in range(3)))
    items: list[NodeItem] = [Result(job.id, 1, b"1") for job in talk.jobs]
    items[failing] = Reject(talk.jobs[failing].id, 1, DRAINING, "leaving")
    talk.told(*items)
    answers = kinds(talk.listen())
    assert answers.pop(failing) == "MeshBusy"
    assert answers == ["result", "result"]


def test_of_plain_requests_some_of_which_are_answered_the_rest_is_lost_when_the_node_stops() -> None:
    talk = Talk()
    talk.ask(*(note(number) for number in range(3)))
    talk.end(0)
    talk.do(talk.conversation.shut)
    assert kinds(talk.listen()) == ["result", "JobLost", "JobLost"]


def test_plain_requests_beyond_some_size_are_handed_over_as_far_as_the_bounds_allow() -> None:
    talk = Talk(Limits())
    few, many = [note("x" * 100)] * 20, [note("x" * 100)] * ORDERED_AHEAD * 2
    talk.ask(*few)
    assert len(talk.jobs) == 20
    other = Talk(Limits())
    other.ask(*many)
    assert len(b"".join(map(line, many))) > PLAIN_BYTES
    assert len(other.jobs) == ORDERED_AHEAD


def test_plain_requests_of_several_priorities_wait_for_each_other() -> None:
    talk = Talk()
    talk.ask(note(1), {"function": "timed"})
    assert [job.task for job in talk.jobs] == ["note"]
    talk.end(0)
    assert [job.task for job in talk.jobs] == ["note", "timed"]


# what happens while a lone request is under way


def test_a_second_request_is_answered_after_the_first_whichever_ends_first() -> None:
    talk = Talk()
    talk.ask(note(1))
    talk.ask(note(2))
    talk.end(1)
    assert talk.listen() == []
    talk.end(0)
    assert talk.listen() == [[1], [2]]
    assert talk.conversation.calm
    assert talk.owners == [ORDERED_KEY] * 2


def test_a_bad_line_or_a_ping_after_a_lone_request_is_answered_after_it() -> None:
    talk = Talk()
    talk.ask(note(1))
    talk.hear(b"nonsense\n", line({"function": "$ping"}))
    assert talk.listen() == []
    talk.end(0)
    assert kinds(talk.listen()) == ["result", "ProtocolError", "result"]


def test_a_request_with_an_id_is_answered_before_the_lone_one_if_it_ends_before() -> None:
    talk = Talk()
    talk.ask(note(1))
    talk.ask(note(2, id="x"))
    assert talk.owners == [ORDERED_KEY, PARALLEL_KEY]
    talk.end(1)
    assert talk.listen() == [{"id": "x", "ok": True, "result": [2]}]
    talk.end(0)
    assert talk.listen() == [[1]]


def test_part_of_a_second_line_leaves_the_first_answer_as_it_is() -> None:
    talk = Talk()
    talk.ask(note(1))
    talk.hear(line(note(2))[:10])
    assert not talk.conversation.calm
    talk.end(0)
    assert talk.listen() == [[1]]
    talk.hear(line(note(2))[10:])
    assert talk.conversation.calm
    talk.end(1)
    assert talk.listen() == [[2]]


def test_a_caller_that_has_ended_its_side_gets_the_answer_and_then_the_end() -> None:
    talk = Talk()
    talk.ask(note(1))
    talk.do(talk.conversation.ended)
    assert talk.phase() is Phase.OPEN
    assert not talk.conversation.calm
    talk.end(0)
    assert talk.listen() == [[1]]
    assert talk.phase() is Phase.OVER
    assert talk.conversation.finished


def test_a_lone_request_of_a_lost_connection_runs_on_unheard() -> None:
    talk = Talk()
    talk.ask(note(1))
    talk.do(talk.conversation.lost)
    assert talk.phase() is Phase.OVER
    assert not talk.conversation.finished
    assert talk.cancelled == []
    talk.end(0)
    assert talk.conversation.finished
    assert talk.listen() == []


def test_a_node_that_drains_answers_the_lone_request_and_then_lets_its_caller_go() -> None:
    talk = Talk()
    talk.ask(note(1))
    talk.do(talk.conversation.drain)
    assert talk.phase() is Phase.OPEN
    talk.end(0)
    assert talk.listen() == [[1]]
    assert talk.phase() is Phase.LINGERING
    talk.ask(note(2))
    assert len(talk.jobs) == 1, "input is dropped now"
    assert talk.conversation.next_wake(talk.now) == LINGER_S
    talk.now = LINGER_S
    talk.do(talk.conversation.tick)
    assert talk.conversation.finished


def test_a_node_that_stops_says_that_the_lone_request_is_lost() -> None:
    talk = Talk()
    talk.ask(note(1))
    talk.do(talk.conversation.shut)
    (answer,) = talk.listen()
    assert answer["error"]["type"] == "JobLost"
    assert answer["error"]["started"] is True
    talk.end(0)
    assert talk.listen() == []


def test_time_that_passes_while_a_lone_request_runs_ends_nothing() -> None:
    talk = Talk(Limits(line=LINE, idle=5.0))
    talk.ask(note(1))
    talk.now = 100.0
    talk.do(talk.conversation.tick)
    assert talk.phase() is Phase.OPEN
    talk.end(0)
    assert talk.listen() == [[1]]
    plain = Talk()
    plain.ask(note(1))
    plain.now = 1e6
    plain.do(plain.conversation.tick)
    plain.end(0)
    assert plain.listen() == [[1]]


def test_a_lone_request_is_answered_although_its_caller_had_stopped_reading_meanwhile() -> None:
    talk = Talk()
    talk.ask(note(1))
    talk.do(talk.conversation.paused)
    talk.end(0)
    assert talk.at_once == []
    talk.do(talk.conversation.resumed)
    assert talk.listen() == [[1]]
    assert talk.conversation.calm


def test_a_lone_request_is_the_first_of_those_that_may_be_handed_over_ahead() -> None:
    talk = Talk(Limits())
    talk.ask(note(0))
    for number in range(1, 2 * ORDERED_AHEAD):
        talk.ask(note(number))
    assert len(talk.jobs) == ORDERED_AHEAD
    talk.end(0)
    assert len(talk.jobs) == ORDERED_AHEAD + 1


def test_a_lone_request_of_another_priority_ends_before_the_next_is_handed_over() -> None:
    talk = Talk()
    talk.ask(note(1))
    talk.ask(note(2, priority=9))
    assert talk.asked_with() == [b"[1]"]
    assert not talk.conversation.calm
    talk.end(0)
    assert talk.asked_with() == [b"[1]", b"[2]"]
    talk.end(1)
    assert talk.listen() == [[1], [2]]
    assert talk.conversation.calm


# several requests


def test_answers_without_an_id_come_in_the_order_of_their_requests_and_with_one_as_they_end() -> None:
    talk = Talk()
    talk.ask(note(0), note(1, id="a"), note(2), {"function": "nothing"}, note(3, id="b"))
    assert sorted(talk.asked_with()) == [b"[0]", b"[1]", b"[2]", b"[3]"]
    places = {body: place for place, body in enumerate(talk.asked_with())}
    talk.end(places[b"[3]"])
    talk.end(places[b"[2]"])
    assert talk.listen() == [{"id": "b", "ok": True, "result": [3]}]
    talk.end(places[b"[0]"])
    assert kinds(talk.listen()) == ["result", "result", "UnknownTask"]
    talk.end(places[b"[1]"])
    assert talk.conversation.calm
    assert talk.listen() == [{"id": "a", "ok": True, "result": [1]}]


def test_an_id_that_is_in_use_is_refused_until_it_is_answered() -> None:
    talk = Talk()
    talk.ask(note(1, id=7), note(2, id=7))
    (refused,) = talk.listen()
    assert (refused["id"], kinds([refused])) == (7, ["ProtocolError"])
    talk.end(0)
    talk.ask(note(3, id=7))
    talk.end(1)
    assert talk.listen()[1:] == [{"id": 7, "ok": True, "result": [3]}]


def test_a_bounded_number_of_jobs_of_each_kind_is_handed_over_and_the_rest_as_they_end() -> None:
    talk = Talk(Limits())
    for start in range(0, 400, 100):
        talk.ask(*(note(n) for n in range(start, start + 100)), *(note(n, id=n) for n in range(start, start + 100)))
    assert talk.owners.count(ORDERED_KEY) == ORDERED_AHEAD
    assert talk.owners.count(PARALLEL_KEY) == PARALLEL
    assert not talk.conversation.calm
    number = 0
    while number < len(talk.jobs):
        talk.end(number)
        number += 1
    assert number == 800
    assert [answer for answer in talk.listen() if isinstance(answer, list)] == [[n] for n in range(400)]
    assert talk.conversation.calm


def test_a_piece_with_very_many_lines_is_taken_in_several_turns() -> None:
    talk = Talk()
    talk.ask(*[{"function": "$ping"}] * (BURST + 10))
    assert talk.conversation.more
    assert not talk.conversation.calm
    assert len(talk.listen()) == BURST
    talk.do(talk.conversation.advance)
    assert not talk.conversation.more
    assert len(talk.listen()) == 10
    assert talk.conversation.calm


def test_reading_pauses_while_very_many_lines_wait_and_goes_on_when_they_have_gone() -> None:
    talk = Talk()
    many = line(note(1)) * (READ_LINES // 2)
    talk.hear(many)
    assert talk.conversation.reads()
    talk.hear(many)
    assert not talk.conversation.reads()
    number = 0
    while not talk.conversation.reads():
        if talk.conversation.more:
            talk.do(talk.conversation.advance)
        else:
            talk.end(number)
            number += 1
        talk.listen()
    assert number > 0


def test_reading_pauses_while_too_many_bytes_wait_and_earlier_where_all_connections_hold_too_much() -> None:
    talk = Talk(Limits())
    big = note("x" * (CROWDED_BYTES // 2))
    talk.ask(*[big] * 11)
    assert talk.conversation.held < READ_BYTES
    assert talk.conversation.reads()
    assert talk.conversation.reads(crowded=True) is (talk.conversation.held < CROWDED_BYTES)
    talk.ask(*[big] * 9)
    assert not talk.conversation.reads()
    assert not talk.conversation.reads(crowded=True)


# calm


def test_a_conversation_is_calm_until_a_line_has_begun_a_bound_is_reached_or_an_end_is_in_sight() -> None:
    assert Talk().conversation.calm
    assert not Talk(Limits(idle=5.0)).conversation.calm
    assert not Talk(draining=True).conversation.calm
    unusual: list[Callable[[Talk], None]] = [
        lambda talk: talk.hear(b"{"),
        lambda talk: talk.do(talk.conversation.ended),
        lambda talk: talk.do(talk.conversation.lost),
        lambda talk: talk.do(talk.conversation.drain),
        lambda talk: talk.do(talk.conversation.shut),
        lambda talk: talk.do(talk.conversation.paused),
        lambda talk: talk.conversation.refuse("full", 0.0),
        lambda talk: talk.ask(*[note(1)] * (ORDERED_AHEAD + 1)),
        lambda talk: talk.hear(b"x" * LINE),
        lambda talk: talk.hear(b"GET / HTTP/1.1\r\n"),
    ]
    for happens in unusual:
        talk = Talk()
        happens(talk)
        assert not talk.conversation.calm


# lines


@pytest.mark.parametrize("cut", [False, True], ids=["in one piece", "in two"])
@pytest.mark.parametrize(("size", "fits"), [(LINE - 1, True), (LINE, False), (LINE + 1, False)])
def test_a_line_is_shorter_than_its_bound_with_its_end(size: int, *, fits: bool, cut: bool) -> None:
    talk = Talk()
    head, tail = b'{"function": "note", "args": ["', b'"]}\n'
    whole = head + b"x" * (size - len(head) - len(tail)) + tail
    assert len(whole) == size
    talk.hear(*([whole[:10], whole[10:]] if cut else [whole]))
    assert len(talk.jobs) == fits
    if not fits:
        assert kinds(talk.listen()) == ["PayloadTooLarge"]
        assert talk.phase() is Phase.LINGERING


def test_what_stands_before_a_line_that_is_too_long_is_answered_and_what_follows_is_dropped() -> None:
    talk = Talk()
    talk.hear(line(note(1)) + b"x" * 2 * LINE + b"\n" + line(note(2)))
    talk.ask(note(3))
    assert talk.asked_with() == [b"[1]"]
    assert talk.listen() == []
    talk.end(0)
    assert kinds(talk.listen()) == ["result", "PayloadTooLarge"]
    assert talk.phase() is Phase.LINGERING


def test_a_line_that_never_ends_is_refused_as_soon_as_it_is_too_long() -> None:
    talk = Talk()
    for _ in range(LINE // 100 - 1):
        talk.hear(b"x" * 100)
    assert talk.listen() == []
    talk.hear(b"x" * 100)
    assert kinds(talk.listen()) == ["PayloadTooLarge"]
    assert talk.conversation.held == 0


def test_a_last_line_without_an_end_is_not_run() -> None:
    talk = Talk()
    talk.ask(note(1))
    talk.hear(line(note(2)).rstrip())
    talk.do(talk.conversation.ended)
    assert talk.asked_with() == [b"[1]"]
    talk.end(0)
    assert kinds(talk.listen()) == ["result", "ProtocolError"]
    assert talk.phase() is Phase.OVER


@pytest.mark.parametrize(
    "first",
    [b"GET / HTTP/1.1\r\n", b"POST /note HTTP/1.0\n", b"Host: here\r\n", b"\x16\x03\x01 hello\n", b"PRI * HTTP/2\n"],
)
def test_after_a_first_line_of_another_protocol_nothing_runs(first: bytes) -> None:
    talk = Talk()
    talk.hear(first + line(note(1)), line(note(2)))
    assert talk.jobs == []
    assert kinds(talk.listen()) == ["ProtocolError"]
    assert talk.phase() is Phase.LINGERING
    assert talk.listen() == []


def test_a_later_line_that_looks_like_another_protocol_is_a_bad_line_as_any() -> None:
    talk = Talk()
    talk.ask(note(1))
    talk.hear(b"GET / HTTP/1.1\r\n", line(note(2)))
    talk.end(0)
    talk.end(1)
    assert kinds(talk.listen()) == ["result", "ProtocolError", "result"]


LINES = [
    line(note(1)),
    line(note(2)).replace(b"\n", b"\r\n"),
    b"\xef\xbb\xbf" + line(note(3)),
    line(note(4, id=4)),
    line(note(5, id="f\u00fcnf")),
    line(note(6, timeout=1.5)),
    line({"function": "timed"}),
    line({"function": "$ping"}),
    line({"function": "nothing"}),
    b"nonsense\n",
    b"\n",
    b'{"function":\n"note"}\n',
    b"GET / HTTP/1.1\r\n",
    b"y" * LINE + b"\n",
]


def outcome_of(pieces: list[bytes]) -> tuple[list[tuple[str, bytes, int | None]], list[Any], list[str], int]:
    """What comes of a stream whose jobs all end after it: jobs, answers in order, those with an id, and the count."""
    talk = Talk()
    talk.hear(*(piece for piece in pieces if piece))
    number = 0
    while number < len(talk.jobs):
        talk.end(number)
        number += 1
    talk.listen()
    tagged = [answer for answer in talk.said if isinstance(answer, dict) and "id" in answer]
    in_order = [answer for answer in talk.said if answer not in tagged]
    jobs = [(job.task, bytes(job.body), job.remaining) for job in talk.jobs]
    return sorted(jobs, key=repr), in_order, sorted(map(json.dumps, tagged)), talk.conversation.requests


@given(st.lists(st.sampled_from(LINES), max_size=6), st.lists(st.integers(0, 300), max_size=5))
def test_however_a_stream_is_cut_the_same_comes_of_it(lines: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(lines)
    places = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    pieces = [stream[start:stop] for start, stop in pairwise(places)]
    assert outcome_of(pieces) == outcome_of([stream]) == outcome_of(lines)


# time


def test_the_first_answer_waits_for_a_moment_of_silence_where_more_is_asked_for() -> None:
    talk = Talk()
    talk.ask(note(1), note(2))
    talk.end(0)
    assert talk.hushed()
    assert talk.conversation.next_wake(talk.now) == QUIET_S
    talk.now = QUIET_S / 2
    talk.ask(note(3))
    talk.now = QUIET_S
    assert talk.hushed(), "it has asked for more meanwhile"
    talk.now = 1.5 * QUIET_S
    assert not talk.hushed()
    assert talk.listen() == [[1]]
    talk.ask(note(4), note(5))
    assert not talk.hushed(), "it has been spoken to"


def test_the_first_answer_waits_for_silence_only_for_so_long() -> None:
    talk = Talk()
    while talk.now < HUSH_S:
        talk.ask(note(1), note(2))
        assert talk.hushed()
        talk.now += QUIET_S / 2
    talk.now = HUSH_S
    talk.ask(note(1))
    assert not talk.hushed()


def test_the_answer_to_the_only_request_waits_for_nothing_nor_does_one_to_a_caller_that_writes_no_more() -> None:
    one, ended = Talk(), Talk()
    one.ask(note(1))
    assert not one.hushed()
    ended.ask(note(1), note(2))
    ended.do(ended.conversation.ended)
    assert not ended.hushed()


def test_a_caller_that_is_silent_for_too_long_is_let_go_unless_it_is_owed_an_answer() -> None:
    talk = Talk(Limits(line=LINE, idle=5.0))
    assert talk.conversation.next_wake(0.0) == 5.0
    talk.now = 4.0
    talk.ask(note(1))
    assert talk.conversation.next_wake(4.0) is None
    talk.now = 20.0
    talk.do(talk.conversation.tick)
    talk.end(0)
    assert talk.listen() == [[1]]
    assert talk.conversation.next_wake(20.0) == 25.0
    talk.now = 24.9
    talk.do(talk.conversation.tick)
    assert talk.phase() is Phase.OPEN
    talk.now = 25.0
    talk.do(talk.conversation.tick)
    assert talk.phase() is Phase.LINGERING
    assert talk.listen() == [], "it goes without a word"


def test_a_line_that_does_not_end_in_its_time_ends_the_conversation_with_an_error() -> None:
    talk = Talk(Limits(line=LINE, begun=3.0))
    talk.hear(b"{")
    talk.now = 2.0
    talk.hear(b'"function"')
    wake = talk.conversation.next_wake(2.0)
    assert wake == pytest.approx(3.0, abs=0.02)
    assert wake is not None
    talk.now = wake
    talk.do(talk.conversation.tick)
    assert kinds(talk.listen()) == ["ProtocolError"]
    assert talk.phase() is Phase.LINGERING


def test_a_line_of_which_much_comes_has_longer_than_one_that_drips() -> None:
    talk = Talk(Limits(line=1 << 20))
    drips = Talk(Limits(line=1 << 20))
    talk.hear(b"{")
    drips.hear(b"{")
    for second in range(1, 31):
        talk.now = drips.now = float(second)
        talk.hear(b" " * 2 * LINE_RATE)
        drips.hear(b" ")
        talk.do(talk.conversation.tick)
        drips.do(drips.conversation.tick)
        assert (drips.phase() is Phase.OPEN) is (second < 11)
    assert kinds(drips.listen()) == ["ProtocolError"]
    talk.hear(b'"function":"note"}\n')
    assert len(talk.jobs) == 1


def test_however_much_has_come_of_a_line_it_has_only_so_long() -> None:
    limits = Limits()
    assert limits.patience(0) == LINE_S
    assert limits.patience(LINE_RATE) == LINE_S + 1.0
    assert limits.patience(limits.line) == SLOW_S
    assert Limits(begun=2 * SLOW_S).patience(limits.line) == 2 * SLOW_S, "unless a longer time is asked for"


def test_the_time_of_a_request_that_waits_here_runs_out_here() -> None:
    talk = Talk()
    talk.ask(note(1, priority=1), note(2, priority=2, timeout=0.5), note(3, priority=2))
    assert talk.asked_with() == [b"[1]"]
    wake = talk.conversation.next_wake(0.0)
    assert wake is not None
    assert wake <= LOOK_S
    talk.now = 0.5
    talk.do(talk.conversation.tick)
    talk.end(0)
    assert talk.asked_with() == [b"[1]", b"[3]"]
    talk.end(1)
    assert kinds(talk.listen()) == ["result", "JobTimeout", "result"]


def test_a_request_is_handed_over_with_what_is_left_of_its_time() -> None:
    talk = Talk()
    talk.ask(note(1, priority=1), note(2, priority=2, timeout=3))
    talk.now = 1.0
    talk.end(0)
    assert [job.remaining for job in talk.jobs] == [None, 2000]


def test_a_caller_that_does_not_read_is_given_up_after_a_while() -> None:
    talk = Talk(Limits(line=LINE, unread=10.0))
    talk.ask(note(1))
    talk.do(talk.conversation.paused)
    assert talk.conversation.waits_for_reader
    assert talk.conversation.next_wake(0.0) == 10.0
    talk.now = 9.9
    talk.do(talk.conversation.tick)
    assert not talk.conversation.unread
    talk.now = 10.0
    talk.do(talk.conversation.tick)
    assert talk.conversation.unread
    assert talk.phase() is Phase.OVER
    assert talk.cancelled == []


def test_what_a_caller_that_does_not_read_asks_for_is_not_handed_over_before_it_reads() -> None:
    talk = Talk()
    talk.do(talk.conversation.paused)
    talk.ask(note(1))
    assert talk.jobs == []
    talk.do(talk.conversation.resumed)
    assert talk.asked_with() == [b"[1]"]


# the end


def test_a_caller_that_asked_for_nothing_and_ends_is_let_go_at_once() -> None:
    talk = Talk()
    talk.do(talk.conversation.ended)
    assert talk.conversation.finished
    assert talk.listen() == []


def test_requests_that_are_wanted_only_while_their_caller_is_there_are_cancelled_when_it_goes() -> None:
    for going in ("ended", "lost"):
        talk = Talk()
        talk.ask(note(1, priority=1, cancel_on_disconnect=True), note(2, priority=2, cancel_on_disconnect=True))
        talk.ask(note(3, id=3), note(4, id=4, cancel_on_disconnect=True))
        talk.do(getattr(talk.conversation, going))
        places = {body: place for place, body in enumerate(talk.asked_with())}
        assert b"[2]" not in places, "it is not handed over any more"
        assert sorted(talk.cancelled) == sorted(talk.jobs[places[body]].id for body in (b"[1]", b"[4]"))


def test_a_node_that_drains_hands_over_all_that_was_read_and_answers_it() -> None:
    talk = Talk(Limits())
    talk.ask(note(0))
    talk.ask(*(note(n) for n in range(1, ORDERED_AHEAD + 50)))
    assert len(talk.jobs) == ORDERED_AHEAD
    talk.do(talk.conversation.drain)
    assert len(talk.jobs) == ORDERED_AHEAD + 50
    talk.ask({"function": "$ping"})
    for number in range(len(talk.jobs)):
        talk.end(number)
    answers = talk.listen()
    assert answers[:-1] == [[n] for n in range(ORDERED_AHEAD + 50)]
    assert kinds(answers[-1:]) == ["MeshBusy"]
    assert talk.phase() is Phase.LINGERING


def test_a_node_that_drains_lets_a_caller_go_that_is_owed_nothing_but_not_in_the_middle_of_a_line() -> None:
    idle, writing = Talk(), Talk()
    idle.do(idle.conversation.drain)
    assert idle.phase() is Phase.LINGERING
    writing.hear(b'{"function"')
    writing.do(writing.conversation.drain)
    assert writing.phase() is Phase.OPEN
    writing.hear(b': "$ping"}\n')
    assert kinds(writing.listen()) == ["MeshBusy"]
    assert writing.phase() is Phase.LINGERING


def test_a_connection_that_is_refused_hears_why_after_what_it_had_asked_for() -> None:
    talk = Talk()
    talk.ask(note(1))
    talk.conversation.refuse("too much", talk.now)
    assert talk.listen() == []
    talk.end(0)
    answers = talk.listen()
    assert kinds(answers) == ["result", "MeshBusy"]
    assert answers[1]["error"]["message"] == "too much"
    assert talk.phase() is Phase.LINGERING


def test_a_connection_may_be_refused_for_another_reason() -> None:
    talk = Talk()
    talk.conversation.refuse("who are you?", 0.0, kind=NotAllowed)
    talk.take()
    assert kinds(talk.listen()) == ["NotAllowed"]
    assert talk.phase() is Phase.LINGERING


def test_a_node_that_stops_answers_all_that_is_owed_whether_it_runs_waits_or_was_just_read() -> None:
    talk = Talk()
    talk.ask(note(1, priority=1), note(2, priority=2), note(3, id=3))
    talk.do(talk.conversation.shut)
    answers = talk.listen()
    assert sorted(kinds(answers)) == ["JobLost", "JobLost", "MeshBusy"]
    assert [answer["error"]["started"] for answer in answers if "id" not in answer] == [True, False]
    assert talk.phase() is Phase.LINGERING


def test_input_is_read_and_dropped_for_a_moment_after_the_last_word() -> None:
    talk = Talk()
    talk.hear(b"GET / HTTP/1.1\r\n")
    talk.listen()
    assert talk.conversation.reads()
    talk.ask(note(1))
    assert (talk.jobs, talk.listen(), talk.conversation.held) == ([], [], 0)
    talk.now = LINGER_S
    talk.do(talk.conversation.tick)
    assert talk.conversation.finished
    assert talk.conversation.next_wake(talk.now) is None
