"""The demo's stage: an SMTP server, three nodes, the site, each in processes of its own."""

import asyncio
import json
import re
import secrets
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from examples.demo_parts.measured import Counts
from examples.demo_parts.processes import Processes, Program
from examples.demo_parts.screen import Screen

WORKERS = 8
MAIL_TAKES_S = 0.004
"""Seconds that the SMTP server takes over each mail; it takes many at once."""

DISCOVERY_S = 10.0
"""Seconds within which the site must have found all nodes."""

LATE_S = 2.0
"""Seconds that the SMTP server's count may lag behind."""

TOO_MANY_S = 0.2
"""Seconds more, in which one mail too many would show."""


class SmtpCount:
    """What the SMTP server counted, as it last told."""

    def __init__(self) -> None:
        self.now = Counts()
        self.on_change: Callable[[], None] = lambda: None
        self._changed = asyncio.Event()

    def heard(self, line: str) -> None:
        """Take in a line that the server printed."""
        if match := re.fullmatch(r"accepted (\d+), recipients (\d+), duplicates (\d+)", line):
            self.now = Counts(*map(int, match.groups()))
            self.on_change()
            self._changed.set()

    async def settled(self, accepted: int) -> Counts:
        """Return the count once it has come to so many, or will not come any more."""
        with suppress(TimeoutError):
            async with asyncio.timeout(LATE_S):
                while self.now.accepted < accepted:
                    self._changed.clear()
                    await self._changed.wait()
        await asyncio.sleep(TOO_MANY_S)
        return self.now


class Stage:
    """Where the demo plays. `set_up` starts everything; the processes end with `Processes`."""

    def __init__(self, processes: Processes, screen: Screen) -> None:
        token = secrets.token_hex(3)
        self.mesh = f"demo-{token}"  # a mesh of its own, so that it meets no other node of this network
        self.nodes = [f"{name}-{token}" for name in ("ada", "ben", "cleo")]
        self.smtp = SmtpCount()
        self.url = ""
        self.bridge = ""
        self._processes = processes
        self._screen = screen

    async def set_up(self) -> None:
        """Start the SMTP server, then the nodes, then the site, and wait until it has found all nodes."""
        smtp = await self._start_smtp_server()
        host, _, port = smtp.rpartition(":")
        where = {"SMTP_HOST": host, "SMTP_PORT": port}
        await self._start_nodes(where)
        await self._start_site(where)

    async def _start_smtp_server(self) -> str:
        words = ("examples.smtp_server", "0", f"{MAIL_TAKES_S}")
        server = await self._processes.start("the SMTP server", words, on_line=self.smtp.heard)
        address = await server.ready(r"^smtp: (\S+)")
        self._screen.step("SMTP server", f"{address}, takes {MAIL_TAKES_S * 1000:g} ms over each mail")
        return address

    async def _start_nodes(self, where: dict[str, str]) -> None:
        began = asyncio.get_running_loop().time()
        first, *others = [await self._start_node(name, where) for name in self.nodes]
        self.bridge = await first.ready(r"bridge: (\S+:\d+) ")
        for node in (first, *others):
            await node.ready(r"clients: tcp://(\S+)")
        took = asyncio.get_running_loop().time() - began
        workers = f"{len(self.nodes)} × {WORKERS} workers"
        self._screen.step("three nodes", f"{workers}, mesh {self.mesh}, ready in {took:.1f} s")
        self._screen.step("their bridge", f"{self.bridge}, for plain sockets")

    async def _start_node(self, name: str, where: dict[str, str]) -> Program:
        bridge = ("--bridge", "127.0.0.1:0") if name == self.nodes[0] else ("--no-bridge",)
        who = ("--mesh", self.mesh, "--name", name, "--workers", f"{WORKERS}")
        words = ("meshnode", "examples.tasks", *who, "--bind", "127.0.0.1:0", *bridge)
        return await self._processes.start(f"node {name}", words, environment=where)

    async def _start_site(self, where: dict[str, str]) -> None:
        settings = {"MESHNODE_MESH": self.mesh, "SITE_PORT": "0"} | where
        began = asyncio.get_running_loop().time()
        site = await self._processes.start("the site", ("examples.websocket_app",), environment=settings)
        self.url = await site.ready(r"^site: (\S+)")
        async with asyncio.timeout(DISCOVERY_S), connect(self.url) as visitor:
            found = await stats(visitor)
            while len(found["nodes"]) < len(self.nodes):
                await asyncio.sleep(0.02)
                found = await stats(visitor)
        took = asyncio.get_running_loop().time() - began
        self._screen.step("the site", f"{self.url}, found the three by mDNS, ready in {took:.1f} s")


async def stats(visitor: ClientConnection) -> dict[str, Any]:
    """Ask the site how it is; it measures its stalls anew from here."""
    await visitor.send("stats")
    answer: dict[str, Any] = json.loads(await visitor.recv())
    return answer
