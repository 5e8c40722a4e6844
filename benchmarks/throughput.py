"""No-op jobs per second with the window full, through the public client, against C `zmq.proxy`."""

import tempfile
from functools import partial

from rich.console import Console

import mesh
from benchmarks import proxy
from benchmarks.mesh_client import WARM_UP, map_all, rate, submit_and_await, with_client
from benchmarks.mesh_node import MeshNode
from benchmarks.processes import in_child
from benchmarks.proxy import Proxy
from benchmarks.rounds import Figure, Samples, Size, alternate

SUBMIT = "mesh, submit and await each"
MAP = "mesh, map"
SINGLE = f"{proxy.NAME}, one message a job"
BATCHED = f"{proxy.NAME}, {proxy.BATCH} jobs a message"


def submit_rate(seed: str, jobs: int) -> float:
    """Submit all, then await each: a future a job; jobs/s."""

    async def work(client: mesh.Client) -> float:
        await submit_and_await(client, WARM_UP)
        return await rate(jobs, submit_and_await(client, jobs))

    return with_client([seed], work, max_pending=jobs + WARM_UP)


def map_rate(seed: str, jobs: int) -> float:
    """Map, and take the results as they come; jobs/s."""

    async def work(client: mesh.Client) -> float:
        await map_all(client, WARM_UP)
        return await rate(jobs, map_all(client, jobs))

    return with_client([seed], work)


def measure(size: Size, console: Console) -> list[Figure]:
    """Measure with 2 workers, and with 64."""
    return [*_with_workers(2, 200_000, size, console), *_with_workers(64, 100_000, size, console)]


def _with_workers(workers: int, amount: int, size: Size, console: Console) -> list[Figure]:
    jobs = size.of(amount, least=20_000)
    with (
        console.status(f"{size.rounds} × {jobs:,} no-op jobs, {workers} workers"),
        tempfile.TemporaryDirectory() as folder,
        Proxy(folder, workers, proxy.SINGLE) as single,
        Proxy(folder, workers, proxy.BATCHED) as batched,
        MeshNode(workers) as node,
    ):
        submit, mapped, one, many = alternate(
            size.rounds,
            {
                SUBMIT: partial(in_child, submit_rate, node.seed, jobs),
                MAP: partial(in_child, map_rate, node.seed, jobs),
                SINGLE: partial(single.rate, jobs),
                BATCHED: partial(batched.rate, jobs),
            },
        )

    def figure(key: str, title: str, ours: Samples) -> Figure:
        return Figure(
            f"throughput.{key}" if workers == 2 else f"throughput.{key}_{workers}",
            f"no-op jobs, {title}, {workers} workers",
            "jobs/s",
            ours,
            reference=one,
            others=[many],
        )

    return [figure("submit", "a future a job", submit), figure("map", "client.map", mapped)]
