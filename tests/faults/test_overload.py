"""Row 12: a node is offered five times what it can do. It goes on doing what it can, and says busy at once."""

import asyncio
import statistics
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil

import mesh
from mesh.core.budget import FLOOR, PERIOD_S, SHARE
from mesh.wire.messages import BUSY, Reject, Result, Welcome
from tests.support.clients import connected
from tests.support.faults import Figures, sized, within
from tests.support.ledger import Ledger
from tests.support.nodes import NodeProcess, write_tasks
from tests.support.peers import Peer

TASKS = """
import time

from tests.support.ledger import executed


@mesh.task
def work(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


@mesh.task(retry=mesh.Retry(3, on=(OSError,), backoff=0.05, cap=0.2))
def failing(seconds: float) -> None:
    executed()
    time.sleep(seconds)
    raise OSError("as always")
"""

WORKERS, JOB_S = 4, 0.01
CLIENTS = 5
PENDING = 4 * WORKERS
"""Jobs that each client may have under way: together far more than there is room for."""

OVERLOAD = 5.0
PEAK_S = 4.0
LOUD_S = sized(10.0, 60.0)

GOODPUT = sized(0.6, 0.9)
BUSY_S = sized(0.5, 0.010)
"""Seconds to say busy; behind the work that waits it would be more. At the small size both bounds are wide, for
other programs take a share of the machine that changes while this one measures."""

MEMORY = 8 * 2**20


def p99(durations: list[float]) -> float:
    return statistics.quantiles(durations, n=100)[98]


class Offers:
    """What one client offers: a job at a time, at a rate that does not ask whether there is room."""

    def __init__(self, client: mesh.Client, task: str) -> None:
        self.results = 0
        self.offered = 0
        self.taken: list[float] = []
        self.busy: list[float] = []
        self.most = 0
        self.under_way: set[asyncio.Task[None]] = set()
        self._jobs: set[mesh.Job[float]] = set()
        self.failed: list[BaseException] = []
        self._client = client
        self._task = task

    async def run(self, rate: float, seconds: float) -> None:
        begun = time.monotonic()
        over = False
        while not over:  # the last turn may come late, and offers what is due by then
            passed = time.monotonic() - begun
            over = passed >= seconds
            while self.offered < min(passed, seconds) * rate:
                self._offer()
            await asyncio.sleep(0.002)

    def _offer(self) -> None:
        self.offered += 1
        asked = time.monotonic()
        try:
            job = self._client.submit(self._task, JOB_S)
        except mesh.MeshBusy:
            self.busy.append(time.monotonic() - asked)
            return
        self.taken.append(asked)
        self._jobs = {job, *(other for other in self._jobs if not other.over)}
        waiting = asyncio.create_task(self._wait(job))
        self.under_way.add(waiting)
        waiting.add_done_callback(self.under_way.discard)
        self.most = max(self.most, len(self._jobs))

    async def _wait(self, job: mesh.Job[float]) -> None:
        try:
            await job
        except OSError:
            pass
        except mesh.MeshError as error:
            self.failed.append(error)
            return
        self.results += 1


class Intruder:
    """A peer that keeps to no window, and how long the node took to say busy to it. Runs in a thread of its own.

    `results`: what was done for it all the same; it has its fair share of the slots.
    """

    def __init__(self, endpoint: str) -> None:
        self.said_after: list[float] = []
        self.results = 0
        self._endpoint = endpoint
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._run, name="intruder")

    def __enter__(self) -> "Intruder":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._enough.set()
        self._thread.join()

    def _run(self) -> None:
        with Peer(self._endpoint) as peer:
            assert isinstance(peer.greet(), Welcome)
            while not self._enough.wait(0.02):
                asked = time.monotonic()
                peer.say(*peer.jobs("work", *[(JOB_S,)] * 50))
                while not self._hears_busy(peer, 1.0):
                    pass
                self.said_after.append(time.monotonic() - asked)
                while peer.socket.poll(0):
                    self._hears_busy(peer, 0.0)

    def _hears_busy(self, peer: Peer, timeout: float) -> bool:
        """Take the next message; True if it says busy, or if there is none."""
        items = peer.hear(timeout)
        self.results += sum(isinstance(item, Result) for item in items)
        return not items or any(isinstance(item, Reject) and item.reason == BUSY for item in items)


