"""A worker process without a node: when it tells what has ended."""

import mmap
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mesh.wire.messages import Result, Submit
from mesh.wire.payload import pack_arguments, unpack
from meshnode.core.orders import Place, Ran
from meshnode.worker.link import BUFFER, Receiver, attach, decode_ran, pack_orders, send
from meshnode.worker.loop import FLUSH_NS
from meshnode.worker.shelf import HALF as SHELF
from meshnode.worker.shelf import PAGE, STRETCH, Shelf, shelf_file
from tests.support.leaks import leak_check  # noqa: F401  # pytest finds it by its name
from tests.support.nodes import write_with_and_without_coroutines

TASKS = '''
import os, time


@mesh.task
def noop(x: int = 0) -> int:
    return x


@mesh.task
def clock(x: int | None = None) -> int:
    """Tell when it ran, by a clock that all processes of a machine share."""
    return time.perf_counter_ns()


@mesh.task
def spin(micros: int) -> int:
    """Be at work for as long as that, whatever else the machine does."""
    until = time.perf_counter_ns() + micros * 1000
    while time.perf_counter_ns() < until:
        pass
    return micros


@mesh.task
def wait_for(path: str) -> str:
    """Run until a file is there."""
    while not os.path.exists(path):
        time.sleep(0.001)
    return path
'''

COROUTINES = """

@mesh.task
async def coro(x: int = 0) -> int:
    return x
"""

PROGRAM = """
import mmap, socket, sys

from meshnode.worker.catalogue import load
from meshnode.worker.loop import WorkerLoop
from meshnode.worker.shelf import Shelf

link = socket.socket(fileno=int(sys.argv[1]))
calls, _ = socket.socketpair()
words = memoryview(mmap.mmap(int(sys.argv[2]), 16)).cast("Q")
shelf = Shelf.of_worker(int(sys.argv[3]), 0)
WorkerLoop(link, load([sys.argv[4]], "."), words, shelf, calls=calls, title="a worker under test").serve()
"""

PATIENCE_S = 20.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_with_and_without_coroutines(tmp_path_factory.mktemp("app"), TASKS, COROUTINES)


