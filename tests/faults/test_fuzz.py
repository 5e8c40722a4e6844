"""Row 19: hostile input to every ear of a real node. `FUZZ_SEED` names a seed; the table shows the one that was used.

Each batch is made from the seed and its own number alone, so that what one has done can be done again.
"""

import json
import os
import random
import re
import socket
import struct
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest
import zmq

from mesh.wire.messages import MAGIC, VERSIONS, Failed, Hello, Lost, NodeItem, Ping, Pong, Reject, Result, Welcome
from mesh.wire.payload import unpack
from tests.fuzz.inputs import BridgeLines, FrontMessages, RawBytes, owed
from tests.support.faults import Figures, sized, within
from tests.support.nodes import NodeProcess, write_tasks
from tests.support.peers import PATIENCE_S, Peer

TASKS = """
@mesh.task(bridge=True)
def echo(value: object = None, *rest: object, **named: object) -> object:
    return value


@mesh.task(bridge=True)
def add(a: int, b: int = 0) -> int:
    return a + b


@mesh.task(bridge=True)
def fail(why: str = "") -> None:
    raise ValueError(why)


@mesh.task(bridge=True)
async def later(value: object = None) -> object:
    return value


@mesh.task
def closed() -> None:
    pass
"""

SEED = int(os.environ.get("FUZZ_SEED") or sized(1, random.SystemRandom().getrandbits(32)))
MESSAGES = sized(10_000, 1_000_000)
LINES = sized(10_000, 1_000_000)
CONNECTIONS = sized(10_000, 100_000)

GROWTH = 10 << 20
WARM_UP = sized(0.5, 0.2)
"""Part of all that is said before growth counts: what the node remembers (8 MiB of outcomes) has its size then."""

BATCH = 500
"""Messages, or lines, of one connection."""

TROUBLE = re.compile(r"Traceback|[Ff]ailed|Exception|Error|assert", re.MULTILINE)


class Watched:
    """A node that is lied to, and a good caller who must be answered all the time."""

    def __init__(self, node: NodeProcess, good: Peer) -> None:
        self.node = node
        self._good = good
        self._process = psutil.Process(node.pid)
        self._memory: int | None = None
        self._descriptors = self._process.num_fds()
        self._calls = 0

    def still_serves(self, batch: int) -> None:
        """The good caller is answered, at the front and at the bridge, and nothing is in the log."""
        self._calls += 1
        until_heard(self._good, self._calls)  # whose answer is fresh word: no job is sent on what is old
        self._good.say(*self._good.jobs("echo", (self._calls,)))
        end = end_of(self._good)
        assert isinstance(end, Result), f"{end}; {self._blame(batch)}"
        assert unpack(end.body) == self._calls
        assert ask(self.node.bridge, b'{"function":"add","args":[1,%d]}\n' % batch) == [b"%d" % (batch + 1)]
        trouble = TROUBLE.search(self.node.log)
        assert trouble is None, self._blame(batch)

    def warmed_up(self) -> None:
        """From here on growth counts."""
        self._memory = self._process.memory_info().rss

    def judge(self, line: Figures) -> None:
        """Nothing of it all is left."""
        assert self._memory is not None
        deadline = time.monotonic() + 15.0
        while self._process.num_fds() > self._descriptors + 4:
            assert time.monotonic() < deadline, "its descriptors do not come back"
            time.sleep(0.05)
        growth = self._process.memory_info().rss - self._memory  # connections that are still there take memory
        line.more |= {"seed": SEED, "memory MiB": growth / 2**20}
        assert growth <= GROWTH

    def _blame(self, batch: int) -> str:
        return f"seed {SEED}, batch {batch}; its log: {self.node.log[-5000:]}"


@contextmanager
def watched(folder: Path) -> Iterator[Watched]:
    write_tasks(folder, TASKS)
    with NodeProcess(folder, workers=2, bridge=True) as node, Peer(node.endpoint) as good:
        assert isinstance(good.greet(), Welcome)
        pid = node.pid
        yield Watched(node, good)
        assert psutil.pid_exists(pid)
        assert TROUBLE.search(node.log) is None, node.log[-5000:]


def of_batch(target: str, batch: int) -> random.Random:
    return random.Random(f"{SEED}/{target}/{batch}")


def ask(address: str, content: bytes) -> list[bytes]:
    """Say all of it to the bridge, end, and return the lines that came."""
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE_S) as caller:
        caller.sendall(content)
        caller.shutdown(socket.SHUT_WR)
        said = b""
        while piece := caller.recv(1 << 18):
            said += piece
    return said.split(b"\n")[:-1]


