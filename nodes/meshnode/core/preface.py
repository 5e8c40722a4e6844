"""What comes before a caller's first line where that is asked for: a PROXY header, then a token. Pure.

`docs/text-protocol.md`, Beyond this host. Bytes go in as they come; out come a verdict and the rest, which belongs to
what follows. Both are bounded.
"""

import hmac
from enum import Enum
from ipaddress import IPv4Address, IPv6Address, ip_address

PREFACE_S = 3.0
"""Seconds for all of it: PROXY header, TLS handshake and token. The PROXY protocol's text asks for at least 3."""

TOKEN_LINE = 1024
"""Bytes of the longest line that is read as a token, with its end."""

V1_BYTES = 107
V2_BYTES = 536
"""Bytes of the longest PROXY headers: of version 1 by its text, of version 2 what is sure to come in one segment."""

V1 = b"PROXY "
V2 = b"\r\n\r\n\0\r\nQUIT\n"
_V2_FIXED = len(V2) + 4

_V1_FAMILIES: dict[str, type[IPv4Address] | type[IPv6Address]] = {"TCP4": IPv4Address, "TCP6": IPv6Address}
_V2_ADDRESSES = {0x1: 4, 0x2: 16}
"""Bytes of an address, by family: IPv4 and IPv6."""

_V2_BLOCK = {0x0: 0, 0x1: 12, 0x2: 36, 0x3: 216}
"""Bytes that tell of both ends, by family: none told, IPv4, IPv6, Unix."""


class Verdict(Enum):
    """What the bytes so far come to: more are needed, all is well, or not."""

    MORE = "more"
    PASSED = "passed"
    REFUSED = "refused"


class ProxyHeader:
    """Reads a PROXY header, version 1 or 2 (haproxy.org, proxy-protocol.txt).

    Once it has PASSED, `address` is whom the proxy speaks for, None where it does not say; `local`: it speaks for
    itself, as in a health check. `rest` is what came behind the header.
    """

    def __init__(self) -> None:
        self.address: str | None = None
        self.local = False
        self.rest = b""
        self._held = b""

    @property
    def begun(self) -> bool:
        """Has anything come?"""
        return bool(self._held)

    def feed(self, piece: bytes) -> Verdict:
        """Take the next bytes."""
        held = self._held = self._held + piece
        if held.startswith(V1[: len(held)]):
            return self._version_1(held)
        if held.startswith(V2[: len(held)]):
            return self._version_2(held)
        return Verdict.REFUSED

    def _version_1(self, held: bytes) -> Verdict:
        line, end, rest = held[:V1_BYTES].partition(b"\r\n")
        if not end:
            return Verdict.MORE if len(held) < V1_BYTES else Verdict.REFUSED
        self.rest = rest + held[V1_BYTES:]
        words = line.decode("latin-1").split(" ")
        if words[1] == "UNKNOWN":
            return Verdict.PASSED
        family = _V1_FAMILIES.get(words[1])
        if family is None or len(words) != 6 or not all(map(_is_port, words[4:])):
            return Verdict.REFUSED
        try:
            source, _ = family(words[2]), family(words[3])
        except ValueError:
            return Verdict.REFUSED
        self.address = shown(source)
        return Verdict.PASSED

    def _version_2(self, held: bytes) -> Verdict:
        if len(held) < _V2_FIXED:
            return Verdict.MORE
        version, command = divmod(held[12], 16)
        family, transport = divmod(held[13], 16)
        size = int.from_bytes(held[14:16], "big")
        if version != 2 or command > 1 or _V2_FIXED + size > V2_BYTES:
            return Verdict.REFUSED
        if command == 1 and (transport > 2 or size < _V2_BLOCK.get(family, V2_BYTES)):
            return Verdict.REFUSED
        if len(held) < _V2_FIXED + size:
            return Verdict.MORE
        self.local = command == 0
        length = _V2_ADDRESSES.get(family)
        if length is not None and not self.local:
            self.address = shown(ip_address(held[_V2_FIXED : _V2_FIXED + length]))
        self.rest = held[_V2_FIXED + size :]
        return Verdict.PASSED


class TokenLine:
    """Reads the line that must be the token; `rest` is what came behind it."""

    def __init__(self, token: bytes) -> None:
        self.rest = b""
        self._token = token
        self._held = b""

    @property
    def begun(self) -> bool:
        """Has anything come?"""
        return bool(self._held)

    def feed(self, piece: bytes) -> Verdict:
        """Take the next bytes."""
        held = self._held = self._held + piece
        line, end, rest = held[:TOKEN_LINE].partition(b"\n")
        if not end:
            return Verdict.MORE if len(held) < TOKEN_LINE else Verdict.REFUSED
        if not hmac.compare_digest(line.rstrip(b"\r"), self._token):
            return Verdict.REFUSED
        self.rest = rest + held[TOKEN_LINE:]
        return Verdict.PASSED


def shown(address: IPv4Address | IPv6Address) -> str:
    """Write an address; an IPv4 one that an IPv6 socket has shown, or a proxy, as what it is."""
    mapped = getattr(address, "ipv4_mapped", None)
    return str(address if mapped is None else mapped)


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and str(int(text)) == text and int(text) <= 65535
