"""The peer's side: takes orders from the runner and drives one peer, whatever its API.

Runs under the peers' Python, so it imports the standard library alone. An order is one JSON line on standard input
and is answered by one on standard output:

    {"do": "open", "workers": 2, "naps": false}    start the peer, warm it up; the driver's pid
    {"do": "noop", "seconds": 2.0}                 {"rate": jobs/s}, the window full
    {"do": "singly", "seconds": 2.0}               {"p50": µs, "p99": µs}, one job at a time
    {"do": "naps", "seconds": 2.0}                 {"rate": jobs/s} of jobs that wait for 10 ms
    {"do": "close"}                                stop the peer

The end of the input ends the process.
"""

import asyncio
import json
import os
import statistics
import sys
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import AbstractContextManager, ExitStack
from typing import Any, TypeVar

T = TypeVar("T")

WINDOW = 2048
"""Jobs under way at most, as many as the mesh's client may have."""

NAP_S = 0.01

MOST = 200_000
"""No-op jobs of one sample at most: longer tells nothing more."""


LEAST = 20
"""Jobs one at a time at least."""

WARM_UP_S = 15.0
"""At most so long until a peer gets no faster any more."""

_AWAKE_S = 0.1
"""Work before a sample: peers that poll look seldom after they have had none, while the mesh was sampled."""


class Peer(ABC):
    """One system, started, with its workers ready. `nap` is seconds to wait in the worker; None is a no-op job."""

    @abstractmethod
    def flood(self, jobs: int, nap: float | None) -> float:
        """Run jobs with the window full; how many a second."""

    @abstractmethod
    def singly(self, seconds: float) -> list[float]:
        """Run no-op jobs one at a time for so long; the seconds that each took."""


class Blocking(Peer):
    """A peer whose results are waited for one by one. The oldest is waited for when the window is full."""

    window = WINDOW

    @abstractmethod
    def submit(self, nap: float | None) -> Any:
        """Hand a job over and return what its result is known by."""

    @abstractmethod
    def result(self, job: Any) -> None:
        """Wait for its result."""

    def flood(self, jobs: int, nap: float | None) -> float:
        began = time.perf_counter()
        pending: deque[Any] = deque()
        for _ in range(jobs):
            if len(pending) >= self.window:
                self.result(pending.popleft())
            pending.append(self.submit(nap))
        for job in pending:
            self.result(job)
        return jobs / (time.perf_counter() - began)

    def singly(self, seconds: float) -> list[float]:
        taken: list[float] = []
        for _ in _laps(seconds, taken):
            self.result(self.submit(None))
        return taken


class Batching(Peer):
    """A peer that hands over and collects many jobs in one call: half a window each time, so that it is never empty."""

    window = WINDOW

    @abstractmethod
    def submit(self, count: int, nap: float | None) -> Any:
        """Hand so many jobs over and return what their results are known by."""

    @abstractmethod
    def results(self, batch: Any) -> None:
        """Wait for the results of all of them."""

    def flood(self, jobs: int, nap: float | None) -> float:
        half = self.window // 2
        began = time.perf_counter()
        before: Any = None
        for at in range(0, jobs, half):
            batch = self.submit(min(half, jobs - at), nap)
            if before is not None:
                self.results(before)
            before = batch
        self.results(before)
        return jobs / (time.perf_counter() - began)

    def singly(self, seconds: float) -> list[float]:
        taken: list[float] = []
        for _ in _laps(seconds, taken):
            self.results(self.submit(1, None))
        return taken


