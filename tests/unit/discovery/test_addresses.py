import pytest

from meshdiscovery.addresses import Adapter, Addresses, announced_addresses, choose

LO = Adapter("lo", ("127.0.0.1", "::1"))


@pytest.mark.parametrize(
    ("adapters", "expected"),
    [
        ([], Addresses((), (), ())),
        ([LO], Addresses((), ("127.0.0.1", "::1"), ())),
        (
            [LO, Adapter("eth0", ("192.168.1.7", "fd00::7", "fe80::7"))],
            Addresses(("192.168.1.7", "fd00::7"), ("127.0.0.1", "::1"), ("192.168.1.7",)),
        ),
        (
            [Adapter("eth0", ("fd00::7", "10.0.0.7")), Adapter("eth1", ("10.1.0.7",))],
            Addresses(("10.0.0.7", "10.1.0.7", "fd00::7"), (), ("10.0.0.7", "10.1.0.7")),
        ),
        (
            [Adapter("eth0", ("10.0.0.7", "10.0.0.8")), Adapter("eth0:1", ("10.0.0.9",))],
            Addresses(("10.0.0.7", "10.0.0.8", "10.0.0.9"), (), ("10.0.0.7",)),
        ),
        ([Adapter("eth0", ("fd00::7",))], Addresses(("fd00::7",), (), ())),
        ([Adapter("eth0", ("169.254.3.4",))], Addresses((), (), ())),
        ([Adapter("lo", ("127.0.1.1", "127.0.0.2"))], Addresses((), (), ())),
        ([Adapter("lo", ("10.9.9.9",))], Addresses(("10.9.9.9",), (), ("10.9.9.9",))),
        ([Adapter("br0", ("10.0.0.7",))], Addresses(("10.0.0.7",), (), ("10.0.0.7",))),
        ([Adapter("eth0", ("0.0.0.0", "224.0.0.1", "::"))], Addresses((), (), ())),
        (
            [Adapter("eth0", ("10.0.0.7",)), Adapter("wlan0", ("10.0.0.7",))],
            Addresses(("10.0.0.7",), (), ("10.0.0.7",)),
        ),
    ],
)
def test_usable_addresses_are_chosen(adapters: list[Adapter], expected: Addresses) -> None:
    assert choose(adapters) == expected


@pytest.mark.parametrize(
    "name",
    [
        *("docker0", "br-1a2b3c4d5e6f", "veth12ab", "virbr0", "tun0", "tap0", "wg0", "zt5u4y6ifb"),
        *("tailscale0", "cni0", "flannel.1", "cali1234", "podman0", "cilium_host", "kube-ipvs0"),
    ],
)
def test_interfaces_of_containers_and_tunnels_are_left_out(name: str) -> None:
    assert choose([Adapter(name, ("172.17.0.1", "fd01::1"))]) == Addresses((), (), ())


def test_a_node_for_this_host_only_announces_loopback() -> None:
    assert announced_addresses(loopback_only=True) == ("127.0.0.1",)