class Worker:
    """A worker, and what a node sees of it. Orders that are given before `start` lie ready when it begins."""

    def __init__(self, folder: Path, module: str) -> None:
        self._folder = folder
        self._module = module
        self._ours, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (self._ours, self._theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
        self._words_fd = os.memfd_create("words", os.MFD_CLOEXEC)
        os.truncate(self._words_fd, 16)
        self._words = mmap.mmap(self._words_fd, 16)
        self._shelves_fd = shelf_file(1)
        self._shelf = Shelf(self._shelves_fd, 0, mmap.mmap(self._shelves_fd, STRETCH), 0, of_node=True)
        self.takes = True
        """Does the node say that it has taken what lay on the shelf?"""
        self.places: list[Place | None] = []
        """Where the bodies of outcomes lay that were heard, in their order."""
        self._receiver = Receiver()
        self._last = 0
        self.started_at = 0
        """Nanoseconds of `time.perf_counter_ns`, surely before its first job."""
        self._process: subprocess.Popen[bytes] | None = None

    def give(self, task: str, *arguments: Any) -> None:
        """Send orders for jobs of a task, one for each argument, in one datagram."""
        jobs = []
        for number, argument in enumerate(arguments, self._last + 1):
            jobs.append(Submit(number.to_bytes(16, "big"), 1, task, 0, None, None, pack_arguments([argument], {})))
        for packet in pack_orders(self._last + 1, jobs, self._shelf):
            send(self._ours, packet, socket.MSG_DONTWAIT)
        self._last += len(jobs)

    def start(self) -> None:
        """Start it, and wait until it has said that it is ready."""
        self.started_at = time.perf_counter_ns()
        descriptors = (self._theirs.fileno(), self._words_fd, self._shelves_fd)
        command = [sys.executable, "-c", PROGRAM, *map(str, descriptors), self._module]
        self._process = subprocess.Popen(command, cwd=self._folder, pass_fds=descriptors, stdin=subprocess.DEVNULL)
        self._theirs.close()  # so that the stream ends with the worker
        assert self.hear() == []

    def hear(self) -> list[Ran]:
        """Return the next datagram's outcomes."""
        assert select.select([self._ours], [], [], PATIENCE_S)[0], "the worker says nothing"
        datagram, descriptor = self._receiver.receive(self._ours)
        told = decode_ran(datagram)
        for ran in told:
            if ran.place is not None and self.takes:
                ran.ends[0].body = self._shelf.take(ran.place)
            elif descriptor is not None:
                attach(ran.ends, descriptor)
            self.places += [ran.place] if ran.ends else []
        return told

    def take(self, place: Place) -> bytes:
        """Take a body from the shelf."""
        return self._shelf.take(place)

    @property
    def memory(self) -> int:
        """Bytes of memory that bodies take which the worker has laid down."""
        self._shelf.rest()
        return os.fstat(self._shelves_fd).st_blocks * 512 - PAGE

    def hear_all(self, number: int) -> list[list[Ran]]:
        """Return the datagrams with the next outcomes, that many in all; none of them is empty."""
        heard: list[list[Ran]] = []
        while sum(sizes(heard)) < number:
            heard.append(self.hear())
        assert all(sizes(heard))
        return heard

    def until_taken_up(self, number: int) -> None:
        """Wait until it runs this order."""
        deadline = time.monotonic() + PATIENCE_S
        while int.from_bytes(self._words[:], sys.byteorder) < number:
            assert time.monotonic() < deadline
            time.sleep(0.001)

    def nudge(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGURG)

    def end(self) -> None:
        """Ask it to end, wait for that, and see that it has said nothing that was not heard."""
        for packet in pack_orders(0, []):
            send(self._ours, packet)
        assert self._process is not None
        assert self._process.wait(PATIENCE_S) == 0
        left, _ = self._receiver.receive(self._ours)
        assert bytes(left) == b"", "only the end of the stream is left"

    def close(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._ours.close()
        self._theirs.close()
        self._words.close()
        os.close(self._words_fd)
        os.close(self._shelves_fd)


@contextmanager
def a_worker(folder: Path, module: str = "tasks") -> Iterator[Worker]:
    worker = Worker(folder, module)
    try:
        yield worker
        worker.end()
    finally:
        worker.close()


def numbered(datagrams: list[list[Ran]]) -> list[tuple[int, Any]]:
    """The numbers and results in the order in which they came."""
    told = []
    for ran in (ran for datagram in datagrams for ran in datagram):
        for number, end in enumerate(ran.ends, ran.first):
            assert isinstance(end, Result)
            told.append((number, unpack(end.body)))
    return told


def sizes(datagrams: list[list[Ran]]) -> list[int]:
    """How many orders each accounts for: such as have ended, and such as are given back unbegun."""
    return [sum(len(ran.ends) + ran.back for ran in datagram) for datagram in datagrams]


def given_back(datagrams: list[list[Ran]]) -> set[int]:
    """The orders that are given back."""
    behind = [(ran.first + len(ran.ends), ran.back) for datagram in datagrams for ran in datagram]
    return {number for first, count in behind for number in range(first, first + count)}


@pytest.mark.parametrize("together", [True, False], ids=["one datagram", "several"])
def test_outcomes_leave_no_more_often_than_each_moment_while_more_jobs_lie_ready(
    folder: Path, *, together: bool
) -> None:
    with a_worker(folder) as worker:
        for jobs in [[None] * 200] if together else [[None]] * 200:
            worker.give("clock", *jobs)
        worker.start()
        told = worker.hear_all(200)
    assert [number for number, _ in numbered(told)] == list(range(1, 201))
    times = [[when for _, when in numbered([datagram])] for datagram in told]
    befores = [worker.started_at, *(when[-1] for when in times)]
    # From before a batch began until after it had left, as the jobs on both sides of it tell.
    for before, after in zip(befores, times[1:], strict=False):
        assert after[0] - before > FLUSH_NS, sizes(told)


@pytest.mark.parametrize("together", [True, False], ids=["one datagram", "several"])
def test_no_outcome_is_kept_for_longer_than_a_moment_while_others_run(folder: Path, *, together: bool) -> None:
    micros, jobs = FLUSH_NS // 5000, 60
    with a_worker(folder) as worker:
        if together:
            worker.give("spin", *[micros] * jobs)
        else:
            for _ in range(jobs):
                worker.give("spin", micros)
        worker.start()
        told = worker.hear_all(jobs)
        assert numbered(told) == [(number, micros) for number in range(1, jobs + 1)]
        assert max(sizes(told)) <= FLUSH_NS / (micros * 1000) + 1
        assert all(micros * 1000 * len(ran.ends) <= ran.spent for datagram in told for ran in datagram)


@pytest.mark.parametrize("together", [True, False], ids=["one datagram", "several"])
def test_the_outcome_of_a_job_that_ran_for_longer_than_a_moment_leaves_at_once(folder: Path, *, together: bool) -> None:
    micros = 2 * FLUSH_NS // 1000
    with a_worker(folder) as worker:
        for jobs in [[micros] * 10] if together else [[micros]] * 10:
            worker.give("spin", *jobs)
        worker.start()
        assert sizes(worker.hear_all(10)) == [1] * 10


@pytest.mark.parametrize("module", ["tasks", "mixed"])
def test_a_worker_that_drags_on_sends_what_has_ended_when_it_is_nudged(
    folder: Path, tmp_path: Path, module: str
) -> None:
    with a_worker(folder, module) as worker:
        worker.give("noop", 1, 2)
        worker.give("noop", 3)
        worker.give("wait_for", str(tmp_path / "go"))
        worker.start()
        worker.until_taken_up(4)
        worker.nudge()
        assert numbered(worker.hear_all(3)) == [(1, 1), (2, 2), (3, 3)]
        worker.nudge()  # nothing is new: what it says next is the outcome of the last job
        (tmp_path / "go").touch()
        assert numbered(worker.hear_all(1)) == [(4, str(tmp_path / "go"))]


def test_of_one_datagram_what_has_ended_is_sent_when_the_worker_is_nudged(folder: Path, tmp_path: Path) -> None:
    paths = [str(tmp_path / name) for name in ("one", "two", "three")]
    Path(paths[0]).touch()
    with a_worker(folder) as worker:
        worker.give("wait_for", *paths)
        worker.start()
        for ended, path in enumerate(paths[1:], 1):
            worker.until_taken_up(ended + 1)
            worker.nudge()
            assert numbered(worker.hear_all(1)) == [(ended, paths[ended - 1])]
            Path(path).touch()
        assert numbered(worker.hear_all(1)) == [(3, paths[2])]


def test_however_often_a_worker_is_nudged_each_outcome_is_told_once_and_in_order(folder: Path) -> None:
    with a_worker(folder) as worker:
        worker.start()
        told: list[list[Ran]] = []
        for start in range(0, 3000, 100):
            worker.give("noop", *range(start + 1, start + 101))
            for _ in range(20):
                worker.nudge()
            told += worker.hear_all(100)
        ended = numbered(told)
        back = given_back(told)
        assert ended == [(number, number) for number in range(1, 3001) if number not in back]
        assert len(ended) + len(back) == 3000


@pytest.mark.parametrize("module", ["tasks", "mixed"])
def test_large_outcomes_lie_on_the_shelf_while_it_has_room_and_again_once_they_were_taken(
    folder: Path, module: str
) -> None:
    bodies = [bytes([number]) * (SHELF // 4) for number in range(6)]
    with a_worker(folder, module) as worker:
        worker.start()
        worker.takes = False
        for body in bodies[:5]:
            worker.give("noop", body)
            worker.hear_all(1)
        # A body is a little more than what the task returned, so that three find room.
        places = [place for place in worker.places if place is not None]
        assert [place.key for place in places] == [1, 2, 3]
        assert worker.places[3:] == [None, None]
        assert [unpack(worker.take(place)) for place in places[:2]] == bodies[:2]
        worker.takes = True
        worker.give("noop", bodies[5])
        assert numbered(worker.hear_all(1)) == [(6, bodies[5])]
        assert [place.at for place in worker.places if place is not None] == [place.at for place in places] + [0]
        assert unpack(worker.take(places[2])) == bodies[2]


@pytest.mark.parametrize("module", ["tasks", "mixed"])
def test_a_worker_that_has_nothing_to_do_hands_back_the_memory_of_what_was_taken(folder: Path, module: str) -> None:
    with a_worker(folder, module) as worker:
        worker.start()
        worker.takes = False  # looked at before, since what was taken may be gone at once
        for number in range(1, 4):
            worker.give("noop", bytes(SHELF // 4))
            worker.hear_all(1)
            assert worker.memory > SHELF // 4
            if number == 2:  # where the node is slow, the worker looks again
                time.sleep(0.5)
                assert worker.memory > SHELF // 4
            place = worker.places[-1]
            assert place is not None
            worker.take(place)
            deadline = time.monotonic() + PATIENCE_S
            while worker.memory:
                assert time.monotonic() < deadline
                time.sleep(0.01)


def test_coroutines_without_places_to_share_run_in_their_order_and_are_told_at_once(folder: Path) -> None:
    with a_worker(folder, "mixed") as worker:
        worker.give("coro", *range(1, 51))
        worker.give("noop", 51)
        worker.give("coro", 52)
        worker.start()
        assert numbered(worker.hear_all(52)) == [(number, number) for number in range(1, 53)]
