"""Keys on several hosts: three form a mesh with nothing but their files, a fourth gets nothing."""

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from mesh.core.grants import ALLOWED
from mesh.keys import KeyFile
from tests.hosts.lab.lab import Lab
from tests.hosts.lab.machine import wait_for
from tests.support.keyed import Keys

HOSTS = ("h1", "h2", "h3")
STRANGER = "ctl"
MESHNODE = str(Path(sys.executable).with_name("meshnode"))
MESHCTL = str(Path(sys.executable).with_name("meshctl"))

MAP = """
import asyncio, mesh
async def main():
    async with mesh.Client() as client:
        await client.wait_ready(nodes=3)
        found = [x async for x in client.map("echo", range(500))]
        print(len(found), sorted(node.name.split("-")[0] for node in client.nodes()))
asyncio.run(main())
"""
"""An application of host h1; all that it knows is what lies in its /etc."""

FORGER = """
import asyncio, secrets, sys, zmq
from meshdiscovery.mdns import Announcer, interfaces
from meshdiscovery.record import Record
from tests.support.keyed import Rogue

async def main():
    address, key = sys.argv[1:]
    with Rogue(zmq.curve_keypair()[1].decode(), host=address) as rogue:
        life = secrets.token_hex(16), secrets.token_hex(8)
        record = Record("default", *life, "h1", rogue.port, (1, 1), (address,), key)
        announcer = Announcer(record, interfaces=lambda: interfaces(loopback_only=False))
        await announcer.start()
        while True:
            rogue.look()
            print(rogue.connections, rogue.messages, flush=True)
            await asyncio.sleep(0.05)

asyncio.run(main())
"""
"""Announces itself under h1's name and key, at its own address, and counts who comes and what they say."""


class Said:
    """What a program has said so far, read all the time."""

    def __init__(self, process: "subprocess.Popen[str]", *, errors: bool = True) -> None:
        self.lines: list[str] = []
        self._stream = process.stderr if errors else process.stdout
        threading.Thread(target=self._read, daemon=True, name="said").start()

    def _read(self) -> None:
        assert self._stream is not None
        for line in self._stream:
            self.lines.append(line)

    def count(self, *words: str) -> int:
        return sum(all(word in line for word in words) for line in list(self.lines))

    def wait(self, *words: str) -> None:
        wait_for(lambda: self.count(*words) > 0, 15, f"{words} in {self.lines}")


@pytest.fixture
def keys(lab: Lab, tmp_path: Path) -> Iterator[Keys]:
    """The keys of the three hosts, and of an application on h1, each in its host's /etc."""
    made = Keys(tmp_path, *HOSTS)
    app = made.client("app")
    for host in HOSTS:
        carry(lab, host, made, made.of(host), *([app] if host == "h1" else []))
    yield made
    for host in (*HOSTS, STRANGER):
        shutil.rmtree(lab.root(host) / "etc/mesh", ignore_errors=True)


def carry(lab: Lab, host: str, keys: Keys, *secrets: KeyFile) -> None:
    folder = lab.root(host) / "etc/mesh/default"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    shutil.copy(keys.workshop.folder / ALLOWED, folder)
    for key in secrets:
        shutil.copy2(key.path, folder)


def started(lab: Lab, host: str, *words: str) -> tuple["subprocess.Popen[str]", Said]:
    """Start a node; it knows no folder but its host's own."""
    environment = {name: value for name, value in os.environ.items() if name not in ("MESH_KEYS", "XDG_CONFIG_HOME")}
    node = lab.popen(host, [MESHNODE, *words], stderr=subprocess.PIPE, env={**environment, "HOME": "/nonexistent"})
    return node, Said(node)


def refused(lab: Lab, host: str, *words: str) -> str:
    """Call a task from a host, which must fail; return what is said."""
    done = lab.run(host, [MESHCTL, *words, "call", "echo", "x=1"])
    assert done.returncode == 1, done
    assert done.stdout == ""
    return done.stderr


def test_three_hosts_with_keys_form_a_mesh_and_a_fourth_gets_nothing(lab: Lab, keys: Keys, tmp_path: Path) -> None:
    logs = {host: started(lab, host, "--workers", "8")[1] for host in HOSTS}
    for log in logs.values():
        log.wait(" is ready ")

    assert lab.check_output("h1", [sys.executable, "-c", MAP]).strip() == "500 ['h1', 'h2', 'h3']"
    listening = lab.check_output("h2", ["ss", "-Hltn"])
    open_to_all = {line.split()[3].rpartition(":")[2] for line in listening.splitlines() if "127.0.0.1" not in line}
    assert open_to_all == {"5750"}

    # without keys
    node, log = started(lab, STRANGER, "--workers", "1", "--insecure")
    log.wait(" is ready ")
    for honest in logs.values():
        honest.wait("is passed over: it speaks without keys")
    node.terminate()
    node.wait(15)
    assert "KeyRefused" in refused(lab, STRANGER)
    assert "does it want keys?" in refused(lab, STRANGER, "--no-mdns", "--seed", f"{lab.ip('h1')}:5750")

    # with keys of its own making, and with the list but a key that is not in it
    others = Keys(tmp_path / "others", STRANGER)
    stranger = others.client("app")
    carry(lab, STRANGER, others, others.of(STRANGER), stranger)
    node, log = started(lab, STRANGER, "--workers", "1")
    log.wait(" is ready ")
    for honest in logs.values():
        honest.wait("is passed over: its key is not in the list of those allowed")
    node.terminate()
    node.wait(15)
    assert "its key is not in the list of those allowed" in refused(lab, STRANGER)
    carry(lab, STRANGER, keys, stranger)
    for _ in range(2):
        assert "h1: it does not accept the key client-app.key" in refused(lab, STRANGER)
    for honest in logs.values():
        honest.wait(f"somebody at {lab.ip(STRANGER)}", "has a key that is not in allowed: refused")

    # under a node's name, with its key, and without its secret
    forger = lab.popen(
        STRANGER, [sys.executable, "-c", FORGER, lab.ip(STRANGER), keys.of("h1").public], stdout=subprocess.PIPE
    )
    tries = Said(forger, errors=False)
    wait_for(lambda: tries.lines and int(tries.lines[-1].split()[0]) >= 3, 15, "the three nodes to try it")
    assert lab.check_output("h1", [sys.executable, "-c", MAP]).strip() == "500 ['h1', 'h2', 'h3']"
    assert tries.lines[-1].split()[1] == "0"

    listed = json.loads(lab.check_output("h1", [MESHCTL, "wait-node", "--nodes", "3", "--json"]))
    assert {found["endpoint"] for found in listed} <= {
        f"tcp://{address}:5750" for host in HOSTS for address in (lab.ip(host), f"[{lab.host(host).ip6}]")
    }
    for honest in logs.values():
        honest.wait(f"the node at tcp://{lab.ip(STRANGER)}:", "is passed over: it has none of the keys")
        assert honest.count("it speaks without keys") == 1, honest.lines
        assert honest.count("its key is not in the list of those allowed") == 1, honest.lines
        assert honest.count(f"somebody at {lab.ip(STRANGER)} has a key that is not in allowed") == 1, honest.lines
        assert honest.count(f"the node at tcp://{lab.ip(STRANGER)}:", "is passed over: it has none of the keys") == 1
