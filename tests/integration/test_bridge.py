"""The bridge on real sockets, with the real scheduler and, in place of processes, workers on the same loop."""

import asyncio
import errno
import functools
import inspect
import json
import logging
import os
import socket
import struct
import sys
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from itertools import count
from typing import Any, assert_never

import pytest
import uvloop

from mesh.errors import ConfigError
from mesh.tasks import Settings as TaskSettings
from mesh.tasks import Task
from mesh.wire.messages import Submit
from meshnode import connection as connection_module
from meshnode import plain_sockets as sockets_module
from meshnode.bridge import Bridge
from meshnode.config import Settings
from meshnode.core import conversation as conversation_module
from meshnode.core.conversation import Conversation
from meshnode.core.effects import (
    Dismiss,
    Dispatch,
    Effect,
    Empty,
    Forward,
    Interrupt,
    Kill,
    Replace,
    Reply,
    Spare,
    TakeBack,
)
from meshnode.core.events import Draining, Ended, Event, TakenBack, Tick, WorkerLost, WorkerReady
from meshnode.core.orders import Ran
from meshnode.core.scheduler import Scheduler
from meshnode.front import PortTakenError
from meshnode.worker.runner import Runner
from tests.support.leaks import leak_check

__all__ = ["leak_check"]

ANY_PORT = "127.0.0.1:0"


def on_both_loops(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run a test on asyncio's own loop and on uvloop's."""
    factories = [asyncio.new_event_loop, uvloop.new_event_loop]

    @pytest.mark.parametrize("loop_factory", factories, ids=["asyncio", "uvloop"])
    @functools.wraps(test)
    def run(loop_factory: Callable[[], asyncio.AbstractEventLoop], **arguments: Any) -> None:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(test(**arguments))

    signature = inspect.signature(test)
    added = inspect.Parameter("loop_factory", inspect.Parameter.KEYWORD_ONLY)
    run.__signature__ = signature.replace(parameters=[*signature.parameters.values(), added])
    returned: Callable[..., None] = run
    return returned


class Worker:
    """Runs its orders one by one on the loop; stands still while it is `gated`."""

    def __init__(self, key: int) -> None:
        self.key = key
        self.orders: deque[tuple[int, Submit]] = deque()
        self.running: tuple[int, Submit] | None = None
        self.dead = False


class Node:
    """The scheduler, a bridge, and workers in this process. `ran` is what they were given, in that order."""

    def __init__(self, *, workers: int, settings: Settings, unread: float) -> None:
        self.ran: list[Any] = []
        self.open = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._tasks = [self._task(function) for function in (self.note, self.echo, self.big, self.nan, self.hold)]
        self._tasks.append(Task(self.closed, "closed", TaskSettings()))
        self._runner = Runner(self._tasks)
        self._workers = {key: Worker(key) for key in range(1, workers + 1)}
        self._events: list[Event] = []
        self._keys = count(1)
        self._timer: asyncio.TimerHandle | None = None
        self.scheduler = Scheduler([task.spec() for task in self._tasks], slots=workers)
        self.bridge = Bridge(
            settings, scheduler=self.scheduler, post=self.post, new_key=lambda: next(self._keys), unread=unread
        )
        for key in self._workers:
            self.post(WorkerReady(key))

    def _task(self, function: Callable[..., Any]) -> Task[..., Any]:
        return Task(function, function.__name__, TaskSettings(bridge=True))

    # tasks

    def note(self, value: Any = None, from_: Any = None) -> Any:
        self.ran.append(value)
        return from_ if value is None else value

    def echo(self, *args: Any, **kwargs: Any) -> Any:
        return {"args": args, "kwargs": kwargs}

    def big(self, size: int) -> str:
        return "x" * size

    def nan(self) -> float:
        return float("nan")

    def hold(self, value: Any = None) -> Any:
        self.ran.append(value)
        return value

    def closed(self) -> None:
        self.ran.append("closed")

    # the node's turn

    def post(self, event: Event) -> None:
        if not self._events:
            self._loop.call_soon(self._turn)
        self._events.append(event)

    def _turn(self) -> None:
        events, self._events = self._events, []
        for effect in self.scheduler.handle(events, self._loop.time()):
            self._perform(effect)
        self.bridge.speak()
        wake = self.scheduler.next_wake()
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if wake is None else self._loop.call_at(wake, self.post, Tick())

    def _perform(self, effect: Effect) -> None:
        match effect:
            case Dispatch():
                worker = self._workers[effect.worker]
                worker.orders.extend(enumerate(effect.jobs, effect.first))
                self._loop.call_soon(self._work, worker)
            case Reply():
                self.bridge.reply(effect.owner, effect.items)
            case TakeBack():
                worker = self._workers[effect.worker]
                back = [seq for seq, _ in worker.orders]
                worker.orders.clear()
                self.post(TakenBack(effect.worker, back))
            case Forward() | Empty() | Interrupt() | Kill() | Replace() | Spare() | Dismiss():
                pass
            case _ as never:
                assert_never(never)

    def _work(self, worker: Worker) -> None:
        if worker.running is not None or not worker.orders or worker.dead:
            return
        seq, job = worker.orders.popleft()
        if job.task == "hold" and not self.open.is_set():
            worker.running = seq, job
            return
        self._run(worker, seq, job)

    def _run(self, worker: Worker, seq: int, job: Submit) -> None:
        end = self._runner.run(self._runner.tasks[job.task], job)
        self.post(Ended(worker.key, [Ran(seq, 10_000, 10_000, [end])]))
        self._loop.call_soon(self._work, worker)

    def release(self) -> None:
        """Let the jobs of `hold` end, those at work and those to come."""
        self.open.set()
        for worker in self._workers.values():
            held, worker.running = worker.running, None
            if held is not None:
                self._run(worker, *held)

    def kill(self) -> None:
        """A worker dies in the middle of `hold`, and another one comes."""
        worker = next(worker for worker in self._workers.values() if worker.running is not None)
        assert worker.running is not None
        worker.dead = True
        self.post(WorkerLost(worker.key, worker.running[0], "killed by SIGKILL"))
        key = max(self._workers) + 1
        self._workers[key] = Worker(key)
        self.post(WorkerReady(key))

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something holds, looking in each turn of the loop."""
        deadline = self._loop.time() + 20
        while not condition():
            assert self._loop.time() < deadline, "it did not come to hold"
            await asyncio.sleep(0)

    async def close(self) -> None:
        await self.bridge.close()
        if self._timer is not None:
            self._timer.cancel()

    # callers

    @property
    def place(self) -> tuple[str, int]:
        host, _, port = self.bridge.address.rpartition(":")
        return host, int(port)

    @asynccontextmanager
    async def caller(self) -> AsyncIterator["Caller"]:
        reader, writer = await asyncio.open_connection(*self.place, limit=1 << 26)
        try:
            yield Caller(reader, writer)
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    async def in_a_thread(self, call: Callable[[tuple[str, int]], Any]) -> Any:
        """Run a blocking caller."""
        with ThreadPoolExecutor(1) as threads:
            return await self._loop.run_in_executor(threads, call, self.place)


class Caller:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, *requests: Any, raw: bytes = b"") -> None:
        self.writer.write(b"".join(json.dumps(request).encode() + b"\n" for request in requests) + raw)

    async def line(self) -> Any:
        line = await self.reader.readline()
        assert line.endswith(b"\n"), line
        return json.loads(line)

    async def lines(self, number: int) -> list[Any]:
        return [await self.line() for _ in range(number)]

    async def ask(self, request: Any) -> Any:
        self.send(request)
        return await self.line()

    async def end(self) -> bytes:
        """What comes until the end of the stream."""
        return await self.reader.read()


