"""The listener for plain sockets, which speak the Text protocol. Shell: `docs/text-protocol.md`.

Owns the listening socket, and knows the connections by the owners of their jobs.
"""

import asyncio
import logging
import select
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final

from mesh.wire.messages import TaskSpec
from meshnode.config import DEFAULT_BRIDGE_PORT, parse_address
from meshnode.front import PortTakenError
from meshnode.listener import bind, shown
from meshnode.plain_sockets import PlainSockets

log = logging.getLogger(__name__)


_CLOSE_S: Final = 1.0


class Bridge(PlainSockets):
    """Accepts plain sockets, and answers every line of theirs with one line. Raises ConfigError.

    `post` has an event taken in the scheduler's next turn; `new_key` gives each owner its key. `unread` is
    for how many seconds replies may wait for a caller that does not read.

    It counts `connections`, and of these `refused`: there was no room; `barred`: of an address that is not allowed;
    `strangers`: without the header, handshake or token that were to come; `closed_unread`.
    """

    def listen(self) -> None:
        """Begin to accept. Raises PortTakenError where the port that was asked for is in use, and ConfigError."""
        assert self._settings.bridge is not None
        host, port = parse_address(self._settings.bridge, what="--bridge")
        try:
            listener = bind(host, port)
        except PortTakenError:
            if not self._settings.bridge_is_default:
                raise
            listener = bind(host, 0)
            taken = f"port {DEFAULT_BRIDGE_PORT} is taken (by another node?)"
            log.info("%s: plain sockets find this node at %s instead", taken, shown(listener))
        self.address = shown(listener)
        listener.setblocking(False)
        self._listener = listener
        self.poll = select.epoll()
        self.poll.register(listener.fileno(), select.EPOLLIN)
        self.loop.add_reader(self.poll.fileno(), self._ready)

    def hint(self, tasks: Sequence[TaskSpec]) -> str:
        """Say how to call it."""
        if self._asks:
            kinds = [kind for kind, asked in (("TLS", self._context), ("a token", self._token)) if asked is not None]
            return f"asks for {' and '.join(kinds)}"
        host, _, port = self.address.rpartition(":")
        bare = (one.name for one in tasks if self._is_open(one) and not any(p.required for p in one.parameters))
        return f'try: echo \'{{"function":"{next(bare, "$ping")}"}}\' | nc -N {host.strip("[]")} {port}'

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
        for entrance in list(self._entering):
            entrance.close()
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


@contextmanager
def _survived(doing: str) -> Iterator[None]:
    """Let one connection's failure be its own: the others, and the node's stop, go on."""
    try:
        yield
    except Exception:
        log.exception("%s a plain socket's requests failed", doing)
