"""Frames to messages and back. Pure: `docs/protocol.md`, Frames.

Frame 0 is the header, msgpack; frames 1… are bodies too large to copy, which items name by index.
Whatever bytes come in, `decode_client` and `decode_node` end in a message or in one `ProtocolError`.
"""

from collections.abc import Callable, Sequence
from itertools import count
from typing import Final, TypeVar

import msgspec

from mesh.errors import ProtocolError
from mesh.wire.messages import (
    ClientItem,
    ClientMessage,
    ItemHead,
    LooseClientMessage,
    LooseNodeMessage,
    NodeItem,
    NodeMessage,
    Result,
    ResultLarge,
    Submit,
    SubmitLarge,
)

Buffer = bytes | memoryview
ItemT = TypeVar("ItemT")

OUT_OF_BAND: Final = 32 * 1024
"""Bytes from which a body gets a frame of its own, which the receiver, and a node that sends, need not copy. Below some
16–64 KiB a copy is cheaper than what ZeroMQ does to avoid it (measured: small frames get slower with copy=False)."""

HEADER_LIMIT: Final = 8 * 1024 * 1024
"""Bytes of frame 0: a turn's batch of jobs, each body below `OUT_OF_BAND`. Longer batches are split."""

MESSAGE_BYTES: Final = 1024 * 1024
"""Bytes of a client's message with more than one item; a turn's items beyond that go in the next."""

NODE_MESSAGE_BYTES: Final = 256 * 1024
"""The same of a node's: what ZeroMQ holds there for a client that does not read is bounded in messages."""

FRAME_LIMIT: Final = 4096
"""Frames of one message; a peer that sends more is malformed."""

ODD_LIMIT: Final = 1024
"""Items of one message that are left out; one with more is dropped whole: each costs some microseconds to judge."""

_encoder: Final = msgspec.msgpack.Encoder()
_client: Final = msgspec.msgpack.Decoder(ClientMessage)
_node: Final = msgspec.msgpack.Decoder(NodeMessage)
_client_loose: Final = msgspec.msgpack.Decoder(LooseClientMessage)
_node_loose: Final = msgspec.msgpack.Decoder(LooseNodeMessage)
_client_item: Final = msgspec.msgpack.Decoder(ClientItem)
_node_item: Final = msgspec.msgpack.Decoder(NodeItem)

_head: Final = msgspec.msgpack.Decoder(ItemHead)

_CLIENT_TYPES: Final = frozenset((1, 3, 4, 5, 6, 7, 8, 9, 10))
_NODE_TYPES: Final = frozenset((2, 8, 16, 17, 18, 19, 21, 22, 23, 24, 25, 26, 27, 28, 29))


class Oddities:
    """Counts of what a decoder left out: items of an unknown type, and malformed ones."""

    __slots__ = ("malformed", "unknown")

    def __init__(self) -> None:
        self.unknown = 0
        self.malformed = 0


def client_messages(message: ClientMessage) -> list[list[Buffer]]:
    """Encode a client's message as several where it is more than `MESSAGE_BYTES`: the frames of each."""

    def encode(items: list[ClientItem]) -> list[Buffer]:
        return encode_client(ClientMessage(message.epoch, message.stamp, items))

    return _in_parts(message.items, encode, MESSAGE_BYTES)


def node_messages(message: NodeMessage) -> list[list[Buffer]]:
    """Encode a node's message as several where it is more than `NODE_MESSAGE_BYTES`: the frames of each."""
    return _in_parts(message.items, lambda items: encode_node(_with_items(message, items)), NODE_MESSAGE_BYTES)


def _in_parts(items: list[ItemT], encode: Callable[[list[ItemT]], list[Buffer]], most: int) -> list[list[Buffer]]:
    frames = encode(items)
    if len(items) < 2 or sum(map(len, frames)) <= most:
        return [frames]
    cut = len(items) // 2
    return _in_parts(items[:cut], encode, most) + _in_parts(items[cut:], encode, most)


def encode_client(message: ClientMessage) -> list[Buffer]:
    """Encode a client's message: the header, then a frame for each large body. Leaves `message` as it is."""
    submit = Submit  # a struct's name is looked up anew each time where this is compiled
    large = [item for item in message.items if type(item) is submit and len(item.body) >= OUT_OF_BAND]
    if not large:
        return [_encoder.encode(message)]
    frame = count(1)
    items = [
        SubmitLarge(item.id, item.attempt, item.task, item.form, item.remaining, item.options, next(frame))
        if type(item) is Submit and len(item.body) >= OUT_OF_BAND
        else item
        for item in message.items
    ]
    header = _encoder.encode(ClientMessage(message.epoch, message.stamp, items))
    return [header, *(item.body for item in large)]