@asynccontextmanager
async def a_node(*, workers: int = 2, unread: float = 60.0, **options: Any) -> AsyncIterator[Node]:
    fields: dict[str, Any] = {"bridge": ANY_PORT, "bridge_is_default": False, **options}
    settings = Settings(targets=(), folder=".", workers=workers, **fields)
    node = Node(workers=workers, settings=settings, unread=unread)
    node.bridge.listen()
    try:
        yield node
    finally:
        await node.close()


def note(value: Any, **options: Any) -> dict[str, Any]:
    return {"function": "note", "args": [value], **options}


@on_both_loops
async def test_a_request_is_answered_with_its_bare_result() -> None:
    async with a_node() as node, node.caller() as caller:
        assert await caller.ask({"function": "note", "args": {"from": "a@x"}}) == "a@x"
        assert await caller.ask({"function": "echo", "args": {"b": 1}}) == {"args": [], "kwargs": {"b": 1}}
        assert await caller.ask({"function": "echo", "args": [1, 2]}) == {"args": [1, 2], "kwargs": {}}
        assert await caller.ask({"function": "echo"}) == {"args": [], "kwargs": {}}


@on_both_loops
async def test_results_are_one_line_of_ascii() -> None:
    async with a_node() as node, node.caller() as caller:
        caller.send(note("zwei\nZeilen – é\u2028"))
        assert await caller.reader.readline() == b'"zwei\\nZeilen \\u2013 \\u00e9\\u2028"\n'


@on_both_loops
async def test_pipelined_requests_run_and_answer_in_order() -> None:
    async with a_node(workers=4) as node, node.caller() as caller:
        caller.send(*(note(n) for n in range(3000)))
        assert await caller.lines(3000) == list(range(3000))
        assert node.ran == list(range(3000))
        assert node.bridge.requests == 3000


