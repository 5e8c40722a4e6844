"""Who is there, for a client: joins mDNS and static seeds into endpoints to connect to.

Shell: owns the browser and the look-ups of seeds. Whatever it says only adds candidates: with keys it offers nodes
whose keys are known, and a node still has to prove that it is the one.
"""

import asyncio
import ipaddress
import logging
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from mesh.core.dialer import NO_KEY
from mesh.errors import ConfigError
from mesh.seldom import Seldom
from meshdiscovery.seeds import Seed, SeedError, parse_seed, resolve

if TYPE_CHECKING:
    from meshdiscovery.directory import Change
    from meshdiscovery.mdns import Browser
    from meshdiscovery.record import Record

log = logging.getLogger("mesh")

LOOK_UP_S = 60.0
"""Seconds between two look-ups of a seed's name: addresses change."""

RETRY_S = 2.0
"""Seconds until a seed whose name was not found is looked up again."""

OnChange = Callable[[str, Iterable[str], tuple[str, ...]], None]
"""Gets a source, all endpoints that it offers now, and the keys that the nodes there may have."""

OnDenied = Callable[[str, str], None]
"""Gets the name of a node that does not speak as we do, and why."""

Networks = Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network]


class Finder:
    """Looks for the nodes of one mesh. Raises ConfigError for a seed that makes no sense.

    `networks`: if any are given, addresses outside them that mDNS brings are left out. `pins`: the names of the nodes
    by their public keys; None where keys are not used.
    """

    pins: dict[str, str] | None = None

    def __init__(
        self,
        mesh: str,
        *,
        seeds: Sequence[str],
        mdns: bool,
        networks: Networks = (),
        on_change: OnChange,
        on_denied: OnDenied,
    ) -> None:
        try:
            self._seeds = [parse_seed(seed) for seed in seeds]
        except SeedError as error:
            raise ConfigError(str(error)) from None
        self._mesh = mesh
        self._mdns = mdns
        self._networks = networks
        self._on_change = on_change
        self._on_denied = on_denied
        self._seldom = Seldom(log)
        self._records: dict[str, Record] = {}
        self._found: dict[Seed, list[str]] = {}
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
            self._found[seed] = addresses
            self._offer_seed(seed)
            await asyncio.sleep(LOOK_UP_S)

    def _changed(self, change: "Change") -> None:
        from meshdiscovery.directory import Changed, Found, Lost

        match change:
            case Found(record=record) | Changed(record=record):
                self._records[record.node_id] = record
                self._offer(record)
            case Lost(node_id=node_id):
                self._records.pop(node_id, None)
                self._on_change(node_id, [], ())

    def pin(self, pins: dict[str, str]) -> None:
        """Expect these keys from now on."""
        self.pins = pins
        for seed in self._found:
            self._offer_seed(seed)
        for record in self._records.values():
            self._offer(record)

    def _offer_seed(self, seed: Seed) -> None:
        """Offer what a seed leads to. Which node that is, nobody says: its host's name is the best guess."""
        keys: tuple[str, ...] = (NO_KEY,)
        if self.pins is not None:
            host = seed.host.split(".")[0]
            pins = self.pins
            keys = tuple(sorted(pins, key=lambda key: pins[key] != host))
        endpoints = [endpoint(a, seed.port) for a in self._found[seed]] if keys else []
        self._on_change(f"seed {seed.host}:{seed.port}", endpoints, keys)

    def _offer(self, record: "Record") -> None:
        """Offer what mDNS has brought, if it can be one of ours."""
        why = self._flaw(record)
        if why is not None:
            self._on_change(record.node_id, [], ())
            self._on_denied(record.name, why)
            self._seldom.warn(
                record.name, "mDNS: %s, which says that it is at %s port %d, is passed over: %s",
                record.name, ", ".join(record.addresses), record.port, why,
            )  # fmt: skip
            return
        addresses = [address for address in record.addresses if self._is_near(address)]
        if not addresses:
            self._seldom.warn(
                record.name, "mDNS: %s is passed over: %s is in none of the networks that are allowed",
                record.name, ", ".join(record.addresses),
            )  # fmt: skip
        self._on_change(record.node_id, [endpoint(a, record.port) for a in addresses], (record.key,))

    def _flaw(self, record: "Record") -> str | None:
        if self.pins is None:
            return "it wants keys, and none are in use here (docs/security.md)" if record.key else None
        if not record.key:
            return "it speaks without keys"
        return None if record.key in self.pins else "its key is not in the list of those allowed"

    def _is_near(self, address: str) -> bool:
        return not self._networks or any(ipaddress.ip_address(address) in network for network in self._networks)


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
