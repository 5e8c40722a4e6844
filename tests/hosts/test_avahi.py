"""A node's announcement as another implementation of mDNS sees it, on another host."""

import json
import subprocess
import sys
from collections.abc import Callable

from tests.hosts.avahi import Avahi
from tests.hosts.lab.lab import Lab
from tests.hosts.lab.machine import wait_for

SERVICE = "_meshnode._tcp"
PORT = 5750
NODE = (sys.executable, "-m", "meshnode", "meshnode.worker.builtin", "--workers", "1", "--insecure", "--mesh", "lab")


def ready(node: "subprocess.Popen[str]") -> None:
    """Wait for a node's start line."""
    assert node.stderr is not None
    lines = []
    for line in node.stderr:
        lines.append(line)
        if " is ready " in line:
            return
    raise AssertionError("the node did not start:\n" + "".join(lines))


def test_avahi_on_another_host_lists_a_node_until_it_says_goodbye(lab: Lab, avahi: Callable[[str], Avahi]) -> None:
    observer = avahi("h2")
    assert observer.browse(SERVICE) == []
    node = lab.popen("h1", NODE, stderr=subprocess.PIPE)
    ready(node)

    listings = wait_for(lambda: observer.browse(SERVICE), 10, "the node to be listed")
    assert {listing.port for listing in listings} == {PORT}
    assert lab.ip("h1") in {listing.address for listing in listings}
    assert all('"mesh=lab"' in listing.txt for listing in listings)

    node.terminate()
    assert node.wait(10) == 0
    wait_for(lambda: not observer.browse(SERVICE), 10, "the node to be gone")


def test_a_client_finds_nodes_on_other_hosts_and_runs_jobs_there(lab: Lab) -> None:
    nodes = [lab.popen(host, NODE, stderr=subprocess.PIPE) for host in ("h1", "h2")]
    for node in nodes:
        ready(node)
    meshctl = (sys.executable, "-c", "from mesh.ctl import main; main()", "--mesh", "lab")

    waited = lab.check_output("h3", (*meshctl, "wait-node", "--nodes", "2", "--timeout", "10", "--json"))
    assert {node["name"].split("-")[0] for node in json.loads(waited)} == {"h1", "h2"}
    assert lab.check_output("h3", (*meshctl, "call", "echo", "x=1")).strip() == '{"x": 1}'


def test_a_node_without_insecure_is_not_seen_from_another_host(lab: Lab, avahi: Callable[[str], Avahi]) -> None:
    local = [word for word in NODE if word != "--insecure"]
    node = lab.popen("h1", local, stderr=subprocess.PIPE)
    ready(node)

    assert avahi("h2").browse(SERVICE) == []
    listening = lab.check_output("h1", ("ss", "-Hltn"))
    assert all(line.split()[3].startswith(("127.", "[::ffff:127.")) for line in listening.splitlines()), listening
