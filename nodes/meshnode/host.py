"""What a plain socket asks of the bridge that accepted it, before it is let in and after."""

import asyncio
import select
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from mesh.errors import MeshError
from meshnode.core.events import Event
from meshnode.tls import Line

if TYPE_CHECKING:
    from meshnode.connection import Connection
    from meshnode.entrance import Entrance


class Host(Protocol):
    """What a connection asks of the bridge that accepted it. `post` tells the scheduler."""

    unread: float
    loop: asyncio.AbstractEventLoop
    poll: select.epoll
    post: Callable[[Event], None]
    taken: int
    """Requests read in this turn."""

    @property
    def crowded(self) -> bool:
        """Do all connections together hold too much?"""

    def opened(self, connection: "Connection") -> str | None:
        """Count a connection in; return why there is no room for it, if so."""

    def closed(self, connection: "Connection") -> None:
        """Count a connection out. What it asked for may still run."""

    def finished(self, connection: "Connection") -> None:
        """Forget a connection: nothing of it is left."""

    def weigh(self, more: int) -> None:
        """Count bytes that wait, or fewer of them."""

    def gave_up(self, connection: "Connection", unsent: int) -> None:
        """Count a connection that is closed since its caller does not read, and say so."""


class Door(Protocol):
    """What an entrance asks of the bridge that accepted it."""

    loop: asyncio.AbstractEventLoop
    poll: select.epoll

    def known(self, entrance: "Entrance", address: str | None, *, local: bool) -> bool:
        """Hear whom a proxy speaks for, None for itself; is that one allowed?"""

    def gone(self, entrance: "Entrance") -> None:
        """Forget it: it is over, one way or another."""

    def admitted(self, entrance: "Entrance", line: Line, before: bytes) -> None:
        """Take the socket over, and what was read of it beyond the preface."""

    def turned_away(self, entrance: "Entrance", line: Line | None, kind: type[MeshError], why: str) -> None:
        """Count one that did not get in; take the socket over to tell it so, unless it is closed already."""
