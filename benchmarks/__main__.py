"""`python -m benchmarks noop sleep`: run benchmarks and print a table."""

import asyncio
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Coroutine
from typing import Any

import click
import zmq
from rich.console import Console
from rich.table import Table

import mesh
from benchmarks.mesh_node import MeshNode
from benchmarks.proxy import Proxy

console = Console()
SUSPECT = 200_000
"""Jobs per second below which the one-message proxy says that this machine is busy with something else."""


def _on_best_loop(work: Coroutine[Any, Any, float]) -> float:
    try:
        import uvloop
    except ImportError:
        return asyncio.run(work)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


async def _submit_all(seed: str, jobs: int) -> float:
    """A job and an await each, as an application that hands over a thousand mails does; jobs/s."""
    async with mesh.Client(seeds=[seed], mdns=False, max_pending=jobs + 1) as client:
        await client.wait_ready("noop")
        for job in [client.submit("noop") for _ in range(2000)]:
            await job
        began = time.perf_counter()
        for job in [client.submit("noop") for _ in range(jobs)]:
            await job
        return jobs / (time.perf_counter() - began)


def noop(rounds: int, jobs: int) -> None:
    """No-op jobs per second through the public client, against C zmq.proxy, in alternation."""
    single: list[float] = []
    batched: list[float] = []
    ours: list[float] = []
    with (
        tempfile.TemporaryDirectory() as folder,
        Proxy(folder, 2, batched=False) as proxy,
        Proxy(folder, 2, batched=True) as batched_proxy,
        MeshNode(2) as node,
    ):
        for _ in range(rounds):
            single.append(proxy.rate(jobs))
            ours.append(_on_best_loop(_submit_all(node.seed, jobs)))
            batched.append(batched_proxy.rate(jobs // 64 * 64))
    table = Table(f"no-op, 2 workers, {rounds} × {jobs:,} jobs", "jobs/s", "spread", "mesh / this", box=None)
    middle = statistics.median(ours)
    for name, rates in (
        ("mesh: submit and await each", ours),
        ("C zmq.proxy, one message a job", single),
        ("C zmq.proxy, 64 jobs a message", batched),
    ):
        rate = statistics.median(rates)
        spread = f"{min(rates):,.0f}–{max(rates):,.0f}"
        table.add_row(name, f"{rate:,.0f}", spread, f"{middle / rate:.2f}")
    console.print(table)
    if statistics.median(single) < SUSPECT:
        console.print(f"reference suspect: the proxy stays below {SUSPECT:,}/s, so this machine is busy or slow")


async def _nap_all(seed: str, jobs: int) -> float:
    async with mesh.Client(seeds=[seed], mdns=False) as client:
        await client.wait_ready("nap")
        async for _ in client.map("nap", [0.01] * 256, ordered=False):
            pass
        began = time.perf_counter()
        async for _ in client.map("nap", [0.01] * jobs, ordered=False):
            pass
        return jobs / (time.perf_counter() - began)


def sleep(rounds: int, _jobs: int) -> None:
    """10 ms jobs on 64 workers, as a share of the ideal 6,400/s."""
    jobs = 6400
    with MeshNode(64) as node:
        rates = [_on_best_loop(_nap_all(node.seed, jobs)) for _ in range(rounds)]
    rate = statistics.median(rates)
    table = Table(f"10 ms jobs, 64 workers, {rounds} × {jobs:,} jobs", "jobs/s", "spread", "of the ideal", box=None)
    table.add_row("mesh: map", f"{rate:,.0f}", f"{min(rates):,.0f}–{max(rates):,.0f}", f"{rate / 6400:.3f}")
    console.print(table)


BENCHMARKS: dict[str, Callable[[int, int], None]] = {"noop": noop, "sleep": sleep}


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(list(BENCHMARKS)), metavar="[noop | sleep] …")
@click.option("--rounds", default=3, help="How often each is run; the median counts.")
@click.option("--jobs", default=100_000, help="No-op jobs a round.")
def main(names: tuple[str, ...], rounds: int, jobs: int) -> None:
    """Measure, and compare with references in the same run."""
    console.print(
        f"{platform.python_implementation()} {platform.python_version()}, pyzmq {zmq.pyzmq_version()}, "
        f"libzmq {zmq.zmq_version()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}"
    )
    for name in names or BENCHMARKS:
        BENCHMARKS[name](rounds, jobs)


main()
