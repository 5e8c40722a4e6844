"""A node's announcement as another implementation of mDNS sees it, on another host."""

import subprocess
import sys
from collections.abc import Callable

from tests.hosts.avahi import Avahi
from tests.hosts.lab.lab import Lab
from tests.hosts.lab.machine import wait_for

SERVICE = "_meshnode._tcp"
PORT = 7701
ANNOUNCE = f"""
import signal, socket
from zeroconf import ServiceInfo, Zeroconf
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
    probe.connect(("224.0.0.251", 5353))
    address = probe.getsockname()[0]
info = ServiceInfo("{SERVICE}.local.", "probe.{SERVICE}.local.", port={PORT}, server="probe.local.",
                   addresses=[socket.inet_aton(address)], properties={{"mesh": "lab"}})
signals = {{signal.SIGTERM}}
signal.pthread_sigmask(signal.SIG_BLOCK, signals)
with Zeroconf(interfaces=[address]) as zeroconf:
    zeroconf.register_service(info)
    print("announced", flush=True)
    signal.sigwait(signals)
    zeroconf.unregister_service(info)
"""
# What announces a node on its host, says one line when it has, and takes it back on SIGTERM.
PUBLISHER = (sys.executable, "-c", ANNOUNCE)


def test_avahi_on_another_host_lists_a_node_until_it_says_goodbye(
    lab: Lab, avahi: Callable[[str], Avahi]
) -> None:
    observer = avahi("h2")
    assert observer.browse(SERVICE) == []
    node = lab.popen("h1", PUBLISHER, stdout=subprocess.PIPE)
    assert node.stdout
    assert node.stdout.readline()

    listings = wait_for(lambda: observer.browse(SERVICE), 10, "the node to be listed")
    assert {(listing.address, listing.port) for listing in listings} == {(lab.ip("h1"), PORT)}
    assert all('"mesh=lab"' in listing.txt for listing in listings)

    node.terminate()
    assert node.wait(10) == 0
    wait_for(lambda: not observer.browse(SERVICE), 10, "the node to be gone")
