"""The client against real nodes: what it promises, and what happens when a node or a worker does not live up to it."""

import asyncio
import gc
import hashlib
import os
import secrets
import signal
import socket
import threading
import time
import weakref
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import psutil
import pytest
import uvloop
import zmq

import mesh
from mesh.core.liveness import SUSPECT_S
from mesh.core.record import ACCEPTED, STARTED, JobRecord
from mesh.errors import (
    BadArguments,
    ClosedError,
    ConfigError,
    JobCancelled,
    JobLost,
    JobTimeout,
    MeshBusy,
    NoNodes,
    PayloadTooLarge,
    RemoteError,
    ResultNotSerializable,
    UnknownTask,
)
from mesh.operator import Operator
from mesh.wire.codec import encode_client
from mesh.wire.messages import MAGIC, VERSIONS, Bye, ClientMessage, Drain, Hello, NodeItem, Stranger
from meshnode.worker.link import DATAGRAM, LARGE
from tests.support.clients import connected, until_started
from tests.support.gates import HELD, Gate
from tests.support.leaks import leak_check  # noqa: F401  # pytest finds it by its name
from tests.support.nodes import NodeProcess, lasting_address, write_tasks
from tests.support.peers import PATIENCE_S, FakeNode, Peer
from tests.support.waiting import until

TASKS = '''
import os, time, asyncio, pathlib


class ShopError(Exception):
    pass


@mesh.task
def add(a: int, b: int = 0) -> int:
    """Add two numbers."""
    return a + b


@mesh.task
def where() -> tuple[int, int]:
    return os.getppid(), os.getpid()


@mesh.task
def noop(x: int = 0) -> int:
    return x


@mesh.task
def nap(seconds: float) -> int:
    time.sleep(seconds)
    return os.getpid()


@mesh.task(timeout=0.3)
def hurried_and_held(path: str) -> str:
    return held(path)


@mesh.task
def usually_short(seconds: float = 0.0) -> int:
    time.sleep(seconds)
    return os.getpid()


@mesh.task
def note(path: str, text: str, seconds: float = 0.0) -> None:
    with open(path, "a") as file:
        file.write(text + "\\n")
    time.sleep(seconds)


@mesh.task
def fail(kind: str) -> None:
    match kind:
        case "value":
            raise ValueError("no such thing", 7)
        case "key":
            raise KeyError("missing")
        case "shop":
            raise ShopError("sold out")


@mesh.task
def unsendable() -> object:
    return open(os.devnull)


@mesh.task
def size(body: bytes) -> int:
    return len(body)


@mesh.task
def blob(length: int) -> bytes:
    return b"x" * length


@mesh.task
def echoed(body: bytes) -> bytes:
    return body


@mesh.task
async def coro(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "done"


@mesh.task(timeout=0.3)
def hurried(seconds: float) -> None:
    time.sleep(seconds)


@mesh.task
def later() -> None:
    raise mesh.RetryLater(30)
'''


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("app")
    write_tasks(made, TASKS + HELD)
    return made


@pytest.fixture(scope="module")
def node(folder: Path) -> Iterator[NodeProcess]:
    """One node for the tests that leave it as it was."""
    with NodeProcess(folder, workers=2) as made:
        yield made


@pytest.fixture
async def client(node: NodeProcess) -> AsyncIterator[mesh.Client]:
    async with connected(node) as made:
        await made.wait_ready()
        yield made


# calls


async def test_a_call_gives_the_result_by_name_and_with_named_arguments(client: mesh.Client) -> None:
    assert await client.call("add", 1, 2) == 3
    assert await client.call("add", a=4, b=5) == 9


async def test_a_submitted_job_tells_where_it_is_and_may_be_awaited_again(client: mesh.Client, gate: Gate) -> None:
    job = client.submit("held", gate.path)
    await job.accepted()
    assert job.node == client.nodes()[0].name
    assert job.attempt == 1
    assert not job.done()
    gate.open()
    first = await job
    assert await job == first
    assert await job.result(timeout=1) == first
    assert job.done()


async def test_map_yields_results_in_the_order_of_the_arguments(client: mesh.Client) -> None:
    assert [x async for x in client.map("add", range(500), range(500))] == [2 * n for n in range(500)]


async def test_map_yields_results_as_they_come_where_order_does_not_matter(client: mesh.Client) -> None:
    results = [x async for x in client.map("noop", range(500), ordered=False)]
    assert sorted(results) == list(range(500))