class Looping(Peer):
    """A peer for asyncio, on uvloop."""

    window = WINDOW
    nap_window = 1024

    def __init__(self) -> None:
        import uvloop

        self._runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run on the peer's own loop, which lives as long as the peer."""
        return self._runner.run(work)

    def close(self) -> None:
        self._runner.close()

    @abstractmethod
    async def submit(self, nap: float | None) -> Awaitable[Any]:
        """Hand a job over and return what its result can be awaited by, once."""

    def flood(self, jobs: int, nap: float | None) -> float:
        return self.run(self._in_order(jobs) if nap is None else self._in_slots(jobs, nap))

    async def _in_order(self, jobs: int) -> float:
        """Wait for the oldest: the cheapest, and right for jobs that are all equally short."""
        began = time.perf_counter()
        pending: deque[Awaitable[Any]] = deque()
        for _ in range(jobs):
            if len(pending) >= self.window:
                await pending.popleft()
            pending.append(await self.submit(None))
        for job in pending:
            await job
        return jobs / (time.perf_counter() - began)

    async def _in_slots(self, jobs: int, nap: float) -> float:
        """Each place of the window goes on for itself, so that one slow worker leaves no other without work.

        Of many jobs, the rate of the time before the last was handed over: where workers have queues of their own the
        rest takes as long as the longest of them, which is no matter of throughput.
        """
        began = time.perf_counter()
        numbers = iter(range(jobs))
        done = 0
        full: list[float] = []

        async def slot() -> None:
            nonlocal done
            for _ in numbers:
                await (await self.submit(nap))
                done += 1
            full.append(done / (time.perf_counter() - began))

        await asyncio.gather(*(slot() for _ in range(min(jobs, self.nap_window))))
        return full[0] if jobs >= 4 * self.nap_window else jobs / (time.perf_counter() - began)

    def singly(self, seconds: float) -> list[float]:
        return self.run(self._singly(seconds))

    async def _singly(self, seconds: float) -> list[float]:
        taken: list[float] = []
        for _ in _laps(seconds, taken):
            await (await self.submit(None))
        return taken


def _laps(seconds: float, taken: list[float]) -> Iterator[None]:
    """Go round for so long, `LEAST` times at least, and note what each turn took."""
    clock = time.perf_counter
    until = clock() + seconds
    while (began := clock()) < until or len(taken) < LEAST:
        yield
        taken.append(clock() - began)


class _Session:
    """What the orders of one runner do, to one peer after another."""

    def __init__(self, start: Callable[[int], AbstractContextManager[Peer]]) -> None:
        self._start = start
        self._stack = ExitStack()
        self._peer: Peer
        self._rate = 0.0

    def open(self, *, workers: int, naps: bool) -> dict[str, float]:
        """Start the peer and run enough to know its speed, with code and connections warm in every worker."""
        self._peer = self._stack.enter_context(self._start(workers))
        nap = NAP_S if naps else None
        until = time.monotonic() + WARM_UP_S
        before, rate = 0.0, self._timed(8 * workers, nap)
        while rate > 1.2 * before and time.monotonic() < until:
            before, rate = rate, self._timed(self._jobs(0.3), nap)
        return {"pid": os.getpid()}

    def noop(self, *, seconds: float) -> dict[str, float]:
        jobs = min(MOST, self._jobs(seconds))
        self._peer.flood(self._jobs(_AWAKE_S), None)
        return {"rate": self._timed(jobs, None)}

    def naps(self, *, seconds: float) -> dict[str, float]:
        jobs = self._jobs(seconds)
        self._peer.flood(self._jobs(_AWAKE_S), NAP_S)
        return {"rate": self._timed(jobs, NAP_S)}

    def singly(self, *, seconds: float) -> dict[str, float]:
        self._peer.flood(self._jobs(_AWAKE_S), None)
        taken = self._peer.singly(seconds)
        cuts = statistics.quantiles(taken, n=100, method="inclusive")
        return {"p50": cuts[49] * 1e6, "p99": cuts[98] * 1e6}

    def close(self) -> dict[str, float]:
        self._stack.close()
        return {}

    def _jobs(self, seconds: float) -> int:
        return max(100, round(self._rate * seconds))

    def _timed(self, jobs: int, nap: float | None) -> float:
        self._rate = self._peer.flood(jobs, nap)
        return self._rate


def serve(start: Callable[[int], AbstractContextManager[Peer]]) -> None:
    """Do what the runner orders, until it closes the pipe."""
    # What a peer or a worker of it prints is no answer.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    session = _Session(start)
    try:
        for line in sys.stdin:
            order = json.loads(line)
            answer = getattr(session, order.pop("do"))(**order)
            print(json.dumps(answer), file=answers, flush=True)
    finally:
        session.close()
