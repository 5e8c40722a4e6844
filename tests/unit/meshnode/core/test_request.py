"""What a bridge caller's line comes to: a job, or an answer at once."""

import json
from itertools import count
from typing import Any

import pytest

from mesh.wire.messages import (
    BUSY,
    CANCELLED,
    CRASH,
    DRAINING,
    EXPIRED,
    FORM_JSON,
    TOO_BIG,
    UNKNOWN_TASK,
    Failed,
    Lost,
    Options,
    Reject,
    Result,
    Submit,
    TaskSpec,
)
from meshnode.core.held import FOREVER, TaskEntry
from meshnode.core.request import MARKED, Asked, Desk, OpenTasks, outcome

ID = bytes(16)
NOW = 50.0


class Tasks:
    """What this node serves, and `far`, which another one does."""

    def __init__(self) -> None:
        specs = [
            TaskSpec("open", bridge=True),
            TaskSpec("opens", bridge=True, timeout=3.0, priority=7),
            TaskSpec("opened"),
        ]
        self.tasks = {spec.name: TaskEntry(spec, index) for index, spec in enumerate(specs)}

    def knows(self, task: str) -> TaskSpec | None:
        entry = self.tasks.get(task)
        if entry is not None:
            return entry.spec
        return TaskSpec("far", bridge=True) if task == "far" else None


def desk(*, draining: bool = False, is_open: OpenTasks = MARKED) -> Desk:
    numbers = count(1)
    return Desk(Tasks(), lambda: next(numbers).to_bytes(16, "big"), draining=draining, is_open=is_open)


def take(line: bytes, *, draining: bool = False, open_tags: tuple[bytes, ...] = ()) -> Asked:
    return desk(draining=draining).take(line, NOW, open_tags=open_tags)


def submitted(asked: Asked) -> Submit:
    assert asked.answer is None
    assert asked.submit is not None
    return asked.submit


def error_of(asked: Asked) -> dict[str, Any]:
    assert asked.submit is None
    assert asked.answer is not None
    error: dict[str, Any] = json.loads(asked.answer)["error"]
    return error


def test_a_request_becomes_a_job_with_its_arguments_as_they_came() -> None:
    asked = take(b'{"function": "open", "args": [1, 2]}')
    assert submitted(asked) == Submit((1).to_bytes(16, "big"), 1, "open", FORM_JSON, None, Options(), b"[1, 2]")
    assert (asked.tag, asked.size, asked.expires, asked.fragile) == (None, 6, FOREVER, False)


def test_each_job_gets_an_id_of_its_own_whatever_its_caller_calls_it() -> None:
    one_desk = desk()
    lines = [b'{"function": "open", "id": 1}', b'{"function": "open", "id": 2}', b'{"function": "open"}']
    asked = [one_desk.take(line, NOW, open_tags=()) for line in lines]
    assert [one.tag for one in asked] == [b"1", b"2", None]
    assert len({submitted(one).id for one in asked}) == 3


@pytest.mark.parametrize(
    ("fields", "expires", "priority"),
    [
        (b'"function": "open"', FOREVER, 5),
        (b'"function": "open", "timeout": 0.5, "priority": 0', NOW + 0.5, 0),
        (b'"function": "opens"', NOW + 3, 7),
        (b'"function": "opens", "timeout": 9, "priority": 1', NOW + 9, 1),
    ],
)
def test_what_a_request_asks_for_comes_before_what_its_task_says(fields: bytes, expires: float, priority: int) -> None:
    asked = take(b"{" + fields + b"}")
    assert asked.expires == expires
    assert submitted(asked).options == Options(priority=priority)


def test_a_request_may_be_wanted_only_while_its_caller_is_there() -> None:
    assert take(b'{"function": "open", "cancel_on_disconnect": true}').fragile


def test_a_task_that_only_another_node_serves_can_be_asked_for() -> None:
    assert submitted(take(b'{"function": "far"}')).task == "far"


def test_a_line_that_is_no_request_is_answered_under_its_id() -> None:
    asked = take(b'{"id": 4}')
    assert asked.tag == b"4"
    assert error_of(asked)["type"] == "ProtocolError"


