"""Who may connect to the bridge, and how many at once. Pure: `docs/text-protocol.md`, Beyond this host."""

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final

from meshnode.core.preface import shown

_SITE: Final = 64
"""Bits of an IPv6 address that are one host's: it has all the addresses below them, so they count as one."""


class Networks:
    """Addresses, written as `10.0.0.0/8`, `2001:db8::/32`, or one address."""

    def __init__(self, written: Sequence[str]) -> None:
        self._networks = [ip_network(text) for text in written]

    def __bool__(self) -> bool:
        return bool(self._networks)

    def __contains__(self, address: str) -> bool:
        found = _read(address)
        return any(found.version == network.version and found in network for network in self._networks)


class Guests:
    """Counts connections in and out. `most`: of all addresses together; `most_of_one`: of each."""

    def __init__(self, *, most: int, most_of_one: int) -> None:
        self.most = most
        self.most_of_one = most_of_one
        self._count = 0
        self._of_address: Counter[str] = Counter()

    def __len__(self) -> int:
        """How many are there."""
        return self._count

    def enter(self, address: str | None) -> str | None:
        """Count one in, None while a proxy has yet to say whose it is; return why there is no room for it, if so.

        It is to leave in either case.
        """
        self._count += 1
        why = f"{self.most} connections are open" if self._count > self.most else None
        if address is None:
            return why
        key = address if ":" not in address else _site(address)
        here = self._of_address[key] = self._of_address[key] + 1
        if why is None and here > self.most_of_one:
            return f"{self.most_of_one} connections from {address} are open"
        return why

    def leave(self, address: str | None) -> None:
        """Count one out."""
        self._count -= 1
        if address is None:
            return
        key = address if ":" not in address else _site(address)
        self._of_address[key] -= 1
        if not self._of_address[key]:
            del self._of_address[key]

    @property
    def addresses(self) -> int:
        """How many addresses they come from."""
        return len(self._of_address)


def plain(address: str) -> str:
    """Write the address of a socket's other end without its interface, and an IPv4 one as such."""
    return address if ":" not in address else shown(_read(address))


@lru_cache(1024)
def _site(address: str) -> str:
    return str(ip_network((address, _SITE), strict=False))


def _read(address: str) -> IPv4Address | IPv6Address:
    return ip_address(address.partition("%")[0])