def encode_node(message: NodeMessage) -> list[Buffer]:
    """Encode a node's message: the header, then a frame for each large body. Leaves `message` as it is."""
    result = Result
    large = [item for item in message.items if type(item) is result and len(item.body) >= OUT_OF_BAND]
    if not large:
        return [_encoder.encode(message)]
    frame = count(1)
    items = [
        ResultLarge(item.id, item.attempt, next(frame))
        if type(item) is Result and len(item.body) >= OUT_OF_BAND
        else item
        for item in message.items
    ]
    return [_encoder.encode(_with_items(message, items)), *(item.body for item in large)]


def _with_items(message: NodeMessage, items: list[NodeItem]) -> NodeMessage:
    return NodeMessage(message.free, message.free_async, message.window, message.seen, message.stamp, items)


def decode_client(frames: Sequence[Buffer], oddities: Oddities) -> ClientMessage:
    """Decode a client's message. Unknown and malformed items are left out and counted.

    Raises ProtocolError where the header itself is malformed.
    """
    _check(frames)
    try:
        message = _client.decode(frames[0])
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        loose = _decode_loose(_client_loose, frames[0])
        items = _good_items(loose.items, _client_item, _CLIENT_TYPES, oddities)
        message = ClientMessage(loose.epoch, loose.stamp, items)
    if SubmitLarge in map(type, message.items):
        message.items = [i for i in (_submit(i, frames, oddities) for i in message.items) if i]
    return message


def decode_node(frames: Sequence[Buffer], oddities: Oddities) -> NodeMessage:
    """Decode a node's message. Unknown and malformed items are left out and counted.

    Raises ProtocolError where the header itself is malformed.
    """
    _check(frames)
    try:
        message = _node.decode(frames[0])
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        loose = _decode_loose(_node_loose, frames[0])
        items = _good_items(loose.items, _node_item, _NODE_TYPES, oddities)
        message = NodeMessage(loose.free, loose.free_async, loose.window, loose.seen, loose.stamp, items)
    if ResultLarge in map(type, message.items):
        message.items = [i for i in (_result(i, frames, oddities) for i in message.items) if i]
    return message


def _check(frames: Sequence[Buffer]) -> None:
    if not 0 < len(frames) <= FRAME_LIMIT:
        raise ProtocolError(f"a message has 1 to {FRAME_LIMIT} frames, this one {len(frames)}")
    if len(frames[0]) > HEADER_LIMIT:
        raise ProtocolError(f"a header is at most {HEADER_LIMIT} bytes, this one {len(frames[0])}")


def _decode_loose(decoder: "msgspec.msgpack.Decoder[ItemT]", header: Buffer) -> ItemT:
    try:
        return decoder.decode(header)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise ProtocolError(f"malformed header: {error}") from None


def _good_items(
    raws: list[msgspec.Raw],
    decoder: "msgspec.msgpack.Decoder[ItemT]",
    known: frozenset[int],
    oddities: Oddities,
) -> list[ItemT]:
    """Decode item by item what would not decode whole; only a peer that is odd pays for it."""
    items: list[ItemT] = []
    for n, raw in enumerate(raws):
        if n - len(items) > ODD_LIMIT:
            raise ProtocolError(f"more than {ODD_LIMIT} items of a message are unknown or malformed")
        try:
            items.append(decoder.decode(raw))
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
            kind = _item_type(raw)
            if kind is None or kind in known:
                oddities.malformed += 1
            else:
                oddities.unknown += 1
    return items


def _item_type(raw: msgspec.Raw) -> int | None:
    """Return the type of an undecoded item; None if it is not even an array that begins with one."""
    try:
        return _head.decode(raw).type
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return None


def _submit(item: ClientItem, frames: Sequence[Buffer], oddities: Oddities) -> ClientItem | None:
    if type(item) is not SubmitLarge:
        return item
    if not 0 < item.frame < len(frames):
        oddities.malformed += 1
        return None
    return Submit(
        item.id, item.attempt, item.task, item.form, item.remaining, item.options,
        frames[item.frame],
    )  # fmt: skip


def _result(item: NodeItem, frames: Sequence[Buffer], oddities: Oddities) -> NodeItem | None:
    if type(item) is not ResultLarge:
        return item
    if not 0 < item.frame < len(frames):
        oddities.malformed += 1
        return None
    return Result(item.id, item.attempt, frames[item.frame])
