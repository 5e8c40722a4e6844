"""What is due when, first things first. Pure."""

import heapq
from collections.abc import Callable, Iterator
from typing import Final, Generic, TypeVar

from meshnode.core.held import FOREVER

SLACK: Final = 1000
"""Pointless things that may lie about, beyond as many as there are others, until they are swept out."""

T = TypeVar("T")


class Timeline(Generic[T]):
    """Things and their moments, in monotonic seconds.

    What has become `pointless` meanwhile comes due all the same, or is swept out where there is much of it.
    """

    def __init__(self, pointless: Callable[[T], bool]) -> None:
        self._entries: list[tuple[float, int, T]] = []
        self._count = 0
        self._pointless = pointless
        self._most = SLACK

    def __len__(self) -> int:
        """How many lie here."""
        return len(self._entries)

    @property
    def at(self) -> float:
        """When the first one is due; FOREVER for never."""
        return self._entries[0][0] if self._entries else FOREVER

    def push(self, at: float, thing: T) -> None:
        """Have a thing come due then."""
        if len(self._entries) >= self._most:
            self._sweep()
        self._count += 1
        heapq.heappush(self._entries, (at, self._count, thing))

    def due(self, now: float) -> Iterator[T]:
        """Take out what is due."""
        while self._entries and self._entries[0][0] <= now:
            yield heapq.heappop(self._entries)[2]

    def _sweep(self) -> None:
        self._entries = [entry for entry in self._entries if not self._pointless(entry[2])]
        heapq.heapify(self._entries)
        self._most = 2 * len(self._entries) + SLACK
