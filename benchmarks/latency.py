"""One job at a time through the public client, against C `zmq.proxy` with as many workers.

The caller has one CPU and what serves it another, as if these were two hosts. Left to the kernel, all processes of the
reference share a CPU in one round and not in the next, and its latency is 43 or 208 µs: a ratio to that says nothing.
"""

import tempfile
from functools import partial

from rich.console import Console

import mesh
from benchmarks import proxy
from benchmarks.mesh_client import one_at_a_time, with_client
from benchmarks.mesh_node import MeshNode
from benchmarks.processes import in_child, pinned, two_cpus
from benchmarks.proxy import Proxy
from benchmarks.rounds import Figure, Size
from benchmarks.several import alternate_several

WORKERS = 2

PIECES = 3
"""Alternations a round."""

NOTE = "the caller on one CPU, what serves it on another"


def calls(seed: str, jobs: int) -> dict[str, float]:
    """Call one after the other; p50 and p99 in µs."""

    async def work(client: mesh.Client) -> dict[str, float]:
        await one_at_a_time(client, max(1, jobs // 10))
        return await one_at_a_time(client, jobs)

    return with_client([seed], work)


def measure(size: Size, console: Console) -> list[Figure]:
    """Measure p50 and p99."""
    jobs = size.of(2000, least=400)
    rounds = PIECES * size.rounds
    caller, servants = two_cpus()
    ours, reference = "mesh, call", f"{proxy.NAME}, blocking ends"
    with (
        console.status(f"{rounds} × {jobs:,} jobs, one at a time"),
        tempfile.TemporaryDirectory() as folder,
        Proxy(folder, WORKERS, proxy.SINGLE, cpus=servants) as single,
        MeshNode(WORKERS, cpus=servants) as node,
    ):
        taken = alternate_several(
            rounds,
            {
                ours: partial(in_child, pinned, caller, calls, node.seed, jobs),
                reference: partial(single.one_at_a_time, jobs, cpus=caller),
            },
        )
    return [
        Figure(f"latency.{what}", f"one job at a time, {what}", "µs", both[ours], reference=both[reference], note=NOTE)
        for what, both in taken.items()
    ]
