"""The sockets of the bridge, and the connections behind them. Shell: `docs/text-protocol.md`.

They stand apart from `meshnode.bridge`, which opens and closes it, since this is compiled (docs/decisions/0011).
"""

import asyncio
import logging
import os
import select
import socket
from collections.abc import Callable
from typing import Final

from mypy_extensions import mypyc_attr

from mesh.errors import MeshError
from mesh.wire.messages import NodeItem
from meshnode.config import Settings, read_token
from meshnode.connection import Connection
from meshnode.core.conversation import Conversation
from meshnode.core.events import Event
from meshnode.core.guests import Networks, plain
from meshnode.core.held import Owner
from meshnode.core.job_ids import JobIds
from meshnode.core.limits import UNREAD_S, Limits
from meshnode.core.request import Catalogue, OpenTasks
from meshnode.entrance import Entrance
from meshnode.listener import room
from meshnode.tls import Line, server_context

log = logging.getLogger(__name__)

BURST: Final = 32
"""Sockets served in one turn of the loop, and connections accepted: more would keep workers and clients waiting."""

BURST_REQUESTS: Final = 128
"""Requests after which a turn takes no more: workers are to have theirs while the next ones are read."""

LOOK: Final = 8
"""Sockets that the kernel is asked for at once: those that it names and that are not served would fall behind."""

_RETRY_S = 1.0
"""Seconds for which nothing is accepted after this process could open no more descriptors."""

_WARN_EVERY_S: Final = 60.0
_FAILED: Final = "%s a plain socket failed; it is closed"