@on_both_loops
async def test_order_holds_across_errors_pings_and_priorities() -> None:
    async with a_node(workers=4) as node, node.caller() as caller:
        caller.send(note(1), note(2, priority=9), {"function": "$ping"}, {"function": "nein"}, note(3, priority=0))
        caller.send(note(4), raw=b"nonsense\n")
        answers = await caller.lines(7)
        assert answers[:3] == [1, 2, {"ok": True}]
        assert answers[3]["error"]["type"] == "UnknownTask"
        assert answers[4:6] == [3, 4]
        assert answers[6]["error"]["type"] == "ProtocolError"
        assert node.ran == [1, 2, 3, 4]


@on_both_loops
async def test_requests_with_an_id_are_answered_as_they_end() -> None:
    async with a_node(workers=2) as node, node.caller() as caller:
        caller.send({"function": "hold", "id": "slow"}, note(5, id=7), {"function": "nein", "id": None})
        got = sorted(map(json.dumps, await caller.lines(2)))
        assert json.loads(got[1]) == {"id": 7, "ok": True, "result": 5}
        assert json.loads(got[0])["error"]["type"] == "UnknownTask"
        node.release()
        assert await caller.line() == {"id": "slow", "ok": True, "result": None}


@on_both_loops
async def test_an_id_in_use_is_refused() -> None:
    async with a_node() as node, node.caller() as caller:
        caller.send({"function": "hold", "id": 1}, note(1, id=1))
        answer = await caller.line()
        assert answer["id"] == 1
        assert answer["ok"] is False
        assert answer["error"] == {
            "type": "ProtocolError",
            "message": "an earlier request with this id is not answered yet",
            "retryable": False,
            "started": False,
        }
        node.release()
        assert await caller.line() == {"id": 1, "ok": True, "result": None}
        assert await caller.ask(note(2, id=1)) == {"id": 1, "ok": True, "result": 2}
        assert node.ran == [None, 2]


@on_both_loops
async def test_failures_say_what_they_are() -> None:
    async with a_node() as node, node.caller() as caller:
        unknown = await caller.ask({"function": "ecko"})
        assert unknown["error"]["message"] == "no node serves a task 'ecko'; did you mean 'echo'?"
        closed = await caller.ask({"function": "closed"})
        assert closed["error"]["type"] == "NotAllowed"
        wrong = await caller.ask({"function": "note", "args": {"nix": 1}})
        assert wrong["error"]["type"] == "BadArguments"
        assert wrong["error"]["started"] is False
        unwritable = await caller.ask({"function": "nan"})
        assert unwritable["error"]["type"] == "ResultNotSerializable"
        assert unwritable["error"]["started"] is True
        assert node.ran == []


@on_both_loops
async def test_a_lost_worker_costs_one_line_and_the_next_one_runs() -> None:
    async with a_node(workers=1) as node, node.caller() as caller:
        caller.send({"function": "hold", "args": [1]}, note(2))
        await node.until(lambda: any(worker.running for worker in node._workers.values()))
        node.kill()
        lost = await caller.line()
        assert lost["error"] == {
            "type": "JobLost",
            "message": "killed by SIGKILL",
            "retryable": True,
            "started": True,
        }
        assert await caller.line() == 2


@on_both_loops
async def test_a_request_whose_time_is_up_is_told_so() -> None:
    async with a_node(workers=1) as node, node.caller() as caller:
        caller.send({"function": "hold", "timeout": 0.3}, note(1, id=1, timeout=0.3))
        answers = await caller.lines(2)
        started = {answer.get("id"): answer["error"]["started"] for answer in answers}
        assert {answer["error"]["type"] for answer in answers} == {"JobTimeout"}
        assert started == {None: True, 1: False}
        node.release()


@on_both_loops
async def test_a_request_that_waits_behind_many_is_timed_out_too() -> None:
    async with a_node(workers=1) as node, node.caller() as caller:
        caller.send(*({"function": "hold", "id": n} for n in range(128)), note(1, id="late", timeout=0.05))
        answer = await caller.line()
        assert answer["id"] == "late"
        assert answer["error"]["type"] == "JobTimeout"
        assert answer["error"]["started"] is False
        node.release()
        assert len(await caller.lines(128)) == 128
        assert node.ran == [None] * 128


# the ends of a connection


@on_both_loops
async def test_a_health_check_leaves_no_trace(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "meshnode")
    async with a_node() as node:
        for _ in range(20):
            async with node.caller():
                pass
        await node.until(lambda: node.bridge.connections == 20 and not node.bridge._open)
        assert node.ran == []
        assert not node.bridge._by_owner
    assert caplog.records == []


