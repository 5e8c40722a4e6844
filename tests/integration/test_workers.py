"""Worker processes that die, are killed, or are asked to end: what their jobs, their node and their successors do."""

import asyncio
import mmap
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import msgspec
import psutil
import pytest

import mesh
from mesh.errors import JobLost
from mesh.wire.messages import Result, Submit
from mesh.wire.payload import pack_arguments, unpack
from meshnode.worker.link import decode_ran, pack_orders, send
from meshnode.worker.zygote import WORDS as WORDS_EACH
from meshnode.worker.zygote import Config, Loaded, Order, decode_report
from tests.support.clients import connected, until_started
from tests.support.leaks import leak_check  # noqa: F401  # pytest finds it by its name
from tests.support.nodes import NodeProcess, lasting_address, write_tasks, write_with_and_without_coroutines
from tests.support.processes import descriptors_of, kill, suspended, until_ended, workers_of, zygote_of
from tests.support.waiting import until

TASKS = '''
import asyncio, ctypes, os, pathlib, subprocess, time


@mesh.task
def nap(seconds: float = 0.0) -> int:
    time.sleep(seconds)
    return os.getpid()


@mesh.task
def meet(folder: str, count: int) -> int:
    """Return when this many processes are here at the same time."""
    place = pathlib.Path(folder)
    place.mkdir(exist_ok=True)
    (place / str(os.getpid())).touch()
    deadline = time.monotonic() + 20
    while len(list(place.iterdir())) < count:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{len(list(place.iterdir()))} of {count} workers came")
        time.sleep(0.005)
    return os.getpid()


@mesh.task
def hang(path: str) -> None:
    """Tell the process, and stay."""
    pathlib.Path(path + ".new").write_text(str(os.getpid()))
    os.rename(path + ".new", path)
    time.sleep(60)


@mesh.task
def start_program(path: str) -> None:
    """Start a program, tell its process, and stay."""
    program = subprocess.Popen(["sleep", "60"])
    pathlib.Path(path + ".new").write_text(f"{os.getpid()} {program.pid}")
    os.rename(path + ".new", path)
    time.sleep(60)


@mesh.task
def wait_for(path: str) -> int:
    """Run until a file is there."""
    while not os.path.exists(path):
        time.sleep(0.005)
    return os.getpid()


@mesh.task
def leave() -> None:
    os._exit(3)


@mesh.task
def crash() -> None:
    ctypes.string_at(0)


@mesh.task
def turned(body: bytes) -> bytes:
    return body[::-1]


@mesh.task(idempotent=True)
def turned_once_there(body: bytes, path: str) -> bytes:
    """Wait for a file, if there is one to wait for."""
    while path and not os.path.exists(path):
        time.sleep(0.005)
    return body[::-1]
'''

COROUTINES = """

@mesh.task
async def turned_by_coroutine(body: bytes) -> bytes:
    await asyncio.sleep(0)
    return body[::-1]


@mesh.task
async def waits_with(body: bytes, path: str) -> int:
    while not os.path.exists(path):
        await asyncio.sleep(0.005)
    return len(body)


@mesh.task
async def wait(seconds: float) -> int:
    await asyncio.sleep(seconds)
    return os.getpid()


@mesh.task
async def wait_beside_others(path: str) -> int:
    while not os.path.exists(path):
        await asyncio.sleep(0.005)
    return os.getpid()
"""

OVERLAP = '''
import asyncio, os, time


def tell(what, number):
    descriptor = os.open("told", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(descriptor, f"{os.getpid()} {what} {number}\\n".encode())
    os.close(descriptor)


@mesh.task(bridge=True)
async def coro(number: int) -> int:
    """Tell when it begins and ends, and let others run in between."""
    tell("begin", number)
    for _ in range(3):
        await asyncio.sleep(0.001)
    tell("end", number)
    return number


@mesh.task(bridge=True)
def sync(number: int) -> int:
    tell("begin", number)
    time.sleep(0.001)
    tell("end", number)
    return number
'''

