"""Watches an event loop: how long did it keep everybody waiting?"""

import asyncio
from typing import Self

TICK_S = 0.002
"""Seconds between two looks; a stall shorter than this cannot be seen."""


class LoopWatch:
    """Sleeps a little, over and over. What it slept too long is time in which the loop served nobody."""

    def __init__(self) -> None:
        self._longest_s = 0.0
        self._due = 0.0

    async def __aenter__(self) -> Self:
        """Watch the running loop."""
        self._watching = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *_: object) -> None:
        """Watch no more."""
        self._watching.cancel()

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._due = loop.time() + TICK_S
            await asyncio.sleep(TICK_S)
            self._longest_s = max(self._longest_s, loop.time() - self._due)

    def longest_stall_ms(self) -> float:
        """Return the longest stall since this was last asked, one that is just ending included."""
        late_s = asyncio.get_running_loop().time() - self._due
        longest_s, self._longest_s = max(self._longest_s, late_s), 0.0
        return longest_s * 1000
