"""Whether a test itself had to wait for the CPU: what came due meanwhile is then done all at once, and late."""

from __future__ import annotations

import asyncio
import time
from types import TracebackType
from typing import Self

LOOK_S = 0.01
PAUSE_S = 0.1
"""Seconds between two looks from which on this process stood still."""


class Pauses:
    """`async with Pauses() as pauses`: when this process, and every client in it, stood still in the block."""

    def __init__(self) -> None:
        self._pauses: list[tuple[float, float]] = []  # when each ended, and how long it was

    async def __aenter__(self) -> Self:
        self._looked = time.monotonic()
        self._watching = asyncio.create_task(self._watch())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._watching.cancel()
        self._look()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            self._look()

    def _look(self) -> None:
        now = time.monotonic()
        if now - self._looked > PAUSE_S:
            self._pauses.append((now, now - self._looked))
        self._looked = now

    def total(self) -> float:
        """Return the seconds lost in all, beyond those that make a pause one."""
        return sum(length - PAUSE_S for _, length in self._pauses)

    def longest(self) -> float:
        """Return the seconds of the longest pause; 0 if there was none."""
        return max((length for _, length in self._pauses), default=0.0)

    def without(self, moments: list[float]) -> list[float]:
        """Return the moments, by the monotonic clock, that no pause has put off."""
        return [at for at in moments if all(abs(at - end) > PAUSE_S for end, _ in self._pauses)]
