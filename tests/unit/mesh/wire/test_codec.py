"""Frames to messages and back: what goes out of band, what is dropped, what ends a message."""

import copy
from typing import Any

import msgspec
import pytest

from mesh.errors import ProtocolError
from mesh.wire import codec
from mesh.wire.codec import (
    FRAME_LIMIT,
    HEADER_LIMIT,
    MESSAGE_BYTES,
    NODE_MESSAGE_BYTES,
    OUT_OF_BAND,
    Buffer,
    Oddities,
    client_messages,
    decode_client,
    decode_node,
    encode_client,
    encode_node,
    node_messages,
)
from mesh.wire.messages import (
    Accepted,
    Bye,
    Cancel,
    ClientItem,
    ClientMessage,
    Drain,
    Hello,
    NodeItem,
    NodeMessage,
    Options,
    Ping,
    Pong,
    Result,
    ResultLarge,
    Started,
    Submit,
    SubmitLarge,
)

JOB = bytes(range(16))
EPOCH = b"epoch-01"
SMALL = b"x" * (OUT_OF_BAND - 1)
LARGE = b"y" * OUT_OF_BAND
LARGER = b"z" * (OUT_OF_BAND + 1)


def submit(body: bytes = b"", *, job: bytes = JOB) -> Submit:
    return Submit(job, 1, "add", 0, 30_000, Options(priority=9), body)


def from_client(*items: ClientItem) -> ClientMessage:
    return ClientMessage(EPOCH, 1500, list(items))


def from_node(*items: NodeItem) -> NodeMessage:
    return NodeMessage(1, 2, 3, 4, 1500, list(items))


def client_header(*items: Any) -> bytes:
    return msgspec.msgpack.encode([EPOCH, 1500, items])


def node_header(*items: Any) -> bytes:
    return msgspec.msgpack.encode([1, 2, 3, 4, 1500, items])


def counts(oddities: Oddities) -> tuple[int, int]:
    return oddities.unknown, oddities.malformed


# What comes back


def test_a_message_from_a_client_comes_back_as_it_was() -> None:
    message = from_client(Hello("mesh", 1, 1, "default", "shop"), submit(b"body"), Cancel(JOB), Ping(7), Bye())
    oddities = Oddities()
    frames = encode_client(message)
    assert len(frames) == 1
    assert decode_client(frames, oddities) == message
    assert counts(oddities) == (0, 0)


def test_a_message_from_a_node_comes_back_as_it_was() -> None:
    message = from_node(Accepted([JOB]), Started([JOB]), Result(JOB, 1, b"body"), Pong(7), Drain(), Bye())
    oddities = Oddities()
    frames = encode_node(message)
    assert len(frames) == 1
    assert decode_node(frames, oddities) == message
    assert counts(oddities) == (0, 0)


def test_a_message_of_no_items_comes_back() -> None:
    assert decode_client(encode_client(from_client()), Oddities()) == from_client()
    assert decode_node(encode_node(from_node()), Oddities()) == from_node()


def test_frames_may_be_views_of_a_buffer() -> None:
    views = [memoryview(frame) for frame in encode_client(from_client(submit(b"small"), submit(LARGE)))]
    small, large = decode_client(views, Oddities()).items
    assert isinstance(small, Submit)
    assert isinstance(large, Submit)
    assert small.body == b"small"
    assert large.body == LARGE
    assert large.body is views[1]  # taken over, not copied


# Bodies out of band


def test_large_bodies_of_jobs_go_out_of_band_and_come_back() -> None:
    message = from_client(Ping(1), submit(LARGE), submit(SMALL), submit(LARGER), Bye())
    frames = encode_client(message)
    assert frames[1:] == [LARGE, LARGER]
    assert len(frames[0]) < len(SMALL) + 300
    oddities = Oddities()
    assert decode_client(frames, oddities) == message
    assert counts(oddities) == (0, 0)


def test_large_bodies_of_results_go_out_of_band_and_come_back() -> None:
    message = from_node(Pong(1), Result(JOB, 1, LARGE), Result(JOB, 2, SMALL), Result(JOB, 3, LARGER))
    frames = encode_node(message)
    assert frames[1:] == [LARGE, LARGER]
    oddities = Oddities()
    assert decode_node(frames, oddities) == message
    assert counts(oddities) == (0, 0)


