"""Nodes announced and browsed by mDNS/DNS-SD (RFC 6762, 6763). Shell: python-zeroconf's asyncio API.

Everything runs on the running loop, without a thread. The network may be absent, come later or
change: nothing here raises because of it. What is heard comes from strangers: it is read by
`record`, bounded by `directory`, and a hint at best.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from zeroconf import DNSQuestionType, ServiceStateChange, Zeroconf
from zeroconf import Error as ZeroconfError
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from meshdiscovery.addresses import LOOPBACK, local_addresses
from meshdiscovery.directory import Change, Directory
from meshdiscovery.instances import Instances
from meshdiscovery.multicast import Interfaces, Reach
from meshdiscovery.record import (
    SERVICE_TYPE,
    BadRecord,
    Record,
    flaw,
    from_txt_bytes,
    instance_name,
    server_name,
    to_txt,
)
from meshdiscovery.resolver import Resolver

# Seconds between two looks at the interfaces: how long a node stays unseen whose host got its
# address late. A look costs some 0.2 ms.
REFRESH = 10.0

_SOURCE = "mdns"

# Bad instances are told apart in the log up to this number; beyond it they are only counted.
_MAX_BAD_NAMES = 256

_logger = logging.getLogger("meshdiscovery")


def interfaces(*, loopback_only: bool) -> list[str]:
    """Where to speak mDNS: on loopback, where nodes of this host are found, or also on networks.

    IPv4 only: multicast on ::1 does not work, and a network without IPv4 needs seeds.
    """
    return [LOOPBACK] if loopback_only else [*local_addresses().multicast, LOOPBACK]


class Announcer:
    """Announces one node for as long as it is open, and says goodbye when closed.

    It announces again every `interval` seconds, a third more or less, because a browser that was
    cut off asks again only after minutes. `interfaces` and `addresses` may be functions: they are
    asked every `refresh` seconds, so that the announcement follows the host's addresses; without
    `addresses` the record's own stay. Raises ValueError for a record that has a `flaw`.
    """

    def __init__(
        self,
        record: Record,
        *,
        interfaces: Interfaces,
        addresses: Callable[[], Sequence[str]] | None = None,
        interval: float = 45.0,
        refresh: float = REFRESH,
    ) -> None:
        self._record = record
        self._info = _service_info(record)
        self._reach = Reach(interfaces)
        self._addresses = addresses
        self._interval = interval
        self._refresh_every = refresh
        self._series: asyncio.Task[None] | None = None
        self._upkeep: asyncio.Task[None] | None = None

    @property
    def record(self) -> Record:
        """What is announced now."""
        return self._record

    async def start(self) -> None:
        """Announce; returns when the first announcement is on its way or cannot be made yet.

        There is no probing (RFC 6762 section 8.1): the names hold the node id and are nobody else's.
        """
        await self._refresh(rejoin=False)
        self._upkeep = asyncio.create_task(self._keep_announcing())

    async def update(self, record: Record) -> None:
        """Announce another record in place of the present one. Raises ValueError, as the class."""
        former, self._info = self._info, _service_info(record)
        self._record = record
        zeroconf = self._reach.zeroconf
        if zeroconf is not None:
            await self._announce(zeroconf)
            if former.key != self._info.key:
                await _say_goodbye(zeroconf, former)

    async def close(self) -> None:
        """Say goodbye and close; takes a quarter of a second. Closing again does nothing."""
        await _cancel(self._upkeep, self._series)
        self._upkeep = self._series = None
        if self._reach.zeroconf is not None:
            await _say_goodbye(self._reach.zeroconf, self._info)
        await self._reach.close()

    async def _keep_announcing(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time() + self._jittered()
        while True:
            await asyncio.sleep(min(self._refresh_every, max(0.0, due - loop.time())))
            is_due = loop.time() >= due
            try:
                await self._refresh(rejoin=is_due)
            except Exception:  # the top of a loop that must run as long as the node does
                _logger.exception("mDNS: announcing failed; it is tried again")
            if is_due:
                due = loop.time() + self._jittered()

    async def _refresh(self, *, rejoin: bool) -> None:
        former = self._reach.zeroconf
        if self._follow_addresses() and former is not None:
            # Before interfaces open, since what is registered is announced there.
            await self._announce(former)
        opened = await self._reach.refresh(rejoin=rejoin)
        zeroconf = self._reach.zeroconf
        if zeroconf is None:
            return
        if former is None:
            await self._announce(zeroconf)
        elif opened or rejoin:
            self._remind(zeroconf)

    async def _announce(self, zeroconf: AsyncZeroconf) -> None:
        """Register what is announced and begin to say so, in place of what was being said.

        All within one turn of the loop, so that no task escapes `close`.
        """
        if self._series is not None:
            self._series.cancel()
        broadcasts = asyncio.ensure_future(await zeroconf.async_update_service(self._info))
        self._series = asyncio.create_task(self._say(zeroconf, broadcasts))
        # A task that is cancelled before its first step would leave what it was to await running.
        self._series.add_done_callback(lambda _: broadcasts.cancel())

    async def _say(self, zeroconf: AsyncZeroconf, broadcasts: Awaitable[object]) -> None:
        """Announce three times within half a second, and once more after caches will listen.

        RFC 6762 section 10.2 lets a record displace only what was heard more than a second before,
        and python-zeroconf drops packets equal to one of the last 0.8 s.
        """
        await broadcasts
        await asyncio.sleep(1.0)
        self._remind(zeroconf)

    def _remind(self, zeroconf: AsyncZeroconf) -> None:
        core = zeroconf.zeroconf
        core.async_send(core.generate_service_broadcast(self._info, None))

    def _follow_addresses(self) -> bool:
        if self._addresses is None:
            return False
        record = replace(self._record, addresses=tuple(self._addresses()))
        if record == self._record or flaw(record) is not None:
            return False
        self._record, self._info = record, _service_info(record)
        return True

    def _jittered(self) -> float:
        # Not a secret: it only keeps nodes that started together from announcing together.
        return self._interval * random.uniform(2 / 3, 4 / 3)  # noqa: S311


class Browser:
    """Reports to a directory which nodes are heard, and every change of it to `on_change`.

    Asks again every `renew` seconds, a little less at random: python-zeroconf itself asks at 0, 1,
    5 and 14 s and then not for up to 56 minutes. `on_change` is called at once, on the loop.
    `bad_records` counts announcements that could not be read, `passed_over` instances that came
    incomplete and were not asked for because too many were.
    """

    def __init__(
        self,
        directory: Directory,
        on_change: Callable[[Change], None],
        *,
        interfaces: Interfaces,
        renew: float = 60.0,
        refresh: float = REFRESH,
    ) -> None:
        self.bad_records = 0
        self._directory = directory
        self._on_change = on_change
        self._reach = Reach(interfaces)
        self._renew = renew
        self._refresh_every = refresh
        self._instances = Instances()
        self._bad_names: set[str] = set()
        self._resolver = Resolver(self._take)
        self._browser: AsyncServiceBrowser | None = None
        self._upkeep: asyncio.Task[None] | None = None

    @property
    def passed_over(self) -> int:
        return self._resolver.passed_over

    async def start(self) -> None:
        """Ask who is there; answers follow within 0.2 s, or 1.2 s if another has just asked."""
        await self._reach.refresh()
        await self._ask()
        self._upkeep = asyncio.create_task(self._keep_asking())

    async def close(self) -> None:
        """Stop listening; reports no change of its own. Closing again does nothing."""
        await _cancel(self._upkeep)
        self._upkeep = None
        await self._stop_browsing()
        await self._resolver.close()
        await self._reach.close()

    async def _keep_asking(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time() + self._jittered()
        while True:
            await asyncio.sleep(min(self._refresh_every, max(0.0, due - loop.time())))
            is_due = loop.time() >= due
            try:
                if await self._reach.refresh(rejoin=is_due) or is_due:
                    await self._ask()
            except Exception:  # the top of a loop that must run as long as the client does
                _logger.exception("mDNS: browsing failed; it is tried again")
            if is_due:
                due = loop.time() + self._jittered()

    async def _ask(self) -> None:
        """Put a fresh browser in place of the old one, in one turn of the loop so nothing is missed.

        It reports all that is cached as added, and known nodes that lack something are asked for.
        It wants answers by multicast: a unicast one (python-zeroconf's first choice) goes to port
        5353 of this host, where the kernel hands it to any one of the processes listening.
        """
        zeroconf = self._reach.zeroconf
        if zeroconf is None:
            return
        await self._stop_browsing()
        self._browser = AsyncServiceBrowser(
            zeroconf.zeroconf,
            SERVICE_TYPE,
            handlers=[self._on_service],
            question_type=DNSQuestionType.QM,
        )

    async def _stop_browsing(self) -> None:
        browser, self._browser = self._browser, None
        if browser is not None:
            await browser.async_cancel()

    def _on_service(
        self,
        zeroconf: Zeroconf,
        service_type: str,
        name: str,
        state_change: ServiceStateChange,
    ) -> None:
        del service_type  # the only one browsed
        if state_change is ServiceStateChange.Removed:
            self._let_go(name)
            return
        try:
            info = AsyncServiceInfo(SERVICE_TYPE, name)
        except ZeroconfError:
            self._note_bad(name, "its name is no DNS-SD instance name")
            return
        if info.load_from_cache(zeroconf):
            self._take(info)
        else:
            self._resolver.ask(zeroconf, info)

    def _take(self, info: AsyncServiceInfo) -> None:
        reading = from_txt_bytes(info.text, port=info.port or 0, addresses=info.parsed_addresses())
        if isinstance(reading, BadRecord):
            self._note_bad(info.name, reading.reason)
            return
        now = asyncio.get_running_loop().time()
        changes = self._directory.seen(_SOURCE, reading, now)
        if reading.node_id in self._directory:
            former = self._instances.bind(info.name, reading.node_id)
        else:
            former = self._instances.release(info.name)
        if former is not None:
            changes += self._directory.gone(_SOURCE, former)
        self._tell(changes)

    def _let_go(self, name: str) -> None:
        self._resolver.forget(name)
        node_id = self._instances.release(name)
        if node_id is not None:
            self._tell(self._directory.gone(_SOURCE, node_id))

    def _tell(self, changes: list[Change]) -> None:
        for change in changes:
            self._on_change(change)

    def _note_bad(self, name: str, reason: str) -> None:
        self.bad_records += 1
        if name not in self._bad_names and len(self._bad_names) < _MAX_BAD_NAMES:
            self._bad_names.add(name)
            _logger.warning("mDNS: %r is not understood and left out: %s", name, reason)

    def _jittered(self) -> float:
        # Not a secret: it only keeps browsers that started together from asking together.
        return self._renew * random.uniform(0.8, 1.0)  # noqa: S311


def _service_info(record: Record) -> AsyncServiceInfo:
    reason = flaw(record)
    if reason is not None:
        raise ValueError(f"cannot announce {record.name!r}: {reason}")
    return AsyncServiceInfo(
        SERVICE_TYPE,
        f"{instance_name(record)}.{SERVICE_TYPE}",
        port=record.port,
        properties=to_txt(record),
        server=server_name(record),
        parsed_addresses=list(record.addresses),
    )


async def _say_goodbye(zeroconf: AsyncZeroconf, info: AsyncServiceInfo) -> None:
    """Withdraw an instance, over a quarter of a second, with another last word than the first.

    An answer already under way may follow the first goodbye and revive the instance in caches;
    the repetitions of the goodbye would not undo that, since python-zeroconf drops packets
    that equal an earlier one of the last 0.8 s. The last word differs by leaving addresses out.
    """
    await (await zeroconf.async_unregister_service(info))
    zeroconf.zeroconf.async_send(zeroconf.zeroconf.generate_service_broadcast(info, 0, broadcast_addresses=False))


async def _cancel(*tasks: asyncio.Task[None] | None) -> None:
    """Cancel tasks and wait until they have ended."""
    running = [task for task in tasks if task is not None]
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
