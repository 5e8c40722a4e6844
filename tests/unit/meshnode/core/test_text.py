"""Lines and envelopes of the Text protocol."""

import pytest

from mesh.errors import MeshBusy
from meshnode.core import text
from meshnode.core.text import BadRequest, Lines, Request


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_lines_come_out_however_the_pieces_fall(size: int) -> None:
    stream = b"\xef\xbb\xbfone\r\n\n\r\ntwo\nthree"
    lines = Lines(100)
    found = [line for n in range(0, len(stream), size) for line in lines.feed(stream[n : n + size])]
    assert found == [b"one", b"two"]
    assert lines.pending == len(b"three")


@pytest.mark.parametrize(("length", "taken"), [(9, True), (10, False)])
def test_a_line_is_shorter_than_the_limit_with_its_line_feed(length: int, taken: bool) -> None:
    lines = Lines(10)
    assert lines.feed(b"a\n" + b"x" * (length - 1) + b"\nb\n") == ([b"a", b"x" * 8, b"b"] if taken else [b"a"])
    assert lines.stopped is not taken
    assert lines.feed(b"c\n") == ([b"c"] if taken else [])


def test_a_line_that_does_not_end_stops_at_the_limit() -> None:
    lines = Lines(10)
    assert lines.feed(b"x" * 8) == []
    assert not lines.stopped
    assert lines.feed(b"xx") == []
    assert lines.stopped
    assert lines.pending == 0


def test_a_request_is_read_and_its_arguments_are_left_as_they_came() -> None:
    line = b'{"function": "f", "args": {"a": 1e5}, "id": "\xc3\xbc", "timeout": 2, "priority": 9, "x": 0}'
    assert text.parse(line) == Request("f", b'{"a": 1e5}', rb'"\u00fc"', 2.0, 9, False)
    assert text.parse(b'{"function": "f", "args": null}') == Request("f", b"", None, None, None, False)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"hello", "not JSON"),
        (b'{"function": 1}', "no request"),
        (b"{}", "no request"),
        (b'{"function": "f", "priority": 10}', "no request"),
        (b'{"function": "f", "timeout": 0}', "no request"),
        (b'{"function": "\\ud800', "half of a surrogate pair"),
        (b'{"function": "f", "args": ' + b"[" * 100_000, "nested too deep"),
        (b'{"function": "\xff"}', "not JSON"),
    ],
)
def test_what_is_no_request_says_why(line: bytes, why: str) -> None:
    bad = text.parse(line)
    assert isinstance(bad, BadRequest)
    assert why in bad.message
    assert bad.tag is None


def test_the_id_of_a_wrong_request_is_sent_back_where_it_can_be_read() -> None:
    assert text.parse(b'{"function": 5, "id": 7}') == BadRequest(b"7", text.parse(b'{"function": 5}').message)  # type: ignore[union-attr]
    assert text.parse(b'{"function": "f", "id": [1]}').tag is None


@pytest.mark.parametrize(
    ("line", "speaks"),
    [
        (b"GET / HTTP/1.1", "HTTP"),
        (b"post /x", "HTTP"),
        (b"Host: a", "HTTP"),
        (b"FROB x HTTP/2", "HTTP"),
        (b"\x16\x03\x01", "TLS"),
        (b'{"function": "f"}', None),
        (b"", None),
    ],
)
def test_a_browser_is_known_by_its_first_line(line: bytes, speaks: str | None) -> None:
    assert text.stranger(line) == speaks


def test_answers_with_and_without_an_id() -> None:
    assert text.success(None, b"3") == b"3\n"
    assert text.success(b"7", b"3") == b'{"id":7,"ok":true,"result":3}\n'
    reason = text.error(MeshBusy, "full")
    assert reason == b'{"type":"MeshBusy","message":"full","retryable":true,"started":false}'
    assert text.failure(None, reason) == b'{"error":' + reason + b"}\n"
    assert text.failure(b'"a"', reason) == b'{"id":"a","ok":false,"error":' + reason + b"}\n"
