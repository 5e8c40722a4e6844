"""The node's ROUTER: messages from clients in, messages to them out.

Shell: owns the socket and each client's outbox; `docs/protocol.md`, Transport. It is drained in bounded bursts
and never waited for: a client that does not read fills its own outbox and is let go.
"""

import asyncio
import logging
import re
from collections import deque
from collections.abc import Callable, Collection
from typing import Final

import zmq

from mesh.errors import ConfigError
from mesh.sockets import NOBLOCK, NOBLOCK_MORE, more, readable
from mesh.wire.codec import FRAME_LIMIT, HEADER_LIMIT, Buffer
from meshnode.front_watch import FrontWatch
from meshnode.guard import Guard

log = logging.getLogger(__name__)

BURST: Final = 64
"""Messages taken in one turn: more would keep pings, the bridge and the workers waiting."""

BURST_BYTES: Final = 8 * 1024 * 1024
"""Bytes taken in one turn, for the same reason."""

PAUSE_BYTES: Final = 4 * 1024 * 1024
"""Bytes that wait for one client above which none of its jobs is started any more, until nothing waits."""

OUTBOX_BYTES: Final = 16 * 1024 * 1024
"""Bytes that may wait for a client that reads nothing at all; it is let go beyond it, after `STUCK_S`."""

MOST_OUTBOX_BYTES: Final = 256 * 1024 * 1024
"""Bytes that may wait for one client whatever it does: what its running jobs return may be much at once."""

STUCK_S: Final = 10.0
"""Seconds without a byte read after which a client counts as one that reads nothing."""

SEND_MESSAGES: Final = 32
"""Messages that ZeroMQ holds for one client: 8 MiB with `NODE_MESSAGE_BYTES` of each. Beyond it they wait here."""

_RETRY_S = 0.001
"""Seconds until what waits is tried again while it flows; ten times as many while it does not."""

Received = tuple[bytes, str | None, list[Buffer]]
"""A routing id, the sender's key if there are keys, and the frames of one message."""


class PortTakenError(ConfigError):
    """The endpoint that was asked for is in use."""


def context() -> "zmq.Context[zmq.SyncSocket]":
    """Make the node's ZeroMQ context: one I/O thread, room for many links (three sockets each)."""
    made = zmq.Context()
    made.set(zmq.MAX_SOCKETS, 65_536)
    return made


def _key_of(frame: zmq.Frame) -> str | None:
    """Return the key that the sender has proved to have: what the authenticator has named it."""
    try:
        key = frame.get("User-Id")
    except zmq.ZMQError:
        return None
    return key if isinstance(key, str) else None


class _Outbox:
    """What waits for one client: messages of so many bytes in all. `flowed`: when it last took one."""

    __slots__ = ("flowed", "messages", "paused", "size")

    def __init__(self, now: float) -> None:
        self.messages: deque[list[Buffer]] = deque()
        self.size = 0
        self.flowed = now
        self.paused = False


