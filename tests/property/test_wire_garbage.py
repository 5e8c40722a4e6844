"""Whatever bytes come in: a message or one ProtocolError, a value or one ValueError, and no flood."""

import builtins
import struct
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import msgpack
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mesh.errors import BadArguments, Failure, ProtocolError
from mesh.wire.codec import (
    ODD_LIMIT,
    OUT_OF_BAND,
    Buffer,
    Oddities,
    decode_client,
    decode_node,
    encode_client,
    encode_node,
)
from mesh.wire.messages import (
    ITEM_LIMIT,
    About,
    Accepted,
    Bye,
    Cancel,
    ClientMessage,
    Drain,
    Failed,
    Hello,
    Lost,
    NodeMessage,
    Options,
    Parameter,
    Ping,
    Pong,
    Refuse,
    Reject,
    Result,
    ResultLarge,
    Started,
    Submit,
    SubmitLarge,
    TaskSpec,
    Welcome,
)
from mesh.wire.payload import pack, pack_arguments, pack_failure, unpack, unpack_arguments, unpack_failure

WIRE = settings(deadline=None, max_examples=200)

JOB = bytes(range(16))
LARGE = bytes(OUT_OF_BAND)

FROM_CLIENT = [
    encode_client(ClientMessage(b"", 0, [Hello("mesh", 1, 1, "default", "shop")])),
    encode_client(
        ClientMessage(
            b"epoch-01",
            1500,
            [Submit(JOB, 1, "add", 0, 30_000, Options(9), b"body"), Cancel(JOB), Ping(7), Bye()],
        )
    ),
    encode_client(ClientMessage(b"epoch-01", 1500, [Submit(JOB, n, "store", 1, None, None, LARGE) for n in (1, 2)])),
]
ABOUT = About("0" * 32, b"epoch-01", "web7", "default", 64, 1, 2**24, [TaskSpec("add", [Parameter("a", 1, True)])])
FROM_NODE = [
    encode_node(NodeMessage(64, 64, 64, 0, 1500, [Welcome(1, ABOUT)])),
    encode_node(
        NodeMessage(
            1, 1, 1, 1, 1502,
            [
                Accepted([JOB]), Started([JOB, JOB]), Result(JOB, 1, b"body"), Failed(JOB, 1, b"body"),
                Reject(JOB, 1, "busy", "full"), Lost(JOB, 1, "crash", True, "killed"), Pong(7),
                Refuse("mesh", "another"), Drain(), Bye(),
            ],
        )
    ),
    encode_node(NodeMessage(1, 1, 1, 1, 1502, [Result(JOB, n, LARGE) for n in (1, 2)])),
]  # fmt: skip
BODIES = [
    pack_arguments([1, "a", (2, [3.5])], {"name": {b"x", None}}),
    pack_failure(Failure("OSError", "[Errno 2] gone", traceback="Traceback", args=(2, "gone"))),
    bytes.fromhex("c71301") + b"2026-02-03T12:00:00",
    pack([{(2**70, -(2**70)): frozenset({(1,), ((2,),)})}, True]),
]

LENGTHS = [
    b"\xdd\xff\xff\xff\xff",
    b"\xdf\xff\xff\xff\xff",
    b"\xc6\xff\xff\xff\xff",
    b"\xdb\xff\xff\xff\xff",
    b"\xc9\xff\xff\xff\xff\x05",
]
DEPTHS = [b"\x91" * 100_000, b"\x81\x01" * 100_000, b"\x81" * 100_000]
BOMBS = [*LENGTHS, *DEPTHS]
IN_A_CLIENTS_ITEMS = b"\x93\xc4\x00\x00"
IN_A_NODES_ITEMS = b"\x96\x00\x00\x00\x00\x00"