def test_encoding_leaves_the_message_as_it_is() -> None:
    job = from_client(submit(LARGE), submit(LARGER))
    outcome = from_node(Result(JOB, 1, LARGE), Result(JOB, 2, LARGER))
    job_before, outcome_before = copy.deepcopy(job), copy.deepcopy(outcome)
    assert encode_client(job) == encode_client(job)
    assert encode_node(outcome) == encode_node(outcome)
    assert job == job_before
    assert outcome == outcome_before


@pytest.mark.parametrize("index", [0, 2, 4096, 2**53])
def test_a_job_that_names_a_frame_that_is_not_there_is_dropped_alone(index: int) -> None:
    bad = SubmitLarge(JOB, 1, "add", 0, None, None, index)
    header = msgspec.msgpack.encode(from_client(Ping(1), bad, Ping(2)))
    oddities = Oddities()
    assert decode_client([header, LARGE], oddities).items == [Ping(1), Ping(2)]
    assert counts(oddities) == (0, 1)


@pytest.mark.parametrize("index", [0, 2, 4096, 2**53])
def test_a_result_that_names_a_frame_that_is_not_there_is_dropped_alone(index: int) -> None:
    header = msgspec.msgpack.encode(from_node(Pong(1), ResultLarge(JOB, 1, index), Pong(2)))
    oddities = Oddities()
    assert decode_node([header, LARGE], oddities).items == [Pong(1), Pong(2)]
    assert counts(oddities) == (0, 1)


def test_a_large_job_or_result_without_any_body_frame_is_dropped_too() -> None:
    oddities = Oddities()
    job = msgspec.msgpack.encode(from_client(SubmitLarge(JOB, 1, "add", 0, None, None, 1), Ping(1)))
    assert decode_client([job], oddities).items == [Ping(1)]
    outcome = msgspec.msgpack.encode(from_node(ResultLarge(JOB, 1, 1), Pong(1)))
    assert decode_node([outcome], oddities).items == [Pong(1)]
    assert counts(oddities) == (0, 2)


def test_two_items_may_name_the_same_frame() -> None:
    large = SubmitLarge(JOB, 1, "add", 0, None, None, 1)
    header = msgspec.msgpack.encode(from_client(large, large))
    items = decode_client([header, b"body"], Oddities()).items
    assert [item.body for item in items if isinstance(item, Submit)] == [b"body", b"body"]


def test_frames_that_nothing_names_are_ignored() -> None:
    oddities = Oddities()
    assert decode_client([*encode_client(from_client(Ping(1))), b"spare"], oddities) == from_client(Ping(1))
    assert decode_node([*encode_node(from_node(Pong(1))), b"spare"], oddities) == from_node(Pong(1))
    assert counts(oddities) == (0, 0)


# Items that are odd


KEPT_FREE_OR_NEVER_HEARD_OF = [0, 11, 15, 20, 30, 255, 2**63 - 1, -1]


@pytest.mark.parametrize("kind", KEPT_FREE_OR_NEVER_HEARD_OF)
def test_an_item_of_unknown_type_is_counted_as_unknown_and_the_others_stand(kind: int) -> None:
    oddities = Oddities()
    frame = client_header([7, 1], [kind, "anything", {"at": "all"}], [7, 2])
    assert decode_client([frame], oddities) == from_client(Ping(1), Ping(2))
    frame = node_header([17, 1], [kind, "anything", {"at": "all"}], [17, 2])
    assert decode_node([frame], oddities) == from_node(Pong(1), Pong(2))
    assert counts(oddities) == (2, 0)


def test_what_only_the_other_side_may_say_is_unknown_here() -> None:
    oddities = Oddities()
    assert decode_client([client_header([17, 1], [7, 1])], oddities).items == [Ping(1)]
    assert decode_node([node_header([7, 1], [17, 1])], oddities).items == [Pong(1)]
    assert counts(oddities) == (2, 0)


@pytest.mark.parametrize(
    "item",
    [
        [7],
        [7, "one"],
        [7, -1],
        [7, 2**53 + 1],
        [5, b"fifteen bytes.."],
        [5, "a text, 16 chars"],
        [3, JOB, 1, "", 0, None, None, b""],
        [3, JOB, 1, "t" * 201, 0, None, None, b""],
        [3, JOB, 1, "add", 2, None, None, b""],
        [3, JOB, 1, "add", 0, -1, None, b""],
        [3, JOB, 1, "add", 0, None, {"priority": 10}, b""],
        [3, JOB, 1, "add", 0, None, {"forwarded": 1}, b""],
        [3, JOB, 1, "add", 0, None, [], b""],
        [3, JOB, 1, "add", 0, None, None, "text"],
        [3, JOB, 1, "add", 0, None, None],
        [1, "mash", 1, 1, "default", "shop"],
        [1, "mesh", 1, 1, "m" * 64, "shop"],
        [],
        ["7", 1],
        [None],
        [[7], 1],
        7,
        None,
        "ping",
        {},
        {"type": 7},
    ],
    ids=repr,
)
def test_a_malformed_item_from_a_client_is_counted_and_the_others_stand(item: object) -> None:
    oddities = Oddities()
    assert decode_client([client_header([7, 1], item, [7, 2])], oddities) == from_client(Ping(1), Ping(2))
    assert counts(oddities) == (0, 1)