@on_both_loops
async def test_every_reply_owed_is_written_after_a_half_close() -> None:
    async with a_node(workers=1) as node, node.caller() as caller:
        caller.send({"function": "hold", "args": [1]}, *(note(n) for n in range(2, 1001)))
        caller.writer.write_eof()
        await node.until(lambda: any(worker.running for worker in node._workers.values()))
        node.release()
        assert await caller.lines(1000) == list(range(1, 1001))
        assert await caller.end() == b""


@on_both_loops
async def test_a_last_line_without_its_end_is_not_run_and_said_so() -> None:
    async with a_node() as node, node.caller() as caller:
        caller.send(note(1), raw=b'{"function":"note","args":[2]}')
        caller.writer.write_eof()
        assert await caller.line() == 1
        assert (await caller.line())["error"]["type"] == "ProtocolError"
        assert await caller.end() == b""
        assert node.ran == [1]


FIRE = """
import socket, sys
host, port, number, size, at_once = sys.argv[1], *map(int, sys.argv[2:])
frame = b'{"function": "hold", "args": ["xxxx"]'
line = frame + b" " * (size - len(frame) - 2) + b"}\\n"
with socket.create_connection((host, port)) as connection:
    for piece in [line * number] if at_once else [line] * number:
        connection.sendall(piece)
"""


@pytest.mark.parametrize(
    ("number", "size", "at_once"),
    [
        (300, 1024, True),
        (300, 1024, False),
        (5000, 200, True),
        (5000, 200, False),
        (2000, 1024, True),
        (2000, 1024, False),
    ],
)
@on_both_loops
async def test_what_a_caller_wrote_runs_though_it_closed_at_once(number: int, size: int, at_once: bool) -> None:
    """No job ends before the caller has closed, as with any that takes a while.

    One that writes on after it was answered, and closes without having read, may lose what its own kernel kept back:
    nothing that this side can be held to (docs/text-protocol.md, Fire and forget).
    """
    async with a_node() as node:
        arguments = [node.place[0], *(str(int(n)) for n in (node.place[1], number, size, at_once))]
        caller = await asyncio.create_subprocess_exec(sys.executable, "-c", FIRE, *arguments)
        assert await caller.wait() == 0
        node.release()
        await node.until(lambda: len(node.ran) == number)
        await node.until(lambda: not node.bridge._by_owner)


@on_both_loops
async def test_what_a_kernel_had_taken_runs_though_a_write_failed_before_it_was_read() -> None:
    """The caller resets the connection while reading is paused and a reply is due."""

    def fire_and_reset(place: tuple[str, int]) -> None:
        connection = socket.create_connection(place)
        connection.sendall(b"".join(json.dumps(note(n, pad="p" * 300)).encode() + b"\n" for n in range(20_000)))
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()

    async with a_node(workers=1) as node, node.caller() as blocker:
        blocker.send({"function": "hold"})
        await node.until(lambda: any(worker.running for worker in node._workers.values()))
        await node.in_a_thread(fire_and_reset)
        node.release()
        await blocker.line()
        await node.until(lambda: len(node.bridge._by_owner) == 2)
        kernel_took = len(node.ran) - 1
        # a reset drops what the caller's own kernel had not sent; what ours had taken is all there, in order
        assert node.ran[1:] == list(range(kernel_took))
        assert kernel_took > 1024


@on_both_loops
async def test_a_job_wanted_only_while_its_caller_is_there_is_cancelled_when_it_goes() -> None:
    async with a_node(workers=1) as node:
        async with node.caller() as blocker:
            blocker.send({"function": "hold", "args": ["first"]})
            await node.until(lambda: any(worker.running for worker in node._workers.values()))
            async with node.caller() as caller:
                caller.send(
                    note("fragile", cancel_on_disconnect=True),
                    note("sturdy"),
                    note("fragile", id=1, cancel_on_disconnect=True),
                )
                await node.until(lambda: node.bridge.requests == 4)
            await node.until(lambda: len(node.bridge._by_owner) <= 4 and len(node.scheduler.word.active) <= 2)
            node.release()
            assert await blocker.line() == "first"
        await node.until(lambda: not node.bridge._by_owner)
        assert node.ran == ["first", "sturdy"]


# bad input


@on_both_loops
async def test_bad_input_costs_one_line_each_and_nothing_else() -> None:
    bombs = [
        b"hello",
        b"[]",
        b"7",
        b'{"args":[]}',
        b'{"function":7}',
        b'{"function":"note","args":NaN}',
        b'{"function":"note","args":["\\ud800"]}',
        b'{"function":"note","args":["\xff"]}',
        b'{"function":"note","args":[' + b"9" * 10_000 + b"]}",
        b'{"function":"note","args":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"function":"note","args":' + b"[" * 400 + b"]" * 400 + b"}",
        b'{"function":"note","args":' + b'{"a":' * 900 + b"1" + b"}" * 900 + b"}",
        b'{"function":"note","id":1.5}',
        b'{"function":"note","timeout":-1}',
        b'{"function":"note","priority":10}',
        b'{"function":"' + b"x" * 5000 + b'"}',
    ]
    async with a_node() as node, node.caller() as caller:
        caller.send(note("first"))
        caller.send(raw=b"\n".join(bombs) + b"\n")
        caller.send(note("last"))
        answers = await caller.lines(len(bombs) + 2)
        assert answers[0] == "first"
        assert answers[-1] == "last"
        for bomb, answer in zip(bombs, answers[1:-1], strict=True):
            assert answer["error"]["started"] is False, bomb[:60]
        assert node.ran == ["first", "last"]


