"""A server in a process of its own, for as long as a block runs. Shell."""

import os
import re
import signal
import subprocess
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Self

from benchmarks.processes import TETHER


class Server:
    """Runs `command`, whose standard error names the port that it listens on, as group 1 of `pattern`.

    With several `processes` it is ready when each of them has said so. It is killed if it has not stopped `grace`
    seconds after it was told to.
    """

    start_s = 20.0
    """Seconds that it may take to be ready."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        pattern: str = r"listening: 127\.0\.0\.1:(\d+)",
        processes: int = 1,
        grace: float = 10.0,
    ) -> None:
        self._command = list(command)
        self._pattern = re.compile(pattern)
        self._awaited = processes
        self._grace = grace
        self._log: list[str] = []
        self._settled = threading.Event()
        self.port = 0
        self.greeting = ""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [*TETHER, *self._command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        # A thread of its own reads on, so that the server never waits for somebody to read its log.
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        try:
            if not self._settled.wait(self.start_s) or self._awaited:
                raise RuntimeError(f"{self._command[0]} did not start:\n{''.join(self._log)}")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(self._grace)
        # The session that was begun for it is empty now, unless the server failed to stop or left children.
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._reader.join()
        assert self._process.stderr is not None
        self._process.stderr.close()

    @property
    def pid(self) -> int:
        """The id of the process itself."""
        return self._process.pid

    def _read(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._hear(line)
        self._settled.set()

    def _hear(self, line: str) -> None:
        """Take in a line of its log, to its end: until it is ready, it is looked at and kept."""
        if not self._awaited:
            return
        self._log.append(line)
        if found := self._pattern.search(line):
            self.port, self.greeting = int(found[1]), line.strip()
            self._awaited -= 1
            if not self._awaited:
                self._settled.set()