@pytest.mark.parametrize(
    "item",
    [
        [2, 1, {}],
        [2, 1, {"node": "short"}],
        [16, "r" * 33, ""],
        [16, "mesh", "t" * 2001],
        [18, [JOB, b"short"]],
        [19, JOB],
        [21, JOB, 1],
        [22, JOB, 1, -1],
        [23, JOB, None, b""],
        [24, JOB, 1, "busy"],
        [25, JOB, 1, "crash", 1, ""],
        [],
        17,
    ],
    ids=repr,
)
def test_a_malformed_item_from_a_node_is_counted_and_the_others_stand(item: object) -> None:
    oddities = Oddities()
    assert decode_node([node_header([17, 1], item, [17, 2])], oddities) == from_node(Pong(1), Pong(2))
    assert counts(oddities) == (0, 1)


def test_text_that_is_not_utf_8_costs_its_item_only() -> None:
    ping = b"\x92\x07\x01"
    header = b"\x93\xc4\x00\x00\x92" + b"\x96\x01\xa4\xff\xfe\xfd\xfc\x01\x01\xa0\xa0" + ping
    oddities = Oddities()
    assert decode_client([header], oddities).items == [Ping(1)]
    assert counts(oddities) == (0, 1)


def test_oddities_add_up_over_messages_and_kinds() -> None:
    oddities = Oddities()
    for _ in range(3):
        frame = client_header([11, 1], [7], [4, JOB, 1, "add", 0, None, None, 9], [99], [7, 1])
        assert decode_client([frame], oddities).items == [Ping(1)]
    assert counts(oddities) == (6, 6)


def test_elements_and_keys_that_a_later_version_adds_are_ignored() -> None:
    oddities = Oddities()
    job = [3, JOB, 1, "add", 0, 30_000, {"priority": 9, "colour": "red"}, b"body", "later", [1]]
    header = msgspec.msgpack.encode([EPOCH, 1500, [job, [8, "so long"]], "later"])
    assert decode_client([header], oddities) == from_client(submit(b"body"), Bye())
    header = msgspec.msgpack.encode([1, 2, 3, 4, 1500, [[26, "soon"]], {"later": True}])
    assert decode_node([header], oddities) == from_node(Drain())
    assert counts(oddities) == (0, 0)


# Headers that end the message


MALFORMED_HEADERS = [
    pytest.param(b"", id="empty"),
    pytest.param(b"\xc1", id="a byte that msgpack never uses"),
    pytest.param(b"\x93", id="cut"),
    pytest.param(b"mesh", id="text"),
    pytest.param(b"\x80", id="a map"),
    pytest.param(b"\x90", id="an empty array"),
    pytest.param(msgspec.msgpack.encode(["epoch", -1, []]), id="wrong types"),
    pytest.param(msgspec.msgpack.encode([b"nine bytes", 0, []]), id="an epoch too long"),
    pytest.param(msgspec.msgpack.encode([1, 2, 3, 4, -1, []]), id="a negative stamp"),
    pytest.param(msgspec.msgpack.encode([b"", 0, {}]), id="items that are a map"),
    pytest.param(msgspec.msgpack.encode([1, 2, 3, 4, 5, None]), id="no items"),
    pytest.param(b"\x91" * 100_000, id="depth"),
    pytest.param(b"\x93\xc4\x00\x00" + b"\x91" * 100_000, id="depth of an item from a client"),
    pytest.param(b"\x96\x01\x02\x03\x04\x05" + b"\x91" * 100_000, id="depth of an item from a node"),
    pytest.param(b"\xdd\xff\xff\xff\xff", id="length"),
    pytest.param(b"\x93\xc4\x00\x00\xdd\xff\xff\xff\xff", id="length of the items from a client"),
    pytest.param(b"\x96\x01\x02\x03\x04\x05\xdd\xff\xff\xff\xff", id="length of the items from a node"),
    pytest.param(b"\x93\xc6\xff\xff\xff\xff", id="length of the epoch"),
]