@on_both_loops
async def test_ten_megabytes_of_braces_are_an_argument_like_others() -> None:
    body = b'{"function":"big","args":[' + b",".join([b"{}"] * 3_400_000) + b"]}\n"
    assert 10_000_000 < len(body) < 10_485_760
    async with a_node() as node, node.caller() as caller:
        caller.writer.write(body)
        assert (await caller.line())["error"]["type"] == "BadArguments"
        assert await caller.ask(note(1)) == 1


@pytest.mark.parametrize(("limit", "length"), [(10_485_760, None), (1000, 1000)])
@on_both_loops
async def test_the_longest_line_is_one_byte_under_the_limit(limit: int, length: int | None) -> None:
    options = {} if length is None else {"bridge_max_line": length}

    def line_of(total: int) -> bytes:
        head, tail = b'{"function":"note","args":["', b'"]}\n'
        return head + b"a" * (total - len(head) - len(tail)) + tail

    async with a_node(**options) as node, node.caller() as caller:
        caller.writer.write(line_of(limit - 1))
        assert len(await caller.line()) > 900
        caller.writer.write(line_of(limit) + b'{"function":"note","args":["never"]}\n')
        error = (await caller.line())["error"]
        assert error["type"] == "PayloadTooLarge"
        assert str(limit - 1) in error["message"]
        assert await caller.end() == b""
        assert len(node.ran) == 1


@on_both_loops
async def test_a_line_without_end_is_answered_though_the_caller_never_stops_writing() -> None:
    def flood(place: tuple[str, int]) -> bytes:
        with socket.create_connection(place) as connection:
            connection.settimeout(0.02)
            got, began = b"", time.monotonic()
            while b"\n" not in got and time.monotonic() - began < 20:
                with suppress(TimeoutError, ConnectionError):  # what lingers for long enough is closed, with a reset
                    connection.send(b"a" * 65_536)
                with suppress(TimeoutError):
                    got += connection.recv(4096)
            return got

    async with a_node(bridge_max_line=100_000) as node:
        assert json.loads(await node.in_a_thread(flood))["error"]["type"] == "PayloadTooLarge"
        await node.until(lambda: not node.bridge._open)


@pytest.mark.parametrize(
    "first",
    [
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1:12345\r\n\r\n",
        b'POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 30\r\n\r\n{"function":"note","args":[1]}\n',
        b'Host: x\r\n{"function":"note","args":[1]}\r\n',
        b'\x16\x03\x01\x02\x00\x01\n{"function":"note","args":[1]}\n',
    ],
)
@on_both_loops
async def test_what_looks_like_a_browser_gets_one_line_and_runs_nothing(
    monkeypatch: pytest.MonkeyPatch, first: bytes
) -> None:
    monkeypatch.setattr(conversation_module, "LINGER_S", 3600.0)  # what ends now does not wait for that
    async with a_node() as node, node.caller() as caller, asyncio.timeout(30):
        caller.writer.write(first)
        caller.send(note(2))
        assert (await caller.line())["error"]["type"] == "ProtocolError"
        assert await caller.end() == b""
        caller.writer.close()
        await node.until(lambda: not node.bridge._open)
        assert node.ran == []


@on_both_loops
async def test_a_later_line_may_begin_like_http() -> None:
    async with a_node() as node, node.caller() as caller:
        assert await caller.ask(note(1)) == 1
        caller.send(raw=b"GET / HTTP/1.1\r\n\r\n")
        assert (await caller.line())["error"]["type"] == "ProtocolError"
        assert await caller.ask(note(2)) == 2


# flow


@on_both_loops
async def test_a_caller_that_does_not_read_is_paused_and_then_closed(caplog: pytest.LogCaptureFixture) -> None:
    async with a_node(unread=0.3) as node:
        with socket.create_connection(node.place) as connection:
            connection.setblocking(False)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            request = {"function": "big", "args": [1_000_000], "id": 0}
            for n in range(1000):
                connection.send(json.dumps({**request, "id": n}).encode() + b"\n")
            await node.until(lambda: node.bridge.closed_unread == 1)
            await node.until(lambda: not node.bridge._open)
        await node.until(lambda: not node.bridge._by_owner)
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 1
    assert "does not read its replies" in messages[0]


