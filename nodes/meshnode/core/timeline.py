"""What is due when, first things first. Pure."""

import heapq
from collections.abc import Iterator
from typing import Generic, TypeVar

from meshnode.core.held import FOREVER

T = TypeVar("T")


class Timeline(Generic[T]):
    """Things and their moments, in monotonic seconds. What has become pointless meanwhile comes due all the same."""

    def __init__(self) -> None:
        self._entries: list[tuple[float, int, T]] = []
        self._count = 0

    @property
    def at(self) -> float:
        """When the first one is due; FOREVER for never."""
        return self._entries[0][0] if self._entries else FOREVER

    def push(self, at: float, thing: T) -> None:
        """Have a thing come due then."""
        self._count += 1
        heapq.heappush(self._entries, (at, self._count, thing))

    def due(self, now: float) -> Iterator[T]:
        """Take out what is due."""
        while self._entries and self._entries[0][0] <= now:
            yield heapq.heappop(self._entries)[2]