LIFESPAN = '''
import os, signal, time

def tell(what):
    descriptor = os.open("told", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(descriptor, f"{os.getpid()} {what}\\n".encode())
    os.close(descriptor)


@mesh.lifespan
KIND def around(state):
    """Tells when it begins and when it ends."""
    time.sleep(0.05)
    tell("up")
    state.since = os.getpid()
    yield
    tell("down")


@mesh.task
def job(seconds: float = 0.0) -> bool:
    tell("job")
    time.sleep(seconds)
    return mesh.context().state.since == os.getpid()
'''


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_with_and_without_coroutines(tmp_path_factory.mktemp("app"), TASKS, COROUTINES)


async def told(path: Path) -> list[int]:
    """Wait for the process ids that a task writes to a file."""
    await until(path.exists)
    return numbers_in(path)


def numbers_in(path: Path) -> list[int]:
    return [int(word) for word in path.read_text().split()]


def memory_files_of(pid: int) -> list[str]:
    """Return the memory files of bodies that a process holds open."""
    return [name for name in descriptors_of(pid) if "meshnode-body" in name]


async def all_at_once(client: mesh.Client, place: Path, count: int) -> set[int]:
    """Have every worker of a node run a job at the same time; return their processes."""
    async with asyncio.timeout(25):
        return set(await asyncio.gather(*(client.submit("meet", str(place), count) for _ in range(count))))


# a worker dies


async def test_a_killed_worker_costs_its_own_job_only_and_is_replaced(folder: Path, tmp_path: Path) -> None:
    with NodeProcess(folder, workers=4) as node:
        async with connected(node) as client:
            await client.wait_ready()
            victim = client.submit("hang", str(tmp_path / "pid"))
            others = [client.submit("wait_for", str(tmp_path / "go")) for _ in range(3)]
            await until_started(client, victim, *others)
            (pid,) = await told(tmp_path / "pid")
            os.kill(pid, signal.SIGKILL)
            with pytest.raises(JobLost, match="its worker was killed by SIGKILL") as caught:
                async with asyncio.timeout(10):
                    await victim
            assert caught.value.started is True
            assert not any(job.done() for job in others), "it is told while the others run"
            (tmp_path / "go").touch()
            survivors = set(await asyncio.gather(*others))
            assert len(survivors) == 3
            assert pid not in survivors
            present = await all_at_once(client, tmp_path / "place", 4)
            assert present > survivors
            assert pid not in present
            assert set(await asyncio.gather(*(client.submit("nap", 0.01) for _ in range(16)))) <= present
            assert client.nodes()[0].outstanding == 0
        node.wait_for_log(rf"process {pid}\) ended: its worker was killed by SIGKILL")


@pytest.mark.parametrize("module", ["tasks", "mixed"])
@pytest.mark.parametrize(
    ("task", "why"), [("leave", "its worker exited with status 3"), ("crash", "its worker was killed by SIGSEGV")]
)
async def test_a_task_that_ends_its_process_is_told_how(folder: Path, module: str, task: str, why: str) -> None:
    with NodeProcess(folder, module=module) as node:
        async with connected(node) as client:
            await client.wait_ready()
            with pytest.raises(JobLost, match=why) as caught:
                await client.call(task)
            assert caught.value.started is True
            async with asyncio.timeout(10):
                assert await client.call("nap") > 0


async def test_a_killed_worker_costs_all_the_coroutines_that_it_ran_and_no_others(folder: Path, tmp_path: Path) -> None:
    with NodeProcess(folder, "--concurrency", "4", module="mixed", workers=2) as node:
        async with connected(node) as client:
            await client.wait_ready()
            jobs = [client.submit("wait_beside_others", str(tmp_path / "go")) for _ in range(8)]
            await until_started(client, *jobs)
            pid = workers_of(node)[0].pid
            os.kill(pid, signal.SIGKILL)
            await until(lambda: sum(job.done() for job in jobs) == 4)
            (tmp_path / "go").touch()
            outcomes = await asyncio.gather(*jobs, return_exceptions=True)
            lost = [outcome for outcome in outcomes if isinstance(outcome, JobLost)]
            returned = [outcome for outcome in outcomes if isinstance(outcome, int)]
            assert (len(lost), len(returned)) == (4, 4)
            assert all(error.started for error in lost)
            assert pid not in returned
            async with asyncio.timeout(10):
                await asyncio.gather(*(client.submit("wait", 0.1) for _ in range(16)))


