"""Who is there, for a client: joins mDNS and static seeds into endpoints to connect to.

Shell: owns the browser and the look-ups of seeds. Whatever it says only adds candidates.
"""

import asyncio
import ipaddress
import logging
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from mesh.errors import ConfigError
from meshdiscovery.seeds import Seed, SeedError, parse_seed, resolve

if TYPE_CHECKING:
    from meshdiscovery.directory import Change
    from meshdiscovery.mdns import Browser

log = logging.getLogger("mesh")

LOOK_UP_S = 60.0
"""Seconds between two look-ups of a seed's name: addresses change."""

RETRY_S = 2.0
"""Seconds until a seed whose name was not found is looked up again."""

OnChange = Callable[[str, Iterable[str]], None]
"""Gets a source and all endpoints that it offers now."""


class Finder:
    """Looks for the nodes of one mesh. Raises ConfigError for a seed that makes no sense."""

    def __init__(self, mesh: str, *, seeds: Sequence[str], mdns: bool, on_change: OnChange) -> None:
        try:
            self._seeds = [parse_seed(seed) for seed in seeds]
        except SeedError as error:
            raise ConfigError(str(error)) from None
        self._mesh = mesh
        self._mdns = mdns
        self._on_change = on_change
        self._browser: Browser | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Begin to look; what is found comes through `on_change`, in this loop."""
        self._tasks = [asyncio.create_task(self._look_up(seed), name=f"seed {seed.host}") for seed in self._seeds]
        if self._mdns:
            from meshdiscovery.directory import Directory
            from meshdiscovery.mdns import Browser, interfaces

            self._browser = Browser(
                Directory(self._mesh), self._changed, interfaces=partial(interfaces, loopback_only=False)
            )
            await self._browser.start()

    async def close(self) -> None:
        """Stop looking."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._browser is not None:
            await self._browser.close()

    async def _look_up(self, seed: Seed) -> None:
        failed = False
        while True:
            try:
                addresses = [seed.host] if _is_address(seed.host) else await resolve(seed)
            except OSError as error:
                if not failed:
                    log.warning("seed %s cannot be looked up (%s); trying on", seed.host, error)
                failed = True
                await asyncio.sleep(RETRY_S)
                continue
            failed = False
            self._on_change(f"seed {seed.host}:{seed.port}", [endpoint(a, seed.port) for a in addresses])
            await asyncio.sleep(LOOK_UP_S)

    def _changed(self, change: "Change") -> None:
        from meshdiscovery.directory import Changed, Found, Lost

        match change:
            case Found(record=record) | Changed(record=record):
                self._on_change(record.node_id, [endpoint(a, record.port) for a in record.addresses])
            case Lost(node_id=node_id):
                self._on_change(node_id, [])


def _is_address(host: str) -> bool:
    """Is there nothing to look up? Asyncio starts a thread to look a name up."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def endpoint(address: str, port: int) -> str:
    """Return the ZeroMQ endpoint of an address."""
    return f"tcp://[{address}]:{port}" if ":" in address else f"tcp://{address}:{port}"
