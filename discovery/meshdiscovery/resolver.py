"""Asks for instances that were announced incompletely, a few at a time. Shell: python-zeroconf.

A packet may bring an instance's name without its records, or these have expired meanwhile. Forged
names cost an attacker nothing, so both the questions under way and those waiting are bounded.
"""

import asyncio
import logging
from collections.abc import Callable
from functools import partial

from zeroconf import DNSQuestionType, Zeroconf
from zeroconf.asyncio import AsyncServiceInfo

# python-zeroconf asks three times within this. By multicast (QM), as `mdns` explains.
_TIMEOUT_MS = 3000

# More than a real network needs at a time: nodes announce all their records in one packet.
_MAX_ASKED = 16
_MAX_WAITING = 512

_logger = logging.getLogger("meshdiscovery")


class Resolver:
    """Calls `take` with each instance that became complete; `passed_over` counts those not asked."""

    def __init__(self, take: Callable[[AsyncServiceInfo], None]) -> None:
        self.passed_over = 0
        self._take = take
        self._waiting: dict[str, tuple[Zeroconf, AsyncServiceInfo]] = {}
        self._asked: dict[str, asyncio.Task[None]] = {}

    def ask(self, zeroconf: Zeroconf, info: AsyncServiceInfo) -> None:
        """Ask for an instance as soon as there is room, unless that is under way already."""
        if info.key in self._asked or info.key in self._waiting:
            return
        if len(self._waiting) >= _MAX_WAITING:
            self.passed_over += 1
            return
        self._waiting[info.key] = (zeroconf, info)
        self._fill()

    def forget(self, name: str) -> None:
        """Ask no longer for an instance that said goodbye."""
        self._waiting.pop(name.lower(), None)
        task = self._asked.get(name.lower())
        if task is not None:
            task.cancel()

    async def close(self) -> None:
        """Ask for nothing any more."""
        self._waiting.clear()
        tasks = list(self._asked.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _fill(self) -> None:
        while self._waiting and len(self._asked) < _MAX_ASKED:
            key = next(iter(self._waiting))
            task = asyncio.create_task(self._request(*self._waiting.pop(key)))
            self._asked[key] = task
            task.add_done_callback(partial(self._done, key))

    async def _request(self, zeroconf: Zeroconf, info: AsyncServiceInfo) -> None:
        if await info.async_request(zeroconf, _TIMEOUT_MS, DNSQuestionType.QM):
            self._take(info)

    def _done(self, key: str, task: asyncio.Task[None]) -> None:
        del self._asked[key]
        self._fill()
        if not task.cancelled() and (error := task.exception()) is not None:
            _logger.error("mDNS: asking for %r failed", key, exc_info=error)