def test_an_id_in_use_cannot_be_used_again_before_its_answer() -> None:
    line = b'{"function": "open", "id": 4}'
    asked = take(line, open_tags=(b"4",))
    assert error_of(asked)["type"] == "ProtocolError"
    assert asked.tag == b"4"
    assert submitted(take(line, open_tags=(b"5", b'"4"'))).task == "open"


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        (b'{"function": "$ping"}', {"ok": True}),
        (b'{"function": "$ping", "id": 1}', {"id": 1, "ok": True, "result": {"ok": True}}),
    ],
)
def test_a_ping_is_answered_without_a_job(line: bytes, answer: dict[str, Any]) -> None:
    asked = take(line)
    assert asked.submit is None
    assert asked.answer is not None
    assert json.loads(asked.answer) == answer


def test_a_ping_to_a_node_that_is_leaving_fails_so_that_a_load_balancer_turns_away() -> None:
    error = error_of(take(b'{"function": "$ping"}', draining=True))
    assert (error["type"], error["retryable"], error["started"]) == ("MeshBusy", True, False)


def test_a_task_that_is_not_open_to_plain_sockets_is_not_run() -> None:
    error = error_of(take(b'{"function": "opened"}'))
    assert error["type"] == "NotAllowed"
    assert "opened" in error["message"]


def test_an_unknown_task_is_said_to_be_unknown_with_those_near_it_that_are_open() -> None:
    error = error_of(take(b'{"function": "opn"}'))
    assert error["type"] == "UnknownTask"
    assert "'open' or 'opens'" in error["message"]
    assert "opened" not in error["message"]


def test_a_name_like_no_other_gets_no_hint() -> None:
    assert error_of(take(b'{"function": "zzz"}'))["message"] == "no node serves a task 'zzz'"


def test_a_long_unknown_name_is_not_sent_back_whole() -> None:
    assert len(error_of(take(b'{"function": "' + b"x" * 100_000 + b'"}'))["message"]) < 200


def test_what_a_job_returned_or_raised_is_sent_as_it_came() -> None:
    assert json.loads(outcome(b"1", Result(ID, 1, b"[3]"))) == {"id": 1, "ok": True, "result": [3]}
    assert outcome(None, Result(ID, 1, b"[3]")) == b"[3]\n"
    failed = json.loads(outcome(b"1", Failed(ID, 1, b'{"type":"ValueError"}')))
    assert failed == {"id": 1, "ok": False, "error": {"type": "ValueError"}}


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        (UNKNOWN_TASK, "UnknownTask"),
        (EXPIRED, "JobTimeout"),
        (CANCELLED, "JobCancelled"),
        (TOO_BIG, "PayloadTooLarge"),
        (BUSY, "MeshBusy"),
        (DRAINING, "MeshBusy"),
        ("a reason of a later version", "MeshBusy"),
    ],
)
def test_a_rejected_job_surely_did_not_run(reason: str, kind: str) -> None:
    error = json.loads(outcome(None, Reject(ID, 1, reason, "why")))["error"]
    assert (error["type"], error["message"], error["started"]) == (kind, "why", False)


@pytest.mark.parametrize(("reason", "kind"), [(EXPIRED, "JobTimeout"), (CRASH, "JobLost")])
@pytest.mark.parametrize("started", [True, False])
def test_a_lost_job_says_if_it_may_have_run(reason: str, kind: str, *, started: bool) -> None:
    error = json.loads(outcome(None, Lost(ID, 1, reason, started, "why")))["error"]
    assert (error["type"], error["message"], error["started"]) == (kind, "why", started)


# plain requests


LIMIT = 300


def plain(piece: bytes, *, limit: int = LIMIT) -> list[Submit] | None:
    return desk().plain(piece, limit=limit)


@pytest.mark.parametrize(
    "piece",
    [
        b'{"function": "open", "args": [1]}\n',
        b'{"function": "open", "args": {"a": "\\n"}}\n',
        b'{"function":"open","args":null}\n',
        b'{"function": "opens"}\n',
        b'{"function": "open"}\r\n',
        b'{"function": "open"}\n{"function": "open", "args": [2]}\n{"function": "open"}\n',
    ],
)
def test_plain_requests_are_read_as_any_others(piece: bytes) -> None:
    one_desk = desk()
    usual = [one_desk.take(line, NOW, open_tags=()) for line in piece.splitlines()]
    for asked in usual:
        submitted(asked).remaining = None if asked.expires == FOREVER else round((asked.expires - NOW) * 1000)
    assert plain(piece) == [asked.submit for asked in usual]


