"""The listener for plain sockets, which speak the Text protocol. Shell: `docs/text-protocol.md`."""

from collections.abc import Callable

from mesh.wire.messages import NodeItem
from meshnode.config import Settings
from meshnode.core.events import Event
from meshnode.core.held import Owner
from meshnode.core.scheduler import Scheduler


class Bridge:
    """Accepts plain sockets, and answers every line of theirs with one line."""

    def __init__(
        self,
        settings: Settings,
        *,
        scheduler: Scheduler,
        post: Callable[[Event], None],
        new_key: Callable[[], int],
    ) -> None:
        self.address = ""

    async def listen(self) -> None:
        """Begin to accept."""

    def reply(self, owner: Owner, items: list[NodeItem]) -> None:
        """Tell the connection behind an owner these items."""

    def drain(self) -> None:
        """From now on `$ping` says MeshBusy; connections that are owed nothing are closed."""

    async def close(self) -> None:
        """Stop listening and close all connections."""
