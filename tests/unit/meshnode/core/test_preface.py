"""What comes before a caller's first line: PROXY headers and the token, whole, wrong, and cut anywhere."""

import socket
import struct
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from meshnode.core.preface import TOKEN_LINE, V1_BYTES, V2, V2_BYTES, ProxyHeader, TokenLine, Verdict

TOKEN = b"correct horse battery staple"
IP4 = socket.inet_aton("192.0.2.7") + socket.inet_aton("192.0.2.1") + struct.pack("!HH", 4711, 12345)
IP6 = socket.inet_pton(socket.AF_INET6, "2001:db8::7") * 2 + struct.pack("!HH", 4711, 12345)
MAPPED = socket.inet_pton(socket.AF_INET6, "::ffff:192.0.2.7") * 2 + struct.pack("!HH", 4711, 12345)


def v2(command: int, family: int, block: bytes, *, version: int = 2) -> bytes:
    return V2 + bytes([version << 4 | command, family]) + struct.pack("!H", len(block)) + block


GOOD = [
    (b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 12345\r\n", "192.0.2.7", False),
    (b"PROXY TCP6 2001:db8::7 2001:db8::1 4711 0\r\n", "2001:db8::7", False),
    (b"PROXY TCP6 ::ffff:192.0.2.7 ::1 1 65535\r\n", "192.0.2.7", False),
    (b"PROXY TCP6 " + b" ".join([b"ffff:" * 7 + b"ffff"] * 2) + b" 65535 65535\r\n", ":".join(["ffff"] * 8), False),
    (b"PROXY UNKNOWN\r\n", None, False),
    (b"PROXY UNKNOWN " + b"x" * (V1_BYTES - 16) + b"\r\n", None, False),
    (v2(1, 0x11, IP4), "192.0.2.7", False),
    (v2(1, 0x12, IP4), "192.0.2.7", False),
    (v2(1, 0x21, IP6), "2001:db8::7", False),
    (v2(1, 0x21, MAPPED), "192.0.2.7", False),
    (v2(1, 0x11, IP4 + b"\x04\0\x02ab"), "192.0.2.7", False),
    (v2(1, 0x11, IP4 + bytes(V2_BYTES - 28)), "192.0.2.7", False),
    (v2(1, 0x31, bytes(216)), None, False),
    (v2(1, 0x00, b""), None, False),
    (v2(0, 0x00, b""), None, True),
    (v2(0, 0x11, IP4), None, True),
    (v2(0, 0xFF, b"whatever"), None, True),
]

BAD = [
    b"GET / HTTP/1.1\r\n\r\n",
    b'{"function":"ping"}\n',
    b"proxy TCP4 192.0.2.7 192.0.2.1 1 2\r\n",
    b"PROXY \r\n",
    b"PROXY\r\n",
    b"PROXY TCP4\r\n",
    b"PROXY TCP4 192.0.2.7 192.0.2.1 1\r\n",
    b"PROXY TCP4 192.0.2.7 192.0.2.1 1 2 3\r\n",
    b"PROXY TCP4  192.0.2.7 192.0.2.1 1 2\r\n",
    b"PROXY TCP4 192.0.2.07 192.0.2.1 1 2\r\n",
    b"PROXY TCP4 192.0.2.7 ::1 1 2\r\n",
    b"PROXY TCP4 ::1 ::1 1 2\r\n",
    b"PROXY TCP6 192.0.2.7 192.0.2.1 1 2\r\n",
    b"PROXY TCP4 192.0.2.7 192.0.2.1 65536 2\r\n",
    b"PROXY TCP4 192.0.2.7 192.0.2.1 01 2\r\n",
    b"PROXY TCP4 192.0.2.7 192.0.2.1 -1 2\r\n",
    b"PROXY TCP4 192.0.2.7 192.0.2.1 1 \xb2\r\n",
    b"PROXY UDP4 192.0.2.7 192.0.2.1 1 2\r\n",
    b"PROXY TCP4 192.0.2.7 192.0.2.1 1 2\n" + b"x" * 200,
    b"PROXY UNKNOWN " + b"x" * (V1_BYTES - 15) + b"\r\n",
    v2(1, 0x11, IP4, version=1),
    v2(1, 0x11, IP4, version=3),
    v2(2, 0x11, IP4),
    v2(1, 0x13, IP4),
    v2(1, 0x41, IP4),
    v2(1, 0x11, IP4[:-1]),
    v2(1, 0x21, IP4),
    v2(1, 0x31, IP6),
    v2(1, 0x11, IP4 + bytes(V2_BYTES - 27)),
    v2(0, 0x00, bytes(V2_BYTES - 15)),
    V2[:-1] + b"X" + b"\x21\x11\0\x0c" + IP4,
]


def cut(stream: bytes, cuts: list[int]) -> list[bytes]:
    """A stream in pieces, none of them empty."""
    places = sorted({0, len(stream), *(place % len(stream) for place in cuts)})
    return [stream[begin:end] for begin, end in pairwise(places)]


def told(preface: ProxyHeader | TokenLine, pieces: list[bytes]) -> tuple[Verdict, bytes]:
    """What it says of pieces, and what is left: what it did not take, and what no longer was its own."""
    for number, piece in enumerate(pieces):
        verdict = preface.feed(piece)
        if verdict is not Verdict.MORE:
            return verdict, preface.rest + b"".join(pieces[number + 1 :])
    return Verdict.MORE, b""


@pytest.mark.parametrize(("header", "address", "local"), GOOD, ids=lambda value: str(value)[:40])
def test_a_header_says_whom_its_proxy_speaks_for(header: bytes, address: str | None, *, local: bool) -> None:
    for rest in (b"", b'{"function":"ping"}\n', b"x" * 10_000):
        read = ProxyHeader()
        assert not read.begun
        assert told(read, [header + rest]) == (Verdict.PASSED, rest)
        assert (read.address, read.local) == (address, local)
        assert read.begun


@pytest.mark.parametrize("header", BAD, ids=lambda value: str(value)[:60])
def test_what_is_no_header_is_refused(header: bytes) -> None:
    assert told(ProxyHeader(), [header])[0] is Verdict.REFUSED


@pytest.mark.parametrize("header", [header for header, _, _ in GOOD], ids=lambda value: str(value)[:40])
def test_part_of_a_header_is_neither_one_nor_none(header: bytes) -> None:
    for end in range(1, len(header)):
        assert ProxyHeader().feed(header[:end]) is Verdict.MORE


@given(
    st.sampled_from([*BAD, *(header for header, _, _ in GOOD)]), st.binary(max_size=60), st.lists(st.integers(0, 999))
)
def test_however_a_header_is_cut_the_same_comes_of_it(header: bytes, rest: bytes, cuts: list[int]) -> None:
    stream = header + rest
    whole, parts = ProxyHeader(), ProxyHeader()
    verdict, left = told(whole, [stream])
    again, left_again = told(parts, cut(stream, cuts))
    assert again is verdict
    assert (parts.address, parts.local) == (whole.address, whole.local)
    if verdict is Verdict.PASSED:
        assert left == left_again == rest


@given(st.binary(min_size=1, max_size=1200), st.sampled_from([b"", b"PROXY ", b"PROXY TCP4 ", V2, V2 + b"\x21\x11"]))
def test_whatever_comes_a_header_is_bounded(garbage: bytes, begin: bytes) -> None:
    read = ProxyHeader()
    verdict = read.feed(begin + garbage)
    assert verdict is not Verdict.MORE or len(begin + garbage) < V2_BYTES


# the token


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_the_token_is_a_line(end: bytes) -> None:
    assert told(TokenLine(TOKEN), [TOKEN + end + b"rest"]) == (Verdict.PASSED, b"rest")


@pytest.mark.parametrize(
    "line",
    [
        b"",
        TOKEN[:-1],
        TOKEN + b"x",
        b" " + TOKEN,
        TOKEN.upper(),
        b"POST / HTTP/1.1",
        b'{"function":"$ping"}',
        b"\xff" * 40,
        b"PROXY UNKNOWN",
    ],
)
def test_any_other_line_is_refused(line: bytes) -> None:
    token = TokenLine(TOKEN)
    assert token.feed(line + b"\n" + TOKEN + b"\n") is Verdict.REFUSED
    assert token.rest == b""


def test_a_line_is_read_so_far_and_no_further() -> None:
    token = TokenLine(TOKEN)
    assert not token.begun
    assert token.feed(b"x" * (TOKEN_LINE - 1)) is Verdict.MORE
    assert token.begun
    assert token.feed(b"x") is Verdict.REFUSED
    longest = b"t" * (TOKEN_LINE - 1)
    assert told(TokenLine(longest), [longest + b"\n"]) == (Verdict.PASSED, b"")
    assert TokenLine(longest).feed(longest + b"\r\n") is Verdict.REFUSED


@given(st.binary(max_size=60), st.lists(st.integers(0, 99), max_size=8))
@example(b"", [])
def test_however_a_token_is_cut_it_is_the_same(rest: bytes, cuts: list[int]) -> None:
    assert told(TokenLine(TOKEN), cut(TOKEN + b"\n" + rest, cuts)) == (Verdict.PASSED, rest)
