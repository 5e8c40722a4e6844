"""Peers that speak the wire protocol by hand: what a foreign or ill-behaved client does, and a node that is none."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable
from itertools import count
from types import TracebackType
from typing import Self

import zmq

from mesh.wire.codec import Oddities, decode_client, decode_node, encode_client, encode_node
from mesh.wire.messages import (
    FORM_MSGPACK,
    MAGIC,
    VERSIONS,
    WRONG_VERSION,
    ClientItem,
    ClientMessage,
    Hello,
    NodeItem,
    NodeMessage,
    Ping,
    Refuse,
    Result,
    Submit,
    Welcome,
)
from mesh.wire.payload import pack_arguments

PATIENCE_S = 10.0
"""Seconds that a peer waits for what must come; a busy machine needs some."""


OTHER_VERSIONS = Refuse(WRONG_VERSION, "this node speaks other versions")


class Peer:
    """A client made by hand: one DEALER that sends what it is told and reads only when it is asked.

    `options` are set on the socket before it connects. Give a `context` to share one among many.
    """

    def __init__(
        self,
        endpoint: str,
        *,
        context: zmq.Context[zmq.SyncSocket] | None = None,
        options: Iterable[tuple[int, int | bytes]] = (),
    ) -> None:
        self._own = context is None
        self._context = context or zmq.Context()
        self.socket = self._context.socket(zmq.DEALER)
        for option, value in ((zmq.IPV6, 1), (zmq.LINGER, 0), (zmq.SNDHWM, 0), *options):
            self.socket.set(option, value)
        self.socket.connect(endpoint)
        self.oddities = Oddities()
        self.epoch = b""
        self.stamp = 0
        self.window = 0
        self.seen = 0
        self._numbers = count(1)
        self._prefix = os.urandom(8)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close at once; what had not left is dropped."""
        self.socket.close(linger=0)
        if self._own:
            self._context.term()

    def say(self, *items: ClientItem) -> None:
        """Send items in one message, with the newest stamp that was heard."""
        self.socket.send_multipart(encode_client(ClientMessage(self.epoch, self.stamp, list(items))))

    def hello(self, lowest: int = VERSIONS[0], highest: int = VERSIONS[1], *, mesh: str = "default") -> None:
        """Say HELLO for a range of versions."""
        self.say(Hello(MAGIC, lowest, highest, mesh, "a fake"))

    def greet(self, lowest: int = VERSIONS[0], highest: int = VERSIONS[1]) -> Welcome | Refuse:
        """Say HELLO and return the answer."""
        self.hello(lowest, highest)
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            for item in self.hear(deadline - time.monotonic()):
                if isinstance(item, Welcome | Refuse):
                    return item
        raise TimeoutError("no answer to the greeting")

    def hear(self, timeout: float = 0.0) -> list[NodeItem]:
        """Return the items of the next message; none if there is no message within `timeout` seconds."""
        if not self.socket.poll(max(0, int(timeout * 1000))):
            return []
        message = decode_node([bytes(frame) for frame in self.socket.recv_multipart()], self.oddities)
        self.stamp, self.window, self.seen = message.stamp, message.window, message.seen
        for item in message.items:
            if isinstance(item, Welcome):
                self.epoch = item.about.epoch
        return message.items

    def results(self, count: int) -> list[Result]:
        """Return the next results; fewer where they do not come in time."""
        found: list[Result] = []
        deadline = time.monotonic() + PATIENCE_S
        while len(found) < count and time.monotonic() < deadline:
            found += [item for item in self.hear(deadline - time.monotonic()) if isinstance(item, Result)]
        return found

    def ping(self) -> None:
        """Keep the node from forgetting this peer."""
        self.say(Ping(next(self._numbers)))

    def jobs(self, task: str, *arguments: tuple[object, ...]) -> list[Submit]:
        """Make a job of each tuple of arguments."""
        return [
            Submit(
                self._prefix + next(self._numbers).to_bytes(8, "big"),
                1,
                task,
                FORM_MSGPACK,
                None,
                None,
                pack_arguments(given, {}),
            )
            for given in arguments
        ]


class FakeNode:
    """A ROUTER on a free port of loopback that gives every greeting one answer, and counts them and all jobs.

    By default it refuses: it speaks another version.
    """

    def __init__(self, answer: NodeItem = OTHER_VERSIONS) -> None:
        self.greetings = 0
        self.jobs = 0
        self._answer = answer
        self._context: zmq.Context[zmq.SyncSocket] = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        port = self._socket.bind_to_random_port("tcp://127.0.0.1")
        self.seed = f"127.0.0.1:{port}"
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="fake node", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._enough.set()
        self._thread.join()
        self._socket.close(linger=0)
        self._context.term()

    def _serve(self) -> None:
        while not self._enough.is_set():
            if not self._socket.poll(50):
                continue
            routing_id, *frames = self._socket.recv_multipart()
            message = decode_client(frames, Oddities())
            self.jobs += sum(isinstance(item, Submit) for item in message.items)
            if any(isinstance(item, Hello) for item in message.items):
                self.greetings += 1
                answer = NodeMessage(0, 0, 0, 0, 1, [self._answer])
                self._socket.send_multipart([routing_id, *encode_node(answer)])