def tried_from_client(frames: list[Buffer]) -> tuple[ClientMessage | None, Oddities]:
    oddities = Oddities()
    try:
        message = decode_client(frames, oddities)
    except ProtocolError:
        return None, oddities
    assert type(message) is ClientMessage
    assert not any(isinstance(item, SubmitLarge) for item in message.items)
    # What was let in is well-formed: it can be said again.
    assert decode_client(encode_client(message), Oddities()) == message
    return message, oddities


def tried_from_node(frames: list[Buffer]) -> tuple[NodeMessage | None, Oddities]:
    oddities = Oddities()
    try:
        message = decode_node(frames, oddities)
    except ProtocolError:
        return None, oddities
    assert type(message) is NodeMessage
    assert not any(isinstance(item, ResultLarge) for item in message.items)
    again = decode_node(encode_node(message), Oddities())
    # By their text, since a damaged time limit of a task may be NaN, which equals nothing.
    assert repr(again) == repr(message)
    return message, oddities


# Messages


@WIRE
@given(st.lists(st.binary(max_size=80), max_size=4))
@example([])
@example([b""])
@example([b"\x93\xc4\x00\x00\x90"])
@example([b"\x96\x00\x00\x00\x00\x00\x90", b"", b""])
@example([b""] * 5000)
def test_any_frames_end_in_a_message_or_a_protocol_error(frames: list[Buffer]) -> None:
    tried_from_client(frames)
    tried_from_node(frames)


plain = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**63), 2**64 - 1),
        st.integers(0, 30),
        st.floats(),
        st.text(max_size=20),
        st.binary(max_size=20),
        st.just(JOB),
    ),
    lambda inner: st.lists(inner, max_size=8) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
odd_items = st.lists(plain | st.lists(plain, max_size=8) | st.tuples(st.integers(0, 30), plain).map(list), max_size=6)


@WIRE
@given(odd_items, st.lists(st.binary(max_size=4), max_size=2))
def test_every_item_is_either_let_in_or_counted(items: list[Any], bodies: list[Buffer]) -> None:
    from_client, oddities = tried_from_client([msgpack.packb([b"", 0, items]), *bodies])
    assert from_client is not None
    assert len(from_client.items) + oddities.unknown + oddities.malformed == len(items)
    from_node, oddities = tried_from_node([msgpack.packb([0, 0, 0, 0, 0, items]), *bodies])
    assert from_node is not None
    assert len(from_node.items) + oddities.unknown + oddities.malformed == len(items)


@WIRE
@given(plain)
def test_any_msgpack_value_as_a_header_ends_in_a_message_or_a_protocol_error(value: Any) -> None:
    header = msgpack.packb(value)
    tried_from_client([header])
    tried_from_node([header])


Edit = tuple[str, int, bytes]

edits = st.lists(
    st.tuples(st.sampled_from(["flip", "cut", "insert"]), st.integers(0, 10_000), st.binary(min_size=1, max_size=6)),
    min_size=1,
    max_size=4,
)


def edited(frame: Buffer, changes: list[Edit]) -> bytes:
    """`frame` after some bytes in it were flipped, cut out or put in."""
    new = bytearray(frame)
    for kind, position, content in changes:
        at = position % (len(new) + 1)
        match kind:
            case "flip":
                new[at : at + 1] = bytes(byte ^ content[0] for byte in new[at : at + 1])
            case "cut":
                del new[at : at + content[0]]
            case _:
                new[at:at] = content
    return bytes(new)


@WIRE
@given(st.sampled_from(FROM_CLIENT), edits)
def test_a_damaged_message_from_a_client_ends_in_a_message_or_a_protocol_error(
    frames: list[Buffer], changes: list[Edit]
) -> None:
    tried_from_client([edited(frames[0], changes), *frames[1:]])
    tried_from_client([edited(frames[0], changes), *frames[2:]])


@WIRE
@given(st.sampled_from(FROM_NODE), edits)
def test_a_damaged_message_from_a_node_ends_in_a_message_or_a_protocol_error(
    frames: list[Buffer], changes: list[Edit]
) -> None:
    tried_from_node([edited(frames[0], changes), *frames[1:]])
    tried_from_node([edited(frames[0], changes), *frames[2:]])