async def test_a_program_that_a_task_started_ends_with_its_worker(folder: Path, tmp_path: Path) -> None:
    with NodeProcess(folder) as node:
        async with connected(node) as client:
            await client.wait_ready()
            job = client.submit("start_program", str(tmp_path / "pids"))
            worker, program = map(psutil.Process, await told(tmp_path / "pids"))
            worker.kill()
            with pytest.raises(JobLost):
                await job
            await until_ended([program])


async def test_a_worker_that_keeps_dying_young_is_replaced_every_time(folder: Path) -> None:
    with NodeProcess(folder) as node:
        async with connected(node) as client:
            await client.wait_ready()
            for _ in range(4):
                with pytest.raises(JobLost, match="status 3"):
                    await client.call("leave")
            async with asyncio.timeout(30):
                pid = await client.call("nap")
                while "another starts in 0.4 s" not in node.log:  # one that a busy machine let stand still died old
                    os.kill(pid, signal.SIGKILL)
                    pid = await client.call("nap")


# bodies


@pytest.mark.parametrize("task", ["turned", "turned_by_coroutine"])
async def test_bodies_too_large_for_a_datagram_come_back_as_they_were(folder: Path, task: str) -> None:
    with NodeProcess(folder, module="mixed", workers=2) as node:
        async with connected(node) as client:
            await client.wait_ready()
            bodies = [os.urandom(size) for size in (200_000, 10, 48 << 10, 64 << 10, 200_000, 0)] * 8
            results = await asyncio.gather(*(client.submit(task, body) for body in bodies))
            assert [result[::-1] for result in results] == bodies
            processes = [node.pid, *(worker.pid for worker in workers_of(node))]
            await until(lambda: not any(memory_files_of(pid) for pid in processes))


WORDS = 2 * mmap.PAGESIZE
"""Bytes that two workers' shelves keep once something has lain there."""


def shelves(pid: int) -> int:
    """Return the bytes of memory that lie on the shelves of a node's workers."""
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            if "meshnode-shelves" in str(descriptor.readlink()):
                return descriptor.stat().st_blocks * 512
    raise AssertionError("it has none")


@pytest.mark.parametrize("task", ["turned", "turned_by_coroutine"])
async def test_the_memory_of_large_bodies_is_handed_back_when_nothing_large_comes(folder: Path, task: str) -> None:
    with NodeProcess(folder, "--concurrency", "4", module="mixed", workers=2) as node:
        async with connected(node) as client:
            await client.wait_ready()
            assert shelves(node.pid) == 0
            bodies = [os.urandom(size) for size in (1 << 20, 40_000, 3 << 20, 5 << 20, 1 << 20)] * 4
            with suspended(workers_of(node)):  # so that what lies there stays until it was seen
                jobs = [client.submit(task, body) for body in bodies]
                await until(lambda: shelves(node.pid) > WORDS)
            assert [result[::-1] for result in await asyncio.gather(*jobs)] == bodies
            await until(lambda: shelves(node.pid) <= WORDS)


async def test_large_bodies_that_lie_behind_a_job_that_drags_on_are_taken_back_whole(
    folder: Path, tmp_path: Path
) -> None:
    with NodeProcess(folder, workers=2) as node:
        async with connected(node) as client:
            await client.wait_ready()
            short = [client.submit("turned_once_there", b"ab", "") for _ in range(200)]  # that they are short is known
            assert set(await asyncio.gather(*short)) == {b"ba"}
            go = tmp_path / "go"
            drags = client.submit("turned_once_there", bytes(50_000), str(go))
            bodies = [os.urandom(40_000 + number) for number in range(100)]
            jobs = [client.submit("turned_once_there", body, "") for body in bodies]
            async with asyncio.timeout(20):
                assert [result[::-1] for result in await asyncio.gather(*jobs)] == bodies
            assert not drags.done()
            go.touch()
            assert await drags == bytes(50_000)
            await until(lambda: shelves(node.pid) <= WORDS)


