"""One node's announcement, and how DNS-SD carries it. Pure.

Instance name, SRV (port), A/AAAA (addresses) and these TXT keys (RFC 6763 section 6; keys of at
most nine characters, `txtvers` first):

    txtvers=1     version of this list of keys
    mesh=NAME     1 to 63 of A-Z a-z 0-9 . _ -
    id=HEX        node id, 32 lower-case hex digits
    epoch=HEX     this life of the node, 16 lower-case hex digits
    port=N        1 to 65535, the same as in SRV: SRV and TXT of different lives do not mix
    proto=L-H     lowest and highest wire protocol version spoken, 1 to 255
    name=NAME     for people, as `mesh`
    key=Z85       the node's public key, 40 characters, if it has one: no proof of anything

Other keys are ignored. Everything arrives from strangers: any bytes end in a `Record` or a `BadRecord`.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

SERVICE_TYPE = "_meshnode._tcp.local."

# Bytes of TXT that are read. This version writes 277 at most; the rest is room for later keys.
# With PTR, SRV and eight AAAA records it still fits one Ethernet frame, and RFC 6763 section 6.2
# advises against more than 1,300.
MAX_TXT = 1024

# A host with more addresses than this is a router or a forgery; the client tries them all at once.
MAX_ADDRESSES = 8

_TXTVERS = "1"
_KEYS = ("txtvers", "mesh", "id", "epoch", "port", "proto", "name")
_OPTIONAL = ("key",)
_NAME = re.compile(r"[A-Za-z0-9._-]{1,63}")
_KEY = re.compile(r"[0-9A-Za-z.\-:+=^!/*?&<>()\[\]{}@%$#]{40}")
_NODE_ID = re.compile(r"[0-9a-f]{32}")
_EPOCH = re.compile(r"[0-9a-f]{16}")
_PROTO = re.compile(r"([1-9][0-9]{0,2})-([1-9][0-9]{0,2})")
_HIGHEST_PROTO = 255
_BROADCAST = IPv4Address("255.255.255.255")
_LABEL = 63  # bytes in one DNS label, RFC 1035 section 2.3.4
_SHORT_ID = 8  # hex digits of the node id that tell instances of one host apart


@dataclass(frozen=True, slots=True)
class Record:
    """What a node says of itself: a hint where to ask, never a proof of anything."""

    mesh: str
    node_id: str
    epoch: str
    name: str
    port: int
    versions: tuple[int, int]
    addresses: tuple[str, ...]
    key: str = ""


@dataclass(frozen=True, slots=True)
class BadRecord:
    """An announcement that is not a record of ours, and the first reason found."""

    reason: str


def to_txt(record: Record) -> dict[str, str]:
    """TXT keys and values of a record that has no `flaw`, in the order they go out."""
    lowest, highest = record.versions
    txt = {
        "txtvers": _TXTVERS,
        "mesh": record.mesh,
        "id": record.node_id,
        "epoch": record.epoch,
        "port": str(record.port),
        "proto": f"{lowest}-{highest}",
        "name": record.name,
    }
    return {**txt, "key": record.key} if record.key else txt


def from_txt(txt: Mapping[bytes, bytes | None], *, port: int, addresses: Iterable[str]) -> Record | BadRecord:
    """Read TXT keys and values, with the port of SRV and the addresses of A and AAAA.

    Keys are compared without case (RFC 6763 section 6.4). Addresses come out as
    `canonical_addresses` puts them.
    """
    return _read(txt.items(), port=port, addresses=addresses)


def from_txt_bytes(txt: bytes, *, port: int, addresses: Iterable[str]) -> Record | BadRecord:
    """Read a TXT record as it was on the wire; unlike a mapping it shows keys given twice."""
    strings = _strings(txt)
    if strings is None:
        return BadRecord("TXT ends within a string")
    return _read(_pairs(strings), port=port, addresses=addresses)


def flaw(record: Record) -> str | None:
    """Say what keeps a record from being announced, or None if nothing does."""
    lowest, highest = record.versions
    if not _NAME.fullmatch(record.mesh):
        return "mesh is not 1 to 63 of A-Z a-z 0-9 . _ -"
    if not _NAME.fullmatch(record.name):
        return "name is not 1 to 63 of A-Z a-z 0-9 . _ -"
    if not _NODE_ID.fullmatch(record.node_id):
        return "id is not 32 lower-case hex digits"
    if not _EPOCH.fullmatch(record.epoch):
        return "epoch is not 16 lower-case hex digits"
    if not 1 <= record.port <= 65535:
        return "port is not 1 to 65535"
    if not 1 <= lowest <= highest <= _HIGHEST_PROTO:
        return f"proto is not a range within 1 to {_HIGHEST_PROTO}"
    if record.key and not _KEY.fullmatch(record.key):
        return "key is not 40 characters of the Z85 alphabet"
    return _flaw_of_addresses(record.addresses)


def canonical_addresses(addresses: Iterable[str]) -> tuple[str, ...]:
    """Put addresses in one order and spelling, so that equal sets compare equal.

    IPv4 first, ascending, without repetition; an IPv4-mapped IPv6 address becomes IPv4. IPv6
    addresses that need a zone are left out: a zone means nothing on another host. What is no
    address at all stays, last.
    """
    found = {_parsed(text) for text in addresses}
    literals = [ip for ip in found if not isinstance(ip, str) and not _is_zoned(ip)]
    rest = sorted(ip for ip in found if isinstance(ip, str))
    literals.sort(key=lambda ip: (ip.version, int(ip)))
    return (*map(str, literals), *rest)


def instance_name(record: Record) -> str:
    """The record's DNS label: its name and the first digits of its id, so that none collide.

    At most 63 bytes. A dot would split the label in python-zeroconf, so it becomes a hyphen.
    """
    label = record.name.replace(".", "-")
    tail = f"-{record.node_id[:_SHORT_ID]}"
    return label if label.endswith(tail) else label[: _LABEL - len(tail)] + tail


def server_name(record: Record) -> str:
    """A host name of the node's own: under the host's, avahi's addresses would merge in."""
    return f"meshnode-{record.node_id}.local."