@pytest.mark.parametrize("frames", [*FROM_CLIENT, *FROM_NODE], ids=range(6))
def test_a_message_cut_anywhere_ends_in_a_message_or_a_protocol_error(frames: list[Buffer]) -> None:
    header = frames[0]
    for length in range(len(header)):
        assert tried_from_client([header[:length], *frames[1:]])[0] is None
        assert tried_from_node([header[:length], *frames[1:]])[0] is None


# Bodies


def tried(body: bytes | memoryview) -> None:
    """Open a body in every way there is; each ends in what it promises."""
    with suppress(ValueError):
        unpack(body)
    try:
        args, kwargs = unpack_arguments(body)
    except BadArguments:
        pass
    else:
        assert type(args) is list
        assert all(type(name) is str for name in kwargs)
    error = unpack_failure(body).to_exception()
    assert isinstance(error, Exception)
    assert isinstance(str(error), str)


def ext(code: int, content: bytes) -> bytes:
    return b"\xc9" + struct.pack(">Ib", len(content), code) + content


def nested_ext(codes: list[int], core: bytes) -> bytes:
    body = core
    for code in codes:
        body = b"\x91" + ext(code, body)
    return body


@WIRE
@given(st.binary(max_size=200))
@example(b"")
@example(nested_ext([5] * 5000, b"\x90"))
@example(nested_ext([4, 5, 10, 9] * 500, b"\x90"))
def test_any_bytes_as_a_body_end_as_promised(body: bytes) -> None:
    tried(body)
    tried(memoryview(body))


@WIRE
@given(st.sampled_from(BODIES), edits)
def test_a_damaged_body_ends_as_promised(body: bytes, changes: list[Edit]) -> None:
    tried(edited(body, changes))


contents = st.one_of(
    st.binary(max_size=40),
    st.text(max_size=20).map(str.encode),
    st.from_regex(r"-?[0-9]{1,6}-[0-9]{2}-[0-9]{2}([T ][0-9:.+\-Z]{0,20})?", fullmatch=True).map(str.encode),
    st.from_regex(
        r"[+-]?[0-9]{0,9}\.?[0-9]{0,9}([eE][+-]?[0-9]{1,19})?", fullmatch=True, alphabet="0123456789.eE+-"
    ).map(str.encode),
    plain.map(msgpack.packb),
    st.lists(plain, max_size=4).map(msgpack.packb),
    st.sampled_from(BODIES),
)
codes = st.integers(1, 10) | st.integers(-128, 127)


@WIRE
@given(codes, contents, st.lists(st.sampled_from([4, 5, 9, 10]), max_size=40))
@example(-1, b"", [])
@example(-1, b"\x7f" * 12, [5])
@example(3, b"1e999999999", [])
@example(3, b"-1e-999999999", [4])
@example(3, b"1e" + b"9" * 1000, [])
@example(3, b"sNaN", [4])
@example(3, b"9" * 100_000, [])
@example(1, b"2026-02-30T25:61:61", [])
@example(1, "２０２６-02-03T00:00:00".encode(), [])
@example(4, b"\x91\x90", [])
@example(10, b"\x91\x81\x01\x02", [5])
@example(6, b"\xff" * 65_536, [4])
@example(42, b"", [])
def test_any_extension_ends_as_promised(code: int, content: bytes, around: list[int]) -> None:
    body = nested_ext(around, ext(code, content))
    tried(body)
    tried(b"\x91\x91" + body)
    tried(b"\x81" + ext(code, content) + b"\x01")


@WIRE
@given(st.dictionaries(st.sampled_from(["type", "message", "traceback", "args", "mesh", "started"]), plain))
@example({"type": "ExceptionGroup", "message": "several"})
@example({"type": "StopIteration", "message": ""})
def test_any_map_as_a_failure_is_a_failure(fields: dict[str, Any]) -> None:
    tried(msgpack.packb(fields))