def test_plain_requests_carry_the_time_and_the_priority_of_their_task() -> None:
    assert plain(b'{"function": "opens"}\n') == [
        Submit((1).to_bytes(16, "big"), 1, "opens", FORM_JSON, 3000, Options(priority=7), b"")
    ]


@pytest.mark.parametrize(
    "unusual",
    [
        b'{"function": "open"}',
        b'{"function":\n"open"}\n',
        b"\n",
        b"\r\n",
        b'\xef\xbb\xbf{"function": "open"}\n',
        b'{"function": "open", "id": 1}\n',
        b'{"function": "open", "id": ""}\n',
        b'{"function": "open", "timeout": 1}\n',
        b'{"function": "open", "priority": 5}\n',
        b'{"function": "open", "priority": 0}\n',
        b'{"function": "open", "cancel_on_disconnect": true}\n',
        b'{"function": "open", "priority": 99}\n',
        b'{"function":"open","args":null,"id":null,"timeout":null,"priority":null,"cancel_on_disconnect":null}\n',
        b'{"function": "open", "unknown": 1}\n',
        b'{"function": "open"} {"function": "open"}\n',
        b'{"function": "open"} {"function": "open"}\n{"function":\n"open"}\n',
        b'{"function": "opened"}\n',
        b'{"function": "far"}\n',
        b'{"function": "nothing"}\n',
        b'{"function": "$ping"}\n',
        b'{"function": 1}\n',
        b'{"function": "open"\xff}\n',
        b"{nonsense}\n",
        b'{"function": "open", "args": ' + b"[" * 10_000 + b"\n",
        b'{"function": "open", "args": ["' + b"x" * LIMIT + b'"]}\n',
        b"GET / HTTP/1.1\r\n",
    ],
)
def test_what_is_in_the_least_unusual_is_no_plain_request_whatever_stands_before_it_and_behind(unusual: bytes) -> None:
    usual = b'{"function": "open"}\n'
    assert plain(usual) is not None
    for piece in (unusual, usual + unusual, unusual + usual, usual + unusual + usual):
        assert plain(piece) is None


def test_nothing_is_no_plain_request() -> None:
    assert plain(b"") is None


def test_requests_of_several_priorities_are_not_plain() -> None:
    assert plain(b'{"function": "open"}\n{"function": "opens"}\n') is None
    assert plain(b'{"function": "opens"}\n{"function": "opens"}\n') is not None


def test_plain_requests_are_together_shorter_than_their_bound() -> None:
    whole = b'{"function": "open", "args": ["x"]}\n' * 3
    assert plain(whole, limit=len(whole) + 1) is not None
    assert plain(whole, limit=len(whole)) is None


# which tasks are open


@pytest.mark.parametrize(
    ("globs", "task", "is_open"),
    [
        ((), "opened", False),
        (("opened",), "opened", True),
        (("shop.*", "op*d"), "opened", True),
        (("open",), "opened", False),
        (("OPENED",), "opened", False),
        (("*",), "opened", True),
        (("nothing",), "open", True),
    ],
)
def test_a_task_is_open_if_it_is_marked_or_a_glob_names_it(globs: tuple[str, ...], task: str, *, is_open: bool) -> None:
    here = desk(is_open=OpenTasks(globs))
    for _ in range(2):
        asked = here.take(b'{"function":"%b"}' % task.encode(), NOW, open_tags=())
        jobs = here.plain(b'{"function":"%b"}\n' % task.encode(), limit=1000)
        if is_open:
            assert asked.submit is not None
            assert jobs is not None
            assert [job.task for job in jobs] == [task]
        else:
            assert b'"NotAllowed"' in (asked.answer or b"")
            assert jobs is None


def test_who_mistypes_a_task_that_a_glob_opens_is_told_its_name() -> None:
    asked = desk(is_open=OpenTasks(["opened"])).take(b'{"function":"openedd"}', NOW, open_tags=())
    assert b"'opened'" in (asked.answer or b"")


@pytest.mark.parametrize(
    "lines",
    [
        [b'{"function": "open"}', b'{"function": "opens"}'],
        [b'{"function": "open"} ', b'{"function": "open"}'],
        [b'{"function": "open"}\r', b'{"function": "open"}\r'],
    ],
)
def test_lines_that_are_not_all_alike_are_no_plain_requests_together(lines: list[bytes]) -> None:
    assert all(plain(line + b"\n") is not None for line in lines)
    assert plain(b"".join(line + b"\n" for line in lines)) is None