async def test_large_bodies_of_a_worker_that_dies_go_to_another_and_leave_no_memory_behind(
    folder: Path, tmp_path: Path
) -> None:
    with NodeProcess(folder, workers=2) as node:
        async with connected(node) as client:
            await client.wait_ready()
            go = tmp_path / "go"
            bodies = [os.urandom(1 << 20) for _ in range(6)]
            jobs = [client.submit("turned_once_there", body, str(go)) for body in bodies]
            await until_started(client, *jobs[:2])
            for worker in workers_of(node):
                kill(worker)
            go.touch()
            async with asyncio.timeout(20):
                assert [result[::-1] for result in await asyncio.gather(*jobs)] == bodies
            await until(lambda: shelves(node.pid) <= WORDS)


LIMITED = """
import resource, runpy

resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 30, 1 << 30))
runpy.run_module("meshnode", run_name="__main__", alter_sys=True)
"""


async def test_a_node_that_cannot_share_memory_says_so_and_serves_all_the_same(folder: Path) -> None:
    with NodeProcess(folder, program=("-c", LIMITED)) as node:
        node.wait_for_log("large bodies go to workers by files, which takes longer: .*File too large")
        async with connected(node) as client:
            await client.wait_ready()
            bodies = [os.urandom(size) for size in (1 << 20, 40_000, 3, 5 << 20)]
            results = await asyncio.gather(*(client.submit("turned", body) for body in bodies))
            assert [result[::-1] for result in results] == bodies


NO_DESCRIPTORS = '''
import os


@mesh.lifespan
def uses_all_descriptors(state):
    """Leaves the worker none."""
    state.held = []
    try:
        while True:
            state.held.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        yield


@mesh.task
def turned(body: bytes) -> bytes:
    return body[::-1]


@mesh.task
DEF beside(body: bytes) -> bytes:
    return body[::-1]
'''


@pytest.mark.parametrize("kind", ["def", "async def"])
async def test_a_worker_without_a_free_descriptor_takes_and_gives_bodies_that_lie_on_its_shelf(
    tmp_path: Path, kind: str
) -> None:
    write_tasks(tmp_path, NO_DESCRIPTORS.replace("DEF", kind))
    with NodeProcess(tmp_path) as node:
        async with connected(node) as client:
            await client.wait_ready()
            bodies = [os.urandom(size) for size in (50_000, 1 << 20)]
            for task in ("turned", "beside"):
                results = [await client.call(task, body) for body in bodies]
                assert [result[::-1] for result in results] == bodies


async def test_a_job_that_runs_for_long_takes_no_room_from_the_bodies_of_others(folder: Path, tmp_path: Path) -> None:
    with NodeProcess(folder, "--concurrency", "8", module="mixed") as node:
        async with connected(node) as client:
            await client.wait_ready()
            go = tmp_path / "go"
            long = [client.submit("waits_with", os.urandom(3 << 20), str(go)) for _ in range(4)]
            await until_started(client, *long)
            await until(lambda: shelves(node.pid) <= WORDS)
            go.touch()
            assert await asyncio.gather(*long) == [3 << 20] * 4


