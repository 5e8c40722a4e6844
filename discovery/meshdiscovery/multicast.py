"""The interfaces on which one python-zeroconf instance is heard. Shell: multicast sockets.

python-zeroconf raises where an interface does not exist (OSError 19), gives up on all interfaces
when one fails, and never looks again. Here each interface stands for itself, and what failed is
tried again at every refresh.
"""

import logging
from collections.abc import Callable, Sequence
from typing import TypeAlias

from zeroconf import Error as ZeroconfError
from zeroconf.asyncio import AsyncZeroconf

# IPv4 addresses of interfaces, or how to find out which there are now.
Interfaces: TypeAlias = Sequence[str] | Callable[[], Sequence[str]]

_logger = logging.getLogger("meshdiscovery")

# What a failure is filed under that concerns no interface in particular.
_ALL = "any interface"


class Reach:
    """One zeroconf and the interfaces it speaks on. No method raises because of the network."""

    def __init__(self, interfaces: Interfaces) -> None:
        self.zeroconf: AsyncZeroconf | None = None
        self._interfaces = interfaces
        self._failing: frozenset[str] = frozenset()

    async def refresh(self, *, rejoin: bool = False) -> bool:
        """Open interfaces that are missing, close those no longer wanted; True if one was opened.

        With `rejoin` all are opened anew: an interface that was taken away and came back with the
        same address (a container reconnected, a driver loaded again) looks unchanged, but the
        kernel has forgotten the multicast membership. What is registered is announced again on
        opened interfaces, which takes half a second.
        """
        failures: dict[str, str] = {}
        opened = False
        try:
            if self.zeroconf is None:
                self.zeroconf = AsyncZeroconf(interfaces=[])
            if rejoin:
                await self.zeroconf.async_update_interfaces([])
            before = _spoken(self.zeroconf)
            failures = await self._reconcile(self.zeroconf)
            opened = not _spoken(self.zeroconf) <= before
        except (OSError, ZeroconfError) as error:
            failures = {_ALL: str(error)}
        self._report(failures)
        return opened

    async def close(self) -> None:
        """Close all sockets; what is still registered says goodbye first."""
        zeroconf, self.zeroconf = self.zeroconf, None
        if zeroconf is not None:
            await zeroconf.async_close()

    async def _reconcile(self, zeroconf: AsyncZeroconf) -> dict[str, str]:
        """Make the interfaces those wanted; return why each that failed did."""
        wanted = list(self._interfaces() if callable(self._interfaces) else self._interfaces)
        try:
            await zeroconf.async_update_interfaces(wanted)
        except OSError:
            return await self._one_by_one(zeroconf, wanted)
        return {each: "not accepted" for each in wanted if each not in _spoken(zeroconf)}

    async def _one_by_one(self, zeroconf: AsyncZeroconf, wanted: list[str]) -> dict[str, str]:
        failures: dict[str, str] = {}
        for interface in wanted:
            kept = [each for each in wanted if each in _spoken(zeroconf)]
            try:
                await zeroconf.async_update_interfaces([*kept, interface])
            except OSError as error:
                failures[interface] = str(error)
        return failures

    def _report(self, failures: dict[str, str]) -> None:
        for interface, reason in failures.items():
            if interface not in self._failing:
                _logger.warning(
                    "mDNS does not work on %s: %s; it is tried again, and seeds work without it",
                    interface,
                    reason,
                )
        for interface in self._failing - failures.keys():
            _logger.info("mDNS no longer fails on %s", interface)
        self._failing = frozenset(failures)


def _spoken(zeroconf: AsyncZeroconf) -> set[str]:
    return {str(sender.sock_name[0]) for sender in zeroconf.zeroconf.engine.senders}
