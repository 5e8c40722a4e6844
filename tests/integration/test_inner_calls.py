"""Tasks that call other tasks from inside a worker."""

import asyncio
from pathlib import Path

import pytest

from mesh.errors import JobTimeout, MeshBusy, UnknownTask
from tests.support.clients import connected
from tests.support.leaks import leak_check  # noqa: F401  # pytest finds it by its name
from tests.support.nodes import NodeProcess, write_tasks
from tests.support.processes import workers_of
from tests.support.waiting import until

TASKS = """
import asyncio, time


@mesh.task
def square(n: int) -> int:
    return n * n


@mesh.task
def sum_of_squares(count: int) -> int:
    return sum(mesh.context().call(square, n) for n in range(count))


@mesh.task
async def gathered(count: int) -> int:
    return sum(await asyncio.gather(*(square.call(n) for n in range(count))))


@mesh.task
def down(levels: int) -> int:
    return mesh.context().call("down", levels - 1) + 1 if levels else 0


@mesh.task
def fails(kind: str) -> None:
    mesh.context().call(raises if kind == "raises" else kind)


@mesh.task
def raises() -> None:
    raise ZeroDivisionError("inner")


@mesh.task
def slow() -> None:
    time.sleep(30)


@mesh.task(timeout=0.5)
def waits() -> None:
    mesh.context().call(slow)


@mesh.task
def large(size: int) -> int:
    return len(mesh.context().call(echo, b"x" * size))


@mesh.task
def echo(body: bytes) -> bytes:
    return body


@mesh.task
def own_loop() -> int:
    async def main() -> int:
        return await square.call(6)

    return asyncio.run(main())
"""


def app(tmp_path: Path) -> Path:
    write_tasks(tmp_path, TASKS)
    return tmp_path


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("task", ["sum_of_squares", "gathered"])
async def test_a_task_calls_another_though_all_workers_are_taken(tmp_path: Path, workers: int, task: str) -> None:
    with NodeProcess(app(tmp_path), workers=workers) as node:
        async with connected(node) as client, asyncio.timeout(20):
            jobs = [client.submit(task, 5) for _ in range(6)]
            assert await asyncio.gather(*jobs) == [30] * 6


async def test_spare_workers_come_for_a_chain_of_calls_and_go_when_it_has_ended(tmp_path: Path) -> None:
    with NodeProcess(app(tmp_path), workers=3) as node:
        async with connected(node) as client, asyncio.timeout(20):
            assert await client.call("down", 5) == 5
            await until(lambda: len(workers_of(node)) == 3)


async def test_a_chain_longer_than_all_spare_workers_ends_as_busy_and_not_never(tmp_path: Path) -> None:
    with NodeProcess(app(tmp_path), workers=2) as node:
        async with connected(node) as client, asyncio.timeout(20):
            with pytest.raises(MeshBusy, match="wait for jobs that they called"):
                await client.call("down", 10)
            assert await client.call("down", 3) == 3


async def test_what_an_inner_call_ends_with_is_raised_inside_the_task(tmp_path: Path) -> None:
    with NodeProcess(app(tmp_path), workers=2) as node:
        async with connected(node) as client, asyncio.timeout(20):
            with pytest.raises(ZeroDivisionError, match="inner"):
                await client.call("fails", "raises")
            with pytest.raises(UnknownTask):
                await client.call("fails", "nobody_serves_this")


async def test_an_inner_call_has_no_more_time_than_its_caller(tmp_path: Path) -> None:
    with NodeProcess(app(tmp_path), "--grace", "0.1", workers=2) as node:
        async with connected(node) as client, asyncio.timeout(20):
            job = client.submit("waits")
            with pytest.raises(JobTimeout):
                await job
            assert await client.call("square", 3) == 9


async def test_bodies_of_any_size_travel_with_inner_calls_and_from_a_loop_of_the_tasks_own(tmp_path: Path) -> None:
    with NodeProcess(app(tmp_path), workers=1) as node:
        async with connected(node) as client, asyncio.timeout(20):
            assert await client.call("large", 100) == 100
            assert await client.call("large", 1 << 20) == 1 << 20
            assert await client.call("own_loop") == 36
