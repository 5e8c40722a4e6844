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
        self._ends: list[float] = []
        self._lengths: list[float] = []

    async def __aenter__(self) -> Self:
        self._watching = asyncio.create_task(self._watch())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._watching.cancel()

    async def _watch(self) -> None:
        before = time.monotonic()
        while True:
            await asyncio.sleep(LOOK_S)
            now = time.monotonic()
            if now - before > PAUSE_S:
                self._ends.append(now)
                self._lengths.append(now - before)
            before = now

    def total(self) -> float:
        """Return the seconds lost in all, beyond those that make a pause one."""
        return sum(length - PAUSE_S for length in self._lengths)

    def longest(self) -> float:
        """Return the seconds of the longest pause; 0 if there was none."""
        return max(self._lengths, default=0.0)

    def without(self, moments: list[float]) -> list[float]:
        """Return the moments, by the monotonic clock, that no pause has put off."""
        return [at for at in moments if all(abs(at - end) > PAUSE_S for end in self._ends)]