@on_both_loops
async def test_a_caller_that_was_answered_before_and_stops_reading_is_closed_too() -> None:
    async with a_node(unread=0.3) as node:
        with socket.create_connection(node.place) as connection:
            connection.setblocking(False)
            connection.sendall(b'{"function":"note"}\n')
            assert await asyncio.get_running_loop().sock_recv(connection, 100) == b"null\n"
            connection.sendall(b'{"function":"big","args":[40000000]}\n')
            await node.until(lambda: node.bridge.closed_unread == 1)
        await node.until(lambda: not node.bridge._by_owner)


@on_both_loops
async def test_a_caller_that_reads_late_misses_nothing() -> None:
    async with a_node() as node:

        def late(place: tuple[str, int]) -> list[int]:
            with socket.create_connection(place) as connection:
                connection.sendall(
                    b"".join(json.dumps({"function": "big", "args": [n]}).encode() + b"\n" for n in range(5000))
                )
                connection.shutdown(socket.SHUT_WR)
                stalled.wait()
                with connection.makefile("rb") as lines:
                    return [len(json.loads(line)) for line in lines]

        stalled = threading.Event()
        task = asyncio.ensure_future(node.in_a_thread(late))
        await node.until(lambda: any(c._conversation._paused_since is not None for c in node.bridge._open))
        stalled.set()
        assert await task == list(range(5000))


def lines_read_slowly(connection: socket.socket, number: int) -> list[Any]:
    """Read that many lines, a little at a time."""
    got = bytearray()
    while got.count(b"\n", max(0, len(got) - 20_000)) == 0 or got.count(b"\n") < number:
        piece = connection.recv(20_000)
        assert piece, "the end of the stream"
        got += piece
        time.sleep(0.0001)
    return [json.loads(line) for line in got.splitlines()]


@on_both_loops
async def test_replies_larger_than_the_sockets_buffer_arrive_whole_and_in_order_at_a_slow_reader() -> None:
    values = [
        letter * size
        for letter, size in zip("abcdefgh", (3_000_000, 10, 70_000, 0, 2_000_000, 1, 5, 400_000), strict=True)
    ]
    stalled = threading.Event()

    def slow(place: tuple[str, int]) -> list[Any]:
        with socket.socket() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.connect(place)
            connection.settimeout(20)
            connection.sendall(b"".join(json.dumps(note(value)).encode() + b"\n" for value in values))
            stalled.wait()
            return lines_read_slowly(connection, len(values))

    async with a_node() as node, node.caller() as other:
        task = asyncio.ensure_future(node.in_a_thread(slow))
        await node.until(lambda: any(c._unsent for c in node.bridge._open))
        assert await other.ask(note("meanwhile")) == "meanwhile"
        stalled.set()
        assert await task == values


@on_both_loops
async def test_one_reply_after_another_each_larger_than_the_sockets_buffer_arrives_whole_at_a_slow_reader() -> None:
    sizes = (1_000_000, 3_000_000, 1, 2_000_000)

    def slow(place: tuple[str, int]) -> list[int]:
        with socket.socket() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.connect(place)
            connection.settimeout(20)
            lengths = []
            for size in sizes:
                connection.sendall(b'{"function":"big","args":[%d]}\n' % size)
                (text,) = lines_read_slowly(connection, 1)
                assert text == "x" * size
                lengths.append(len(text))
            return lengths

    async with a_node() as node:
        assert await node.in_a_thread(slow) == list(sizes)


@on_both_loops
async def test_what_is_unsent_when_a_caller_has_ended_its_side_still_arrives() -> None:
    def slow(place: tuple[str, int]) -> tuple[list[Any], bytes]:
        with socket.socket() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.connect(place)
            connection.settimeout(20)
            connection.sendall(b'{"function":"big","args":[3000000]}\n' * 2)
            connection.shutdown(socket.SHUT_WR)
            return lines_read_slowly(connection, 2), connection.recv(1)

    async with a_node() as node:
        assert await node.in_a_thread(slow) == (["x" * 3_000_000] * 2, b"")
        await node.until(lambda: not node.bridge._open)


@on_both_loops
async def test_reading_pauses_while_much_waits_and_goes_on_after() -> None:
    lines = 40_000

    async with a_node(workers=1) as node, node.caller() as caller:
        caller.send({"function": "hold", "args": [-1]})
        caller.send(*(note(n) for n in range(lines)))
        await node.until(lambda: any(not c.reading for c in node.bridge._open))
        assert node.bridge.requests < lines
        node.release()
        assert await caller.lines(lines + 1) == list(range(-1, lines))


