"""Processes to measure in, what a process costs, and the end of each, whatever happens.

A measurement runs in a fresh process, forked from a server that has only imported: no heap, loop or ZeroMQ context
of one touches another.
"""

import contextlib
import ctypes
import multiprocessing
import os
import shutil
import signal
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Generic, ParamSpec, Self, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["benchmarks.preload"])

LIMIT_S = 60.0
"""Seconds that one measurement may take: ten times what the longest takes on two cores."""

TETHER = ["setpriv", "--pdeathsig", "TERM", "--"] if shutil.which("setpriv") else []
"""What stands before a command so that it ends when we are killed and can end nothing any more."""

_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Ask the kernel to kill this process when the one that started it ends."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


@dataclass(frozen=True)
class _Failure:
    text: str


class Child(Generic[R]):
    """A function at work in a process of its own until it returns, or the block ends."""

    def __init__(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> None:
        self._name = function.__name__
        self._ours, theirs = CONTEXT.Pipe()
        self._process = CONTEXT.Process(target=_run, args=(theirs, function, args, kwargs), daemon=True)
        self._process.start()
        theirs.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.join()
        self._process.close()
        self._ours.close()

    @property
    def pid(self) -> int:
        """The process's id."""
        assert self._process.pid is not None
        return self._process.pid

    def await_word(self, line: "Connection[Any, Any]", limit: float) -> None:
        """Wait until the function has sent something through `line`, which is the caller's end of a pipe.

        Raises TimeoutError after `limit` seconds, and RuntimeError at once if the function ended without a word.
        """
        ready = wait([line, self._ours], limit)
        if not ready:
            raise TimeoutError(f"{self._name} has said nothing within {limit:g} s")
        if line not in ready and not line.poll():  # it may have spoken and ended
            self.result()
            raise RuntimeError(f"{self._name} ended without a word")

    def result(self, limit: float = LIMIT_S) -> R:
        """Wait for what the function returns. Raises TimeoutError after `limit` seconds, RuntimeError if it failed."""
        if not self._ours.poll(limit):
            raise TimeoutError(f"{self._name} has not ended within {limit:g} s")
        try:
            outcome = self._ours.recv()
        except EOFError:
            self._process.join()
            raise RuntimeError(f"{self._name} died with exit code {self._process.exitcode}") from None
        if isinstance(outcome, _Failure):
            raise RuntimeError(f"{self._name} failed:\n{outcome.text}")
        value: R = outcome
        return value


@dataclass(frozen=True)
class Places:
    """Where the processes of a measurement stay: the node (or proxy) on one CPU, callers and workers on another.

    So every hop wakes another CPU, as between hosts. The same one where there is no other.
    """

    ends: frozenset[int]
    middle: frozenset[int]


def two_places() -> Places:
    """Choose two of the CPUs that this process may use."""
    allowed = sorted(os.sched_getaffinity(0))
    return Places(frozenset(allowed[:1]), frozenset(allowed[-1:]))


def pinned(cpus: frozenset[int], function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Call a function on these CPUs; to be called in a process of its own."""
    os.sched_setaffinity(0, cpus)
    return function(*args, **kwargs)


def in_child(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Call the function in a fresh process and return what it returns."""
    with Child(function, *args, **kwargs) as child:
        return child.result()


def _run(outcome: "Connection[Any, Any]", function: Callable[..., Any], args: Any, kwargs: Any) -> None:
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started this process ends it
    try:
        result = function(*args, **kwargs)
    except Exception:  # noqa: BLE001  # whatever went wrong is told where it can be shown
        result = _Failure(traceback.format_exc())
    with contextlib.suppress(BrokenPipeError):  # nobody waits for it any more
        outcome.send(result)


# what a process costs


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of all threads that a process has."""
    return sum(cpu_by_thread(pid).values())


def cpu_by_thread(pid: int) -> dict[int, float]:
    """Return CPU seconds by thread; the main thread has the process's id. Counted in ns, not in ticks of 10 ms."""
    return {
        int(task.name): int((task / "schedstat").read_text().split()[0]) / 1e9
        for task in Path(f"/proc/{pid}/task").iterdir()
    }


def descendants(pid: int) -> list[int]:
    """Return the ids of a process's children, their children and so on."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):  # it has ended since
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(folder.name))
    found: list[int] = []
    left = [pid]
    while left:
        born = children.get(left.pop(), [])
        found += born
        left += born
    return found


def pss_bytes(pid: int) -> int:
    """Return a process's share of memory: pages that n processes share count a n-th in each."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("the kernel tells no Pss")


def rss_bytes() -> int:
    """Return what this process has in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
