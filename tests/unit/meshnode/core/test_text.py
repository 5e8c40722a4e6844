"""The Text protocol: bytes to lines, lines to requests, outcomes to lines."""

import json
import random

import pytest

from mesh.errors import JobLost, MeshBusy, MeshError, UnknownTask
from meshnode.core.envelope import ID_LIMIT, BadRequest, Request
from meshnode.core.text import (
    Lines,
    error,
    failure,
    parse,
    plain,
    stranger,
    success,
    tag,
)

BOM = b"\xef\xbb\xbf"


def request(line: bytes) -> Request:
    parsed = parse(line)
    assert isinstance(parsed, Request)
    return parsed


def bad(line: bytes) -> BadRequest:
    parsed = parse(line)
    assert isinstance(parsed, BadRequest)
    return parsed


# lines


@pytest.mark.parametrize(
    ("stream", "lines"),
    [
        (b"", []),
        (b"no end", []),
        (b"one\ntwo\n", [b"one", b"two"]),
        (b"one\r\n\r\n\n  \ntwo\n", [b"one", b"  ", b"two"]),
        (BOM + b"one\n" + BOM + b"\n", [b"one"]),
        (b"a\rb\n", [b"a\rb"]),
    ],
)
def test_a_line_ends_with_lf_and_what_is_empty_is_left_out(stream: bytes, lines: list[bytes]) -> None:
    assert Lines(100).feed(stream) == lines


def test_lines_are_the_same_however_the_stream_is_cut() -> None:
    rng = random.Random(1)
    stream = b"".join(rng.choice([b"a", b"bb", b"\r", b"\n", b"\n", BOM]) for _ in range(400))
    whole = Lines(1000).feed(stream)
    assert len(whole) > 50
    for _ in range(50):
        lines, cut, rest = Lines(1000), [], stream
        while rest:
            size = rng.randrange(1, 12)
            cut += lines.feed(rest[:size])
            rest = rest[size:]
        assert cut == whole


def test_a_line_that_has_begun_is_counted_until_it_ends() -> None:
    lines = Lines(100)
    lines.feed(b"one\ntw")
    assert lines.pending == 2
    assert lines.feed(b"o\n") == [b"two"]
    assert lines.pending == 0


@pytest.mark.parametrize(("size", "fits"), [(8, True), (9, False), (10, False), (500, False)])
@pytest.mark.parametrize("at_once", [True, False])
def test_a_line_is_shorter_than_the_limit_with_its_end(size: int, *, fits: bool, at_once: bool) -> None:
    lines = Lines(10)
    stream = b"x" * size + b"\n"
    pieces = [stream] if at_once else [stream[:5], stream[5:]]
    assert [line for piece in pieces for line in lines.feed(piece)] == ([b"x" * size] if fits else [])
    assert lines.stopped is not fits


def test_what_comes_before_a_line_that_is_too_long_is_read_and_nothing_after_it() -> None:
    lines = Lines(10)
    assert lines.feed(b"one\ntwo\n" + b"x" * 20 + b"\nthree\n") == [b"one", b"two"]
    assert lines.stopped
    assert lines.pending == 0
    assert lines.feed(b"four\n") == []


def test_a_line_is_too_long_before_its_end_has_come() -> None:
    lines = Lines(10)
    assert lines.feed(b"one\n" + b"x" * 8) == [b"one"]
    assert not lines.stopped
    assert lines.feed(b"x") == []
    assert lines.stopped
    assert lines.pending == 0


def test_many_short_lines_together_may_be_longer_than_the_limit_of_one() -> None:
    lines = Lines(10)
    assert lines.feed(b"12345678\n" * 100) == [b"12345678"] * 100
    assert not lines.stopped


def test_who_stops_reading_lets_go_of_the_line_that_has_begun() -> None:
    lines = Lines(100)
    lines.feed(b"half")
    lines.stop()
    assert lines.pending == 0
    assert lines.feed(b" and half\n") == []


# requests


def test_a_request_needs_a_function_and_nothing_else() -> None:
    assert request(b'{"function": "add"}') == Request("add", b"", None, None, None, False)


def test_a_request_says_all_that_it_may() -> None:
    line = b'{"id": 7, "function": "add", "args": [1, 2], "timeout": 2, "priority": 9, "cancel_on_disconnect": true}'
    assert request(line) == Request("add", b"[1, 2]", b"7", 2.0, 9, True)


def test_a_key_that_is_null_or_unknown_is_as_good_as_absent() -> None:
    line = (
        b'{"function": "add", "args": null, "id": null, "timeout": null, "priority": null,'
        b' "cancel_on_disconnect": null, "more": [{}]}'
    )
    assert request(line) == request(b'{"function": "add"}')


def test_arguments_stay_as_they_came() -> None:
    assert request(b'{"function": "add", "args": {"a": 1e2,  "b":"\\u00e4"}}').args == b'{"a": 1e2,  "b":"\\u00e4"}'


@pytest.mark.parametrize(
    ("identity", "written"),
    [
        (b"0", b"0"),
        (b"-9223372036854775808", b"-9223372036854775808"),
        (b'"7"', b'"7"'),
        ('"ä"'.encode(), b'"\\u00e4"'),
        (b'"a\\nb"', b'"a\\nb"'),
        (b'""', b'""'),
        (b'"' + b"x" * ID_LIMIT + b'"', b'"' + b"x" * ID_LIMIT + b'"'),
    ],
)
def test_an_id_is_sent_back_as_ascii_json(identity: bytes, written: bytes) -> None:
    assert request(b'{"function": "add", "id": ' + identity + b"}").tag == written


