"""What is done to input to make it hostile: to its bytes, and to the values that it spells. All from one `Random`."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import msgpack

NUMBERS = (
    0, 1, -1, 2, 9, 10, 15, 16, 17, 127, 128, 200, 201, 255, 256, 4095, 4096, 4097, 65_535, 65_536, 2**31 - 1, 2**31,
    2**32, 2**53 - 1, 2**53, 2**53 + 1, 2**63 - 1, 2**63, 2**64 - 1, -(2**31), -(2**63),
)  # fmt: skip

FLOATS = (0.0, -0.0, 0.5, 1e-300, -1e308, 1e308, float("inf"), float("-inf"), float("nan"))

BYTES = (0x00, 0x01, 0x0A, 0x0D, 0x22, 0x5B, 0x5D, 0x7B, 0x7D, 0x7F, 0x80, 0x90, 0xC0, 0xC1, 0xC4, 0xD9, 0xFF)

LIES = (
    b"\xdc\xff\xff", b"\xdd\xff\xff\xff\xff", b"\xde\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xc4\xff",
    b"\xc6\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff", b"\xc9\xff\xff\xff\xff\x05", b"\xd9\xff",
    b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x80\x00\x00\x00\x00\x00\x00\x00", b"\xff" * 8, b"\xc8\x00\x00\x03",
)  # fmt: skip
"""Lengths that nothing follows, mostly msgpack's."""

NESTS = (b"\x91", b"\x81\x01", b"\x81\xa1a", b"[", b'{"a":', b"\xc7\x03\x05\x91", b"[{")

TEXTS = (
    "", "mesh", "default", "echo", "$ping", "a" * 63, "a" * 64, "a" * 200, "a" * 201, "é" * 100, "\x00", "\n", "\ud800",
    "../../etc/passwd", "__class__", "%s%n", "\U0001f4a3",
)  # fmt: skip


class Mutator:
    """Makes hostile input. The same random generator, used in the same order, makes the same."""

    def __init__(self, rng: random.Random, *, spare: Sequence[bytes] = ()) -> None:
        self.rng = rng
        self._spare = spare
        self._edits: tuple[Callable[[bytearray, int], None], ...] = (
            self._flip, self._flip, self._set, self._set, self._cut, self._insert, self._repeat, self._lie, self._end,
            self._splice, self._nest,
        )  # fmt: skip

    def bytes(self, content: bytes, *, most: int = 4) -> bytes:
        """Return `content` after one to `most` edits."""
        new = bytearray(content)
        for _ in range(self.rng.randint(1, most)):
            at = self.rng.randrange(len(new) + 1)
            self.rng.choice(self._edits)(new, at)
        return bytes(new)

    def _flip(self, new: bytearray, at: int) -> None:
        if at < len(new):
            new[at] ^= 1 << self.rng.randrange(8)

    def _set(self, new: bytearray, at: int) -> None:
        if at < len(new):
            new[at] = self.rng.choice(BYTES)

    def _cut(self, new: bytearray, at: int) -> None:
        del new[at : at + self.rng.randint(1, 9)]

    def _insert(self, new: bytearray, at: int) -> None:
        new[at:at] = self.rng.randbytes(self.rng.randint(1, 9))

    def _repeat(self, new: bytearray, at: int) -> None:
        piece = new[at : at + self.rng.randint(1, 40)]
        new[at:at] = piece * self.rng.choice((1, 1, 2, 16))

    def _lie(self, new: bytearray, at: int) -> None:
        lie = self.rng.choice(LIES)
        new[at : at + self.rng.choice((0, len(lie)))] = lie

    def _end(self, new: bytearray, at: int) -> None:
        del new[at:]

    def _splice(self, new: bytearray, at: int) -> None:
        if self._spare:
            other = self.rng.choice(self._spare)
            new[at:] = other[self.rng.randrange(len(other) + 1) :]

    def _nest(self, new: bytearray, at: int) -> None:
        depth = self.rng.choice((2, 30, 200, 1100)) if self.rng.random() < 0.2 else 2
        new[at:at] = self.rng.choice(NESTS) * depth

    # values

    def value(self, depth: int = 0) -> Any:
        """Return some value, mostly small, of any type that msgpack has."""
        pick = self.rng.random()
        if pick < 0.35:
            return self.rng.choice(NUMBERS)
        if pick < 0.55:
            return self.rng.choice(TEXTS)
        if pick < 0.7:
            return self.rng.randbytes(self.rng.choice((0, 1, 8, 15, 16, 17, 40)))
        if pick < 0.8:
            return self.rng.choice((None, True, False, *FLOATS))
        if depth > 2:
            return []
        if pick < 0.9:
            return [self.value(depth + 1) for _ in range(self.rng.randrange(5))]
        if pick < 0.97:
            return {self.rng.choice(TEXTS): self.value(depth + 1) for _ in range(self.rng.randrange(4))}
        return msgpack.ExtType(self.rng.randrange(128), self.rng.randbytes(self.rng.randrange(20)))

    def tree(self, value: Any) -> Any:
        """Return `value` with one thing in it replaced, left out, doubled or added; what it was is left as it is."""
        if isinstance(value, list) and value and self.rng.random() < 0.85:
            return self._in_list(list(value))
        if isinstance(value, dict) and value and self.rng.random() < 0.85:
            return self._in_dict(dict(value))
        return self.value()

    def _in_list(self, new: list[Any]) -> list[Any]:
        at = self.rng.randrange(len(new))
        pick = self.rng.random()
        if pick < 0.7:
            new[at] = self.tree(new[at])
        elif pick < 0.8:
            del new[at]
        elif pick < 0.9:
            new.insert(at, self.value())
        else:
            new.insert(at, new[at])
        return new

    def _in_dict(self, new: dict[Any, Any]) -> dict[Any, Any]:
        key = self.rng.choice(list(new))
        pick = self.rng.random()
        if pick < 0.7:
            new[key] = self.tree(new[key])
        elif pick < 0.8:
            del new[key]
        else:
            new[self.rng.choice(TEXTS)] = self.value()
        return new


def packed(value: Any) -> bytes:
    """Write a value as msgpack, lone surrogates too."""
    content: bytes = msgpack.packb(value, unicode_errors="surrogatepass")
    return content
