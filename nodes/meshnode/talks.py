"""Short talks over streams, so many at once, none outliving its listener. Shell; what is said is the listener's."""

import asyncio
from collections.abc import Awaitable


class Talks:
    """The connections of one listener, `most` at once; who comes beyond that is to be told so.

    Each is closed when its talk is over, and cut off where its peer does not read.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._tasks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        """How many there are."""
        return len(self._tasks)

    @property
    def crowded(self) -> bool:
        """Are there more than there may be?"""
        return len(self._tasks) > self._most

    async def hold(self, writer: asyncio.StreamWriter, talk: Awaitable[None]) -> None:
        """Let a talk go on until it ends, or until its peer is silent for too long, does not read, or is gone."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await talk
        except (TimeoutError, OSError, EOFError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()
            if writer.transport.get_write_buffer_size():
                writer.transport.abort()

    async def close(self) -> None:
        """Cut off what is under way."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