def test_a_zygote_says_whether_its_workers_share_memory_and_one_that_is_not_asked_has_workers_without(
    folder: Path,
) -> None:
    words = os.memfd_create("words", 0)
    os.truncate(words, 8 * WORDS_EACH)
    control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    command = [sys.executable, "-m", "meshnode.worker.zygote", str(theirs.fileno()), str(words), str(os.getpid())]
    with subprocess.Popen(command, pass_fds=(theirs.fileno(), words)) as zygote, control:
        theirs.close()
        os.close(words)
        control.settimeout(20)
        control.send(msgspec.msgpack.encode(Config("n", ["tasks"], str(folder), places=1, concurrency=1)))
        loaded = decode_report(control.recv(1 << 20))
        assert isinstance(loaded, Loaded)
        assert loaded.shelves is False
        assert decode_report(msgspec.msgpack.encode({"type": "loaded", "tasks": []})) == Loaded([])
        link, its_link = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        calls, its_calls = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with link, its_link, calls, its_calls:
            descriptors = [its_link.fileno(), its_calls.fileno()]
            socket.send_fds(control, [msgspec.msgpack.encode(Order(0, 0))], descriptors)
            link.settimeout(20)
            assert decode_ran(link.recv(100)) == []
            body = pack_arguments([bytes(100_000)], {})
            (packet,) = pack_orders(1, [Submit(bytes(16), 1, "turned", 0, None, None, body)])
            send(link, packet)
            (told,) = decode_ran(link.recv(1 << 20))
            assert told.place is None
            assert isinstance(told.ends[0], Result)
            assert unpack(told.ends[0].body) == bytes(100_000)
        control.shutdown(socket.SHUT_RDWR)
        assert zygote.wait(20) == 0


# one after another


def steps(folder: Path) -> list[tuple[int, str, int]]:
    """What tasks have told: process, what, which; and forget it."""
    told = [line.split() for line in (folder / "told").read_text().splitlines()]
    (folder / "told").unlink()
    return [(int(pid), what, int(number)) for pid, what, number in told]


def strictly(numbers: Iterable[int]) -> list[tuple[str, int]]:
    return [(what, number) for number in numbers for what in ("begin", "end")]


@pytest.fixture
def overlap(tmp_path: Path) -> Path:
    write_tasks(tmp_path, OVERLAP)
    return tmp_path


async def test_without_places_to_share_a_worker_runs_coroutines_strictly_one_after_another(overlap: Path) -> None:
    with NodeProcess(overlap, workers=2) as node:
        async with connected(node) as client:
            await client.wait_ready()
            for _ in range(2):  # unknown at first, then known to be steady
                tasks = ["coro", "coro", "coro", "sync"] * 15
                jobs = [client.submit(task, number) for number, task in enumerate(tasks)]
                assert await asyncio.gather(*jobs) == list(range(60))
                told = steps(overlap)
                for pid in {pid for pid, _, _ in told}:
                    mine = [(what, number) for told_by, what, number in told if told_by == pid]
                    assert mine == strictly(number for what, number in mine if what == "begin")
                assert len({number for _, _, number in told}) == 60


@pytest.mark.parametrize("concurrency", ["1", "4"])
async def test_a_plain_sockets_requests_run_strictly_one_after_another_whatever_runs_them(
    overlap: Path, concurrency: str
) -> None:
    with NodeProcess(overlap, "--concurrency", concurrency, workers=3, bridge=True) as node:
        host, _, port = node.bridge.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        async with asyncio.timeout(20):
            for tasks in (["coro"] * 40, ["coro", "sync", "coro", "coro", "sync"] * 8):
                asked = [
                    b'{"function": "%b", "args": [%d]}\n' % (task.encode(), number) for number, task in enumerate(tasks)
                ]
                writer.write(b"".join(asked[:20]))
                for request in asked[20:]:
                    writer.write(request)
                    await asyncio.sleep(0)
                assert [int(await reader.readline()) for _ in tasks] == list(range(40))
                assert [(what, number) for _, what, number in steps(overlap)] == strictly(range(40))
        writer.close()
        await writer.wait_closed()


async def test_coroutines_that_may_share_a_worker_do(overlap: Path) -> None:
    with NodeProcess(overlap, "--concurrency", "8", workers=1) as node:
        async with connected(node) as client:
            await client.wait_ready()
            assert await asyncio.gather(*(client.submit("coro", number) for number in range(40))) == list(range(40))
            told = [(what, number) for _, what, number in steps(overlap)]
            assert told != strictly(number for what, number in told if what == "begin")


