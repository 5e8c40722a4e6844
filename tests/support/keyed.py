"""Keys for tests: a mesh's workshop, the hosts that its keys are carried to, and links made by hand with them."""

from __future__ import annotations

import asyncio
import shutil
import socket
import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import zmq

from mesh.core.grants import ALLOWED, CLIENT, NODE, SUBMIT, Grant
from mesh.keygen import Workshop
from mesh.keys import KeyFile, Keyring
from mesh.link import Curve
from meshnode import guard
from meshnode.front import Front, Received
from meshnode.front import context as front_context
from meshnode.guard import Guard
from tests.support.nodes import NodeProcess
from tests.support.peers import Peer

MESH = "default"


class Keys:
    """The keys of a mesh, and a folder for each host that some of them were carried to."""

    def __init__(self, folder: Path, *nodes: str, mesh: str = MESH) -> None:
        self.workshop = Workshop(mesh, folder / "workshop")
        self.workshop.folder.mkdir(parents=True)
        self._hosts = folder / "hosts"
        for name in nodes:
            self.node(name)

    def node(self, name: str, *, rotate: bool = False) -> KeyFile:
        """Make a node's key."""
        return self.workshop.make(Grant(NODE, name), rotate=rotate)

    def client(self, name: str, role: str = SUBMIT, *tasks: str, rotate: bool = False) -> KeyFile:
        """Make a client's key."""
        return self.workshop.make(Grant(CLIENT, name, role, tasks or ("*",)), rotate=rotate)

    def of(self, node: str) -> KeyFile:
        """Return a node's key as it is now."""
        return KeyFile.read(self.workshop.folder / f"node-{node}.key")

    def host(self, name: str, *keys: KeyFile) -> Path:
        """Make a host's folder: the list as it is now, and these keys in place of those it had. Returns the folder."""
        folder = self._hosts / name
        folder.mkdir(parents=True, exist_ok=True)
        for key in keys:
            (folder / key.file_name).unlink(missing_ok=True)
            shutil.copy2(key.path, folder)
        self.carry(name)
        return folder

    def carry(self, *names: str) -> None:
        """Carry the list as it is now to these hosts, or to all; written in place, as scp does."""
        folders = [self._hosts / name for name in names] or list(self._hosts.iterdir())
        for folder in folders:
            (folder / ALLOWED).write_text((self.workshop.folder / ALLOWED).read_text())

    def environment(self, name: str, *keys: KeyFile) -> dict[str, str]:
        """Make a host's folder, and return the environment of what runs there."""
        return {"MESH_KEYS": str(self.host(name, *keys))}


def keyed_peer(node: NodeProcess, node_key: KeyFile, own: KeyFile) -> Peer:
    """Return a client made by hand that speaks encrypted."""
    return Peer(node.endpoint, options=curve(node_key.public, own.public, own.secret))


def curve(node: str, public: str, secret: str) -> list[tuple[int, int | bytes]]:
    """Return the options of a socket that connects with these keys."""
    return [
        (zmq.CURVE_SERVERKEY, node.encode()),
        (zmq.CURVE_PUBLICKEY, public.encode()),
        (zmq.CURVE_SECRETKEY, secret.encode()),
    ]


class Rogue:
    """A ROUTER on a free port that has none of the mesh's secrets: who came, and how much they said.

    `secret`: it speaks CURVE, with this one.
    """

    def __init__(self, secret: str | None = None, *, host: str = "127.0.0.1") -> None:
        self.connections = 0
        self.messages = 0
        self._context: zmq.Context[zmq.SyncSocket] = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        if secret is not None:
            self._socket.set(zmq.CURVE_SERVER, 1)
            self._socket.set(zmq.CURVE_SECRETKEY, secret.encode())
        self._monitor = self._socket.get_monitor_socket(zmq.EVENT_ACCEPTED)
        self.port = self._socket.bind_to_random_port(f"tcp://{host}")
        self.seed = f"{host}:{self.port}"

    def __enter__(self) -> Self:
        return self

    def look(self) -> None:
        """Count what has come since."""
        while self._monitor.poll(0):
            self._monitor.recv_multipart()
            self.connections += 1
        while self._socket.poll(0):
            self._socket.recv_multipart()
            self.messages += 1

    def was_tried(self) -> bool:
        """Has anybody connected?"""
        self.look()
        return self.connections > 0

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.disable_monitor()
        self._monitor.close(linger=0)
        self._socket.close(linger=0)
        self._context.term()


class KeyedFront:
    """A front of this process with the keys of node a, and nobody behind it: what comes through is kept."""

    def __init__(self, keys: Keys) -> None:
        self.own = keys.of("a")
        self.guard = Guard(Keyring(keys.workshop.folder, self.own))
        self.received: list[Received] = []
        self._context = front_context()
        self._front = Front(
            self._context,
            max_message=1024,
            on_messages=self.received.extend,
            on_lost=lambda routing_id: None,
            on_flow=lambda routing_id, flows: None,
            guard=self.guard,
        )
        self.endpoint = self._front.bind("tcp://127.0.0.1:0")

    def listen(self) -> None:
        """Begin to receive."""
        self._front.listen()

    async def lets_in(self, public: str, secret: str) -> bool | None:
        """Is this key let in? None where no answer came."""
        return await asyncio.to_thread(guard._is_let_in, self.endpoint, Curve(self.own.public, public, secret))

    async def prove(self) -> None:
        """Do what a node does before it serves."""
        await asyncio.to_thread(self.guard.prove, self.endpoint)

    def close(self) -> None:
        """Close it, and with it the authenticator."""
        self._front.close(linger=0)
        self._context.term()


class Wiretap:
    """A TCP relay to a node that keeps every byte that passes, one connection. `seed` is where it listens."""

    def __init__(self, node: NodeProcess) -> None:
        self.heard = bytearray()
        self._target = node.seed
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.seed = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._ends: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._serve, name="wiretap")]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def _serve(self) -> None:
        near, _ = self._listener.accept()
        host, _, port = self._target.rpartition(":")
        far = socket.create_connection((host, int(port)))
        self._ends = [near, far]
        for ends in ((near, far), (far, near)):
            thread = threading.Thread(target=self._pass, args=ends, name="wiretap")
            self._threads.append(thread)
            thread.start()

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        try:
            while some := source.recv(65_536):
                self.heard += some
                target.sendall(some)
        except OSError:
            pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._threads[0].join(5.0)
        for end in self._ends:
            with suppress(OSError):  # one whose other side has reset it is not connected any more
                end.shutdown(socket.SHUT_RDWR)
        for thread in self._threads[1:]:
            thread.join(5.0)
        for end in (*self._ends, self._listener):
            end.close()
