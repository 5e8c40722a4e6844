"""Row 16: a thousand plain sockets at once, and a thousand clients: all are answered, and nobody waits to be let in."""

import json
import resource
import selectors
import socket
import statistics
import struct
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
import zmq

from mesh.wire.messages import Result, Welcome
from tests.support.faults import Figures, sized, within
from tests.support.nodes import NodeProcess, write_tasks
from tests.support.peers import Peer

TASKS = """
@mesh.task(bridge=True)
def double(x: int) -> int:
    return 2 * x
"""

CALLERS = 1000
REQUESTS = 5
CONNECT_S = sized(4.0, 0.5)
"""Seconds, the p99 of being let in; at the small size this process itself may have to wait before it sees that."""

ASKED_AGAIN = CALLERS // 100
"""Callers whom the node may have had no room for, so that the kernel had to ask again for them, a second later."""

SENT_AGAIN = struct.Struct("=100xI")
"""`tcpi_total_retrans` in the kernel's `struct tcp_info` (linux/tcp.h)."""

WELCOME_S = sized(4.0, 0.5)
"""The same of being greeted, which a client waits 5 s for; the small size runs beside other programs."""

ALL_S = 30.0


@pytest.fixture(autouse=True)
def descriptors() -> None:
    """A thousand sockets take more descriptors than the usual limit; where that is hard there is nothing to test."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < 8 * CALLERS and hard != resource.RLIM_INFINITY and hard < 8 * CALLERS:
        pytest.skip(f"the limit of descriptors is {hard}")
    if soft < 8 * CALLERS:
        resource.setrlimit(resource.RLIMIT_NOFILE, (8 * CALLERS, hard))


def p99(durations: list[float]) -> float:
    return statistics.quantiles(durations, n=100)[98]


class Caller:
    """A plain socket that asks one thing after another."""

    def __init__(self, number: int, address: tuple[str, int]) -> None:
        self.number = number
        self.socket = socket.socket()
        self.socket.setblocking(False)
        self.begun = time.monotonic()
        self.connected = 0.0
        self.sent_again = 0
        self.asked = 0
        self.right = 0
        self.socket.connect_ex(address)

    def ready(self) -> bool:
        """Go one step on; False when all is answered or the node has closed."""
        if not self.connected:
            assert self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
            self.connected = time.monotonic() - self.begun
            told = self.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, SENT_AGAIN.size)
            (self.sent_again,) = SENT_AGAIN.unpack(told)  # so far only the wish to be let in
            self._ask()
            return True
        said = self.socket.recv(4096)
        if not said:
            return False
        self.right += json.loads(said) == 2 * (self.number + self.asked - 1)
        if self.asked == REQUESTS:
            return False
        self._ask()
        return True

    def _ask(self) -> None:
        asked = {"function": "double", "args": {"x": self.number + self.asked}}
        self.socket.send(json.dumps(asked).encode() + b"\n")
        self.asked += 1


@within(60.0)
def test_a_thousand_plain_sockets_at_once_are_all_answered(
    tmp_path: Path, figures: Callable[[str, str], Figures]
) -> None:
    line = figures("16", f"{CALLERS:,} bridge connections at once × {REQUESTS}")
    line.jobs = CALLERS * REQUESTS
    write_tasks(tmp_path, TASKS)
    with NodeProcess(tmp_path, workers=2, bridge=True) as node, ExitStack() as stack:
        host, _, port = node.bridge.rpartition(":")
        begun = time.monotonic()
        selector = stack.enter_context(selectors.DefaultSelector())
        callers = [Caller(number, (host, int(port))) for number in range(CALLERS)]
        for caller in callers:
            stack.enter_context(caller.socket)
            selector.register(caller.socket, selectors.EVENT_WRITE, caller)
        while selector.get_map() and time.monotonic() < begun + ALL_S:
            for key, _ in selector.select(1.0):
                if not key.data.ready():
                    selector.unregister(key.fileobj)
                elif key.events == selectors.EVENT_WRITE:
                    selector.modify(key.fileobj, selectors.EVENT_READ, key.data)
        line.recover = time.monotonic() - begun
    line.lost = CALLERS * REQUESTS - sum(caller.right for caller in callers)
    connect = p99([caller.connected or ALL_S for caller in callers])
    asked_again = sum(caller.sent_again > 0 for caller in callers)
    line.more |= {"connect p99 ms": connect * 1e3, "asked again": asked_again}
    assert line.lost == 0
    assert asked_again <= ASKED_AGAIN
    assert connect < CONNECT_S


@within(60.0)
def test_a_thousand_clients_at_once_are_all_answered(tmp_path: Path, figures: Callable[[str, str], Figures]) -> None:
    line = figures("16", f"{CALLERS:,} clients at once × {REQUESTS}")
    line.jobs = CALLERS * REQUESTS
    write_tasks(tmp_path, TASKS)
    with NodeProcess(tmp_path, workers=2) as node, ExitStack() as stack:
        context: zmq.Context[zmq.SyncSocket] = stack.enter_context(zmq.Context())
        context.set(zmq.MAX_SOCKETS, 4 * CALLERS)
        begun = time.monotonic()
        peers: dict[object, Peer] = {}
        begun_at: dict[Peer, float] = {}
        welcomed: dict[Peer, float] = {}
        right: dict[Peer, int] = {}
        poller = zmq.Poller()
        for _ in range(CALLERS):
            peer = stack.enter_context(Peer(node.endpoint, context=context))
            peers[peer.socket] = peer
            begun_at[peer] = time.monotonic()
            right[peer] = 0
            peer.hello()
            poller.register(peer.socket, zmq.POLLIN)
        while sum(right.values()) < CALLERS * REQUESTS and time.monotonic() < begun + ALL_S:
            for ready, _ in poller.poll(1000):
                peer = peers[ready]
                for item in peer.hear():
                    if isinstance(item, Welcome):
                        welcomed[peer] = time.monotonic() - begun_at[peer]
                        peer.say(*peer.jobs("double", (0,)))
                    elif isinstance(item, Result):
                        right[peer] += item.body == bytes([2 * right[peer]])
                        if right[peer] < REQUESTS:
                            peer.say(*peer.jobs("double", (right[peer],)))
        line.recover = time.monotonic() - begun
    line.lost = CALLERS * REQUESTS - sum(right.values())
    connect = p99([welcomed.get(peer, ALL_S) for peer in right])
    line.more["welcome p99 ms"] = connect * 1e3
    assert line.lost == 0
    assert connect < WELCOME_S