# the node dies, or is asked to end


async def test_after_a_kill_of_the_node_another_serves_at_the_same_port_at_once(folder: Path, tmp_path: Path) -> None:
    with NodeProcess(folder, workers=4, bind=lasting_address()) as dying:
        async with connected(dying) as client:
            await client.wait_ready()
            job = client.submit("hang", str(tmp_path / "pid"))
            (pid,) = await told(tmp_path / "pid")
            family = dying.family()
            assert pid in {process.pid for process in family}
            dying.kill()
            with NodeProcess(folder, workers=4, bind=dying.seed) as successor:
                with pytest.raises(JobLost):
                    await job
                async with connected(successor) as other, asyncio.timeout(10):
                    assert await other.call("nap") not in {process.pid for process in family}
                async with asyncio.timeout(20):
                    assert await client.call("nap") not in {process.pid for process in family}
            await until_ended(family)


async def test_a_node_that_is_asked_to_stop_delivers_what_runs_and_leaves_no_process(folder: Path) -> None:
    with NodeProcess(folder, workers=2) as node:
        async with connected(node) as client:
            await client.wait_ready()
            job = client.submit("nap", 0.5)
            await until_started(client, job)
            family = node.family()
            node.signal(signal.SIGTERM)
            assert await job in {process.pid for process in family}
            assert node.wait() == 0
            await until_ended(family)


async def test_a_job_beyond_the_grace_is_lost_and_the_node_ends_soon_with_all_that_it_started(
    folder: Path, tmp_path: Path
) -> None:
    grace_s = 0.3  # the job and the program that it starts would go on for 60 s
    with NodeProcess(folder, "--grace", f"{grace_s}", workers=2) as node:
        async with connected(node) as client:
            await client.wait_ready()
            job = client.submit("start_program", str(tmp_path / "pids"))
            worker, program = await told(tmp_path / "pids")
            family = node.family()
            assert {worker, program} < {process.pid for process in family}
            began = time.monotonic()
            node.signal(signal.SIGTERM)
            with pytest.raises(JobLost, match="the node stopped before it ended") as caught:
                async with asyncio.timeout(grace_s + 10):
                    await job
            assert time.monotonic() - began >= grace_s
            assert caught.value.started is True
            assert await asyncio.to_thread(node.wait, 10) == 5
            await until_ended(family)


# the zygote dies


async def test_a_killed_zygote_costs_what_ran_and_is_replaced_with_all_its_workers(
    folder: Path, tmp_path: Path
) -> None:
    with NodeProcess(folder, workers=2) as node:
        async with connected(node) as client:
            await client.wait_ready()
            running = [client.submit("hang", str(tmp_path / name)) for name in ("one", "other")]
            waiting = [client.submit("nap") for _ in range(20)]
            await until_started(client, *running)
            before = {worker.pid for worker in workers_of(node)}
            zygote_of(node).kill()
            for job in running:  # they would run for 60 s
                with pytest.raises(JobLost, match="its zygote died") as caught:
                    async with asyncio.timeout(10):
                        await job
                assert caught.value.started is True
            async with asyncio.timeout(20):
                after = set(await asyncio.gather(*waiting))
            assert not after & before
            assert len(await all_at_once(client, tmp_path / "place", 2)) == 2
        node.wait_for_log(r"the zygote ended \(was killed by SIGKILL")
        assert node.stop() == 0


async def test_a_worker_that_was_to_be_replaced_is_not_started_twice_when_the_zygote_dies(folder: Path) -> None:
    with NodeProcess(folder, workers=1) as node:
        async with connected(node) as client:
            await client.wait_ready()
            for _ in range(4):
                with pytest.raises(JobLost):
                    await client.call("leave")
            zygote_of(node).kill()
            node.wait_for_log("its workers with it")
            await until(lambda: len(workers_of(node)) == 1)
            async with asyncio.timeout(10):  # longer than the successor that was due would have waited
                await asyncio.gather(*(client.submit("nap", 0.05) for _ in range(20)))
            assert len(workers_of(node)) == 1


