"""Tells the network, or this host alone, that the node is there: mDNS, by `meshdiscovery`.

Shell: owns the announcer. A node that listens on loopback only is announced on loopback only.
"""

import asyncio
from collections.abc import Callable
from functools import partial

from mesh.errors import ConfigError
from mesh.wire.messages import VERSIONS, About
from meshdiscovery.addresses import announced_addresses
from meshdiscovery.mdns import Announcer, interfaces
from meshdiscovery.record import Record, flaw
from meshnode.config import Settings, is_loopback


class Announcement:
    """The node's record, from `start` to `close` and while it is to be shown; nothing at all with `--no-mdns`."""

    def __init__(self, settings: Settings, about: About, endpoint: str) -> None:
        host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
        host = host.strip("[]")
        everywhere = host in ("*", "0.0.0.0", "::")  # noqa: S104  # compared, not bound
        local = is_loopback(host)
        self._announcer: Announcer | None = None
        self._make: Callable[[], Announcer] | None = None
        self._wanted = False
        self._changing: asyncio.Task[None] | None = None
        if not settings.mdns:
            return
        record = Record(
            mesh=about.mesh,
            node_id=about.node,
            epoch=about.epoch.hex(),
            name=about.name,
            port=int(port),
            versions=VERSIONS,
            key=settings.keys.own.public if settings.keys is not None else "",
            addresses=settings.advertise or (announced_addresses(loopback_only=False) if everywhere else (host,)),
        )
        wrong = flaw(record)
        if wrong is not None:
            raise ConfigError(f"this node cannot be announced: {wrong} (--no-mdns does without)")
        self._make = partial(
            Announcer,
            record,
            interfaces=partial(interfaces, loopback_only=local),
            addresses=partial(announced_addresses, loopback_only=False)
            if everywhere and not settings.advertise
            else None,
        )

    async def start(self) -> None:
        """Announce the node; returns when that is on its way."""
        self.show(there=True)
        if self._changing is not None:
            await self._changing

    def show(self, *, there: bool) -> None:
        """Announce the node, or say goodbye, soon; what was wanted last holds."""
        self._wanted = there
        if self._make is not None and (self._changing is None or self._changing.done()):
            self._changing = asyncio.get_running_loop().create_task(self._change(self._make))

    async def _change(self, make: Callable[[], Announcer]) -> None:
        while self._wanted is not (self._announcer is not None):
            if self._wanted:
                self._announcer = make()
                await self._announcer.start()
            else:
                announcer, self._announcer = self._announcer, None
                if announcer is not None:
                    await announcer.close()

    async def close(self) -> None:
        """Say goodbye."""
        self.show(there=False)
        if self._changing is not None:
            await self._changing