@within(60.0, 120.0)
async def test_a_node_that_is_offered_too_much_does_what_it_can_and_says_busy_at_once(
    tmp_path: Path, ledger: Ledger, figures: Callable[[str, str], Figures]
) -> None:
    line = figures("12", f"overload {OVERLOAD:g}× for {LOUD_S:g} s")
    write_tasks(tmp_path, TASKS)
    with NodeProcess(tmp_path, workers=WORKERS, environment=ledger.environment("a")) as node:
        process = psutil.Process(node.pid)
        clients = [connected(node, max_pending=PENDING) for _ in range(CLIENTS)]
        for client in clients:
            await client.open()
        try:
            await asyncio.gather(*(client.wait_ready("work") for client in clients))
            ideal = WORKERS / JOB_S
            full = [Offers(client, "work") for client in clients]
            begun = time.monotonic()
            await asyncio.gather(*(one.run(1.05 * ideal / CLIENTS, PEAK_S) for one in full))
            peak = sum(one.results for one in full) / (time.monotonic() - begun)
            await asyncio.gather(*(task for one in full for task in [*one.under_way]))

            memory = process.memory_info().rss
            outstanding: list[int] = []
            loud = [Offers(client, "work") for client in clients]
            with Intruder(node.endpoint) as intruder:
                begun = time.monotonic()
                running = asyncio.gather(*(one.run(OVERLOAD * peak / CLIENTS, LOUD_S) for one in loud))
                while not running.done():
                    outstanding.append(sum(about.outstanding for client in clients for about in client.nodes()))
                    await asyncio.sleep(0.05)
                await running
                lasted = time.monotonic() - begun
                done = sum(one.results for one in loud) + intruder.results  # its fair share is work like any other
            goodput = done / lasted
            await asyncio.gather(*(task for one in loud for task in [*one.under_way]))
            growth = process.memory_info().rss - memory
        finally:
            for client in clients:
                await client.close(timeout=5.0)
    busy = p99([took for one in loud for took in one.busy])
    line.jobs = sum(one.offered for one in loud)
    line.more |= {
        "peak/s": peak,
        "goodput / peak": goodput / peak,
        "client busy p99 ms": busy * 1e3,
        "node busy p99 ms": p99(intruder.said_after) * 1e3,
        "most at the node": max(outstanding),
        "memory MiB": growth / 2**20,
    }
    assert [error for one in [*full, *loud] for error in one.failed] == []
    assert line.jobs >= 0.9 * OVERLOAD * peak * LOUD_S, "too little was offered"
    assert goodput >= GOODPUT * peak
    assert busy < BUSY_S
    assert p99(intruder.said_after) < BUSY_S
    assert max(one.most for one in loud) <= PENDING
    assert max(outstanding) <= 2 * WORKERS + CLIENTS  # their windows, and one job each that the others' left room for
    assert growth <= MEMORY


@within(60.0, 120.0)
async def test_retries_under_overload_keep_to_their_budget(
    tmp_path: Path, ledger: Ledger, figures: Callable[[str, str], Figures]
) -> None:
    line = figures("12", "retries of jobs that all fail, under overload")
    seconds = sized(6.0, 30.0)
    write_tasks(tmp_path, TASKS)
    with NodeProcess(tmp_path, workers=WORKERS, environment=ledger.environment("a")) as node:
        client = connected(node, max_pending=1000)
        await client.open()
        try:
            await client.wait_ready("failing")
            offers = Offers(client, "failing")
            begun = time.monotonic()
            await offers.run(OVERLOAD * WORKERS / JOB_S, seconds)
            lasted = time.monotonic() - begun
        finally:
            await client.close(timeout=0)
            await asyncio.gather(*offers.under_way, return_exceptions=True)
    runs = ledger.executions()
    first = len({run.id for run in runs})
    retries = len(runs) - first
    # A budget that has rested holds what belongs to its period, at the rate that the jobs of a period give it.
    in_a_period = max(sum(at <= other < at + PERIOD_S for other in offers.taken) for at in offers.taken[::50])
    allowed = (lasted + PERIOD_S) * (FLOOR + SHARE * in_a_period / PERIOD_S)
    line.jobs = len(offers.taken)
    line.more |= {"first runs": first, "retries": retries, "allowed": int(allowed)}
    assert first > 0
    assert 0 < retries <= allowed
    assert max(run.attempt for run in runs) <= 4