@WIRE
@given(st.sampled_from(dir(builtins)), st.none() | st.lists(plain, max_size=6).map(tuple), st.booleans())
def test_any_name_and_arguments_of_a_failure_end_in_an_exception(
    name: str, args: tuple[Any, ...] | None, mesh: bool
) -> None:
    tried(pack_failure(Failure(name, "why", args=args, mesh=mesh)))


# Floods


@contextmanager
def little_memory(limit: int = 4 * 2**20) -> Iterator[None]:
    """Nothing in the block may allocate more than `limit` bytes in all."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < limit
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("bomb", BOMBS, ids=lambda bomb: bomb[:6].hex())
def test_a_bomb_of_depth_or_length_costs_little_memory(bomb: bytes) -> None:
    headers = [bomb, IN_A_CLIENTS_ITEMS + bomb, IN_A_NODES_ITEMS + bomb]
    headers += [
        start + b"\x91\x92" + kind + bomb
        for start in (IN_A_CLIENTS_ITEMS, IN_A_NODES_ITEMS)
        for kind in (b"\x03", b"\x12", b"\x63")
    ]
    with little_memory():
        for header in headers:
            assert tried_from_client([header])[0] is None
            assert tried_from_node([header])[0] is None
        tried(bomb)
        tried(ext(5, bomb))
        tried(b"\x92\x90" + bomb)


def deep_lists(depth: int) -> bytes:
    return b"\x91" * depth + b"\x90"


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(nested_ext([5] * 32, deep_lists(1000)), id="a deep list in deep tuples"),
        pytest.param(b"\xdd\x00\x01\x00\x00" + ext(5, b"\x90") * 65_536, id="many tuples"),
        pytest.param(b"\xdd\x00\x01\x00\x00" + ext(42, b"") * 65_536, id="many unknown extensions"),
        pytest.param(ext(6, b"\x7f" * 65_536), id="a large integer"),
    ],
)
def test_a_body_that_is_as_bad_as_may_be_ends_as_promised(body: bytes) -> None:
    tried(body)
    with pytest.raises(BadArguments):
        unpack_arguments(body)


Decode = Callable[[list[Buffer], Oddities], Any]


@pytest.mark.parametrize(("decode", "start"), [(decode_client, IN_A_CLIENTS_ITEMS), (decode_node, IN_A_NODES_ITEMS)])
def test_odd_items_are_counted_up_to_a_bound_and_beyond_it_their_message_is_none(decode: Decode, start: bytes) -> None:
    def header(odd: int) -> list[Buffer]:
        items = b"\x91\x63" * (odd // 2) + b"\xc0" * (odd // 2)
        return [start + b"\xdd" + struct.pack(">I", odd) + items]

    oddities = Oddities()
    assert decode(header(ODD_LIMIT), oddities).items == []
    assert (oddities.unknown, oddities.malformed) == (ODD_LIMIT // 2, ODD_LIMIT // 2)
    with pytest.raises(ProtocolError):
        decode(header(2 * ODD_LIMIT), oddities)


@pytest.mark.parametrize(("decode", "start"), [(decode_client, IN_A_CLIENTS_ITEMS), (decode_node, IN_A_NODES_ITEMS)])
@pytest.mark.parametrize("item", [b"\x80", b"\x91\x08"], ids=["no item", "BYE"])
def test_a_header_of_millions_of_items_is_refused_before_they_are_made(
    decode: Decode, start: bytes, item: bytes
) -> None:
    header = start + b"\xdd" + struct.pack(">I", 2_000_000) + item * 2_000_000
    with little_memory(), pytest.raises(ProtocolError):
        decode([header], Oddities())
    most = start + b"\xdd" + struct.pack(">I", ITEM_LIMIT) + b"\x91\x08" * ITEM_LIMIT
    assert len(decode([most], Oddities()).items) == ITEM_LIMIT
