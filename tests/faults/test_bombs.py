"""Row 20: input small to send and large to hold, at the bridge, in bodies and in headers: a typed error for each."""

import asyncio
import json
import struct
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

import mesh
from mesh.wire.messages import FORM_JSON, FORM_MSGPACK, Failed, Lost, NodeItem, Reject, Result, Submit, Welcome
from mesh.wire.payload import unpack, unpack_failure
from tests.support.clients import connected
from tests.support.faults import Figures, sized, within
from tests.support.nodes import NodeProcess, write_tasks
from tests.support.peers import PATIENCE_S, Peer

TASKS = """
@mesh.task(bridge=True)
def count(*values: object) -> int:
    return len(values)


@mesh.task(bridge=True)
def noop(x: int = 0) -> int:
    return x
"""

DEPTH = 100_000
MANY = 3_400_000
"""`{}` and a comma: 10 MiB of them."""

GROWTH = 64 << 20
"""Bytes that the node, which opens none of it, may hold beyond what it had: some bodies that have just come."""

SLOWEST_S = sized(4.0, 2.0)


def ext(code: int, content: bytes) -> bytes:
    return b"\xc9" + struct.pack(">Ib", len(content), code) + content


def nested(code: int, depth: int) -> bytes:
    content = b"\x90"
    for _ in range(depth):
        content = b"\x91" + ext(code, content)
    return content


HELLO = b"\x96\x01\xa4mesh\x01\x01\xa7default\xa1x"
IN_JSON = {
    "lists within each other": b"[" * DEPTH + b"]" * DEPTH,
    "lists that do not end": b"[" * DEPTH,
    "objects within each other": b'{"a":' * DEPTH + b"1" + b"}" * DEPTH,
    "a number of 10,000 digits": b"[" + b"9" * 10_000 + b"]",
    "NaN": b"[NaN]",
    "Infinity": b"[-Infinity]",
    "half of a surrogate pair": b'["\\ud800"]',
    "a surrogate in UTF-8": b'["\xed\xa0\x80"]',
    "no UTF-8": b'["\xff\xfe"]',
    "nothing": b"[",
}
IN_MSGPACK = {
    "lists within each other": b"\x91" * DEPTH + b"\x90",
    "lists that do not end": b"\x91" * DEPTH,
    "maps within each other": b"\x81\x01" * DEPTH + b"\x01",
    "tuples within each other": nested(5, 3000),
    "a list that claims much": b"\xdd\xff\xff\xff\xff",
    "a map that claims much": b"\xdf\xff\xff\xff\xff",
    "bytes that claim much": b"\xc6\xff\xff\xff\xff",
    "an integer beyond measure": b"\x91\x91" + ext(6, b"\x7f" * 70_000),
    "a decimal beyond measure": b"\x91\x91" + ext(3, b"1e" + b"9" * 10_000),
    "a surrogate in UTF-8": b"\x91\x91\xa3\xed\xa0\x80",
    "no msgpack": b"\xc1",
    "nothing": b"",
}


class Bystander:
    """Another client, who calls all the time; and the node's memory meanwhile."""

    def __init__(self, client: mesh.Client, node: NodeProcess) -> None:
        self._client = client
        self._process = psutil.Process(node.pid)
        self._before = self._process.memory_info().rss
        self.slowest = 0.0
        self.growth = 0
        self._task = asyncio.create_task(self._call())

    async def _call(self) -> None:
        while True:
            begun = time.monotonic()
            assert await self._client.call("noop", 7) == 7
            self.slowest = max(self.slowest, time.monotonic() - begun)
            self.growth = max(self.growth, self._process.memory_info().rss - self._before)
            await asyncio.sleep(0.005)

    async def judge(self, line: Figures) -> None:
        """It was served all the time, and the node holds nothing of it."""
        self._task.cancel()
        await asyncio.wait((self._task,))
        assert self._task.cancelled(), self._task.exception()
        line.lost = 0
        line.more |= {"others' slowest ms": self.slowest * 1e3, "node MiB": self.growth / 2**20}
        assert self.slowest <= SLOWEST_S
        assert self.growth <= GROWTH


@within(60.0)
async def test_bombs_at_the_bridge_get_a_line_each(tmp_path: Path, figures: Callable[[str, str], Figures]) -> None:
    lines = [b'{"function":"count","args":' + bomb + b"}" for bomb in IN_JSON.values()]
    lines += [bomb + b"}" * 9 for bomb in IN_JSON.values()]
    line = figures("20", f"{len(lines)} bombs and 10 MiB of {{}} at the bridge")
    write_tasks(tmp_path, TASKS)
    with NodeProcess(tmp_path, workers=2, bridge=True) as node:
        workers = node.family()
        async with connected(node) as client:
            assert await client.call("noop", 1) == 1
            bystander = Bystander(client, node)
            host, _, port = node.bridge.rpartition(":")
            reader, writer = await asyncio.open_connection(host, int(port))
            for content in lines:
                writer.write(content + b"\n")
                answer = json.loads(await asyncio.wait_for(reader.readline(), PATIENCE_S))
                assert answer["error"]["type"] in ("ProtocolError", "BadArguments"), (content[:60], answer)
                assert answer["error"]["started"] is False
                assert len(answer["error"]["message"]) < 500
            writer.write(b'{"function":"count","args":[' + b",".join([b"{}"] * MANY) + b"]}\n")
            assert await asyncio.wait_for(reader.readline(), 30.0) == b"%d\n" % MANY
            writer.close()
            await writer.wait_closed()
            await bystander.judge(line)
        assert node.family() == workers
        assert "Traceback" not in node.log
    line.jobs = len(lines) + 1