@pytest.mark.parametrize(
    "fields",
    [
        b'"function": 5',
        b'"function": null',
        b'"args": []',
        b'"function": "add", "timeout": 0',
        b'"function": "add", "timeout": "soon"',
        b'"function": "add", "priority": 10',
        b'"function": "add", "priority": -1',
        b'"function": "add", "cancel_on_disconnect": 1',
    ],
)
def test_what_is_wrong_in_a_request_is_told_under_its_id(fields: bytes) -> None:
    parsed = bad(b"{" + fields + b', "id": "x"}')
    assert parsed.tag == b'"x"'
    assert parsed.message.startswith("the line is no request: ")


@pytest.mark.parametrize(
    "line",
    [
        b'{"function": "add", "id": [1]}',
        b'{"function": "add", "id": 1.5}',
        b'{"function": "add", "id": true}',
        b'{"function": "add", "id": 9223372036854775808}',
        b'{"function": "add", "id": "' + b"x" * (ID_LIMIT + 1) + b'"}',
        b'{"priority": 3}',
        b'["add", 1]',
        b'"add"',
        b"5",
    ],
)
def test_what_has_no_id_that_could_be_sent_back_is_told_without_one(line: bytes) -> None:
    parsed = bad(line)
    assert parsed.tag is None
    assert parsed.message.startswith("the line is no request: ")


@pytest.mark.parametrize(
    "line", [b"hello", b"{'function': 'add'}", b'{"function": "add"} more', b'{"id": 1, "function": "\xff"}']
)
def test_what_is_not_json_is_said_to_be_none(line: bytes) -> None:
    parsed = bad(line)
    assert parsed.tag is None
    assert parsed.message.startswith("the line is not JSON: ")


def test_half_of_a_surrogate_pair_is_named_where_it_may_be_the_cause() -> None:
    assert "half of a surrogate pair" in bad(b'{"function": "add", "id": "\\ud83d"}').message
    assert "surrogate" not in bad(b'{"function": "add"').message


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
def test_a_line_that_is_nested_too_deep_is_refused(opening: bytes) -> None:
    parsed = bad(b'{"id": 1, "function": "add", "args": ' + opening * 100_000)
    assert (parsed.tag, parsed.message) == (None, "the line is nested too deep")


def test_the_id_of_a_wrong_line_is_given_up_where_it_lies_behind_something_too_deep_or_no_json() -> None:
    assert bad(b'{"function": 5, "args": ' + b"[" * 100_000 + b', "id": 1}').tag is None
    assert bad(b'{"function": 5, "id": 1, "args": nothing}').tag is None


# strangers


@pytest.mark.parametrize(
    ("line", "what"),
    [
        (b"GET / HTTP/1.1", "HTTP"),
        (b"post /x HTTP/1.1", "HTTP"),
        (b"PRI * HTTP/2.0", "HTTP"),
        (b"BREW /pot HTTP/1.0", "HTTP"),
        (b"Host: example.org", "HTTP"),
        (b"\x16\x03\x01\x02\x00", "TLS"),
        (b'{"function": "GET / HTTP/1.1"}', None),
        (b"GETTING", None),
        (b"hello there", None),
        (b"", None),
    ],
)
def test_what_a_browser_sends_first_is_known(line: bytes, what: str | None) -> None:
    assert stranger(line) == what


# replies


def test_an_answer_without_an_id_is_the_bare_result() -> None:
    assert success(None, b"[1,2]") == b"[1,2]\n"
    assert json.loads(failure(None, b'{"type":"E"}')) == {"error": {"type": "E"}}


def test_an_answer_with_an_id_names_it_and_says_how_it_went() -> None:
    assert json.loads(success(tag("x"), b"5")) == {"id": "x", "ok": True, "result": 5}
    assert json.loads(failure(tag(7), b'{"type":"E"}')) == {"id": 7, "ok": False, "error": {"type": "E"}}


def test_each_answer_is_one_line() -> None:
    reason = error(UnknownTask, "no\nsuch task “ä”\r\n\u2028")
    assert reason.isascii()
    for line in (success(None, b"5"), success(b"1", b"5"), failure(None, reason), failure(b"1", reason)):
        assert line.endswith(b"\n")
        assert len(line.splitlines()) == 1
    assert json.loads(reason)["message"] == "no\nsuch task “ä”\r\n\u2028"


@pytest.mark.parametrize(
    ("kind", "given", "retryable", "started"),
    [
        (MeshBusy, None, True, False),
        (UnknownTask, None, False, False),
        (JobLost, None, True, True),
        (JobLost, False, True, False),
        (UnknownTask, True, False, True),
        (MeshError, None, False, False),
    ],
)
def test_an_error_says_if_it_may_be_retried_and_if_it_ran(
    kind: type[MeshError], *, given: bool | None, retryable: bool, started: bool
) -> None:
    told = json.loads(error(kind, "why", started=given))
    assert told == {"type": kind.__name__, "message": "why", "retryable": retryable, "started": started}


# traces

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_a_line_may_name_the_trace_that_it_belongs_to() -> None:
    line = b'{"function":"add","traceparent":"%b"}' % PARENT.encode()
    assert request(line).trace == PARENT
    assert plain(line + b"\n") is None
    assert plain(b'{"function":"add"}\n') is not None
    assert request(b'{"function":"add"}').trace is None


@pytest.mark.parametrize(
    "wrong",
    [
        "", "00", PARENT.upper(), f"{PARENT}-more", f" {PARENT}", "ff" + PARENT[2:], "00-" + "0" * 32 + PARENT[35:],
        PARENT[:36] + "0" * 16 + "-01", 7, True, [PARENT], {"a": PARENT}, None,
    ],
)  # fmt: skip
def test_what_is_no_traceparent_is_ignored(wrong: object) -> None:
    parsed = request(json.dumps({"function": "add", "traceparent": wrong}).encode())
    assert (parsed.function, parsed.trace) == ("add", None)
