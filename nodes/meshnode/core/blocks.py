"""Which blocks of a stretch of memory are lent. Pure."""

from typing import Final

LINE: Final = 64
"""Bytes to which a block is rounded up: none shares a cache line with the next."""

FULL: Final = -1
"""No gap is large enough."""


class Blocks:
    """Lends blocks of `size` bytes, each from the lowest offset where it fits: what was touched is touched again.

    Lists, since a stretch holds few blocks at a time: some dozens.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._starts: list[int] = []
        self._ends: list[int] = []

    def take(self, length: int) -> int:
        """Lend a block of so many bytes, one at least: the offset at which it starts, or FULL."""
        rounded = -(-length // LINE) * LINE
        start = 0
        for n, other in enumerate(self._starts):
            if other - start >= rounded:
                self._lend(n, start, rounded)
                return start
            start = self._ends[n]
        if self.size - start < rounded:
            return FULL
        self._lend(len(self._starts), start, rounded)
        return start

    def _lend(self, n: int, start: int, length: int) -> None:
        self._starts.insert(n, start)
        self._ends.insert(n, start + length)

    def give_back(self, start: int) -> None:
        """A lent block is free again, the one at this offset. Raises ValueError if none is lent there."""
        n = self._starts.index(start)
        del self._starts[n]
        del self._ends[n]