@pytest.mark.parametrize("header", MALFORMED_HEADERS)
def test_a_malformed_header_ends_its_message(header: bytes) -> None:
    oddities = Oddities()
    with pytest.raises(ProtocolError, match="malformed header"):
        decode_client([header], oddities)
    with pytest.raises(ProtocolError, match="malformed header"):
        decode_node([header], oddities)
    assert counts(oddities) == (0, 0)


def test_what_follows_a_header_in_its_frame_ends_the_message() -> None:
    with pytest.raises(ProtocolError, match="malformed header"):
        decode_client([client_header([7, 1]) + b"\x00"], Oddities())
    with pytest.raises(ProtocolError, match="malformed header"):
        decode_node([node_header([17, 1]) + b"\x00"], Oddities())


def test_a_message_without_frames_is_none() -> None:
    with pytest.raises(ProtocolError, match="1 to 4096 frames, this one 0"):
        decode_client([], Oddities())
    with pytest.raises(ProtocolError, match="1 to 4096 frames, this one 0"):
        decode_node([], Oddities())


def test_as_many_frames_as_are_allowed_are_taken_and_one_more_is_not() -> None:
    spare = [b""] * (FRAME_LIMIT - 1)
    assert decode_client([client_header([7, 1]), *spare], Oddities()).items == [Ping(1)]
    assert decode_node([node_header([17, 1]), *spare], Oddities()).items == [Pong(1)]
    with pytest.raises(ProtocolError, match="this one 4097"):
        decode_client([client_header([7, 1]), *spare, b""], Oddities())
    with pytest.raises(ProtocolError, match="this one 4097"):
        decode_node([node_header([17, 1]), *spare, b""], Oddities())


def test_a_header_of_the_greatest_size_is_taken_and_one_byte_more_is_not() -> None:
    empty = len(client_header([3, JOB, 1, "add", 0, None, None, b"x" * 2**16]))
    body = b"x" * (HEADER_LIMIT - empty + 2**16)
    full = client_header([3, JOB, 1, "add", 0, None, None, body])
    assert len(full) == HEADER_LIMIT
    assert len(decode_client([full], Oddities()).items) == 1
    too_large = client_header([3, JOB, 1, "add", 0, None, None, body + b"x"])
    for decode in (decode_client, decode_node):
        with pytest.raises(ProtocolError, match="at most 8388608 bytes, this one 8388609"):
            decode([too_large], Oddities())


def test_the_types_known_are_those_of_the_unions() -> None:
    def tags(union: Any) -> set[int]:
        return {item.__struct_config__.tag for item in union.__args__}

    assert tags(ClientItem) == codec._CLIENT_TYPES
    assert tags(NodeItem) == codec._NODE_TYPES


# Several messages


def jobs_of(*sizes: int) -> list[ClientItem]:
    return [submit(bytes([number % 256]) * size, job=number.to_bytes(16)) for number, size in enumerate(sizes)]


def results_of(*sizes: int) -> list[NodeItem]:
    return [Result(number.to_bytes(16), 1, bytes([number % 256]) * size) for number, size in enumerate(sizes)]


def length(frames: list[Buffer]) -> int:
    return sum(map(len, frames))


BATCHES = [
    [],
    [0],
    [100] * 3000,
    [20_000] * 200,
    [OUT_OF_BAND] * 100,
    [MESSAGE_BYTES],
    [5 * MESSAGE_BYTES],
    [0, 5 * MESSAGE_BYTES, 0],
    [MESSAGE_BYTES, MESSAGE_BYTES, MESSAGE_BYTES],
    [100, OUT_OF_BAND, 20_000, 600_000, 100, 600_000, *[30_000] * 60],
]
"""Sizes of bodies in one turn."""


@pytest.mark.parametrize("sizes", BATCHES)
def test_jobs_keep_their_order_and_all_else_in_however_many_messages_they_go(sizes: list[int]) -> None:
    oddities = Oddities()
    messages = [decode_client(frames, oddities) for frames in client_messages(from_client(*jobs_of(*sizes)))]
    assert {(message.epoch, message.stamp) for message in messages} == {(EPOCH, 1500)}
    assert [item for message in messages for item in message.items] == jobs_of(*sizes)
    assert counts(oddities) == (0, 0)