class Front:
    """Binds, receives, sends. `on_messages` gets each burst; `on_lost` the routing id that cannot be reached.

    `on_flow` gets the routing id of a client that does not read what is sent to it (False), or does so again (True).
    """

    def __init__(
        self,
        zmq_context: "zmq.Context[zmq.SyncSocket]",
        *,
        max_message: int,
        on_messages: Callable[[list[Received]], None],
        on_lost: Callable[[bytes], None],
        on_flow: Callable[[bytes, bool], None],
        guard: Guard | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._on_messages = on_messages
        self._on_lost = on_lost
        self._on_flow = on_flow
        self._keyed = guard is not None
        self._outboxes: dict[bytes, _Outbox] = {}
        self._retry: asyncio.TimerHandle | None = None
        self._addresses: dict[bytes, str] = {}
        self._sent = False
        self._descriptor = -1
        self._port = 0
        self._max_message = max_message
        self._watch: FrontWatch
        self._skipping = False
        self._socket = zmq_context.socket(zmq.ROUTER)
        for option, value in (
            (zmq.ROUTER_MANDATORY, 1),
            (zmq.IPV6, 1),
            (zmq.LINGER, 0),
            (zmq.SNDHWM, SEND_MESSAGES),
            # ZMTP's own heartbeats abort the process in libzmq 4.3.5 (libzmq#4364, #4841): ours are PING and PONG
            (zmq.HEARTBEAT_IVL, 0),
            (zmq.HANDSHAKE_IVL, 3000),
            (zmq.BACKLOG, 1024),
            (zmq.MAXMSGSIZE, max(max_message, HEADER_LIMIT)),
            (zmq.TCP_KEEPALIVE, 1),
            (zmq.TCP_KEEPALIVE_IDLE, 30),
            (zmq.TCP_KEEPALIVE_INTVL, 5),
            (zmq.TCP_KEEPALIVE_CNT, 3),
        ):
            self._socket.set(option, value)
        if guard is not None:
            guard.protect(zmq_context, self._socket)

    def bind(self, endpoint: str) -> str:
        """Bind, and return the endpoint with its real port. Raises PortTakenError or ConfigError."""
        try:
            self._socket.bind(endpoint)
        except zmq.ZMQError as error:
            if error.errno == zmq.EADDRINUSE:
                raise PortTakenError(f"{endpoint} is in use") from None
            raise ConfigError(f"cannot bind {endpoint}: {zmq.strerror(error.errno or 0)}") from None
        bound = self._socket.get(zmq.LAST_ENDPOINT)
        assert isinstance(bound, bytes)
        text = bound.rstrip(b"\0").decode()
        self._port = int(text.rpartition(":")[2])
        return re.sub(r"\[::ffff:([0-9.]+)\]", r"\1", text)  # an IPv4 address, as IPv6 sockets show it

    def listen(self) -> None:
        """Begin to receive."""
        self._watch = FrontWatch(port=self._port, most=self._max_message, waits=self._waits)
        self._descriptor = int(self._socket.get(zmq.FD))
        self._loop.add_reader(self._descriptor, self._readable)
        self._loop.call_soon(self._readable)

    def _readable(self) -> None:
        """Take a bounded burst. The descriptor is edge-triggered, so stopping early means coming back."""
        if self._socket.closed:
            return
        if self._skipping and not self._skip():
            self._loop.call_soon(self._readable)
            return
        received: list[Received] = []
        size = 0
        receive = self._socket.recv
        heard = self._watch.heard
        while len(received) < BURST and size < BURST_BYTES:
            if received and not readable(self._socket):
                break
            key: str | None = None
            try:
                if self._keyed:
                    frame = receive(NOBLOCK, copy=False)
                    routing_id, key = frame.bytes, _key_of(frame)
                else:
                    routing_id = receive(NOBLOCK)
            except zmq.Again:  # the descriptor speaks of other things too
                break
            frames: list[Buffer] = []
            if more(self._socket):
                header = receive() if routing_id in heard else self._header_of(routing_id)
                frames.append(header)
                size += len(header)
                if more(self._socket):
                    size += self._bodies(frames)
            received.append((routing_id, key, frames))
            if self._skipping:
                self._loop.call_soon(self._readable)
                break
        else:
            self._loop.call_soon(self._readable)
        if received:
            self._watch.taken += len(received)
            self._watch.whole += size
            self._on_messages(received)

    def _header_of(self, routing_id: bytes) -> bytes:
        """Receive a header of a peer that has not been heard before, and note whose it is and from where."""
        frame = self._socket.recv(copy=False)
        self._watch.hear(routing_id, frame)
        try:
            address = frame.get("Peer-Address")
        except zmq.ZMQError:  # the transport has none
            address = ""
        self._addresses[routing_id] = str(address).removeprefix("::ffff:")
        return frame.bytes

    def _bodies(self, frames: list[Buffer]) -> int:
        """Receive what follows a header, and return its bytes; of far too many frames the rest is skipped later."""
        size = 0
        while more(self._socket):
            if len(frames) > FRAME_LIMIT:
                self._skipping = True
                break
            frames.append(self._socket.recv(copy=False).buffer)
            size += len(frames[-1])
        return size

    def _skip(self) -> bool:
        """Drop frames that a message has beyond all measure, some in a turn; False while there are more."""
        for _ in range(FRAME_LIMIT):
            if not more(self._socket):
                self._skipping = False
                return True
            self._socket.recv(copy=False)
        return False

    def _waits(self) -> bool:
        """Has a message arrived? It is read in the next turn: to ask has used up the edge that announced it."""
        arrived = readable(self._socket)
        if arrived:
            self._loop.call_soon(self._readable)
        return arrived

    def address(self, routing_id: bytes) -> str:
        """Return the address that a peer speaks from; an empty text if it is not known."""
        return self._addresses.get(routing_id, "")

    def keep_addresses(self, routing_ids: Collection[bytes]) -> None:
        """Forget the addresses of all other peers: they are gone."""
        if len(self._addresses) > len(routing_ids):
            self._addresses = {one: at for one, at in self._addresses.items() if one in routing_ids}

    def recheck(self) -> None:
        """Look for messages once more if something was sent, which may have used up the edge that announced one."""
        if self._sent and not self._socket.closed and readable(self._socket):
            self._loop.call_soon(self._readable)
        self._sent = False

    def send(self, routing_id: bytes, frames: list[Buffer]) -> None:
        """Send now or from the client's outbox; whoever cannot be reached is reported to `on_lost`."""
        outbox = self._outboxes.get(routing_id)
        if outbox is None:
            if self._try(routing_id, frames):
                return
            outbox = self._outboxes[routing_id] = _Outbox(self._loop.time())
        outbox.messages.append(frames)
        outbox.size += sum(map(len, frames))
        if outbox.size > PAUSE_BYTES and not outbox.paused:
            outbox.paused = True
            self._on_flow(routing_id, False)
        if outbox.size > MOST_OUTBOX_BYTES or (
            outbox.size > OUTBOX_BYTES and self._loop.time() - outbox.flowed > STUCK_S
        ):
            log.warning("a client reads nothing: %d MiB wait for it, it is let go", outbox.size >> 20)
            self.forget(routing_id)
            self._on_lost(routing_id)
        elif self._retry is None:
            self._retry = self._loop.call_later(_RETRY_S, self._send_waiting)

    def _try(self, routing_id: bytes, frames: list[Buffer]) -> bool:
        """Send one message whole; False if it has to wait."""
        self._sent = True
        try:
            self._socket.send(routing_id, NOBLOCK_MORE)
        except zmq.Again:
            return False
        except zmq.ZMQError as error:
            if error.errno != zmq.EHOSTUNREACH:
                raise
            self.forget(routing_id)
            self._loop.call_soon(self._on_lost, routing_id)
            return True
        last = len(frames) - 1
        for n, frame in enumerate(frames):
            self._socket.send(frame, NOBLOCK_MORE if n < last else NOBLOCK, copy=n == 0)
        return True

    def _send_waiting(self) -> None:
        self._retry = None
        flowing = False
        for routing_id, outbox in list(self._outboxes.items()):
            messages = outbox.messages
            while messages and self._try(routing_id, messages[0]):
                flowing = True
                outbox.flowed = self._loop.time()
                if messages:  # none is left of a client that turned out to be gone
                    outbox.size -= sum(map(len, messages.popleft()))
            if not messages and self._outboxes.pop(routing_id, None) is not None and outbox.paused:
                self._on_flow(routing_id, True)
        if self._outboxes:
            self._retry = self._loop.call_later(_RETRY_S if flowing else 10 * _RETRY_S, self._send_waiting)
        self.recheck()

    def forget(self, routing_id: bytes) -> None:
        """Drop what waits for a client."""
        outbox = self._outboxes.pop(routing_id, None)
        if outbox is not None:
            outbox.messages.clear()

    def close(self, *, linger: float) -> None:
        """Stop receiving and close; what was sent may leave for `linger` seconds while the context ends."""
        if self._retry is not None:
            self._retry.cancel()
        if self._descriptor >= 0:
            self._watch.close()
            self._loop.remove_reader(self._descriptor)
        self._socket.close(linger=int(linger * 1000))
