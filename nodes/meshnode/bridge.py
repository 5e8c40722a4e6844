"""The listener for plain sockets, which speak the Text protocol. Shell: `docs/text-protocol.md`.

Owns the listening socket, and knows the connections by the owners of their jobs.
"""

import asyncio
import errno
import itertools
import logging
import os
import resource
import select
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from mesh.errors import ConfigError
from mesh.wire.messages import NodeItem
from meshnode.config import DEFAULT_BRIDGE_PORT, Settings, parse_address
from meshnode.connection import Connection
from meshnode.core.conversation import UNREAD_S, Conversation, Limits
from meshnode.core.events import Event
from meshnode.core.held import Owner
from meshnode.core.request import Catalogue
from meshnode.front import PortTakenError

log = logging.getLogger(__name__)

BACKLOG = 1024
"""Connections that the kernel keeps until they are accepted; it may allow fewer (net.core.somaxconn)."""

BURST = 32
"""Sockets served in one turn of the loop, and connections accepted: more would keep workers and clients waiting."""

_RETRY_S = 1.0
"""Seconds for which nothing is accepted after this process could open no more descriptors."""

KEEPALIVE_IDLE_S = 55
"""Seconds of silence before the kernel looks whether a caller is still there, as in the original."""

RECEIVE_BYTES = 1 << 20
"""Bytes that the kernel here takes from one caller before they are read, if net.core.rmem_max allows: what it has
taken is not lost by a caller's close. Linux begins with 128 KiB, which 100 lines of 1 KiB fill."""

MOST_CONNECTIONS = 16_384
MOST_OF_ONE_ADDRESS = 8192
"""Connections at once; never more than three quarters of the descriptors that this process may open."""

HELD_BYTES = 256 << 20
"""Bytes of input that all connections may hold together. Beyond it each may hold `CROWDED_BYTES`."""

_CLOSE_S = 1.0
_WARN_EVERY_S = 60.0