def end_of(peer: Peer, job: Submit) -> NodeItem:
    """Hand a job in, and wait for what comes of it."""
    peer.say(job)
    deadline = time.monotonic() + 30.0
    while time.monotonic() < deadline:
        for item in peer.hear(1.0):
            if isinstance(item, Result | Failed | Reject | Lost):
                return item
        peer.ping()
    raise TimeoutError("no end")


@within(60.0)
async def test_bombs_in_bodies_are_bad_arguments(tmp_path: Path, figures: Callable[[str, str], Figures]) -> None:
    bombs = [(FORM_MSGPACK, bomb) for bomb in IN_MSGPACK.values()] + [(FORM_JSON, bomb) for bomb in IN_JSON.values()]
    line = figures("20", f"{len(bombs)} bombs and 10 MiB of maps in bodies")
    maps = b"\x91\xdd" + struct.pack(">I", MANY) + b"\x80" * MANY
    write_tasks(tmp_path, TASKS)
    with NodeProcess(tmp_path, workers=2) as node, Peer(node.endpoint) as peer:
        workers = node.family()
        async with connected(node) as client:
            assert isinstance(await asyncio.to_thread(peer.greet), Welcome)
            bystander = Bystander(client, node)
            jobs = [
                Submit(n.to_bytes(16, "big"), 1, "count", form, None, None, body)
                for n, (form, body) in enumerate(bombs)
            ]
            for job, (_, bomb) in zip(jobs, bombs, strict=True):
                end = await asyncio.to_thread(end_of, peer, job)
                assert isinstance(end, Failed), bomb[:60]
                if job.form == FORM_MSGPACK:
                    failure = unpack_failure(end.body)
                    assert (failure.type, failure.mesh, failure.started) == ("BadArguments", True, False), bomb[:60]
                    assert "decoded: " in failure.message
                    assert len(failure.message) < 500
                    assert not failure.message.endswith(": ")
                else:
                    assert json.loads(bytes(end.body))["type"] == "BadArguments", bomb[:60]
            last = await asyncio.to_thread(end_of, peer, Submit(b"m" * 16, 1, "count", FORM_MSGPACK, None, None, maps))
            assert isinstance(last, Result)
            assert unpack(last.body) == MANY
            await bystander.judge(line)
        assert node.family() == workers
        assert "Traceback" not in node.log
    line.jobs = len(bombs) + 1


async def test_bombs_in_headers_are_passed_over(tmp_path: Path, figures: Callable[[str, str], Figures]) -> None:
    start = b"\x93\xc4\x00\x00"
    inner = [start + b"\x91\x98\x03" + bomb for bomb in IN_MSGPACK.values()]
    headers = [*IN_MSGPACK.values(), *(start + bomb for bomb in IN_MSGPACK.values()), *inner]
    headers += [
        start + b"\xdd" + struct.pack(">I", MANY) + item * MANY for item in (b"\x80", b"\x91\x08", b"\x92\x07\x01")
    ]
    headers += [
        start + b"\xdd" + struct.pack(">I", 65_536) + item * 65_536 for item in (b"\x80", b"\x92\x07\x01", HELLO)
    ]
    headers += [b"\x80" * (8 << 20), b"\x80" * (9 << 20)]
    line = figures("20", f"{len(headers)} bombs as headers, before and after HELLO")
    write_tasks(tmp_path, TASKS)
    with NodeProcess(tmp_path, workers=2) as node:
        async with connected(node) as client:
            assert await client.call("noop", 1) == 1
            bystander = Bystander(client, node)
            for greeted in (False, True):
                with Peer(node.endpoint) as peer:
                    if greeted:
                        assert isinstance(await asyncio.to_thread(peer.greet), Welcome)
                    for header in headers:
                        peer.socket.send_multipart([header, b"body"])
                    assert isinstance(await asyncio.to_thread(peer.greet), Welcome)
            await bystander.judge(line)
        assert "Traceback" not in node.log
    line.jobs = 2 * len(headers)


@pytest.mark.parametrize("form", ["msgpack", "JSON"])
async def test_a_bomb_harms_no_worker_that_runs_coroutines(form: str, tmp_path: Path) -> None:
    """The same arguments in an async task: they are opened on the worker's loop."""
    write_tasks(tmp_path, "@mesh.task(bridge=True)\nasync def count(*values: object) -> int:\n    return len(values)\n")
    bombs = IN_MSGPACK if form == "msgpack" else IN_JSON
    number = FORM_MSGPACK if form == "msgpack" else FORM_JSON
    with NodeProcess(tmp_path, "-c", "4") as node, Peer(node.endpoint) as peer:
        workers = node.family()
        assert isinstance(await asyncio.to_thread(peer.greet), Welcome)
        jobs = [Submit(n.to_bytes(16, "big"), 1, "count", number, None, None, b) for n, b in enumerate(bombs.values())]
        assert {type(await asyncio.to_thread(end_of, peer, job)) for job in jobs} == {Failed}
        assert node.family() == workers
