"""Rows 15 and 25: a client that goes without a word, while its node stands still or has much of it queued."""

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.support.clients import connected
from tests.support.faults import Figures, within
from tests.support.ledger import Ledger
from tests.support.nodes import NodeProcess, write_tasks
from tests.support.waiting import until

TASKS = """
import pathlib, time

from tests.support.ledger import executed


@mesh.task
def noop(x: int = 0) -> int:
    return x


@mesh.task
def slow_now(folder: str, seconds: float = 0.0) -> None:
    if seconds:
        executed()
        time.sleep(seconds)
        (pathlib.Path(folder) / mesh.context().id).touch()
"""

REAL = """
import asyncio, os, sys
import mesh


async def main(seed, count):
    async with mesh.Client(seeds=[seed], mdns=False) as client:
        await client.wait_ready("noop")
        assert [x async for x in client.map("noop", range(2000))] == list(range(2000))  # for a wide window
        print("up", flush=True)
        sys.stdin.readline()
        for x in range(count):
            client.submit("noop", x)
        await asyncio.sleep(0.5)  # so that what may leave has left
        os._exit(0)


asyncio.run(main(sys.argv[1], int(sys.argv[2])))
"""
"""A client of this library that exits with all under way."""

FOREIGN = """
import os, sys, time
import zmq
from mesh.wire.messages import Welcome
from tests.support.peers import Peer

seed, count, interval, lifetime = sys.argv[1], *map(int, sys.argv[2:])
options = [(zmq.HEARTBEAT_IVL, interval), (zmq.HEARTBEAT_TTL, lifetime)] if interval else []
peer = Peer(f"tcp://{seed}", options=options)
for _ in range(5 if interval else 1):  # a heartbeat that comes late ends the connection, and with it the answer
    peer.hello()
    if any(isinstance(item, Welcome) for item in peer.hear(2.0 if interval else 10.0)):
        break
else:
    sys.exit("no node has greeted this client")
print("up", flush=True)
sys.stdin.readline()
for _ in range(count // 100):
    peer.say(*peer.jobs("noop", *[(x,) for x in range(100)]))
time.sleep(0.5)
os._exit(0)
"""
"""One that keeps to no window; with heartbeats of ZeroMQ's own, which libzmq 4.3.5 is known to trip over."""

QUEUED = """
import asyncio, sys
import mesh


async def main(seed, folder, count, seconds):
    async with mesh.Client(seeds=[seed], mdns=False) as client:
        await client.wait_ready("slow_now")
        async for _ in client.map("slow_now", [folder] * 2000):  # learnt as short, so that many may queue at the node
            pass
        for _ in range(count):
            client.submit("slow_now", folder, seconds)
        await asyncio.sleep(600)


asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])))
"""

SUBMITTED = 5000
STALL_S = 4.0
DROPPED_S = 20.0


@contextmanager
def program(code: str, *words: str) -> Iterator[subprocess.Popen[str]]:
    """Run Python code as a process of its own; killed when the block is left."""
    command = [sys.executable, "-c", code, *words]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


async def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return (await asyncio.to_thread(process.stdout.readline)).strip()


LEAVING = {
    "a client of this library": (REAL,),
    "a peer that keeps to no window": (FOREIGN, "0", "0"),
    "one with ZeroMQ's heartbeats": (FOREIGN, "100", "200"),
}


async def test_clients_that_submit_to_a_stalled_node_and_exit_harm_nobody(
    tmp_path: Path, figures: Callable[[str, str], Figures]
) -> None:
    line = figures("15", f"{len(LEAVING)} clients submit {SUBMITTED:,} to a node stalled {STALL_S:g} s, and exit")
    line.jobs = len(LEAVING) * SUBMITTED
    write_tasks(tmp_path, TASKS)
    with NodeProcess(tmp_path, workers=2) as node, ExitStack() as stack:
        leaving = [
            stack.enter_context(program(code, node.seed, str(SUBMITTED), *heartbeats))
            for code, *heartbeats in LEAVING.values()
        ]
        async with connected(node) as client:
            await client.wait_ready("noop")
            assert [await line_of(one) for one in leaving] == ["up"] * len(leaving)
            node.signal(signal.SIGSTOP)
            begun = time.monotonic()
            for one in leaving:
                assert one.stdin is not None
                print(file=one.stdin, flush=True)
            assert [await asyncio.to_thread(one.wait, 20.0) for one in leaving] == [0] * len(leaving)
            await asyncio.sleep(max(0.0, begun + STALL_S - time.monotonic()))
            node.signal(signal.SIGCONT)
            began_again = time.monotonic()
            assert await asyncio.wait_for(client.call("noop", 7), 20.0) == 7
            line.recover = time.monotonic() - began_again
            assert [x async for x in client.map("noop", range(2000))] == list(range(2000))
        assert node.stop() == 0, node.log  # it lives, and holds nothing of those that left


@within(60.0)
async def test_what_a_killed_client_had_queued_is_dropped_and_what_ran_finishes(
    tmp_path: Path, ledger: Ledger, figures: Callable[[str, str], Figures]
) -> None:
    line = figures("25", "kill -9 a client with 1,000 queued")
    line.jobs = 1000
    seconds = 0.5
    write_tasks(tmp_path, TASKS)
    ended = tmp_path / "ended"
    ended.mkdir()
    with NodeProcess(tmp_path, workers=4, environment=ledger.environment("a")) as node:
        with program(QUEUED, node.seed, str(ended), "1000", str(seconds)) as client:
            await until(lambda: len(ledger.executions()) >= 12, 20.0)
            client.kill()
            killed = time.monotonic()
        runs = ledger.executions()
        while time.monotonic() < min(max(run.moment for run in runs) + 6 * seconds, killed + DROPPED_S + 2.0):
            await asyncio.sleep(seconds)
            runs = ledger.executions()
        line.recover = max(run.moment for run in runs) - killed
        line.more |= {"ran": len(runs), "ran after the kill": sum(run.moment > killed for run in runs)}
        assert line.recover <= DROPPED_S
        assert len(runs) < 1000
        assert {path.name for path in ended.iterdir()} == {run.id for run in runs}
        async with connected(node) as other:
            await other.wait_ready("noop")
            assert [about.free for about in other.nodes()] == [4]