class Bridge:
    """Accepts plain sockets, and answers every line of theirs with one line.

    `post` has an event taken in the scheduler's next turn; `new_key` gives each owner its key. `unread` is
    for how many seconds replies may wait for a caller that does not read.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        scheduler: Catalogue,
        post: Callable[[Event], None],
        new_key: Callable[[], int],
        unread: float = UNREAD_S,
    ) -> None:
        assert settings.bridge is not None
        self.address = ""
        self.connections = 0
        self.closed_unread = 0
        self.refused = 0
        self.rescued = 0
        self.draining = False
        self._settings = settings
        self._catalogue = scheduler
        self.post = post
        self._new_key = new_key
        self.unread = unread
        self._limits = Limits(line=settings.bridge_max_line, unread=unread, idle=settings.bridge_idle)
        self._prefix = os.urandom(8)
        self._numbers = itertools.count(1)
        self.loop = asyncio.get_running_loop()
        self.poll: select.epoll
        self._listener: socket.socket | None = None
        self._retry: asyncio.TimerHandle | None = None
        self._by_descriptor: dict[int, Connection] = {}
        self._requests = 0
        self._speaking: list[Connection] = []
        self._by_owner: dict[int, Connection] = {}
        self._open: set[Connection] = set()
        self._of_address: Counter[str] = Counter()
        self._none_open = asyncio.Event()
        self._held = 0
        self._most = min(MOST_CONNECTIONS, resource.getrlimit(resource.RLIMIT_NOFILE)[0] * 3 // 4)
        self._warned_at = -_WARN_EVERY_S

    def listen(self) -> None:
        """Begin to accept. Raises PortTakenError where the port that was asked for is in use, and ConfigError."""
        assert self._settings.bridge is not None
        host, port = parse_address(self._settings.bridge, what="--bridge")
        try:
            listener = _bind(host, port)
        except PortTakenError:
            if not self._settings.bridge_is_default:
                raise
            listener = _bind(host, 0)
            taken = f"port {DEFAULT_BRIDGE_PORT} is taken (by another node?)"
            log.info("%s: plain sockets find this node at %s instead", taken, _shown(listener))
        self.address = _shown(listener)
        listener.setblocking(False)
        self._listener = listener
        self.poll = select.epoll()
        self.poll.register(listener.fileno(), select.EPOLLIN)
        self.loop.add_reader(self.poll.fileno(), self._ready)

    @property
    def open(self) -> int:
        """How many connections there are now."""
        return len(self._open)

    @property
    def requests(self) -> int:
        """How many lines all callers have asked with."""
        there = (connection for key, connection in self._by_owner.items() if key == connection.keys[0])
        return self._requests + sum(connection.requests for connection in there)

    def reply(self, owner: Owner, items: list[NodeItem]) -> None:
        """Tell the connection behind an owner these items; it may have ended meanwhile. `speak` sends the replies."""
        connection = self._by_owner.get(owner.key)
        if connection is None:
            return
        try:
            if connection.reply(items):
                self._speaking.append(connection)
        except Exception:
            log.exception("answering a plain socket failed; it is closed")
            self._close_failed(connection)

    def speak(self) -> None:
        """Send the replies of this turn, one right after another.

        Between two of them a caller's processor would fall asleep, and to wake it costs more than to send.
        """
        speaking, self._speaking = self._speaking, []
        for connection in speaking:
            try:
                connection.speak()
            except Exception:
                log.exception("answering a plain socket failed; it is closed")
                self._close_failed(connection)

    def drain(self) -> None:
        """Tell the scheduler of all that was read. From now on `$ping` says MeshBusy, and who is owed nothing goes."""
        self.draining = True
        for connection in list(self._by_owner.values()):
            with _survived("draining"):
                connection.drain()

    def undrain(self) -> None:
        """Welcome whoever connects from now on. Those that were told of the draining still go when owed nothing."""
        self.draining = False

    async def close(self) -> None:
        """Stop listening, answer whatever is owed, and close all connections."""
        self.draining = True
        if self._retry is not None:
            self._retry.cancel()
        if self._listener is not None:
            self._listener.close()
        for connection in list(self._by_owner.values()):
            with _survived("answering"):
                connection.shut()
        for force in (False, True):
            for connection in list(self._open):
                connection.close(force=force)
            if self._open:
                self._none_open.clear()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._none_open.wait(), _CLOSE_S)
        if self._listener is not None:
            self._listener = None
            self.loop.remove_reader(self.poll.fileno())
            self.poll.close()

    # sockets

    def _ready(self) -> None:
        """Serve the sockets that something has happened to. A failure costs one connection."""
        now = self.loop.time()
        for descriptor, what in self.poll.poll(0, BURST):
            connection = self._by_descriptor.get(descriptor)
            if connection is None:
                self._accept()
                continue
            try:
                if what == select.EPOLLIN and connection.reading:
                    connection.read(now)
                else:
                    connection.ready(what, now)
            except Exception:
                log.exception("serving a plain socket failed; it is closed")
                self._close_failed(connection)

    def _close_failed(self, connection: Connection) -> None:
        with _survived("closing"):
            connection.close(force=True)

    def _accept(self) -> None:
        assert self._listener is not None
        for _ in range(BURST):
            try:
                accepted, address = self._listener.accept()
            except (BlockingIOError, ConnectionError):
                return
            except OSError as error:
                self._warn("plain sockets wait: %s", error.strerror)
                self.poll.unregister(self._listener.fileno())
                self._retry = self.loop.call_later(_RETRY_S, self._accept_again)
                return
            connection = self._connection(accepted, address[0])
            try:
                connection.begin()
            except Exception:
                log.exception("beginning with a plain socket failed; it is closed")
                self._close_failed(connection)

    def _accept_again(self) -> None:
        assert self._listener is not None
        self.poll.register(self._listener.fileno(), select.EPOLLIN)

    # for connections

    def _connection(self, accepted: socket.socket, address: str) -> Connection:
        keys = self._new_key(), self._new_key()
        conversation = Conversation(
            self._catalogue,
            keys,
            new_id=self._new_id,
            limits=self._limits,
            draining=self.draining,
            now=self.loop.time(),
        )
        connection = self._by_descriptor[accepted.fileno()] = Connection(self, accepted, address, conversation, keys)
        return connection

    def _new_id(self) -> bytes:
        return self._prefix + next(self._numbers).to_bytes(8, "big")

    def opened(self, connection: Connection) -> str | None:
        """Count a connection in; return why there is no room for it, if so."""
        self.connections += 1
        self._open.add(connection)
        for key in connection.keys:
            self._by_owner[key] = connection
        self._of_address[connection.address] += 1
        if len(self._open) > self._most:
            why = f"{self._most} connections are open"
        elif self._of_address[connection.address] > MOST_OF_ONE_ADDRESS:
            why = f"{MOST_OF_ONE_ADDRESS} connections from {connection.address} are open"
        else:
            return None
        self.refused += 1
        self._warn("plain sockets are turned away: %s", why)
        return why

    def closed(self, connection: Connection) -> None:
        """Count a connection out. What it asked for may still run."""
        self._open.discard(connection)
        self._by_descriptor.pop(connection.descriptor, None)
        self._of_address[connection.address] -= 1
        if not self._of_address[connection.address]:
            del self._of_address[connection.address]
        if not self._open:
            self._none_open.set()

    def finished(self, connection: Connection) -> None:
        """Forget a connection: nothing of it is left."""
        if self._by_owner.pop(connection.keys[0], None) is not None:
            self._requests += connection.requests
        self._by_owner.pop(connection.keys[1], None)

    def weigh(self, more: int) -> None:
        """Count bytes that wait, or fewer of them."""
        self._held += more

    @property
    def crowded(self) -> bool:
        """Do all connections together hold too much?"""
        return self._held > HELD_BYTES

    def gave_up(self, connection: Connection, unsent: int) -> None:
        """Count a connection that is closed since its caller does not read, and say so."""
        self.closed_unread += 1
        log.warning(
            "a plain socket of %s does not read its replies: it is closed, with %d bytes unsent",
            connection.address,
            unsent,
        )

    def _warn(self, text: str, *details: object) -> None:
        """Log what may come in floods once in a while."""
        now = self.loop.time()
        if now - self._warned_at >= _WARN_EVERY_S:
            self._warned_at = now
            log.warning(text, *details)


@contextmanager
def _survived(doing: str) -> Iterator[None]:
    """Let one connection's failure be its own: the others, and the node's stop, go on."""
    try:
        yield
    except Exception:
        log.exception("%s a plain socket's requests failed", doing)


class _Listener(socket.socket):
    """A listening socket that does not make enumerations of plain numbers for each connection that it accepts."""

    family = 0  # type: ignore[assignment]  # for accept() an integer is as good
    type = 0  # type: ignore[assignment]

    def __init__(self, family: int, kind: int, protocol: int) -> None:
        super().__init__(family, kind, protocol)
        self.family, self.type = int(family), int(kind)


def _bind(host: str, port: int) -> socket.socket:
    """Bind a listening socket; the sockets it accepts inherit its options. Raises PortTakenError or ConfigError."""
    plain = "0.0.0.0" if host == "*" else host  # noqa: S104  # asked for in so many words
    try:
        found = socket.getaddrinfo(plain, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        listener = _Listener(family, kind, protocol)
    except OSError as error:
        raise ConfigError(f"--bridge {host}:{port}: {error.strerror}") from None
    try:
        for level, option, value in (
            (socket.SOL_SOCKET, socket.SO_REUSEADDR, 1),
            (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
            (socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES),
            (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE_S),
            (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
        ):
            listener.setsockopt(level, option, value)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise PortTakenError(f"--bridge {host}:{port} is in use") from None
        raise ConfigError(f"cannot bind --bridge {host}:{port}: {error.strerror}") from None
    return listener


def _shown(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
