"""Worker processes forked from one that has imported what they need, for libraries that start none themselves.

Cheaper than a program each, in time and in memory: what a careful user would do. Runs under the peers' Python.
"""

import ctypes
import gc
import os
import signal
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import NoReturn

from benchmarks.peers import driver

_PR_SET_PDEATHSIG = 1


def fork(count: int, work: Callable[[int], None]) -> NoReturn:
    """Run `work(n)` in that many processes until this one is told to end; none outlives it."""
    libc = ctypes.CDLL(None)
    parent = os.getpid()
    gc.freeze()
    for n in range(count):
        if os.fork() == 0:
            libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() == parent:
                work(n)
            os._exit(0)
    signal.pause()
    os._exit(0)


def main(start: Callable[[int], AbstractContextManager[driver.Peer]], work: Callable[[str], None]) -> None:
    """What a peer's module does as a program: with `work URL COUNT` be so many workers of `work`, else the driver."""
    match sys.argv[1:]:
        case ["work", url, count]:
            fork(int(count), lambda _: work(url))
        case _:
            driver.serve(start)
