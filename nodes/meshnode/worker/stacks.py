"""Where a worker hangs, told without its help: two signals, and a file in memory that its node reads.

`STACK` has the stacks of all threads written by faulthandler, at once and in C: also while a call into C does not
return. `AWAITS` has written what the coroutines await, by Python code, as soon as the interpreter comes to it.
"""

import faulthandler
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from types import FrameType
from typing import Any

STACK = signal.SIGRTMIN + 11
AWAITS = signal.SIGRTMIN + 12
"""Real-time signals in the middle of their range, where libraries do not look for any (signal(7))."""

FILE = "meshnode-stacks"
"""Name of the file in memory, as it stands in /proc/PID/fd."""

END = b"\0"
"""What ends the coroutines' part."""

DEPTH = 50
"""Awaits within each other that are shown."""

_descriptors: list[int] = []
"""Keeps the descriptor for the life of the process: faulthandler writes there."""


def tell_when_asked(coroutines: Callable[[], Mapping[int, Any]]) -> None:
    """Write stacks whenever a signal asks for them. `coroutines`: tasks that run, by the numbers of their orders."""
    descriptor = os.memfd_create(FILE, os.MFD_CLOEXEC)
    _descriptors.append(descriptor)
    faulthandler.register(STACK, file=descriptor, all_threads=True, chain=False)

    def tell(_signal: int, _frame: FrameType | None) -> None:
        lines = [line for seq, task in list(coroutines().items()) for line in (f"order {seq}:", *awaits(task))]
        with suppress(OSError):
            os.write(descriptor, "\n".join([*lines, ""]).encode(errors="replace") + END)

    signal.signal(AWAITS, tell)


def awaits(task: Any) -> Iterator[str]:
    """Tell what a task awaits: file, line and function of each coroutine, the outermost first."""
    awaited = task.get_coro()
    for _ in range(DEPTH):
        if awaited is None:
            return
        frame = _first(awaited, "cr_frame", "gi_frame", "ag_frame")
        if frame is None:
            yield f"  awaits {type(awaited).__name__}"
            return
        yield f'  File "{frame.f_code.co_filename}", line {frame.f_lineno} in {frame.f_code.co_name}'
        awaited = _first(awaited, "cr_await", "gi_yieldfrom", "ag_await")


def _first(thing: Any, *names: str) -> Any:
    """Return the first of these attributes that is there and not None."""
    return next((value for name in names if (value := getattr(thing, name, None)) is not None), None)
