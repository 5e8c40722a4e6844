"""Row 17: lines that do not go on, at the bridge, and silent peers, at the front, give their descriptors back."""

import json
import resource
import socket
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
import pytest

from tests.support.clients import connected
from tests.support.faults import Figures, sized, within
from tests.support.nodes import NodeProcess, write_tasks

TASKS = """
@mesh.task(bridge=True)
def double(x: int) -> int:
    return 2 * x
"""

LINES = sized(500, 10_000)
PATIENCE: list[str] = sized(["--bridge-line-timeout", "2"], [])
"""At full size the default is waited for."""

PEERS = sized(500, 2000)
STRANGER, CALLER = "127.0.0.2", "127.0.0.3"
GIVEN_UP_S = 15.0
SLOWEST = sized(1.0, 0.1)
"""Seconds, the p99 of a good caller's requests. Whoever waits behind the others waits for many seconds; the small size
runs beside other programs."""


@pytest.fixture(autouse=True)
def descriptors() -> None:
    """The node may open a third more than it lets in; where that cannot be there is nothing to test."""
    needed = 3 * LINES // 2
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < needed and hard != resource.RLIM_INFINITY and hard < needed:
        pytest.skip(f"the limit of descriptors is {hard}")
    if soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def p99(durations: list[float]) -> float:
    return statistics.quantiles(durations, n=100)[98]


def address(written: str) -> tuple[str, int]:
    host, _, port = written.rpartition(":")
    return host, int(port)


@contextmanager
def flood(place: tuple[str, int], first: bytes) -> Iterator[Callable[[int], None]]:
    """Hold connections that have said so much and no more; what is yielded opens so many."""
    with ExitStack() as stack:

        def more(number: int) -> None:
            for _ in range(number):
                line = stack.enter_context(socket.socket())
                line.bind((STRANGER, 0))
                line.connect(place)
                line.send(first)

        yield more


class Caller:
    """A good one: asks one thing after another, and notes how long each took."""

    def __init__(self, place: tuple[str, int]) -> None:
        self.durations: list[float] = []
        self._line = socket.create_connection(place, timeout=20.0, source_address=(CALLER, 0))

    def ask(self) -> None:
        begun = time.monotonic()
        number = len(self.durations)
        self._line.sendall(b'{"function":"double","args":[%d]}\n' % number)
        assert json.loads(self._line.recv(100)) == 2 * number
        self.durations.append(time.monotonic() - begun)

    def close(self) -> None:
        self._line.close()


@within(60.0, 120.0)
def test_lines_that_do_not_go_on_are_given_up_and_a_good_caller_does_not_notice(
    tmp_path: Path, figures: Callable[[str, str], Figures]
) -> None:
    line = figures("17", f"{LINES:,} half-open lines of one address at the bridge")
    write_tasks(tmp_path, TASKS)
    with NodeProcess(tmp_path, *PATIENCE, bridge=True) as node:
        process = psutil.Process(node.pid)
        place = address(node.bridge)
        caller = Caller(place)
        caller.ask()
        at_first = process.num_fds()
        with flood(place, b'{"function":') as more:
            most = at_first
            while len(caller.durations) * 10 < LINES:
                more(10)
                caller.ask()
                most = max(most, process.num_fds())  # the first are given up before a slow machine has opened the last
            all_sent = time.monotonic()
            while (there := process.num_fds()) > at_first or most == at_first:
                assert time.monotonic() < all_sent + GIVEN_UP_S, f"{there - at_first} descriptors are still taken"
                most = max(most, there)
                for _ in range(10):
                    caller.ask()
                time.sleep(0.01)
            line.recover = time.monotonic() - all_sent
            with socket.create_connection(place, source_address=(STRANGER, 0)) as again:
                again.sendall(b'{"function":"double","args":[4]}\n')
                assert again.recv(100) == b"8\n"
        caller.close()
    line.more |= {"held at once": most - at_first, "p99 ms": p99(caller.durations) * 1e3}
    line.more["slowest ms"] = max(caller.durations) * 1e3
    assert most - at_first > LINES // 4
    assert p99(caller.durations) < SLOWEST


@pytest.mark.parametrize("first", sized([b"\xff\0\0\0"], [b"\xff\0\0\0", b""]), ids=str)
async def test_peers_that_do_not_greet_are_given_up_by_the_front(
    first: bytes, tmp_path: Path, figures: Callable[[str, str], Figures]
) -> None:
    line = figures("17", f"{PEERS:,} peers at the front, {'silent' if not first else 'half greeted'}")
    write_tasks(tmp_path, TASKS)
    with NodeProcess(tmp_path) as node:
        process = psutil.Process(node.pid)
        async with connected(node) as client:
            assert await client.call("double", 1) == 2
            at_first = process.num_fds()
            with flood(address(node.seed), first) as more:
                durations, most = [], at_first
                for _ in range(PEERS // 10):
                    more(10)
                    most = max(most, process.num_fds())
                all_sent = time.monotonic()
                while (there := process.num_fds()) > at_first or most == at_first:
                    assert time.monotonic() < all_sent + GIVEN_UP_S, f"{there - at_first} descriptors are still taken"
                    most = max(most, there)
                    begun = time.monotonic()
                    assert await client.call("double", 2) == 4
                    durations.append(time.monotonic() - begun)
                line.recover = time.monotonic() - all_sent
    line.more |= {"held at once": most - at_first, "p99 ms": p99(durations) * 1e3}
    assert p99(durations) < SLOWEST
