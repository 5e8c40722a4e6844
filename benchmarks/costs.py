"""CPU time of a no-op job with the window full: of the client, the node and the workers."""

import os
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import Any

from rich.console import Console

import mesh
from benchmarks.mesh_client import WARM_UP, map_all, submit_and_await, with_client
from benchmarks.mesh_node import MeshNode
from benchmarks.processes import cpu_by_thread, cpu_seconds, in_child
from benchmarks.rounds import Figure, Samples, Size
from benchmarks.several import alternate_several

WORKERS = 2
SUBMIT, MAP = "mesh, submit and await each", "mesh, map"

Run = Callable[[mesh.Client, int], Coroutine[Any, Any, None]]


def costs(run: Run, seed: str, node: int, workers: list[int], jobs: int) -> dict[str, float]:
    """Run the jobs from here; CPU µs a job, by who spent it."""

    def spent() -> dict[str, float]:
        threads = cpu_by_thread(os.getpid())
        return {
            "client": sum(threads.values()),
            "client, loop thread": threads[os.getpid()],
            "client, other threads": sum(threads.values()) - threads[os.getpid()],
            "node": cpu_seconds(node),
            "node, loop thread": cpu_by_thread(node)[node],
            "workers": sum(cpu_seconds(worker) for worker in workers),
        }

    async def work(client: mesh.Client) -> dict[str, float]:
        await run(client, WARM_UP)
        before = spent()
        await run(client, jobs)
        return {who: (after - before[who]) / jobs * 1e6 for who, after in spent().items()}

    return with_client([seed], work, max_pending=jobs + WARM_UP)


def measure(size: Size, console: Console) -> list[Figure]:
    """Measure a future a job, and `map` beside it."""
    jobs = size.of(200_000)
    with console.status(f"{size.rounds} × {jobs:,} no-op jobs"), MeshNode(WORKERS) as node:
        workers = node.workers

        def spent(run: Run) -> dict[str, float]:
            return in_child(costs, run, node.seed, node.pid, workers, jobs)

        taken = alternate_several(size.rounds, {SUBMIT: partial(spent, submit_and_await), MAP: partial(spent, map_all)})
    return [
        _figure("client", taken, parts=["client, loop thread", "client, other threads"]),
        _figure("node", taken, parts=["node, loop thread"]),
        _figure("workers", taken, parts=[]),
    ]


def _figure(who: str, taken: Mapping[str, Mapping[str, Samples]], parts: list[str]) -> Figure:
    others = [Samples(f"{SUBMIT}: {part}", taken[part][SUBMIT].values, part=True) for part in parts]
    return Figure(
        f"costs.{who}", f"CPU a no-op job: {who}", "µs", taken[who][SUBMIT], others=[*others, taken[who][MAP]]
    )