@pytest.mark.parametrize("ordered", [True, False])
async def test_map_takes_no_more_arguments_than_it_has_under_way(client: mesh.Client, ordered: bool) -> None:
    taken: list[int] = []

    def numbers() -> Iterator[int]:
        for number in range(100):
            taken.append(number)
            yield number

    given = 0
    async for _ in client.map("noop", numbers(), in_flight=7, ordered=ordered):
        assert len(taken) - given <= 7
        given += 1
    assert given == 100


async def test_a_map_that_is_left_cancels_what_it_had_under_way(client: mesh.Client, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    paths = [str(notes)] * 100
    iterator = client.map("note", paths, map(str, range(100)), [0.25] * 100)
    assert await anext(iterator) is None
    await iterator.aclose()  # type: ignore[attr-defined]
    async with asyncio.timeout(10):
        while client.nodes()[0].outstanding:
            await client.changed()
    assert 1 <= len(notes.read_text().split()) < 50  # in the seconds that a busy machine needs some more run


async def test_map_raises_the_first_failure(client: mesh.Client) -> None:
    with pytest.raises(KeyError):
        async for _ in client.map("fail", ["none", "key", "none"]):
            pass


async def test_leaving_the_client_waits_for_jobs_that_nobody_awaits(node: NodeProcess, tmp_path: Path) -> None:
    async with connected(node) as client:
        for number in range(20):
            client.submit("note", str(tmp_path / "notes"), str(number), 0.01)
    assert len((tmp_path / "notes").read_text().split()) == 20


async def test_the_ambient_client_serves_tasks_of_the_block(node: NodeProcess) -> None:
    @mesh.task(name="add")
    def add(a: int, b: int = 0) -> int:
        raise AssertionError("it runs on the node")

    async with connected(node):
        assert await add.call(2, b=3) == 5
        assert await add.options(priority=9, timeout=5).submit(1) == 1
    with pytest.raises(ConfigError, match="there is no client here"):
        await add.call(1)


# errors


async def test_an_unknown_task_names_near_ones_within_the_grace(node: NodeProcess) -> None:
    async with connected(node, discovery_grace=0.3) as client:
        await client.wait_ready()
        took = []
        for _ in range(3):
            began = time.monotonic()
            with pytest.raises(UnknownTask, match=r"no node serves 'ad'; did you mean add"):
                await client.call("ad", 1)
            took.append(time.monotonic() - began)
        assert 0.2 < min(took) < 2.0  # a busy machine is not late every time


async def test_wrong_arguments_are_refused_before_anything_is_sent_once_the_task_is_known(client: mesh.Client) -> None:
    with pytest.raises(BadArguments, match=r"add takes 2 positional arguments, 3 given"):
        client.submit("add", 1, 2, 3)
    with pytest.raises(BadArguments, match=r"add has no parameter 'c'; it takes a, b"):
        client.submit("add", 1, c=2)
    with pytest.raises(BadArguments, match=r"cannot be sent.*'object'"):
        client.submit("add", object())
    assert client.nodes()[0].outstanding == 0


async def test_wrong_arguments_are_refused_at_first_contact_where_the_task_was_not_known(node: NodeProcess) -> None:
    async with connected(node) as client:
        job = client.submit("add")
        with pytest.raises(BadArguments, match="add needs 'a'") as caught:
            await job
        assert caught.value.started is False
        assert job.node is None


async def test_arguments_beyond_the_limit_of_the_node_are_not_sent(folder: Path) -> None:
    with NodeProcess(folder, "--max-message", "64k") as small:
        async with connected(small) as client:
            with pytest.raises(
                PayloadTooLarge, match=r"bytes of arguments, and node \S+ takes 65536 .its --max-message"
            ):
                await client.call("size", b"x" * 70_000)
            assert await client.call("size", b"x" * 60_000) == 60_000


async def test_a_result_that_cannot_travel_says_so(client: mesh.Client) -> None:
    with pytest.raises(ResultNotSerializable, match="the task ran, but its result cannot be sent") as caught:
        await client.call("unsendable")
    assert caught.value.started is True


async def test_a_built_in_exception_is_raised_again_with_the_remote_one_as_its_cause(client: mesh.Client) -> None:
    with pytest.raises(ValueError, match="no such thing") as caught:
        await client.call("fail", "value")
    assert caught.value.args == ("no such thing", 7)
    assert isinstance(caught.value.__cause__, RemoteError)
    assert 'raise ValueError("no such thing", 7)' in caught.value.__cause__.traceback


async def test_an_exception_of_the_application_comes_as_a_remote_error_with_its_traceback(client: mesh.Client) -> None:
    with pytest.raises(RemoteError) as caught:
        await client.call("fail", "shop")
    assert caught.value.type.endswith("ShopError")
    assert caught.value.message == "sold out"
    assert 'raise ShopError("sold out")' in str(caught.value)


async def test_without_a_node_there_is_an_error_within_the_grace() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        port = nobody.getsockname()[1]
        async with mesh.Client(seeds=[f"127.0.0.1:{port}"], mdns=False, discovery_grace=0.3) as client:
            began = time.monotonic()
            with pytest.raises(NoNodes, match=r"no node of this mesh was found within 0\.3 s") as caught:
                await client.call("add", 1)
            assert 0.2 < time.monotonic() - began < 10.0  # the error names the grace; a busy machine is late
            assert (caught.value.retryable, caught.value.started) == (True, False)


async def test_a_node_of_another_mesh_refuses_and_the_error_says_so(folder: Path) -> None:
    with NodeProcess(folder, "--mesh", "other") as stranger:
        async with connected(stranger, discovery_grace=3.0) as client:
            with pytest.raises(NoNodes, match="One refused: this node belongs to the mesh 'other'"):
                await client.call("add", 1)


async def test_a_job_that_runs_too_long_times_out_and_a_later_one_runs(client: mesh.Client, gate: Gate) -> None:
    began = time.monotonic()
    with pytest.raises(JobTimeout, match=r"no outcome within 0.3 s; it may have run") as caught:
        await client.call("hurried_and_held", gate.path)  # it is not waited for to the end, which does not come
    assert time.monotonic() - began > 0.25
    assert isinstance(caught.value, TimeoutError)
    assert caught.value.started is True
    assert await client.call("add", 1) == 1


async def test_a_job_that_waits_too_long_was_not_started(client: mesh.Client, gate: Gate) -> None:
    @mesh.task(name="nap")
    def nap(seconds: float) -> int:
        raise AssertionError("it runs on the node")

    busy = [client.submit("held", gate.path) for _ in range(6)]
    with pytest.raises(JobTimeout) as caught:
        await client.call(nap.options(timeout=0.1), 0.0)
    assert caught.value.started is False
    gate.open()
    await asyncio.gather(*busy)


async def test_beyond_max_pending_submit_says_busy_and_call_waits(node: NodeProcess) -> None:
    async with connected(node, max_pending=2) as client:
        await client.wait_ready()
        jobs = [client.submit("nap", 0.1), client.submit("nap", 0.1)]
        with pytest.raises(MeshBusy, match="2 jobs are under way") as caught:
            client.submit("nap", 0.1)
        assert caught.value.started is False
        assert await asyncio.gather(*(client.call("add", n) for n in range(10))) == list(range(10))
        await asyncio.gather(*jobs)


async def test_whoever_waits_for_room_gets_it_though_those_before_it_fail_or_leave(node: NodeProcess) -> None:
    async with connected(node, max_pending=1) as client:
        await client.wait_ready("add")
        busy = client.submit("nap", 0.1)
        wrong = asyncio.ensure_future(client.call("add", 1, 2, 3))
        leaves = asyncio.ensure_future(client.call("add", 1))
        good = asyncio.ensure_future(client.call("add", 5))
        await asyncio.sleep(0)
        await busy
        leaves.cancel()
        async with asyncio.timeout(10):
            assert await good == 5
        with pytest.raises(BadArguments):
            await wrong
        with pytest.raises(asyncio.CancelledError):
            await leaves


# cancelling


async def test_a_job_that_waits_is_cancelled_before_it_starts(client: mesh.Client, tmp_path: Path) -> None:
    busy = [client.submit("nap", 0.3) for _ in range(2)]
    jobs = [client.submit("note", str(tmp_path / "notes"), "x") for _ in range(10)]
    for job in jobs:
        job.cancel()
    for job in jobs:
        with pytest.raises(JobCancelled):
            await job
    await asyncio.gather(*busy)
    assert not (tmp_path / "notes").exists()


async def test_a_job_that_runs_is_stopped_inside_its_task(client: mesh.Client) -> None:
    job = client.submit("nap", 20.0)
    await until_started(client, job)
    job.cancel()
    with pytest.raises(JobCancelled) as caught:
        await job
    assert caught.value.started
    assert await client.call("nap", 0.01) > 0


async def test_a_cancelled_await_cancels_the_job_only_when_it_was_the_last(
    node: NodeProcess, tmp_path: Path, gate: Gate
) -> None:
    async with Operator(seeds=[node.seed], mdns=False) as client:
        await client.wait_ready()
        busy = [client.submit("held", gate.path) for _ in range(2)]
        shared = client.submit("note", str(tmp_path / "shared"), "x")
        alone = client.submit("note", str(tmp_path / "alone"), "x")

        async def wait(job: mesh.Job[Any]) -> Any:
            return await job

        one, other, only = (asyncio.ensure_future(wait(job)) for job in (shared, shared, alone))
        await asyncio.sleep(0.05)
        one.cancel()
        only.cancel()
        await asyncio.wait((one, only))
        await client.ask(client.nodes()[0], "status", timeout=20)  # what was said before it has been heard too
        gate.open()
        assert await other is None
        with pytest.raises(JobCancelled):
            await alone
        await asyncio.gather(*busy)
    assert (tmp_path / "shared").exists()
    assert not (tmp_path / "alone").exists()


async def test_a_result_that_is_not_there_in_time_leaves_the_job_alone(client: mesh.Client, gate: Gate) -> None:
    job = client.submit("held", gate.path)
    with pytest.raises(TimeoutError, match=r"has not ended within 0.05 s; it goes on"):
        await job.result(timeout=0.05)
    waiter = asyncio.ensure_future(job.result())
    await asyncio.sleep(0.01)
    waiter.cancel()
    await asyncio.wait((waiter,))
    gate.open()
    assert await job == gate.path


# opening and closing


async def test_a_client_is_opened_once_and_says_so_when_it_is_not_open(node: NodeProcess) -> None:
    client = connected(node)
    with pytest.raises(ClosedError, match="open this client first: async with Client"):
        await client.call("add", 1)
    with pytest.raises(ClosedError, match="open this client first"):
        await client.wait_ready()
    with pytest.raises(ClosedError, match="open this client first"):
        async for _ in client.map("add", [1], ordered=False):
            pass
    async with client:
        with pytest.raises(ClosedError, match="opened once"):
            await client.open()
    for again in (client.open(), client.call("add", 1), client.wait_ready()):
        with pytest.raises(ClosedError):
            await again
    await client.close()


async def test_closing_with_a_bound_ends_what_is_left_and_says_what_may_have_run(node: NodeProcess, gate: Gate) -> None:
    client = connected(node)
    await client.open()
    await client.wait_ready()
    jobs = [client.submit("held", gate.path) for _ in range(10)]
    accepted = asyncio.ensure_future(jobs[9].accepted())
    await until_started(client, jobs[0])
    async with asyncio.timeout(10):  # the jobs themselves would not end
        await client.close(timeout=0.1)
    started = set()
    for job in jobs:
        with pytest.raises(ClosedError) as caught:
            await job
        started.add((job.node is not None, caught.value.started))
    assert started == {(True, True), (False, False)}
    await accepted


async def test_whoever_goes_on_handing_in_jobs_does_not_keep_a_client_open(node: NodeProcess, gate: Gate) -> None:
    going_on: list[Callable[[mesh.Client], Any]] = [
        lambda client: client.call("add", 1),
        lambda client: asyncio.gather(client.submit("add", 1)),
        lambda client: anext(client.map("add", [1])),
    ]
    refused: list[ClosedError] = []

    async def go_on(client: mesh.Client, hand_in: Callable[[mesh.Client], Any]) -> None:
        try:
            while True:
                with suppress(MeshBusy):
                    await hand_in(client)
                await asyncio.sleep(0)
        except ClosedError as error:
            refused.append(error)

    async with asyncio.timeout(20):
        async with connected(node, max_pending=10) as client:
            await client.wait_ready()
            tasks = [asyncio.ensure_future(go_on(client, hand_in)) for hand_in in going_on]
            await asyncio.sleep(0.1)
            jobs = [client.submit("held", gate.path) for _ in range(4)]
            rest = [asyncio.ensure_future(client.call("nap", 0.01)) for _ in range(20)]
            asyncio.get_running_loop().call_later(0.5, gate.open)
        await asyncio.gather(*tasks)
        await asyncio.gather(*jobs)
        await asyncio.gather(*rest)  # those that waited for room had come before
    assert len(refused) == 3
    assert any("takes no more" in str(error) for error in refused)
    assert {error.started for error in refused} == {False}


@pytest.mark.parametrize("ordered", [True, False])
async def test_a_map_that_goes_on_while_its_client_is_closed_yields_what_it_had_under_way(
    node: NodeProcess, *, ordered: bool
) -> None:
    client = connected(node)
    await client.open()
    await client.wait_ready()
    given: list[int] = []
    yielded: list[int] = []

    def numbers() -> Iterator[int]:
        for number in count():
            given.append(number)
            yield number

    async def go_on() -> None:
        async for number in client.map("add", numbers(), ordered=ordered, in_flight=20):
            yielded.append(number)

    going_on = asyncio.ensure_future(go_on())
    async with asyncio.timeout(20):
        await until(lambda: len(yielded) > 100)
        await client.close()
        with pytest.raises(ClosedError) as caught:
            await going_on
    assert caught.value.started is False
    assert sorted(yielded) == given


async def test_a_map_that_waits_for_room_takes_no_further_element_once_its_client_is_being_closed(
    node: NodeProcess, gate: Gate
) -> None:
    client = connected(node, max_pending=4)
    await client.open()
    await client.wait_ready()
    jobs = [client.submit("held", gate.path) for _ in range(4)]
    given: list[int] = []

    def numbers() -> Iterator[int]:
        for number in count():
            given.append(number)
            yield number

    going_on = asyncio.ensure_future(anext(client.map("add", numbers())))
    await until(lambda: given == [0])
    closing = asyncio.ensure_future(client.close())
    await until(lambda: client._closing)
    gate.open()
    async with asyncio.timeout(20):
        await closing
        await asyncio.gather(*jobs)
        assert await going_on == 0
    assert given == [0]


async def test_a_second_close_with_a_bound_ends_the_first_too(node: NodeProcess, gate: Gate) -> None:
    client = connected(node)
    await client.open()
    await client.wait_ready()
    job = client.submit("held", gate.path)
    await until_started(client, job)
    leaving = asyncio.ensure_future(client.close())
    await asyncio.sleep(0.05)
    async with asyncio.timeout(10):  # the job itself would not end
        await client.close(timeout=0.05)
        await leaving
    with pytest.raises(ClosedError):
        await job


async def test_an_application_that_is_cancelled_does_not_wait_for_its_jobs(node: NodeProcess, gate: Gate) -> None:
    jobs = []
    started = asyncio.Event()

    async def application() -> None:
        async with connected(node) as client:
            await client.wait_ready()
            jobs.append(client.submit("held", gate.path))
            await until_started(client, jobs[0])
            started.set()
            await asyncio.Event().wait()

    running = asyncio.ensure_future(application())
    await started.wait()
    running.cancel()
    async with asyncio.timeout(10):  # its job would not end
        await asyncio.wait((running,))
    with pytest.raises(ClosedError):
        await jobs[0]


async def leave_behind_a_call(client: mesh.Client) -> None:
    await client.call("nap", 0.0)  # handed in before a node was known


async def leave_behind_a_job_with_a_time(client: mesh.Client) -> None:
    await client.wait_ready()
    await until_started(client, client.submit("hurried", 2.0))
    await client.close(timeout=0)


async def leave_behind_a_retry(client: mesh.Client) -> None:
    await client.wait_ready()
    job = client.submit("later")
    await until(lambda: job.attempt == 2)
    await client.close(timeout=0)


async def leave_behind_a_cancelled_job(client: mesh.Client) -> None:
    await client.wait_ready()
    client.submit("nap", 2.0).cancel()
    await client.close(timeout=0)


async def leave_behind_a_kept_job(client: mesh.Client) -> None:
    await client.wait_ready()
    client.submit("nap", 0.0).detach()
    await client.close(timeout=0)


async def leave_behind_a_cancelled_call(client: mesh.Client) -> None:
    await client.wait_ready()
    calling = asyncio.ensure_future(client.call("nap", 2.0))
    await asyncio.sleep(0.1)
    calling.cancel()
    await asyncio.wait((calling,))


@pytest.mark.parametrize(
    "use",
    [
        leave_behind_a_call,
        leave_behind_a_job_with_a_time,
        leave_behind_a_retry,
        leave_behind_a_cancelled_job,
        leave_behind_a_kept_job,
        leave_behind_a_cancelled_call,
    ],
)
async def test_a_client_that_was_left_is_kept_alive_by_none_of_its_jobs(
    node: NodeProcess, use: Callable[[mesh.Client], Awaitable[None]]
) -> None:
    client = connected(node)
    async with client:
        await use(client)
    gone = weakref.ref(client)
    del client
    async with asyncio.timeout(10):
        while gone() is not None:  # asyncio keeps a timer that was cancelled, and its context, until its time
            await asyncio.sleep(0.2)
            gc.collect()


async def test_whoever_keeps_books_of_all_jobs_harms_none_by_failing(
    node: NodeProcess, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[bytes] = []

    def fail(record: JobRecord) -> None:
        told.append(record.id)
        raise RuntimeError("a fault of the application's")

    async with connected(node) as client:
        client.on_end = fail
        jobs = [client.submit("nap", 0.0) for _ in range(3)]
        for job in jobs:
            assert await job > 0
    assert sorted(told) == sorted(job.id for job in jobs)
    assert [record.getMessage() for record in caplog.records] == ["on_end failed for a job of task 'nap'"] * 3


async def test_leaving_that_is_cancelled_while_it_waits_leaves_nothing_open(node: NodeProcess, gate: Gate) -> None:
    leaving = asyncio.Event()

    async def application() -> None:
        async with connected(node) as client:
            await client.wait_ready()
            job = client.submit("held", gate.path)
            await until_started(client, job)
            leaving.set()

    running = asyncio.ensure_future(application())
    await leaving.wait()
    running.cancel()
    await asyncio.wait((running,))
    assert running.cancelled()


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"mdns": False}, "needs seeds"),
        ({"seeds": "web7:5750"}, r"seeds is a list of addresses: seeds=\['web7:5750'\]"),
        ({"seeds": ["web7:x"]}, "the port must be a number"),
        ({"mesh": "x" * 64}, "1 to 63 characters, not 64"),
        ({"mesh": ""}, "1 to 63 characters, not 0"),
        ({"max_pending": 0}, "max_pending is at least 1"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused(options: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        mesh.Client(**options)


async def test_a_client_starts_no_thread_whatever_it_carries(node: NodeProcess) -> None:
    before = threading.enumerate()
    async with connected(node) as client:
        await client.wait_ready()
        assert await client.call("size", b"x" * (3 << 20)) == 3 << 20
        assert len(await client.call("blob", 3 << 20)) == 3 << 20
        assert threading.enumerate() == before
    assert threading.enumerate() == before


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_it_works_on_both_loops(node: NodeProcess, run: Any) -> None:
    async def application() -> list[int]:
        async with connected(node) as client:
            assert await client.call("coro", 0.01) == "done"
            return [x async for x in client.map("noop", range(2000))]

    work: Coroutine[Any, Any, list[int]] = application()
    assert run(work) == list(range(2000))


# several nodes


async def test_nodes_are_shown_as_they_are(client: mesh.Client, node: NodeProcess) -> None:
    (info,) = client.nodes()
    assert (info.endpoint, info.state, info.workers, info.outstanding) == (node.endpoint, "alive", 2, 0)
    assert "add" in info.tasks
    assert client.tasks()["add"].signature == "(a: int, b: int = 0) -> int"
    assert client.tasks()["add"].doc == "Add two numbers."


async def test_two_seeds_of_one_node_are_one_node(node: NodeProcess) -> None:
    port = node.seed.rpartition(":")[2]
    async with mesh.Client(seeds=[f"127.0.0.1:{port}", f"127.0.0.2:{port}", f"localhost:{port}"], mdns=False) as client:
        await client.wait_ready()
        assert [x async for x in client.map("noop", range(100))] == list(range(100))
        assert len(client.nodes()) == 1


async def test_wait_ready_says_what_it_waited_for(client: mesh.Client) -> None:
    with pytest.raises(NoNodes, match=r"waited 0.1 s for 2 nodes serving 'add': 1 there"):
        await client.wait_ready("add", nodes=2, timeout=0.1)
    with pytest.raises(NoNodes, match=r"waited 0.1 s for 1 node serving 'nosuch': 0 there"):
        await client.wait_ready("nosuch", timeout=0.1)


async def test_two_nodes_share_the_load(folder: Path) -> None:
    with NodeProcess(folder, workers=2) as one, NodeProcess(folder, workers=2) as other:
        async with connected(one, other) as client:
            await client.wait_ready(nodes=2)
            shares = []
            for _ in range(5):  # a node that a busy machine lets stand still takes less, which is right
                jobs = [client.submit("nap", 0.05) for _ in range(100)]
                await asyncio.gather(*jobs)
                shares.append(Counter(job.node for job in jobs))
                if len(shares[-1]) == 2 and min(shares[-1].values()) >= 40:
                    break
            else:
                pytest.fail(f"they never shared it evenly: {shares}")
            assert all(len(share) == 2 for share in shares)


async def test_a_node_that_is_told_to_stop_finishes_what_runs_and_the_rest_goes_elsewhere(
    folder: Path, gate: Gate
) -> None:
    with NodeProcess(folder, workers=2) as leaving, NodeProcess(folder, workers=2) as staying:
        async with connected(leaving, staying) as client:
            await client.wait_ready(nodes=2)
            names = {info.endpoint: info.name for info in client.nodes()}
            jobs = [client.submit("held", gate.path) for _ in range(4)]
            await until_started(client, *jobs)  # two run at each
            jobs += [client.submit("nap", 0.15) for _ in range(36)]
            leaving.signal(signal.SIGTERM)
            await asyncio.to_thread(leaving.wait_for_log, "stopping: finishing what runs")
            gate.open()
            await asyncio.gather(*jobs)
            assert await asyncio.to_thread(leaving.wait) == 0
            share = Counter(job.node for job in jobs)
            assert share[names[leaving.endpoint]] >= 2
            assert share[names[staying.endpoint]] >= 20
            await until(lambda: [info.endpoint for info in client.nodes()] == [staying.endpoint])


async def test_a_killed_node_costs_what_was_sent_there_and_returns_when_it_is_started_again(
    folder: Path, gate: Gate
) -> None:
    where = lasting_address()
    with NodeProcess(folder, workers=2, bind=where) as dying, NodeProcess(folder, workers=2) as staying:
        async with connected(dying, staying) as client:
            await client.wait_ready(nodes=2)
            names = {info.endpoint: info.name for info in client.nodes()}
            jobs = [client.submit("held", gate.path) for _ in range(20)]
            await until_started(client, *jobs[:2])
            sent = [job for job in jobs if job.node == names[dying.endpoint] and not job.done()]
            dying.kill()
            killed = time.monotonic()
            lost = []
            for job in sent:
                with pytest.raises(JobLost) as caught:
                    await job
                lost.append(caught.value.started)
            took = time.monotonic() - killed
            print(f"JobLost {took * 1000:.1f} ms after the kill of the node")
            assert took < SUSPECT_S, "the lost connection tells, not the silence"
            assert lost
            assert set(lost) == {True}
            assert len(lost) <= 6
            gate.open()
            others = await asyncio.gather(*jobs, return_exceptions=True)
            assert sum(isinstance(outcome, JobLost) for outcome in others) == len(lost)
            with NodeProcess(folder, workers=2, bind=where):
                await client.wait_ready(nodes=2, timeout=10)


async def test_a_node_that_said_goodbye_is_looked_for_often_at_first() -> None:
    """Eleven waits come to 2 s at most; where the bound doubles, to 9 s on average."""
    with FakeNode(Bye()) as leaving:
        async with mesh.Client(seeds=[leaving.seed], mdns=False):
            await until(lambda: leaving.greetings >= 1)
            begun = time.monotonic()
            await until(lambda: leaving.greetings >= 12)
            assert time.monotonic() - begun < 5.0


def test_whoever_greets_a_node_that_leaves_hears_goodbye(folder: Path) -> None:
    """It listens until its announcement is withdrawn: a quarter of a second, less what its workers take to end."""
    for _ in range(5):  # should those, or this process, take just so long
        name = f"test-{secrets.token_hex(4)}"
        with (
            NodeProcess(folder, "--mdns", "--mesh", name) as node,
            Peer(node.endpoint) as known,
            Peer(node.endpoint) as late,
        ):
            known.hello(mesh=name)
            late.ping()
            assert late.hear(PATIENCE_S) == [Stranger()]  # connected
            node.signal(signal.SIGTERM)
            heard: list[NodeItem] = []
            while Bye() not in heard:
                items = known.hear(PATIENCE_S)
                assert items
                heard += items
                if Drain() in items:
                    known.ping()
            late.hello(mesh=name)
            answer = late.hear(PATIENCE_S)
        if answer:
            break
    assert answer == [Bye()]


async def test_a_killed_node_leaves_no_worker_and_its_port_is_free_at_once(folder: Path) -> None:
    with NodeProcess(folder, workers=4) as dying:
        family = dying.family()
        assert len(family) == 5
        dying.kill()
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            host, _, port = dying.seed.rpartition(":")
            probe.bind((host, int(port)))
        assert psutil.wait_procs(family, timeout=10.0)[1] == []


async def test_a_killed_worker_costs_only_the_job_that_it_ran_of_all_that_lay_in_its_socket(folder: Path) -> None:
    latencies = []
    with NodeProcess(folder, workers=1) as node:
        async with connected(node) as client:
            await client.wait_ready()
            for _ in range(3):
                (pid,) = set(await asyncio.gather(*(client.submit("usually_short") for _ in range(2000))))
                slow, *behind = [client.submit("usually_short", 20.0 * (n == 0)) for n in range(65)]
                await until_started(client, slow)
                os.kill(pid, signal.SIGKILL)
                killed = time.monotonic()
                with pytest.raises(JobLost, match="SIGKILL") as caught:
                    await slow
                latencies.append(time.monotonic() - killed)
                assert caught.value.started is True
                (successor,) = set(await asyncio.gather(*behind))
                assert successor != pid
    print("JobLost after the kill of a worker:", ", ".join(f"{took * 1000:.1f} ms" for took in latencies))
    assert min(latencies) < 0.5


# bodies


@pytest.mark.parametrize("mib", [1, 20])
async def test_large_bodies_travel_both_ways(client: mesh.Client, mib: int) -> None:
    body = os.urandom(1 << 20) * mib
    assert await client.call("size", body) == len(body)
    assert len(await client.call("blob", mib << 20)) == mib << 20


async def test_many_bodies_of_one_turn_are_split_over_messages(client: mesh.Client) -> None:
    bodies = [b"x" * (64 << 10)] * 256
    jobs = [client.submit("size", body) for body in bodies]
    small = [client.submit("size", b"x" * 20_000) for _ in range(800)]
    assert set(await asyncio.gather(*jobs)) == {64 << 10}
    assert set(await asyncio.gather(*small)) == {20_000}


async def test_bodies_arrive_as_they_were_although_their_sender_lets_go_of_them_at_once(client: mesh.Client) -> None:
    around = (32 << 10, 64 << 10, LARGE, DATAGRAM, 1 << 20)
    sizes = [size + more for size in around for more in (-100, -1, 0, 1)] * 3
    digests, jobs = [], []
    for size in sizes:
        body = os.urandom(size)
        digests.append(hashlib.sha256(body).digest())
        jobs.append(client.submit("echoed", body))
        del body
    for job, size, digest in zip(jobs, sizes, digests, strict=True):
        litter = bytearray(b"\xff" * size)  # where something might be used again too soon
        result = await job
        del litter
        assert (len(result), hashlib.sha256(result).digest()) == (size, digest)


async def test_bodies_in_a_buffer_that_their_sender_uses_again_arrive_as_they_were(client: mesh.Client) -> None:
    buffer = bytearray(200_000)
    jobs = []
    for number in range(20):
        buffer[:] = bytes([number]) * len(buffer)
        jobs.append(client.submit("echoed", buffer))
    for number, job in enumerate(jobs):
        assert await job == bytes([number]) * len(buffer)


# strangers


async def test_rubbish_from_strangers_disturbs_nobody(client: mesh.Client, node: NodeProcess) -> None:
    context = zmq.Context()
    host, _, port = node.seed.rpartition(":")
    hello = encode_client(ClientMessage(b"", 0, [Hello(MAGIC, *VERSIONS, "default", "odd")]))
    try:
        with context.socket(zmq.DEALER) as dealer:
            dealer.set(zmq.LINGER, 0)
            dealer.connect(node.endpoint)
            for frames in ([b""], [b"\xc1"], [os.urandom(200)], [b"\x93\xc4\x00\x00\x91\xc1"], [b"x"] * 5000, hello):
                dealer.send_multipart(frames)
            for _ in range(500):
                dealer.send_multipart([os.urandom(n % 50) for n in range(1, 4)])
            for line in (b"GET / HTTP/1.1\r\n\r\n", os.urandom(5000), b"\xff" + bytes(9), b""):
                with socket.create_connection((host, int(port)), timeout=10) as stream:
                    stream.sendall(line)
            assert [x async for x in client.map("noop", range(200))] == list(range(200))
            assert dealer.poll(10_000), "whoever greets is welcome, whatever it sent before"
    finally:
        context.term()
    assert client.nodes()[0].state == "alive"
    assert "Traceback" not in node.log


async def test_a_peer_that_is_no_node_is_left_alone_and_others_serve(node: NodeProcess) -> None:
    class Rubbish(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            assert isinstance(transport, asyncio.Transport)
            transport.write(os.urandom(100))
            transport.close()

    server = await asyncio.get_running_loop().create_server(Rubbish, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with mesh.Client(seeds=[f"127.0.0.1:{port}", node.seed], mdns=False) as client:
        assert [x async for x in client.map("noop", range(50))] == list(range(50))
        assert [info.endpoint for info in client.nodes()] == [node.endpoint]
    server.close()
    await server.wait_closed()


async def test_a_job_is_accepted_before_it_ends(client: mesh.Client, gate: Gate) -> None:
    job = client.submit("held", gate.path)
    await job.accepted()
    assert job.state in (ACCEPTED, STARTED)
    gate.open()
    await job
    await job.accepted()
