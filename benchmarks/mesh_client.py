"""A client of the mesh as an application runs it: on uvloop, through the public API, in this process."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

import uvloop

import mesh

R = TypeVar("R")

WARM_UP = 2000
"""Jobs before the clock runs: the node has measured the task's run time by then, and opened the window."""


def with_client(
    seeds: Sequence[str],
    work: Callable[[mesh.Client], Coroutine[Any, Any, R]],
    *,
    max_pending: int = 10_000,
    keys: str = "none",
) -> R:
    """Run `work` with a client that is connected to all of these nodes. `keys`: its folder of keys."""

    async def run() -> R:
        async with mesh.Client(seeds=seeds, mdns=False, max_pending=max_pending, keys=keys) as client:
            await client.wait_ready("noop", nodes=len(seeds))
            return await work(client)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(run())


async def submit_and_await(client: mesh.Client, jobs: int) -> None:
    """Hand in all, then await each, as an application does with a thousand mails."""
    for job in [client.submit("noop") for _ in range(jobs)]:
        await job


async def map_all(client: mesh.Client, jobs: int) -> None:
    """Map the no-op over as many values, and take the results as they come."""
    async for _ in client.map("noop", range(jobs), ordered=False):
        pass


async def rate(jobs: int, work: Coroutine[Any, Any, None]) -> float:
    """Do the work, which is so many jobs; jobs/s."""
    began = time.perf_counter()
    await work
    return jobs / (time.perf_counter() - began)


def percentiles(seconds: list[float]) -> dict[str, float]:
    """Return p50 and p99 in µs."""
    ranked = sorted(seconds)
    return {"p50": ranked[len(ranked) // 2] * 1e6, "p99": ranked[len(ranked) * 99 // 100] * 1e6}


async def one_at_a_time(client: mesh.Client, jobs: int) -> dict[str, float]:
    """Call and wait, again and again; p50 and p99 in µs."""
    taken: list[float] = []
    for _ in range(jobs):
        began = time.perf_counter()
        await client.call("noop")
        taken.append(time.perf_counter() - began)
    return percentiles(taken)
