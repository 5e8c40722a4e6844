"""The addresses of this host that other hosts can use, and where mDNS is spoken.

`choose` is pure; `local_addresses` only asks the system, by `ifaddr`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import NamedTuple

from meshdiscovery.record import MAX_ADDRESSES

LOOPBACK = "127.0.0.1"

# Interfaces whose addresses lead only to this host's own containers and guests, or into a tunnel
# that carries no multicast. Names as the kernel, docker, libvirt, CNI plugins and VPNs give them.
_LEFT_OUT = (
    *("docker", "br-", "veth", "virbr", "vnet", "vboxnet", "vmnet", "podman", "lxcbr", "lxdbr"),
    *("tun", "tap", "utun", "wg", "zt", "tailscale", "ipsec", "ppp"),
    *("cni", "flannel", "cali", "cilium", "kube-", "weave"),
)


class Adapter(NamedTuple):
    """One network interface by name, with its addresses as literals."""

    name: str
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Addresses:
    """What this host has.

    network    usable by other hosts, IPv4 first, else in the system's order
    loopback   usable on this host only
    multicast  one IPv4 address for each interface with network addresses: mDNS is spoken there
    """

    network: tuple[str, ...]
    loopback: tuple[str, ...]
    multicast: tuple[str, ...]


def choose(adapters: Iterable[Adapter]) -> Addresses:
    """Choose the usable addresses of these interfaces.

    Left out are interfaces of containers, guests and tunnels, link-local and multicast addresses,
    and of 127/8 all but 127.0.0.1 (Debian gives a host's own name to 127.0.1.1).
    """
    v4: list[str] = []
    v6: list[str] = []
    loopback: list[str] = []
    multicast: dict[str, str] = {}
    for adapter in adapters:
        if adapter.name.startswith(_LEFT_OUT):
            continue
        for address in map(ip_address, adapter.addresses):
            text = str(address)
            if address.is_loopback:
                if text in (LOOPBACK, "::1"):
                    loopback.append(text)
            elif not _is_usable(address):
                continue
            elif isinstance(address, IPv6Address):
                v6.append(text)
            else:
                v4.append(text)
                # "eth0:1" is another address of eth0, and one membership an interface is enough.
                multicast.setdefault(adapter.name.partition(":")[0], text)
    return Addresses(
        network=tuple(dict.fromkeys([*v4, *v6])),
        loopback=tuple(dict.fromkeys(loopback)),
        multicast=tuple(dict.fromkeys(multicast.values())),
    )


def local_addresses() -> Addresses:
    """Choose from the addresses that this host has now."""
    # Imported here: it looks for the C library by starting a process, once.
    import ifaddr

    adapters = [
        Adapter(
            str(adapter.name),
            tuple(ip.ip if isinstance(ip.ip, str) else ip.ip[0] for ip in adapter.ips),
        )
        for adapter in ifaddr.get_adapters()
    ]
    return choose(adapters)


def announced_addresses(*, loopback_only: bool) -> tuple[str, ...]:
    """What a node on this host announces if it is not told: never loopback beside others."""
    network = () if loopback_only else local_addresses().network
    return network[:MAX_ADDRESSES] or (LOOPBACK,)


def _is_usable(address: IPv4Address | IPv6Address) -> bool:
    return not (address.is_link_local or address.is_multicast or address.is_unspecified)
