"""Row 20: a message that never ends, and one of frames beyond measure, each take a bounded part of memory and time."""

import asyncio
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import zmq

import mesh
from mesh.wire.messages import Welcome
from tests.support.clients import connected
from tests.support.faults import Figures, sized, within
from tests.support.nodes import NodeProcess, write_tasks
from tests.support.peers import Peer
from tests.support.waiting import until
from tests.support.zmtp import MORE, RawPeer, frame

TASKS = """
@mesh.task
def length(content: bytes) -> int:
    return len(content)
"""

MIB = 1 << 20
SENT = 1024 * MIB
BOUND = 640 * MIB
"""What one peer may make the node grow by, at a gigabyte a second; unwatched, 1 to 32 times what it sends."""

RATE: float | None = sized(200.0 * MIB, None)
"""Bytes a second that the node may grow by at the small size. A node that waits for a CPU which others have cannot look
meanwhile, and what its peer brings is not to go beyond the bound in that time."""

FRAME_HELD = 64
"""Bytes that libzmq holds for each frame of a message that has not ended."""

SLOWEST_S = sized(4.0, 1.0)
"""Seconds that another client's call may take meanwhile, on a machine with other things to do."""


@contextmanager
def nodes(folder: Path) -> Iterator[tuple[NodeProcess, psutil.Process]]:
    write_tasks(folder, TASKS)
    with NodeProcess(folder, "--max-message", "16M") as node:
        yield node, psutil.Process(node.pid)
        assert "Traceback" not in node.log


async def slowest_call(client: mesh.Client, doing: "asyncio.Task[int]", process: psutil.Process) -> tuple[float, int]:
    """Call until the other is done; return the longest time that it took, and the most memory."""
    slowest, most = 0.0, 0
    while not doing.done():
        begun = time.monotonic()
        assert await client.call("length", b"abc") == 3
        slowest = max(slowest, time.monotonic() - begun)
        most = max(most, process.memory_info().rss)
        await asyncio.sleep(0.002)
    return slowest, most


@pytest.mark.parametrize("size", sized([0, 65_536], [0, 1, 8, 24, 100, 1000, 65_536, 8 * MIB]))
@pytest.mark.parametrize("greeted", sized([False], [False, True]))
@within(60.0, 120.0)
async def test_a_message_that_never_ends_ends_its_connection_and_nobody_elses(
    size: int, greeted: bool, tmp_path: Path, figures: Callable[[str, str], Figures]
) -> None:
    line = figures("20", f"a multipart of {size:,}-byte frames that never ends" + ", after HELLO" * greeted)
    with nodes(tmp_path) as (node, process):
        async with connected(node) as client:
            assert await client.call("length", bytes(MIB)) == MIB
            before = process.memory_info().rss
            peer = await asyncio.to_thread(RawPeer, node.endpoint, patience=60.0)
            with peer:
                if greeted:
                    peer.greet()
                rate = RATE and RATE * len(frame(bytes(size))) / (size + FRAME_HELD)
                sending = asyncio.create_task(asyncio.to_thread(peer.say_for_ever, bytes(size), most=SENT, rate=rate))
                slowest, most = await slowest_call(client, sending, process)
            sent = sending.result()
            await until(lambda: process.memory_info().rss < before + 32 * MIB, 20.0)
            assert [x async for x in client.map("length", [b"ab"] * 100)] == [2] * 100
        node.wait_for_log("sends a message without an end")
    line.lost = 0
    line.more |= {"sent MiB": sent / MIB, "memory MiB": (most - before) / MIB, "others' slowest ms": slowest * 1e3}
    assert sent < SENT
    assert most - before <= BOUND
    assert slowest <= SLOWEST_S


async def test_a_message_of_frames_beyond_measure_is_passed_over_and_its_sender_served(
    tmp_path: Path, figures: Callable[[str, str], Figures]
) -> None:
    line = figures("20", "a message of 300,000 frames")
    with nodes(tmp_path) as (node, process):
        async with connected(node) as client:
            assert await client.call("length", b"abc") == 3
            with RawPeer(node.endpoint) as peer:
                content = frame(b"", MORE) * 300_000 + frame(b"")
                sending = asyncio.create_task(asyncio.to_thread(peer.send, content))
                slowest, _ = await slowest_call(client, sending, process)
                welcome = await asyncio.to_thread(peer.greet)
        assert welcome
    line.more["others' slowest ms"] = slowest * 1e3
    assert slowest <= SLOWEST_S


async def test_large_bodies_that_come_slowly_are_no_message_without_an_end(tmp_path: Path) -> None:
    """A node that grows while large messages are on their way takes nobody for an attacker."""
    with nodes(tmp_path) as (node, _):
        with Peer(node.endpoint, options=[(zmq.SNDBUF, 65_536)]) as peer:
            assert isinstance(await asyncio.to_thread(peer.greet), Welcome)
            async with connected(node) as client:
                bodies = [bytes(15 * MIB)] * 24
                assert [x async for x in client.map("length", bodies, in_flight=8)] == [15 * MIB] * 24
        assert "without an end" not in node.log


async def test_a_node_with_keys_takes_no_message_from_who_has_none(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    meshctl = [str(Path(sys.executable).with_name("meshctl")), "-m", "default", "keygen", "--keys", str(keys)]
    await asyncio.to_thread(subprocess.run, meshctl, check=True, capture_output=True, timeout=30)
    write_tasks(tmp_path, TASKS)
    with NodeProcess(tmp_path, "--keys", str(keys)) as node:
        process = psutil.Process(node.pid)
        async with connected(node, keys=str(keys)) as client:
            assert await client.call("length", b"abc") == 3
            await knock(node)  # what the first refusal needs stays
            before = process.memory_info().rss
            for _ in range(20):
                await knock(node)
            assert await client.call("length", b"abcd") == 4
        assert process.memory_info().rss - before < 4 * MIB


async def knock(node: NodeProcess) -> None:
    """Come without a key, and be sent away."""
    with pytest.raises((ConnectionError, TimeoutError)):
        await asyncio.to_thread(RawPeer, node.endpoint, patience=5.0)