@pytest.mark.parametrize("sizes", BATCHES)
def test_results_keep_their_order_and_all_else_in_however_many_messages_they_go(sizes: list[int]) -> None:
    oddities = Oddities()
    messages = [decode_node(frames, oddities) for frames in node_messages(from_node(*results_of(*sizes)))]
    heads = {(message.free, message.free_async, message.window, message.seen, message.stamp) for message in messages}
    assert heads == {(1, 2, 3, 4, 1500)}
    assert [item for message in messages for item in message.items] == results_of(*sizes)
    assert counts(oddities) == (0, 0)


@pytest.mark.parametrize("sizes", BATCHES)
def test_a_message_of_several_items_is_no_longer_than_it_may_be(sizes: list[int]) -> None:
    for frames in client_messages(from_client(*jobs_of(*sizes))):
        assert length(frames) <= MESSAGE_BYTES or len(decode_client(frames, Oddities()).items) == 1
    for frames in node_messages(from_node(*results_of(*sizes))):
        assert length(frames) <= MESSAGE_BYTES or len(decode_node(frames, Oddities()).items) == 1


def test_items_that_fit_go_in_one_message() -> None:
    sizes = [5_000] * 50
    assert client_messages(from_client(*jobs_of(*sizes))) == [encode_client(from_client(*jobs_of(*sizes)))]
    assert node_messages(from_node(*results_of(*sizes))) == [encode_node(from_node(*results_of(*sizes)))]


@pytest.mark.parametrize("share", [1, 50], ids=["out of band", "in the header"])
def test_a_message_may_be_just_so_long_and_a_byte_more_makes_it_two(share: int) -> None:
    size = MESSAGE_BYTES // 2 // share
    spare = MESSAGE_BYTES - length(encode_client(from_client(*jobs_of(*[size] * share, OUT_OF_BAND))))
    sizes = [*[size] * share, OUT_OF_BAND + spare]
    assert [length(frames) for frames in client_messages(from_client(*jobs_of(*sizes)))] == [MESSAGE_BYTES]
    sizes[-1] += 1
    assert len(client_messages(from_client(*jobs_of(*sizes)))) == 2
    size = NODE_MESSAGE_BYTES // 2 // share
    spare = NODE_MESSAGE_BYTES - length(encode_node(from_node(*results_of(*[size] * share, OUT_OF_BAND))))
    sizes = [*[size] * share, OUT_OF_BAND + spare]
    assert [length(frames) for frames in node_messages(from_node(*results_of(*sizes)))] == [NODE_MESSAGE_BYTES]
    sizes[-1] += 1
    assert len(node_messages(from_node(*results_of(*sizes)))) == 2


def test_a_huge_item_goes_alone() -> None:
    sizes = [10, 10, 5 * MESSAGE_BYTES, 10]
    bodies = [[len(item.body) for item in items if isinstance(item, Submit)] for items in client_items(*sizes)]
    assert [5 * MESSAGE_BYTES] in bodies
    assert [size for message in bodies for size in message] == sizes
    parts = [decode_node(frames, Oddities()).items for frames in node_messages(from_node(*results_of(*sizes)))]
    assert results_of(*sizes)[2:3] in parts
    assert [item for items in parts for item in items] == results_of(*sizes)


def client_items(*sizes: int) -> list[list[ClientItem]]:
    return [decode_client(frames, Oddities()).items for frames in client_messages(from_client(*jobs_of(*sizes)))]


def test_items_without_a_body_keep_their_places_among_jobs_and_results() -> None:
    items: list[ClientItem] = [Ping(1), *jobs_of(MESSAGE_BYTES, 10), Cancel(JOB), *jobs_of(MESSAGE_BYTES), Bye()]
    parts = [decode_client(frames, Oddities()).items for frames in client_messages(from_client(*items))]
    assert len(parts) > 1
    assert [item for part in parts for item in part] == items
    words: list[NodeItem] = [Pong(1), *results_of(MESSAGE_BYTES, 10), Drain(), *results_of(MESSAGE_BYTES), Bye()]
    told = [decode_node(frames, Oddities()).items for frames in node_messages(from_node(*words))]
    assert len(told) > 1
    assert [item for part in told for item in part] == words


def test_splitting_leaves_the_message_as_it_is() -> None:
    jobs, results = from_client(*jobs_of(*[400_000] * 5)), from_node(*results_of(*[400_000] * 5))
    client_messages(jobs)
    node_messages(results)
    assert jobs == from_client(*jobs_of(*[400_000] * 5))
    assert results == from_node(*results_of(*[400_000] * 5))