def end_of(peer: Peer) -> NodeItem | None:
    """Wait for what comes of the one job that this peer has under way; None if nothing does."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        for item in peer.hear(deadline - time.monotonic()):
            if isinstance(item, Result | Failed | Reject | Lost):
                return item
    return None


def until_heard(peer: Peer, token: int) -> None:
    """Everything that this peer has said was read: the node answers a last PING, whoever it takes the peer for."""
    peer.say(Hello(MAGIC, *VERSIONS, "default", "fuzz"), Ping(token))
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if Pong(token) in peer.hear(deadline - time.monotonic()):
            return
    raise TimeoutError(f"seed {SEED}: not answered after batch {token}")


@within(60.0, 600.0)
def test_whatever_is_said_to_the_front_harms_nobody(tmp_path: Path, figures: Callable[[str, str], Figures]) -> None:
    line = figures("19", f"{MESSAGES:,} messages to the front")
    batches = MESSAGES // BATCH
    with watched(tmp_path) as node, zmq.Context() as context:
        began = time.monotonic()
        for batch in range(batches):
            with Peer(node.node.endpoint, context=context) as peer:
                if batch % 3:
                    assert isinstance(peer.greet(), Welcome)
                messages = FrontMessages(of_batch("front", batch), epoch=peer.epoch or bytes(8), stamp=peer.stamp)
                for n in range(BATCH):
                    peer.socket.send_multipart(messages.next(), copy=True)
                    if not n % 50:
                        while peer.hear():
                            pass
                until_heard(peer, batch)
            if batch == int(batches * WARM_UP):
                node.warmed_up()
            if not batch % 5:
                node.still_serves(batch)
        node.still_serves(batches)
        line.jobs, line.lost = MESSAGES, 0
        line.more["seconds"] = time.monotonic() - began
        node.judge(line)


@within(60.0, 600.0)
def test_every_line_that_is_owed_an_answer_gets_one_whatever_it_says(
    tmp_path: Path, figures: Callable[[str, str], Figures]
) -> None:
    line = figures("19", f"{LINES:,} lines to the bridge")
    batches = LINES // BATCH
    expected = answered = 0
    with watched(tmp_path) as node:
        began = time.monotonic()
        for batch in range(batches):
            rng = of_batch("bridge", batch)
            lines = BridgeLines(rng)
            ending = rng.choice((b"\n", b"\r\n"))
            content = b'{"function":"$ping"}\n' + ending.join(lines.next() for _ in range(BATCH)) + b"\n"
            answers = ask(node.node.bridge, content)
            assert len(answers) == owed(content), f"seed {SEED}, batch {batch}"
            for answer in answers:
                assert answer.isascii()
                json.loads(answer)
            expected += owed(content)
            answered += len(answers)
            if batch == int(batches * WARM_UP):
                node.warmed_up()
            if not batch % 5:
                node.still_serves(batch)
        node.still_serves(batches)
        line.jobs, line.lost = expected, expected - answered
        line.more["seconds"] = time.monotonic() - began
        node.judge(line)


class Strangers:
    """Connections that say something and end in one way or another, some of them only after a while."""

    def __init__(self, rng: random.Random, address: str) -> None:
        host, _, port = address.removeprefix("tcp://").rpartition(":")
        self._rng = rng
        self._address = host, int(port)
        self._lingering: deque[socket.socket] = deque()

    def come(self, pieces: list[bytes]) -> None:
        """Connect, say these, and end, or stay silent until others have come and gone."""
        rng = self._rng
        caller = socket.socket()
        try:
            # From several addresses: there are not ports enough at one for all that have just been closed.
            caller.bind((f"127.0.0.{rng.randint(2, 9)}", 0))
            caller.settimeout(PATIENCE_S)
            caller.connect(self._address)
            caller.settimeout(0.02)
            with suppress(OSError):  # the node may have had enough
                for piece in pieces:
                    caller.sendall(piece)
                    if rng.random() < 0.02:
                        caller.recv(4096)
        except BaseException:
            caller.close()
            raise
        pick = rng.random()
        if pick < 0.5:
            caller.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset
        elif pick < 0.7:
            with suppress(OSError):
                caller.shutdown(socket.SHUT_WR)
        if pick < 0.9:
            caller.close()
        else:
            self._lingering.append(caller)
            if len(self._lingering) > 50:
                self._lingering.popleft().close()

    def leave(self) -> None:
        while self._lingering:
            self._lingering.popleft().close()


@pytest.mark.parametrize("side", ["front", "bridge"])
@within(60.0, 300.0)
def test_raw_connections_that_say_anything_harm_nobody(
    side: str, tmp_path: Path, figures: Callable[[str, str], Figures]
) -> None:
    count = CONNECTIONS // 2
    line = figures("19", f"{count:,} raw connections to the {side}")
    batches = count // BATCH
    with watched(tmp_path) as node:
        began = time.monotonic()
        for batch in range(batches):
            rng = of_batch(side, batch)
            strangers = Strangers(rng, node.node.endpoint if side == "front" else node.node.bridge)
            said = RawBytes(rng, f"tcp_{side}")
            try:
                for _ in range(BATCH):
                    strangers.come(said.next())
            finally:
                strangers.leave()
            if batch == int(batches * WARM_UP):
                node.warmed_up()
            node.still_serves(batch)
        line.jobs, line.lost = count, 0
        line.more["seconds"] = time.monotonic() - began
        node.judge(line)
