"""Tells the network, or this host alone, that the node is there: mDNS, by `meshdiscovery`.

Shell: owns the announcer. A node that listens on loopback only is announced on loopback only.
"""

from functools import partial

from mesh.wire.messages import VERSIONS, About
from meshdiscovery.addresses import announced_addresses
from meshdiscovery.mdns import Announcer, interfaces
from meshdiscovery.record import Record
from meshnode.config import Settings, is_loopback


class Announcement:
    """The node's record, from `start` to `close`; nothing at all with `--no-mdns`."""

    def __init__(self, settings: Settings, about: About, endpoint: str) -> None:
        host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
        host = host.strip("[]")
        local = is_loopback(host)
        bound_to_all = host in ("*", "0.0.0.0", "::")  # noqa: S104  # compared, not bound
        addresses = settings.advertise or (
            announced_addresses(loopback_only=local) if local or bound_to_all else (host,)
        )
        self._announcer: Announcer | None = None
        if settings.mdns and addresses:
            record = Record(
                mesh=about.mesh,
                node_id=about.node,
                epoch=about.epoch.hex(),
                name=about.name,
                port=int(port),
                versions=VERSIONS,
                addresses=addresses,
            )
            follow = bound_to_all and not settings.advertise
            self._announcer = Announcer(
                record,
                interfaces=partial(interfaces, loopback_only=local),
                addresses=partial(announced_addresses, loopback_only=False) if follow else None,
            )

    async def start(self) -> None:
        """Announce the node."""
        if self._announcer is not None:
            await self._announcer.start()

    async def close(self) -> None:
        """Say goodbye."""
        announcer, self._announcer = self._announcer, None
        if announcer is not None:
            await announcer.close()
