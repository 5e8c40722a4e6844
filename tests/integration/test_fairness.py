"""A node that one client keeps flooded: the others are served all the same, and it can be stopped.

The flood comes from a process of its own, so that what is late is late at the node. Nothing is measured here: no
bound is stricter than the protocol's own timers.
"""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest

import mesh
from mesh.core.liveness import SUSPECT_S
from mesh.errors import BY_NAME
from tests.support.clients import connected
from tests.support.leaks import leak_check  # noqa: F401  # pytest finds it by its name
from tests.support.nodes import NodeProcess, write_tasks

TASKS = """
@mesh.task(bridge=True)
def noop(x: int = 0) -> int:
    return x


@mesh.task(bridge=True)
async def coro(x: int = 0) -> int:
    return x
"""

FLOOD = '''
import asyncio, json, sys, threading
from collections import Counter

import mesh

CALLERS = 1000


async def main(seed):
    """Keep a thousand calls under way until standard input ends; each caller stops at its first error."""
    enough = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), enough.set()), daemon=True).start()
    begun, ended = 0, Counter()

    async def caller(client):
        nonlocal begun
        while not enough.is_set():
            begun += 1
            number = begun
            try:
                assert await client.call("noop", number) == number
            except mesh.MeshError as error:
                ended[type(error).__name__] += 1
                return
            ended["result"] += 1
            if ended["result"] == 2 * CALLERS:
                print("flowing", flush=True)

    async with mesh.Client(seeds=[seed], mdns=False) as client:
        await client.wait_ready()
        await asyncio.gather(*(caller(client) for _ in range(CALLERS)))
    print(json.dumps({"begun": begun, "ended": ended}), flush=True)


asyncio.run(main(sys.argv[1]))
'''

FLOOD_S = SUSPECT_S + 0.5
"""Seconds for which others are looked at beside the flood: a node that answers no ping is suspect by then."""

GRACE_S = 20.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("app")
    write_tasks(made, TASKS)
    (made / "flood.py").write_text(FLOOD)
    return made


@pytest.fixture
def node(folder: Path) -> Iterator[NodeProcess]:
    with NodeProcess(folder, "--grace", str(GRACE_S), workers=2, bridge=True) as made:
        yield made


class Flood:
    """One client in a process of its own, which keeps its window at a node full."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def end(self) -> dict[str, Any]:
        """Let it end, and return how many jobs it had begun and what came of them."""
        out, _ = self._process.communicate(timeout=30)
        assert self._process.returncode == 0
        told: dict[str, Any] = json.loads(out)
        return told

    @property
    def goes_on(self) -> bool:
        return self._process.poll() is None


@contextmanager
def flooded(folder: Path, node: NodeProcess) -> Iterator[Flood]:
    """Flood a node as soon as the block begins; every job of the flood has ended well if it ends first."""
    command = [sys.executable, str(folder / "flood.py"), node.seed]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "flowing\n"
            flood = Flood(process)
            yield flood
            if flood.goes_on:
                told = flood.end()
                assert told["ended"] == {"result": told["begun"]}
        finally:
            if process.poll() is None:
                process.kill()


@asynccontextmanager
async def states_of(client: mesh.Client) -> AsyncIterator[set[str]]:
    """Collect how the only node looks to a client, at every change."""
    seen = {one.state for one in client.nodes()}

    async def look() -> None:
        while True:
            await client.changed(timeout=0.1)
            seen.update(one.state for one in client.nodes() or ())
            if not client.nodes():
                seen.add("gone")

    looking = asyncio.create_task(look())
    try:
        yield seen
    finally:
        looking.cancel()
        await asyncio.wait([looking])


async def test_a_client_that_says_nothing_sees_a_flooded_node_alive_all_the_time(
    folder: Path, node: NodeProcess
) -> None:
    async with connected(node) as client:
        await client.wait_ready()
        with flooded(folder, node) as flood:
            async with states_of(client) as states:
                await asyncio.sleep(FLOOD_S)  # the silence itself is what is looked at
            assert flood.goes_on
        assert states == {"alive"}


@pytest.mark.parametrize("task", ["noop", "coro"])
async def test_single_calls_of_a_second_client_all_succeed_beside_a_flood(
    folder: Path, node: NodeProcess, task: str
) -> None:
    async with connected(node) as client:
        await client.wait_ready()
        with flooded(folder, node) as flood:
            async with states_of(client) as states, asyncio.timeout(30):
                until = time.monotonic() + FLOOD_S
                called = 0
                while time.monotonic() < until or called < 10:
                    assert await client.call(task, called) == called
                    called += 1
            assert flood.goes_on
        assert states == {"alive"}


async def test_plain_sockets_are_all_answered_beside_a_flood(folder: Path, node: NodeProcess) -> None:
    host, _, port = node.bridge.rpartition(":")

    async def one_by_one(task: str) -> None:
        """Ask for one thing after another."""
        reader, writer = await asyncio.open_connection(host, int(port))
        until = time.monotonic() + FLOOD_S
        asked = 0
        while time.monotonic() < until or asked < 10:
            writer.write(b'{"function": "%b", "args": [%d]}\n' % (task.encode(), asked))
            assert await reader.readline() == b"%d\n" % asked
            asked += 1
        writer.close()
        await writer.wait_closed()

    async def all_at_once() -> None:
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"".join(b'{"function": "noop", "args": [%d]}\n' % number for number in range(2000)))
        assert [int(await reader.readline()) for _ in range(2000)] == list(range(2000))
        writer.close()
        await writer.wait_closed()

    with flooded(folder, node) as flood:
        async with asyncio.timeout(30):
            await asyncio.gather(one_by_one("noop"), one_by_one("noop"), one_by_one("coro"), all_at_once())
        assert flood.goes_on


def test_a_flooded_node_that_is_asked_to_stop_ends_cleanly_and_so_does_every_job_of_the_flood(
    folder: Path, node: NodeProcess
) -> None:
    with flooded(folder, node) as flood:
        began = time.monotonic()
        assert node.stop(GRACE_S + 5) == 0
        assert time.monotonic() - began < GRACE_S
        told = flood.end()
    ended = told["ended"]
    assert sum(ended.values()) == told["begun"]
    assert ended["result"] > 0
    assert ended.keys() - {"result"} <= BY_NAME.keys()
    assert "JobLost" not in ended, "what had begun was finished within the grace"