@mypyc_attr(allow_interpreted_subclasses=True)
class PlainSockets:
    """The bridge as far as it does not wait: what happens to its sockets, and what the node says to them."""

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
        self.barred = 0
        self.strangers = 0
        self.draining = False
        self._settings = settings
        self._catalogue = scheduler
        self.post = post
        self._new_key = new_key
        self.unread = unread
        self._limits = Limits(
            line=settings.bridge_max_line,
            unread=unread,
            begun=settings.bridge_line_timeout,
            idle=settings.bridge_idle,
        )
        self._is_open = OpenTasks(settings.bridge_tasks)
        self._allowed = Networks(settings.bridge_allow)
        self._proxies = Networks(settings.bridge_proxy)
        self.read_secrets()
        self._asks = self._token is not None or self._context is not None
        self._guarded = bool(self._asks or self._allowed or self._proxies)
        self.taken = 0
        self._new_id = JobIds(os.urandom(8))
        self.loop = asyncio.get_running_loop()
        self.poll: select.epoll
        self._listener: socket.socket | None = None
        self._retry: asyncio.TimerHandle | None = None
        self._by_descriptor: dict[int, Connection | Entrance] = {}
        self._entering: set[Entrance] = set()
        self._requests = 0
        self._speaking: list[Connection] = []
        self._by_owner: dict[int, Connection] = {}
        self._open: set[Connection] = set()
        self._none_open = asyncio.Event()
        self._held = 0
        self._most_held = settings.bridge_max_held
        self._guests = room(settings)
        self._warned_at: dict[str, float] = {}

    def read_secrets(self) -> None:
        """Read token and certificate, for whoever connects from now on. Raises ConfigError, and keeps what was."""
        token, cert = self._settings.bridge_token, self._settings.bridge_cert
        read = None if token is None else read_token(token)
        self._context = None if cert is None else server_context(cert, self._settings.bridge_cert_key)
        self._token = read

    @property
    def open(self) -> int:
        """How many connections there are now."""
        return len(self._open)

    @property
    def requests(self) -> int:
        """How many lines all callers have asked with."""
        there = (connection for key, connection in self._by_owner.items() if key == connection.keys[0])
        return self._requests + sum(connection.requests for connection in there)

    def addresses(self) -> list[str]:
        """From where callers are connected, one entry for each."""
        return [connection.address for connection in self._open]

    def reply(self, owner: Owner, items: list[NodeItem]) -> None:
        """Tell the connection behind an owner these items; it may have ended meanwhile. `speak` sends the replies."""
        connection = self._by_owner.get(owner.key)
        if connection is None:
            return
        try:
            if connection.reply(items):
                self._speaking.append(connection)
        except Exception:
            log.exception(_FAILED, "answering")
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
                log.exception(_FAILED, "answering")
                self._close_failed(connection)

    # sockets

    def _ready(self) -> None:
        """Serve the sockets that something has happened to. A failure costs one connection."""
        now = self.loop.time()
        self.taken = 0
        accepted = False
        for _ in range(BURST // LOOK):
            some = self.poll.poll(0, LOOK)
            for descriptor, what in some:
                connection = self._by_descriptor.get(descriptor)
                if connection is not None:
                    PlainSockets._serve(self, connection, what, now)
                elif not accepted:
                    accepted = True
                    PlainSockets._accept(self)
            if len(some) < LOOK or self.taken >= BURST_REQUESTS:
                break

    def _serve(self, connection: Connection | Entrance, what: int, now: float) -> None:
        try:
            if what == select.EPOLLIN and connection.reading:
                connection.read(now)
            else:
                connection.ready(what, now)
        except Exception:
            log.exception(_FAILED, "serving")
            self._close_failed(connection)

    def _close_failed(self, connection: Connection | Entrance) -> None:
        try:
            connection.close(force=True)
        except Exception:
            log.exception(_FAILED, "closing")

    def _accept(self) -> None:
        assert self._listener is not None
        for _ in range(BURST):
            if self.taken >= BURST_REQUESTS:
                return
            try:
                accepted, address = self._listener.accept()
            except (BlockingIOError, ConnectionError):
                return
            except OSError as error:
                self._warn("plain sockets wait: %s", error.strerror)
                self.poll.unregister(self._listener.fileno())
                self._retry = self.loop.call_later(_RETRY_S, self._accept_again)
                return
            caller = plain(address[0])
            if self._guarded:
                self._look_at(accepted, caller)
            else:
                PlainSockets._begin(self, PlainSockets._connection(self, accepted, caller))

    def _look_at(self, accepted: socket.socket, caller: str) -> None:
        """Close whom this bridge is not open to; let in who has nothing to show; have the others show it."""
        proxied = caller in self._proxies
        if not proxied and not self._allows(caller):
            accepted.close()
        elif not proxied and not self._asks:
            PlainSockets._begin(self, PlainSockets._connection(self, accepted, caller))
        elif why := self._guests.enter(guest := None if proxied else caller):
            self._guests.leave(guest)
            accepted.close()
            self._refused(why)
        else:
            entrance = Entrance(self, accepted, caller, proxied=proxied, context=self._context, token=self._token)
            self._by_descriptor[accepted.fileno()] = entrance
            self._entering.add(entrance)
            PlainSockets._begin(self, entrance)

    def _begin(self, connection: Connection | Entrance) -> None:
        try:
            connection.begin()
        except Exception:
            log.exception(_FAILED, "beginning with")
            self._close_failed(connection)

    def _allows(self, address: str) -> bool:
        if not self._allowed or address in self._allowed:
            return True
        self.barred += 1
        self._warn("plain sockets are closed that --bridge-allow does not name: %s, %d so far", address, self.barred)
        return False

    def _accept_again(self) -> None:
        assert self._listener is not None
        self.poll.register(self._listener.fileno(), select.EPOLLIN)

    # for connections

    def _connection(self, line: Line, address: str, before: bytes = b"") -> Connection:
        keys = self._new_key(), self._new_key()
        conversation = Conversation(
            self._catalogue,
            keys,
            new_id=self._new_id,
            limits=self._limits,
            draining=self.draining,
            now=self.loop.time(),
            is_open=self._is_open,
        )
        connection = self._by_descriptor[line.fileno()] = Connection(
            self, line, address, conversation, keys, before=before
        )
        return connection

    def opened(self, connection: Connection) -> str | None:
        """Count a connection in; return why there is no room for it, if so."""
        self.connections += 1
        self._open.add(connection)
        for key in connection.keys:
            self._by_owner[key] = connection
        why = self._guests.enter(connection.address)
        if why is not None:
            self._refused(why)
        return why

    def _refused(self, why: str) -> None:
        self.refused += 1
        self._warn("plain sockets are turned away: %s", why)

    def closed(self, connection: Connection) -> None:
        """Count a connection out. What it asked for may still run."""
        self._open.discard(connection)
        self._by_descriptor.pop(connection.descriptor, None)
        self._guests.leave(connection.address)
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
        return self._held > self._most_held

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
        if now >= self._warned_at.get(text, now):
            self._warned_at[text] = now + _WARN_EVERY_S
            log.warning(text, *details)

    # for entrances

    def known(self, entrance: Entrance, address: str | None, *, local: bool) -> bool:
        """Hear whom a proxy speaks for, None for itself; is that one allowed?"""
        self._guests.leave(None)
        entrance.address = entrance.guest = entrance.address if address is None else address
        self._guests.enter(entrance.guest)
        return local or self._allows(entrance.address)

    def gone(self, entrance: Entrance) -> None:
        """Forget it: it is over, one way or another."""
        self._entering.discard(entrance)
        self._by_descriptor.pop(entrance.descriptor, None)
        self._guests.leave(entrance.guest)

    def admitted(self, entrance: Entrance, line: Line, before: bytes) -> None:
        """Take the socket over, and what was read of it beyond the preface."""
        PlainSockets._begin(self, PlainSockets._connection(self, line, entrance.address, before))

    def turned_away(self, entrance: Entrance, line: Line | None, kind: type[MeshError], why: str) -> None:
        """Count one that did not get in; take the socket over to tell it so, unless it is closed already."""
        self.strangers += 1
        self._warn(
            "plain sockets are turned away: one of %s, since %s; %d so far", entrance.address, why, self.strangers
        )
        if line is not None:
            PlainSockets._connection(self, line, entrance.address).refuse(kind, why)
