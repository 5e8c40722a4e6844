"""Whether mDNS works here: what an interface says of multicast, and whether a question of ours is heard on it.

Shell: sockets of its own on UDP 5353, beside whoever else listens there.
"""

import asyncio
import os
import secrets
import socket
from dataclasses import dataclass
from pathlib import Path

import ifaddr
from zeroconf._dns import DNSQuestion
from zeroconf._protocol.outgoing import DNSOutgoing
from zeroconf.const import _CLASS_IN, _FLAGS_QR_QUERY, _TYPE_PTR

from meshdiscovery.addresses import LOOPBACK, local_addresses
from meshdiscovery.directory import Change, Directory
from meshdiscovery.record import Record

GROUP = "224.0.0.251"
PORT = 5353
"""Where mDNS is spoken (RFC 6762 section 3)."""

HEARD_S = 1.0
"""Seconds for a question to come back, which takes a millisecond."""

_MULTICAST = 0x1000
"""IFF_MULTICAST (netdevice(7))."""


@dataclass(frozen=True, slots=True)
class Probed:
    """What came of a question on one interface. `error`: why it could not be sent; `heard`: it came back here."""

    name: str
    address: str
    multicast: bool
    error: str
    heard: bool


async def probe() -> list[Probed]:
    """Ask a question on each interface where mDNS is spoken, and on loopback."""
    names = {str(ip.ip): str(adapter.name).partition(":")[0] for adapter in ifaddr.get_adapters() for ip in adapter.ips}
    addresses = [*local_addresses().multicast, LOOPBACK]
    return list(await asyncio.gather(*(_probe(names.get(address, "?"), address) for address in addresses)))


async def _probe(name: str, address: str) -> Probed:
    token = f"doctor-{secrets.token_hex(8)}"
    came = asyncio.Event()
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listening:
        try:
            _listen(listening, address)
        except OSError as wrong:
            return Probed(name, address, _is_multicast(name), f"cannot listen on UDP {PORT}: {wrong.strerror}", False)

        def readable() -> None:
            if token.encode() in listening.recv(9000):
                came.set()

        loop.add_reader(listening.fileno(), readable)
        try:
            error = _ask(address, token)
            if not error:
                async with asyncio.timeout(HEARD_S):
                    await came.wait()
        except TimeoutError:
            pass
        finally:
            loop.remove_reader(listening.fileno())
    return Probed(name, address, _is_multicast(name), error, came.is_set())


def _listen(listening: socket.socket, address: str) -> None:
    listening.setblocking(False)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listening.bind((GROUP, PORT))
    membership = socket.inet_aton(GROUP) + socket.inet_aton(address)
    listening.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)


def _ask(address: str, token: str) -> str:
    """Send a question that nobody can answer; return why it cannot be sent, if so."""
    question = DNSOutgoing(_FLAGS_QR_QUERY)
    question.add_question(DNSQuestion(f"{token}._meshnode._tcp.local.", _TYPE_PTR, _CLASS_IN))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sending:
        try:
            sending.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(address))
            sending.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 255)
            for packet in question.packets():
                sending.sendto(packet, (GROUP, PORT))
        except OSError as error:
            return error.strerror or str(error)
    return ""


def _is_multicast(name: str) -> bool:
    try:
        flags = int(Path(f"/sys/class/net/{name}/flags").read_text(), 16)
    except (OSError, ValueError):
        return True  # nobody says otherwise
    return bool(flags & _MULTICAST) or name == "lo"


class Survey(Directory):
    """A directory that also remembers the records of other meshes, in `others`, by the nodes' ids."""

    def __init__(self, mesh: str) -> None:
        super().__init__(mesh)
        self.others: dict[str, Record] = {}

    def seen(self, source: str, record: Record, now: float) -> list[Change]:
        """Note that `source` reports a node, be it of another mesh."""
        if record.mesh != self.mesh and len(self.others) < _MOST_OTHERS:
            self.others[record.node_id] = record
        return super().seen(source, record, now)


_MOST_OTHERS = 1024


async def reachable(address: str, port: int, *, timeout: float = 2.0) -> str:
    """Try a TCP connection; return an empty text, or why there is none."""
    try:
        async with asyncio.timeout(timeout):
            _, writer = await asyncio.open_connection(address, port)
    except TimeoutError:
        return "no answer"
    except OSError as error:
        return os.strerror(error.errno).lower() if error.errno else str(error)  # asyncio says less in its own words
    writer.close()
    return ""
