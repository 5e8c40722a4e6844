"""Jobs with heavy arguments, and heavy results, in bytes per second, against C `zmq.proxy` with `copy=False`.

The client of the reference reaches its proxy over TCP, as a client of the mesh reaches a node; what it does over a Unix
socket stands beside it.
"""

import os
import tempfile
import time
from collections.abc import Callable
from functools import partial

from rich.console import Console

import mesh
from benchmarks import proxy
from benchmarks.mesh_client import with_client
from benchmarks.mesh_node import MeshNode
from benchmarks.processes import in_child
from benchmarks.proxy import Proxy
from benchmarks.rounds import Figure, Size, alternate

WORKERS = 2
SIZES = {"1k": (1024, "1 KiB"), "64k": (64 * 1024, "64 KiB"), "1m": (1024 * 1024, "1 MiB")}
TASKS = {"swallow": "", "give_back": ".returned"}

TOTAL_BYTES = 256 * 1024 * 1024
"""Of arguments in one run: some tenths of a second at a GB/s."""

MOST_JOBS = 50_000
"""For bodies so small that it is jobs that cost, not bytes."""

FLYING_BYTES = 32 * 1024 * 1024
"""Bodies under way at most: a window of megabytes would measure memory."""


def body_rate(seed: str, size: int, jobs: int, in_flight: int, task: str) -> float:
    """Map a task over so many bodies; bytes/s of arguments."""
    body = os.urandom(size)

    async def work(client: mesh.Client) -> float:
        async def run(jobs: int) -> None:
            async for _ in client.map(task, (body for _ in range(jobs)), ordered=False, in_flight=in_flight):
                pass

        await run(in_flight)
        began = time.perf_counter()
        await run(jobs)
        return size * jobs / (time.perf_counter() - began)

    return with_client([seed], work)


def measure(size: Size, console: Console) -> list[Figure]:
    """Measure bodies of three sizes, as arguments, and as arguments and results."""
    with (
        tempfile.TemporaryDirectory() as folder,
        Proxy(folder, WORKERS, proxy.BODIES, tcp=True) as reference,
        Proxy(folder, WORKERS, proxy.BODIES) as inside,
        MeshNode(WORKERS) as node,
    ):
        proxies = (reference, inside)
        return [_figure(key, task, size, console, node=node, proxies=proxies) for task in TASKS for key in SIZES]


def _figure(
    key: str, task: str, size: Size, console: Console, *, node: MeshNode, proxies: tuple[Proxy, Proxy]
) -> Figure:
    length, words = SIZES[key]
    jobs = size.of(min(MOST_JOBS, TOTAL_BYTES // length), least=64)
    in_flight = min(proxy.WINDOW, FLYING_BYTES // length)

    def ours() -> float:
        return in_child(body_rate, node.seed, length, jobs, in_flight, task) / 1e6

    def theirs(reference: Proxy) -> float:
        return reference.bodies(length, jobs, in_flight, task) / 1e6

    returned = "and returned" if task == "give_back" else "as argument"
    with console.status(f"{size.rounds} × {jobs:,} bodies of {words}, {returned}"):
        contestants: dict[str, Callable[[], float]] = {
            "mesh, map": ours,
            f"{proxy.NAME}, copy=False": partial(theirs, proxies[0]),
            f"{proxy.NAME}, copy=False, Unix socket": partial(theirs, proxies[1]),
        }
        mine, limit, inside = alternate(size.rounds, contestants)
    name = f"bodies.{key}{TASKS[task]}"
    return Figure(name, f"bodies of {words}, {returned}", "MB/s", mine, reference=limit, others=[inside])