async def test_an_application_that_no_longer_imports_leaves_the_node_unhealthy_until_it_does(
    tmp_path: Path,
) -> None:
    write_tasks(tmp_path, TASKS)
    with NodeProcess(tmp_path) as node:
        async with connected(node) as client:
            await client.wait_ready()
            write_tasks(tmp_path, "1 / 0\n")
            zygote_of(node).kill()
            node.wait_for_log("unhealthy: the application cannot be loaded any more")
            node.wait_for_log("ZeroDivisionError")
            waiting = client.submit("nap")
            write_tasks(tmp_path, TASKS)
            node.wait_for_log("healthy again")
            assert await waiting > 0


async def test_an_application_that_serves_other_tasks_after_its_zygote_was_lost_says_so(
    tmp_path: Path,
) -> None:
    write_tasks(tmp_path, TASKS)
    with NodeProcess(tmp_path) as node:
        async with connected(node) as client:
            await client.wait_ready()
            write_tasks(tmp_path, "@mesh.task\ndef other() -> int:\n    return 7\n")
            zygote_of(node).kill()
            await until(lambda: list(client.tasks()) == ["other"])
            assert await client.call("other") == 7


# lifespans


def told_by(folder: Path) -> dict[int, list[str]]:
    """What each process has told so far."""
    story: dict[int, list[str]] = {}
    for line in (folder / "told").read_text().splitlines():
        word, what = line.split()
        story.setdefault(int(word), []).append(what)
    return story


@pytest.mark.parametrize("kind", ["", "async"])
async def test_a_lifespan_surrounds_the_jobs_of_each_worker_once(tmp_path: Path, kind: str) -> None:
    write_tasks(tmp_path, LIFESPAN.replace("KIND def", f"{kind} def".strip()))
    with NodeProcess(tmp_path, workers=3) as node:
        began = {worker.pid for worker in workers_of(node)}
        async with connected(node) as client:
            await client.wait_ready()
            assert all(await asyncio.gather(*(client.submit("job", 0.02) for _ in range(30))))
            victim = workers_of(node)[0].pid
            os.kill(victim, signal.SIGKILL)
            node.wait_for_log(rf"process {victim}\) ended")
            await until(lambda: len(workers_of(node)) == 3)
            assert all(await asyncio.gather(*(client.submit("job", 0.02) for _ in range(30))))
            jobs = 60
            ended = {worker.pid for worker in workers_of(node)}
            async with asyncio.timeout(20):
                while any("job" not in told_by(tmp_path).get(pid, []) for pid in ended):  # one may be about to set up
                    assert all(await asyncio.gather(*(client.submit("job", 0.02) for _ in range(3))))
                    jobs += 3
        assert node.stop() == 0
    story = told_by(tmp_path)
    assert story.keys() == began | ended
    for pid, steps in story.items():
        assert steps[0] == "up"
        assert steps.count("up") == 1
        assert ("down" in steps) == (pid != victim)
        assert "down" not in steps[:-1]
    assert sum(steps.count("job") for steps in story.values()) == jobs


def test_a_lifespan_that_raises_shows_its_traceback_and_is_tried_again_until_it_does_not(tmp_path: Path) -> None:
    source = LIFESPAN.replace("KIND def", "def").replace(
        'tell("up")', "assert not os.path.exists('broken'); tell('up')"
    )
    (tmp_path / "broken").touch()
    write_tasks(tmp_path, source)
    node = NodeProcess(tmp_path)

    def mend() -> None:
        deadline = time.monotonic() + 30
        while "unhealthy" not in node.log and time.monotonic() < deadline:
            time.sleep(0.02)
        (tmp_path / "broken").unlink()

    mending = threading.Thread(target=mend)
    mending.start()
    with node:
        mending.join()
        assert "AssertionError" in node.log
        assert "no worker can set up (its worker exited with status 1)" in node.log
        assert node.log.index("unhealthy") < node.log.index("is ready after")
