"""One DEALER to one node: messages out, messages in, and word of its end.

Shell: owns a socket and its monitor; `docs/protocol.md`, Transport. A link is never mended: on any failure what
had arrived is drained, the socket is closed, and a new link is made elsewhere.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import zmq
from zmq.utils.monitor import parse_monitor_message

from mesh.errors import ProtocolError
from mesh.sockets import NOBLOCK, NOBLOCK_MORE, more, readable, send
from mesh.wire.codec import Buffer, Oddities, client_messages, decode_node
from mesh.wire.messages import ClientMessage, NodeMessage

BURST: Final = 64
"""Messages taken in one turn of the loop: more would keep the application waiting."""


_WATCHED: Final = (
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_DISCONNECTED
    | zmq.EVENT_CLOSED
    | zmq.EVENT_CONNECT_RETRIED
)
_DISCONNECTED: Final = "it disconnected"
_NO_CONNECTION: Final = "no connection"
OTHER_KEY: Final = "the handshake failed"
"""The node does not have the key that was expected; or one end uses keys and the other does not."""

NO_KEYS: Final = "it speaks without keys"
"""One end uses keys and the other does not. Where the other hangs up first it is OTHER_KEY."""

KEY_REFUSED: Final = "it refused the key"
_ENDS: dict[int, str] = {
    zmq.EVENT_DISCONNECTED: _DISCONNECTED,
    zmq.EVENT_CLOSED: _NO_CONNECTION,
    zmq.EVENT_CONNECT_RETRIED: _NO_CONNECTION,
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL: OTHER_KEY,
    zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL: NO_KEYS,
    zmq.EVENT_HANDSHAKE_FAILED_AUTH: KEY_REFUSED,
}


def context() -> "zmq.Context[zmq.SyncSocket]":
    """Make a client's ZeroMQ context. A DEALER with its monitor takes three sockets: room for 20,000 links."""
    made = zmq.Context()
    made.set(zmq.MAX_SOCKETS, 65_536)
    return made


@dataclass(frozen=True, slots=True)
class Curve:
    """The key that the node has to prove, and those of this end."""

    node: str
    public: str
    secret: str = field(repr=False)


class Link:
    """A connection to one endpoint. `on_messages` gets each burst, `on_lost` the link's key and why it ended.

    `curve`: speak encrypted, and only to a node that proves that key.

    Raises zmq.ZMQError where no socket can be made or the endpoint is none.
    """

    def __init__(
        self,
        zmq_context: "zmq.Context[zmq.SyncSocket]",
        key: int,
        endpoint: str,
        *,
        on_messages: Callable[[int, list[NodeMessage]], None],
        on_lost: Callable[[int, str], None],
        curve: Curve | None = None,
    ) -> None:
        self.key = key
        self.endpoint = endpoint
        self.curve = curve
        self.oddities = Oddities()
        self._loop = asyncio.get_running_loop()
        self._on_messages = on_messages
        self._on_lost = on_lost
        self._closed = False
        self._socket = zmq_context.socket(zmq.DEALER)
        try:
            self._connect()
        except zmq.ZMQError:
            self._socket.close(linger=0)  # a socket left open keeps its context from ending, for ever
            raise
        self._monitor_fd = int(self._monitor.get(zmq.FD))
        self._fd = int(self._socket.get(zmq.FD))
        self._loop.add_reader(self._monitor_fd, self._monitored)
        self._loop.add_reader(self._fd, self._readable)
        self._loop.call_soon(self._monitored)

    def _connect(self) -> None:
        for option, value in (
            (zmq.IPV6, 1),
            (zmq.LINGER, 0),
            (zmq.IMMEDIATE, 0),
            (zmq.SNDHWM, 0),
            (zmq.RCVHWM, 0),  # the window bounds what can be under way, both ways
            # -1 and IMMEDIATE=1 lose replies that have arrived (measured); a minute is for ever to a link
            (zmq.RECONNECT_IVL, 60_000),
            (zmq.HANDSHAKE_IVL, 3000),
            (zmq.TCP_KEEPALIVE, 1),
            (zmq.TCP_KEEPALIVE_IDLE, 30),
            (zmq.TCP_KEEPALIVE_INTVL, 5),
            (zmq.TCP_KEEPALIVE_CNT, 3),
        ):
            self._socket.set(option, value)
        if self.curve is not None:
            self._socket.set(zmq.CURVE_SERVERKEY, self.curve.node.encode())
            self._socket.set(zmq.CURVE_PUBLICKEY, self.curve.public.encode())
            self._socket.set(zmq.CURVE_SECRETKEY, self.curve.secret.encode())
        self._monitor = self._socket.get_monitor_socket(_WATCHED)
        self._monitor.set(zmq.RCVHWM, 0)  # an unread monitor freezes the whole context
        try:
            self._socket.connect(self.endpoint)
        except zmq.ZMQError:
            self._socket.disable_monitor()
            self._monitor.close(linger=0)
            raise

    def send(self, message: ClientMessage) -> None:
        """Send a message, as several where its bodies are many and large. Never blocks."""
        if self._closed:
            return
        for frames in client_messages(message):
            last = len(frames) - 1
            for n, frame in enumerate(frames):
                try:
                    # Copied: to send a large body without a copy, pyzmq starts a thread for the process's life.
                    send(self._socket, frame, NOBLOCK_MORE if n < last else NOBLOCK)
                except zmq.Again:  # the peer broke the protocol: its pipe is gone before its end is told
                    self._loop.call_soon(self._end, "the connection failed")
                    return
        self._recheck()

    def _readable(self) -> None:
        if self._closed:
            return
        messages = self._drain(BURST)
        if messages:
            self._on_messages(self.key, messages)

    def _recheck(self) -> None:
        """Sending, or stopping short, may have used up the edge that announced a message."""
        if self._more():
            self._loop.call_soon(self._readable)

    def _more(self) -> bool:
        return not self._closed and readable(self._socket)

    def _drain(self, most: int) -> list[NodeMessage]:
        messages: list[NodeMessage] = []
        receive = self._socket.recv
        for n in range(most):
            if n and not readable(self._socket):
                break
            try:
                frames: list[Buffer] = [receive(NOBLOCK)]
            except zmq.Again:  # the descriptor speaks of other things too
                break
            while more(self._socket):
                frames.append(receive(copy=False).buffer)
            try:
                messages.append(decode_node(frames, self.oddities))
            except ProtocolError:
                self.oddities.malformed += 1
        else:
            self._loop.call_soon(self._readable)  # there may be more
        return messages

    def _monitored(self) -> None:
        """Read the monitor dry; any event that it is asked for but the first connection means the end."""
        while not self._closed:
            try:
                frames = self._monitor.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            event = parse_monitor_message(frames)["event"]
            self._end(_ENDS.get(event, OTHER_KEY))

    def _end(self, why: str) -> None:
        while self._more():
            messages = self._drain(BURST)
            if messages:
                self._on_messages(self.key, messages)
        if not self._closed:
            self.close()
            self._on_lost(self.key, why)

    def close(self, *, linger: float = 0.0) -> None:
        """Close the socket; what had not left may for `linger` seconds. Nothing more is reported."""
        if self._closed:
            return
        self._closed = True
        self._loop.remove_reader(self._fd)
        self._loop.remove_reader(self._monitor_fd)
        self._socket.disable_monitor()
        self._monitor.close(linger=0)
        self._socket.close(linger=int(linger * 1000))