@on_both_loops
async def test_all_connections_together_hold_a_bounded_amount() -> None:
    async with a_node(bridge_max_held=2 << 20) as node, node.caller() as small, node.caller() as large:
        large.writer.write(b"a" * (5 << 20))
        error = (await large.line())["error"]
        assert error["type"] == "MeshBusy"
        assert error["retryable"] is True
        assert await small.ask(note(1)) == 1
        assert node.bridge._held == 0


@on_both_loops
async def test_too_many_connections_are_turned_away(caplog: pytest.LogCaptureFixture) -> None:
    async with a_node(bridge_max_per_address=2) as node:
        async with node.caller() as first, node.caller() as second:
            assert [await first.ask(note(1)), await second.ask(note(2))] == [1, 2]
            for _ in range(2):
                async with node.caller() as third:
                    assert (await third.line())["error"]["type"] == "MeshBusy"
                    assert await third.end() == b""
            assert node.bridge.refused == 2
            node.bridge._guests.most = 1
            async with node.caller() as third:
                assert "1 connections are open" in (await third.line())["error"]["message"]
        await node.until(lambda: not node.bridge._open)
        assert not node.bridge._guests.addresses
    assert len(caplog.records) == 1


@on_both_loops
async def test_replies_beyond_all_measure_end_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "UNSENT_BYTES", 20_000_000)
    async with a_node() as node:
        with socket.create_connection(node.place) as connection:
            connection.send(b'{"function":"big","args":[40000000]}\n')
            await node.until(lambda: node.bridge.closed_unread == 1)
        await node.until(lambda: not node.bridge._by_owner)


@on_both_loops
async def test_an_idle_connection_is_closed_where_that_is_set() -> None:
    async with a_node(bridge_idle=0.5) as node, node.caller() as caller:
        assert await caller.ask(note(1)) == 1
        assert await caller.end() == b""


@on_both_loops
async def test_the_accepted_sockets_are_kept_alive_and_send_at_once() -> None:
    async with a_node() as node, node.caller() as caller:
        await caller.ask(note(1))
        (connection,) = node.bridge._open
        accepted = connection._socket
        assert isinstance(accepted, socket.socket)
        assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 55
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1


# failures that are of one connection


POISON = b"poison"