def _read(pairs: Iterable[tuple[bytes, bytes | None]], *, port: int, addresses: Iterable[str]) -> Record | BadRecord:
    values = _values(pairs)
    if isinstance(values, BadRecord):
        return values
    missing = [key for key in _KEYS if key not in values]
    if missing:
        return BadRecord(f"no {missing[0]}")
    if values["txtvers"] != _TXTVERS:
        return BadRecord(f"txtvers is not {_TXTVERS}")
    if values["port"] != str(port):
        return BadRecord("port differs between TXT and SRV")
    proto = _PROTO.fullmatch(values["proto"])
    if proto is None:
        return BadRecord("proto is not two numbers joined by a hyphen")
    record = Record(
        mesh=values["mesh"],
        node_id=values["id"],
        epoch=values["epoch"],
        name=values["name"],
        port=port,
        versions=(int(proto[1]), int(proto[2])),
        addresses=canonical_addresses(addresses),
        key=values.get("key", ""),
    )
    reason = flaw(record)
    return record if reason is None else BadRecord(reason)


def _values(pairs: Iterable[tuple[bytes, bytes | None]]) -> dict[str, str] | BadRecord:
    values: dict[str, str] = {}
    size = 0
    for raw_key, raw_value in pairs:
        # With the length byte before each string and the "=" inside.
        size += 1 + len(raw_key) + (0 if raw_value is None else 1 + len(raw_value))
        if size > MAX_TXT:
            return BadRecord(f"TXT is longer than {MAX_TXT} bytes")
        key = raw_key.lower().decode("ascii", "replace")
        if key not in _KEYS and key not in _OPTIONAL:
            continue
        if key in values:
            return BadRecord(f"{key} is given twice")
        if raw_value is None or not raw_value.isascii():
            return BadRecord(f"{key} is not ASCII text")
        values[key] = raw_value.decode("ascii")
    return values


def _strings(txt: bytes) -> list[bytes] | None:
    """Cut TXT into its strings, each behind its length (RFC 6763 section 6.1); None if cut off."""
    strings = []
    at = 0
    while at < len(txt):
        end = at + 1 + txt[at]
        if end > len(txt):
            return None
        strings.append(txt[at + 1 : end])
        at = end
    return strings


def _pairs(strings: Iterable[bytes]) -> Iterator[tuple[bytes, bytes | None]]:
    for string in strings:
        key, equals, value = string.partition(b"=")
        yield key, value if equals else None


def _flaw_of_addresses(addresses: tuple[str, ...]) -> str | None:
    if not addresses:
        return "no address"
    if len(addresses) > MAX_ADDRESSES:
        return f"more than {MAX_ADDRESSES} addresses"
    for text in addresses:
        ip = _parsed(text)
        if isinstance(ip, str) or _is_zoned(ip):
            return "an address is not an IPv4 or IPv6 literal without zone"
        if ip.is_unspecified or ip.is_multicast or ip == _BROADCAST:
            return "an address is unspecified, multicast or broadcast"
    return None


def _parsed(text: str) -> IPv4Address | IPv6Address | str:
    try:
        ip = ip_address(text)
    except ValueError:
        return text
    mapped = ip.ipv4_mapped if isinstance(ip, IPv6Address) else None
    return mapped or ip


def _is_zoned(ip: IPv4Address | IPv6Address) -> bool:
    """Whether an address means something only together with an interface."""
    return isinstance(ip, IPv6Address) and (ip.is_link_local or ip.scope_id is not None)
