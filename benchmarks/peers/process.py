"""A peer's driver as a process, in a cage: asked over a pipe, bounded in time, gone afterwards."""

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from benchmarks.processes import TETHER, descendants, pss_bytes

_GOODBYE_S = 8.0
"""What a peer may take to end by itself before it is killed."""

_ROOT = Path(__file__).parents[2]


class PeerFailed(Exception):
    """The peer could not be measured, and why."""


class PeerProcess:
    """One peer behind its driver, for as long as the block runs and for so many seconds at most."""

    def __init__(self, name: str, python: Path, *, seconds: float) -> None:
        self._name = name
        self._python = python
        self._seconds = seconds
        self._late = False

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="peers", ignore_cleanup_errors=True)
        self._log = Path(self._folder.name, "log")
        tools = f"{self._python.parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
        cage = [*TETHER, sys.executable, "-m", "benchmarks.peers.cage"]
        with self._log.open("wb") as log:
            self._cage = subprocess.Popen(
                [*cage, str(self._python), "-m", f"benchmarks.peers.{self._name}"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=_ROOT,
                env={**os.environ, "PYTHONPATH": str(_ROOT), "PATH": tools, "TMPDIR": self._folder.name},
                start_new_session=True,
            )
        self._alarm = threading.Timer(self._seconds, self._expire)
        self._alarm.daemon = True
        self._alarm.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._alarm.cancel()
        assert self._cage.stdin is not None
        assert self._cage.stdout is not None
        with suppress(OSError):
            self._cage.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            self._cage.wait(_GOODBYE_S if error is None else 1)
        self._cage.terminate()
        self._cage.wait()
        self._cage.stdout.close()
        self._folder.cleanup()

    def ask(self, do: str, **rest: object) -> dict[str, float]:
        """Give an order to the driver (see `driver.py`) and return its answer. Raises PeerFailed."""
        assert self._cage.stdin is not None
        assert self._cage.stdout is not None
        with suppress(BrokenPipeError):
            print(json.dumps({"do": do, **rest}), file=self._cage.stdin, flush=True)
        line = self._cage.stdout.readline()
        if not line:
            raise PeerFailed(self._reason())
        answer: dict[str, float] = json.loads(line)
        return answer

    def memory(self, driver: int) -> float:
        """Everything behind the driver, in MB: workers, broker, helpers. The driver itself is the client."""
        return pss_mb(pid for pid in descendants(self._cage.pid) if pid != driver)

    def _expire(self) -> None:
        self._late = True
        self._cage.terminate()

    def _reason(self) -> str:
        if self._late:
            return f"took longer than {self._seconds:.0f} s"
        self._cage.wait()
        lines = [line for line in self._log.read_text(errors="replace").splitlines() if line.strip()]
        errors = [line for line in lines if not line.startswith((" ", "\t")) and "Error" in line]
        return (errors or lines or ["ended without a word"])[-1][:200]


def pss_mb(pids: Iterable[int]) -> float:
    """The memory of these processes in MB, what they share counted once."""
    total = 0
    for pid in pids:
        with suppress(OSError):  # it has ended since
            total += pss_bytes(pid)
    return total / 1e6