def poisoned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let whoever writes the word run into a fault of ours."""
    received = Conversation.received

    def fail(self: Conversation, piece: bytes, now: float) -> None:
        if POISON in piece:
            raise RuntimeError("a fault of ours")
        received(self, piece, now)

    monkeypatch.setattr(Conversation, "received", fail)


@pytest.mark.patched
@on_both_loops
async def test_a_connection_whose_handling_raises_is_closed_alone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    poisoned(monkeypatch)
    async with a_node() as node, node.caller() as other, node.caller() as waiting:
        waiting.send({"function": "hold", "args": [7]})
        async with node.caller() as unlucky:
            assert [await unlucky.ask(note(1)), await other.ask(note(2))] == [1, 2]
            unlucky.send(raw=POISON)
            with suppress(ConnectionError):
                assert await unlucky.end() == b""
        assert await other.ask(note(3)) == 3
        node.release()
        assert await waiting.line() == 7
        assert len(node.bridge._open) == 2
        async with node.caller() as another:
            assert await another.ask(note(4)) == 4
    (record,) = caplog.records
    assert "it is closed" in record.getMessage()


@pytest.mark.patched
@on_both_loops
async def test_a_connection_whose_first_words_raise_is_closed_alone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    poisoned(monkeypatch)
    async with a_node() as node, node.caller() as other:
        assert await other.ask(note(1)) == 1
        with socket.create_connection(node.place) as unlucky:
            unlucky.send(POISON)  # before it is accepted
            unlucky.setblocking(False)
            assert await other.ask(note(2)) == 2
            await node.until(lambda: len(node.bridge._open) == 1)
            with suppress(ConnectionError):
                assert unlucky.recv(1) == b""
        assert await other.ask(note(3)) == 3
    assert len(caplog.records) == 1


@pytest.mark.patched
@on_both_loops
async def test_a_connection_whose_answer_raises_takes_nobody_elses_along(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = Conversation.answer

    def fail(self: Conversation, items: Any, now: float, **options: Any) -> bytes:
        if any(b"poison" in getattr(item, "body", b"") for item in items):
            raise RuntimeError("a fault of ours")
        return answer(self, items, now, **options)

    monkeypatch.setattr(Conversation, "answer", fail)
    faults: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, fault: faults.append(fault))
    async with a_node(workers=2) as node, node.caller() as unlucky, node.caller() as other:
        other.send({"function": "hold", "args": ["well"]})
        await node.until(lambda: sum(w.running is not None for w in node._workers.values()) == 1)
        unlucky.send({"function": "hold", "args": ["poison"]})
        await node.until(lambda: sum(w.running is not None for w in node._workers.values()) == 2)
        node.release()  # both end in one turn, and what came of the second job's worker is told first
        async with asyncio.timeout(10):
            assert await other.line() == "well"
        assert await other.ask(note(1)) == 1
    assert faults == []


class Listener:
    """A listening socket that cannot accept so many times."""

    def __init__(self, listener: socket.socket, failures: list[OSError]) -> None:
        self._listener = listener
        self.failures = failures
        self.tried = 0

    def accept(self) -> tuple[socket.socket, Any]:
        self.tried += 1
        if self.failures:
            raise self.failures.pop()
        return self._listener.accept()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._listener, name)


@on_both_loops
async def test_where_no_more_descriptors_may_be_opened_callers_wait_and_a_warning_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sockets_module, "_RETRY_S", 0.05)
    async with a_node() as node, node.caller() as before:
        assert await before.ask(note(1)) == 1
        assert node.bridge._listener is not None
        failing = Listener(node.bridge._listener, [OSError(errno.EMFILE, os.strerror(errno.EMFILE)) for _ in range(3)])
        monkeypatch.setattr(node.bridge, "_listener", failing)
        async with node.caller() as caller:
            caller.send(note(3))
            await node.until(lambda: failing.tried > 0)
            assert await before.ask(note(2)) == 2, "those who are there are served"
            assert await caller.line() == 3
        assert failing.failures == []
        assert failing.tried < 20, "it is not tried in every turn"
    (record,) = caplog.records
    assert "plain sockets wait" in record.getMessage()
    assert "Too many open files" in record.getMessage()


@on_both_loops
async def test_a_caller_that_is_gone_before_it_is_accepted_costs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async with a_node() as node:
        assert node.bridge._listener is not None
        failing = Listener(
            node.bridge._listener, [ConnectionAbortedError(errno.ECONNABORTED, "gone") for _ in range(3)]
        )
        node.bridge._listener = failing  # type: ignore[assignment]  # it does what the bridge asks of one
        async with node.caller() as caller:
            assert await caller.ask(note(1)) == 1
        assert failing.failures == []
    assert caplog.records == []


# listening and leaving


@on_both_loops
async def test_a_port_that_was_asked_for_and_is_taken_is_an_error() -> None:
    async with a_node() as node:
        with pytest.raises(PortTakenError, match="is in use"):
            async with a_node(bridge=node.bridge.address):
                pass


@on_both_loops
async def test_a_default_port_that_is_taken_moves_to_a_free_one(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with a_node() as first, a_node(bridge=first.bridge.address, bridge_is_default=True) as second:
        assert second.bridge.address != first.bridge.address
        async with second.caller() as caller:
            assert await caller.ask(note(1)) == 1
    (record,) = caplog.records
    assert second.bridge.address in record.getMessage()


@pytest.mark.parametrize("place", ["203.0.113.7:0", "no.such.host.invalid:0"])
@on_both_loops
async def test_an_address_that_this_host_does_not_have_is_an_error(place: str) -> None:
    with pytest.raises(ConfigError, match="bridge"):
        async with a_node(bridge=place):
            pass


@pytest.mark.parametrize(("place", "shown"), [("*:0", "0.0.0.0:"), ("[::1]:0", "[::1]:")])
@on_both_loops
async def test_other_addresses_are_shown_as_they_are_bound(place: str, shown: str) -> None:
    async with a_node(bridge=place) as node:
        assert node.bridge.address.startswith(shown)


@on_both_loops
async def test_a_draining_node_answers_what_it_holds_and_lets_go_of_who_is_owed_nothing() -> None:
    async with a_node(workers=1) as node, node.caller() as idle, node.caller() as busy:
        assert await idle.ask({"function": "$ping"}) == {"ok": True}
        busy.send({"function": "hold", "args": [0]}, *(note(n) for n in range(1, 600)))
        await node.until(lambda: node.bridge.requests == 601)
        node.bridge.drain()
        node.post(Draining())
        assert await idle.end() == b""
        async with node.caller() as late:
            for ping in ({"function": "$ping"}, {"function": "$ping", "id": 3}):
                late.send(ping)
            assert (await late.line())["error"]["type"] == "MeshBusy"
        node.release()
        assert await busy.lines(600) == list(range(600))
        assert await busy.end() == b""


@on_both_loops
async def test_whoever_is_owed_an_answer_when_a_node_stops_gets_one() -> None:
    async with a_node(workers=1) as node, node.caller() as caller:
        caller.send(*({"function": "hold"} for _ in range(400)), {"function": "hold", "id": 1})
        await node.until(lambda: node.bridge.requests == 401)
        closing = asyncio.ensure_future(node.bridge.close())
        answers = await caller.lines(401)
        assert {answer["error"]["type"] for answer in answers} == {"JobLost", "MeshBusy"}
        assert await caller.end() == b""
        await closing
