"""Waiting for what tells nobody of its changes: files, counters, other processes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


async def until(condition: Callable[[], bool], timeout: float = 20.0) -> None:
    """Look every few milliseconds until a condition holds. Raises TimeoutError after `timeout` seconds."""
    async with asyncio.timeout(timeout):
        while not condition():  # noqa: ASYNC110 - only for what no event tells of
            await asyncio.sleep(0.005)
