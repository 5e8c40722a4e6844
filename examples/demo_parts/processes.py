"""Starts the demo's processes, listens to what they say, and ends every one of them, come what may."""

import asyncio
import ctypes
import os
import re
import signal
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

ROOT = Path(__file__).parents[2]
READY_S = 15.0
"""Seconds within which a process must be ready."""

STOP_S = 5.0
"""Seconds that processes get to end when they are told to; then they are killed."""

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


class StartError(Exception):
    """A process did not become ready; the message says what it said last."""


class Program:
    """A process and what it says, on standard output and standard error alike."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, on_line: Callable[[str], None]) -> None:
        self.name = name
        self.process = process
        self._last = deque[str](maxlen=200)
        self._on_line = on_line
        self._news = asyncio.Event()
        self._listening = asyncio.create_task(self._listen())

    async def _listen(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            self._last.append(line.decode(errors="replace").rstrip())
            self._on_line(self._last[-1])
            self._news.set()
        await self.process.wait()
        self._news.set()

    async def said(self, pattern: str) -> re.Match[str]:
        """Wait for a line that matches, and return the match. Raises StartError if the process ends before."""
        while True:
            for line in self._last:
                if match := re.search(pattern, line):
                    return match
            if self._listening.done():
                raise StartError(f"{self.name} ended with {self.process.returncode}:\n{self.last_words()}")
            self._news.clear()
            await self._news.wait()

    async def ready(self, pattern: str) -> str:
        """Wait until it says this, and return the part in brackets. Raises StartError."""
        try:
            async with asyncio.timeout(READY_S):
                return (await self.said(pattern))[1]
        except TimeoutError:
            raise StartError(f"{self.name} was not ready after {READY_S:g} s:\n{self.last_words()}") from None

    def last_words(self) -> str:
        """Return the last lines that it wrote."""
        return "\n".join(f"  {line}" for line in [*self._last][-8:]) or "  (it wrote nothing)"

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to this process, if it is still there."""
        if self.process.returncode is None:
            with suppress(ProcessLookupError):
                self.process.send_signal(number)

    async def ended(self) -> None:
        """Wait until it is gone, and all that it wrote is read."""
        await self.process.wait()
        await asyncio.wait((self._listening,))


class Processes:
    """Runs Python modules as processes until the block is left, however it is left."""

    def __init__(self) -> None:
        # What the user has set for nodes of their own must not reach these.
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("MESHNODE_")}
        self._environment = inherited | {"PYTHONUNBUFFERED": "1"}
        self.running: list[Program] = []

    async def __aenter__(self) -> Self:
        """Nothing runs yet."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Tell all of them to end and wait; a second Ctrl-C, or time, kills what is left: each by its own number."""
        for process in reversed(self.running):
            process.send_signal(signal.SIGTERM)
        with suppress(TimeoutError, asyncio.CancelledError):
            async with asyncio.timeout(STOP_S):
                await asyncio.gather(*(process.ended() for process in self.running))
        for process in self.running:
            process.send_signal(signal.SIGKILL)
        await asyncio.gather(*(process.ended() for process in self.running))

    def last_words(self) -> str:
        """Return what each process said last."""
        return "\n\n".join(f"{process.name} said last:\n{process.last_words()}" for process in self.running)

    async def start(
        self,
        name: str,
        words: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        on_line: Callable[[str], None] = lambda _: None,
    ) -> Program:
        """Start `python -m WORDS…`. A Ctrl-C at the terminal reaches the demo only, which then ends its processes."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            *words,
            cwd=ROOT,
            env=self._environment | dict(environment or {}),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            process_group=0,
            preexec_fn=_end_with_the_demo,
        )
        self.running.append(Program(name, process, on_line))
        return self.running[-1]


def _end_with_the_demo() -> None:
    """Have the kernel end this process in order even if the demo is killed outright (prctl(2))."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
