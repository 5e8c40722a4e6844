"""Nodes named by hand: `host:port` as text, and what its name resolves to.

`parse_seed` is pure; `resolve` asks the system's resolver through the running loop.
"""

import asyncio
import re
import socket
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv6Address

DEFAULT_PORT = 5750

_PREFIX = "tcp://"
# Labels as hosts have them in practice, underscores included (container names); 253 characters
# and labels of 63 are DNS's limits (RFC 1035 section 2.3.4).
_HOST = re.compile(r"(?=.{1,253}$)[A-Za-z0-9_]([A-Za-z0-9_-]{0,62})(\.[A-Za-z0-9_-]{1,63})*\.?")
_PORT = re.compile(r"[0-9]{1,5}")


class SeedError(ValueError):
    """A seed that cannot be read; the text says what to write instead."""


@dataclass(frozen=True, slots=True)
class Seed:
    """A place where a node should be: a host name or an address, and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_seed(text: str) -> Seed:
    """Read `host`, `host:port`, `[IPv6]` or `[IPv6]:port`, with or without `tcp://` before it.

    The port is 5750 if none is given. Raises SeedError.
    """
    rest = text.strip()
    rest = rest[len(_PREFIX) :] if rest.lower().startswith(_PREFIX) else rest
    if "://" in rest:
        raise SeedError(f"{text!r}: seeds are reached by TCP only; write host:port")
    if not rest:
        raise SeedError(f"{text!r}: no host; write host:port, as in web7:{DEFAULT_PORT}")
    if rest.startswith("["):
        return _parse_bracketed(text, rest)
    host, colon, port = rest.partition(":")
    if ":" in port:
        raise SeedError(f"{text!r}: put an IPv6 address in brackets, as in [::1]:{DEFAULT_PORT}")
    if not _HOST.fullmatch(host):
        raise SeedError(f"{text!r}: {host!r} is no host name or address; write host:port")
    return Seed(host, _parse_port(text, port) if colon else DEFAULT_PORT)


async def resolve(seed: Seed) -> list[str]:
    """Look up the addresses of a seed, IPv4 and IPv6, each once, in the resolver's order.

    Raises OSError (`socket.gaierror`) if the name is unknown or the resolver fails.
    """
    loop = asyncio.get_running_loop()
    answers = await loop.getaddrinfo(seed.host, seed.port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in answers))


def _parse_bracketed(text: str, rest: str) -> Seed:
    literal, bracket, tail = rest[1:].partition("]")
    if not bracket or (tail and not tail.startswith(":")):
        raise SeedError(f"{text!r}: write an IPv6 address as [::1] or [::1]:{DEFAULT_PORT}")
    try:
        host = str(IPv6Address(literal))
    except AddressValueError:
        raise SeedError(f"{text!r}: {literal!r} is no IPv6 address; brackets are for these only") from None
    return Seed(host, _parse_port(text, tail[1:]) if tail else DEFAULT_PORT)


def _parse_port(text: str, port: str) -> int:
    if not _PORT.fullmatch(port) or not 1 <= int(port) <= 65535:
        raise SeedError(f"{text!r}: the port must be a number from 1 to 65535, not {port!r}")
    return int(port)
