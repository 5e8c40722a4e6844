"""As work grows: more jobs at once through one client, what a waiting job holds, more workers, more clients."""

import asyncio
import gc
import itertools
import time
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

from rich.console import Console

import mesh
from benchmarks.mesh_client import WARM_UP, map_all, with_client
from benchmarks.mesh_node import MeshNode
from benchmarks.naps import NAP_S, nap_rate
from benchmarks.processes import CONTEXT, Child, in_child, rss_bytes
from benchmarks.rounds import Figure, Samples, Size, alternate
from benchmarks.several import alternate_several
from benchmarks.throughput import map_rate, submit_rate

FEW, SOME, MANY = 10_000, 100_000, 1_000_000
WORKERS = (1, 2, 8, 64)
CLIENTS = (1, 2, 4, 8)

WAITING = 200_000
"""Jobs that wait while their memory is looked at: so many that what the process holds besides does not show."""

START_S = 30.0
"""Seconds that a client may take until it is there."""

RUN_UP_S = 0.2
"""Seconds that all clients keep their windows full before the clock runs."""


def measure(size: Size, console: Console) -> list[Figure]:
    """Measure growth in every direction."""
    rounds = (size.rounds + 1) // 2  # a million jobs take seconds, three times in each
    return [
        _jobs(size, rounds, console),
        _memory(rounds, console),
        *_workers(size, rounds, console),
        _clients(size, rounds, console),
    ]


# more jobs


def rate_of_fresh_clients(seed: str, jobs: int, times: int) -> float:
    """Submit all jobs and await them, `times` over, each with a client of its own; jobs/s of all."""
    seconds = sum(jobs / submit_rate(seed, jobs) for _ in range(times))
    return jobs * times / seconds


def _jobs(size: Size, rounds: int, console: Console) -> Figure:
    """The smallest is run as often as it takes to come to as many jobs as the largest: they are what is compared."""
    most = size.of(MANY, least=SOME)
    sizes = sorted({FEW, SOME, most})
    names = {jobs: f"mesh, {jobs:,} at once" for jobs in sizes}
    times = {FEW: most // FEW, SOME: 2, most: 1}  # the last holds where they are one size
    with console.status(f"{rounds} × {most:,} jobs through one client"), MeshNode(2) as node:
        taken = alternate(
            rounds,
            {names[jobs]: partial(in_child, rate_of_fresh_clients, node.seed, jobs, times[jobs]) for jobs in sizes},
        )
    key = "million" if most == MANY else "jobs"
    return _grown(key, f"{most:,} no-op jobs handed in at once, a future a job", "jobs at once", sizes, taken)


# memory


def waiting_bytes(jobs: int) -> float:
    """Submit jobs that no node is there for; bytes a job in memory."""

    async def run() -> float:
        # A port that nobody listens at, and patience with it.
        client = mesh.Client(seeds=["127.0.0.1:1"], mdns=False, max_pending=2 * jobs, discovery_grace=600)
        await client.open()
        kept = [client.submit("noop") for _ in range(WARM_UP)]
        await asyncio.sleep(0.1)
        gc.collect()
        before = rss_bytes()
        kept += [client.submit("noop") for _ in range(jobs)]
        await asyncio.sleep(0.1)  # the session has taken them in
        held = (rss_bytes() - before) / jobs
        await client.close(timeout=0)
        return held

    return asyncio.run(run())


def _memory(rounds: int, console: Console) -> Figure:
    with console.status(f"{rounds} × {WAITING:,} jobs that wait"):
        (held,) = alternate(rounds, {"mesh, waiting in the client": partial(in_child, waiting_bytes, WAITING)})
    return Figure(
        "growth.memory",
        "a no-op job that waits",
        "bytes",
        held,
        note=f"what {WAITING:,} jobs that no node is there for add to the process, the caller's list of them too",
    )


# more workers


def _workers(size: Size, rounds: int, console: Console) -> list[Figure]:
    jobs = size.of(100_000)

    def rates(workers: int) -> dict[str, float]:
        with MeshNode(workers) as node:
            naps = size.of(round(workers / NAP_S), least=20)
            return {
                "workers": in_child(map_rate, node.seed, jobs),
                "napping": in_child(nap_rate, [node.seed], naps),
            }

    names = {workers: f"mesh, {workers} worker{'s' if workers > 1 else ''}" for workers in WORKERS}
    with console.status(f"{rounds} × {jobs:,} no-op jobs, and 10 ms jobs, on {', '.join(map(str, WORKERS))} workers"):
        taken = alternate_several(rounds, {name: partial(rates, workers) for workers, name in names.items()})
    return [
        _grown(key, f"{what}, 1 to {WORKERS[-1]} workers", "workers", WORKERS, list(taken[key].values()))
        for key, what in (("workers", "no-op jobs"), ("napping", "10 ms jobs"))
    ]


# more clients


def jobs_of_one(seed: str, seconds: float, line: "Connection[Any, Any]") -> int:
    """Connect, say so, and keep a window full when told from when on; jobs done within `seconds`."""

    async def work(client: mesh.Client) -> int:
        await map_all(client, WARM_UP)
        line.send("ready")
        begin: float = await asyncio.to_thread(line.recv)
        done = 0
        async for _ in client.map("noop", itertools.repeat(0), ordered=False):
            now = time.monotonic()
            if now >= begin + seconds:
                break
            done += now >= begin
        return done

    return with_client([seed], work)


def _sum_of_rates(seed: str, clients: int, seconds: float) -> float:
    lines = [CONTEXT.Pipe() for _ in range(clients)]
    with ExitStack() as stack:
        children = [stack.enter_context(Child(jobs_of_one, seed, seconds, theirs)) for _, theirs in lines]
        for child, (ours, _) in zip(children, lines, strict=True):
            child.await_word(ours, START_S)
        begin = time.monotonic() + RUN_UP_S
        for ours, _ in lines:
            ours.send(begin)
        return sum(child.result() for child in children) / seconds


def _clients(size: Size, rounds: int, console: Console) -> Figure:
    seconds = max(0.3, size.scale)
    names = {clients: "mesh, 1 client" if clients == 1 else f"mesh, {clients} clients" for clients in CLIENTS}
    with console.status(f"{rounds} × {seconds:g} s of 1 to {CLIENTS[-1]} clients"), MeshNode(2) as node:
        taken = alternate(
            rounds, {names[clients]: partial(_sum_of_rates, node.seed, clients, seconds) for clients in CLIENTS}
        )
    return _grown("clients", f"no-op jobs of 1 to {CLIENTS[-1]} clients together", "clients", CLIENTS, taken)


def _grown(key: str, title: str, what: str, amounts: Sequence[int], taken: Sequence[Samples]) -> Figure:
    """The rate at the largest amount against that at the smallest, and all of them as a line over `what`."""
    least, *between, most = taken
    points = [(float(amount), rates.median) for amount, rates in zip(amounts, taken, strict=True)]
    return Figure(f"growth.{key}", title, "jobs/s", most, reference=least, others=between, series={what: points})
