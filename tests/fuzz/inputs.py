"""Hostile input for each of a node's ears: the front's messages, the bridge's lines, raw connections to both."""

from __future__ import annotations

import json
import random
from typing import Any

import msgpack

from tests.fuzz.corpus import entries, singles
from tests.fuzz.mutate import NESTS, Mutator, packed

EPOCH = b"epoch-01"
"""What the corpus has for the node's epoch."""


class FrontMessages:
    """Messages for a ROUTER. `epoch` and `stamp` are the node's own, so that jobs among them run."""

    def __init__(self, rng: random.Random, *, epoch: bytes, stamp: int) -> None:
        self._rng = rng
        self._epoch = epoch
        self._stamp = stamp
        corpus = entries("front")
        self._messages = [[frame.replace(EPOCH, epoch) for frame in frames] for frames in corpus]
        self._headers = [frames[0] for frames in self._messages]
        self._items = [item for header in self._headers for item in msgpack.unpackb(header)[2]]
        self._mutator = Mutator(rng, spare=self._headers)

    def next(self) -> list[bytes]:
        """Return the frames of one message."""
        rng = self._rng
        pick = rng.random()
        if pick < 0.75:
            frames = [self._header(), *rng.choice(self._messages)[1:]]
            if rng.random() < 0.2:
                frames[0] = self._mutator.bytes(frames[0])
        elif pick < 0.92:
            frames = list(rng.choice(self._messages))
            at = rng.randrange(len(frames))
            frames[at] = self._mutator.bytes(frames[at])
        elif pick < 0.97:
            frames = self._other_frames(list(rng.choice(self._messages)))
        else:
            frames = [rng.randbytes(rng.randrange(60)) for _ in range(rng.randint(1, 4))]
        return frames

    def _header(self) -> bytes:
        rng = self._rng
        items = [self._item() for _ in range(rng.choice((0, 1, 1, 1, 2, 3, 8)))]
        header: Any = [self._epoch, self._stamp, items]
        if rng.random() < 0.1:
            header = self._mutator.tree(header)
        return packed(header)

    def _item(self) -> Any:
        rng = self._rng
        item = list(rng.choice(self._items))
        if len(item) > 2 and rng.random() < 0.5:
            item[1] = rng.randbytes(16)
        if rng.random() < 0.15:
            item[0] = rng.randrange(40)
        return self._mutator.tree(item) if rng.random() < 0.7 else item

    def _other_frames(self, frames: list[bytes]) -> list[bytes]:
        rng = self._rng
        pick = rng.random()
        if pick < 0.3:
            return frames[1:] or [b""]
        if pick < 0.6:
            return [*frames, *[b""] * rng.choice((1, 2, 300))]
        if pick < 0.62:
            return [*frames, *[b"x"] * rng.choice((4094, 4095, 4096, 9000))]
        if pick < 0.8:
            return frames[::-1]
        return [packed(self._mutator.value())] * rng.randint(1, 3)


RAW_JSON = (
    "NaN", "-Infinity", "1e999", "-0", "01", "1.", "9" * 5000, "-" + "9" * 400, '"\\ud800"', '"\\udc00\\ud800"',
    '"\\u00"', '"\x00"', "1E400", "0x10", "[" * 300 + "]" * 300, '{"a":' * 210 + "1" + "}" * 210, "'a'", "undefined",
    '"' + "a" * 3000 + '"',
)  # fmt: skip
"""What `json.dumps` would not write."""


class BridgeLines:
    """Lines for a plain socket, their ends left out; what is in them may end them sooner."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._lines = singles("bridge")
        self._values = [json.loads(line) for line in self._lines if line.startswith(b"{") and line.endswith(b"}")]
        self._mutator = Mutator(rng, spare=self._lines)

    def next(self) -> bytes:
        """Return one line."""
        rng = self._rng
        pick = rng.random()
        if pick < 0.55:
            return self._written(self._mutator.tree(rng.choice(self._values)))
        if pick < 0.9:
            return self._mutator.bytes(rng.choice(self._lines))
        if pick < 0.95:
            return rng.choice(self._lines)
        return rng.randbytes(rng.randrange(100))

    def _written(self, value: Any) -> bytes:
        text = json.dumps(value, default=repr, ensure_ascii=self._rng.random() < 0.5)
        line = text.encode("utf-8", "surrogatepass")
        if self._rng.random() < 0.2:
            places = [at for at, byte in enumerate(line) if byte in b":,["]
            if places:
                at = self._rng.choice(places) + 1
                line = line[:at] + self._rng.choice(RAW_JSON).encode() + line[at + self._rng.choice((0, 1, 4)) :]
        return self._mutator.bytes(line) if self._rng.random() < 0.2 else line


def owed(content: bytes) -> int:
    """How many answers are owed for these bytes: one for each line that ends and is not empty, says the document."""
    lines = content.split(b"\n")[:-1]
    return sum(line.rstrip(b"\r\n").removeprefix(b"\xef\xbb\xbf") != b"" for line in lines)


class RawBytes:
    """What is sent over one connection, in pieces: the corpus of a side, cut, damaged and put together anew."""

    def __init__(self, rng: random.Random, side: str) -> None:
        self._rng = rng
        self._entries = entries(side)
        self._mutator = Mutator(rng, spare=[piece for entry in self._entries for piece in entry])

    def next(self) -> list[bytes]:
        """Return the pieces of one connection; none for one that says nothing."""
        rng = self._rng
        pick = rng.random()
        if pick < 0.05:
            return []
        if pick < 0.1:
            return [rng.randbytes(rng.randrange(300))]
        pieces = list(rng.choice(self._entries))
        if pick < 0.3:
            return pieces[: rng.randint(0, len(pieces))]
        at = rng.randrange(len(pieces))
        pieces[at] = self._mutator.bytes(pieces[at])
        if pick < 0.4:
            pieces += rng.choice(self._entries)
        if pick > 0.98:
            pieces.append(rng.choice(NESTS) * 5000)
        return pieces
