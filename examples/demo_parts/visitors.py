"""Visitors of the site: they send echoes all the time and note how long each takes to come back."""

import asyncio
import time
from dataclasses import dataclass, field
from itertools import count
from statistics import median
from typing import Self

from websockets.asyncio.client import connect

PAUSE_S = 0.02
"""Seconds between an answer and the same visitor's next echo."""


@dataclass
class Echoes:
    """What became of the echoes that were sent in one stretch of time. Round trips are milliseconds."""

    round_trips: list[float] = field(default_factory=list)
    served: set[int] = field(default_factory=set)
    wrong: int = 0

    @property
    def median_ms(self) -> float:
        """Half of the echoes came back within this."""
        return median(self.round_trips) if self.round_trips else 0.0

    @property
    def worst_ms(self) -> float:
        """All of the echoes came back within this."""
        return max(self.round_trips, default=0.0)


class Crowd:
    """Visitors who are there until the block is left."""

    def __init__(self, url: str, size: int) -> None:
        self.size = size
        self._url = url
        self._echoes = Echoes()
        self._rounds = [0] * size
        self._visitors: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        """Come to the site; everybody has had a first echo when this returns."""
        self._visitors = [asyncio.create_task(self._visit(number)) for number in range(self.size)]
        await self._everybody_was_served()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Leave."""
        for visitor in self._visitors:
            visitor.cancel()
        await asyncio.gather(*self._visitors, return_exceptions=True)

    def begin(self) -> None:
        """Count the echoes that are sent from here on."""
        self._echoes = Echoes()

    async def finish(self) -> Echoes:
        """Count no more; return what was counted when its last echo is back."""
        echoes, self._echoes = self._echoes, Echoes()
        await self._everybody_was_served()
        return echoes

    async def _everybody_was_served(self) -> None:
        before = self._rounds.copy()
        while any(now <= then for now, then in zip(self._rounds, before, strict=True)):
            for visitor in self._visitors:
                if visitor.done():
                    visitor.result()
            await asyncio.sleep(PAUSE_S)

    async def _visit(self, number: int) -> None:
        async with connect(self._url) as site:
            for turn in count():
                text, echoes = f"hello from visitor {number}, turn {turn}", self._echoes
                began = time.perf_counter()
                await site.send(text)
                answer = await site.recv()
                echoes.round_trips.append((time.perf_counter() - began) * 1000)
                echoes.served.add(number)
                echoes.wrong += answer != text
                self._rounds[number] += 1
                await asyncio.sleep(PAUSE_S)
