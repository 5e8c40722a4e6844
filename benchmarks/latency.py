"""One job at a time through the public client, against C `zmq.proxy` with as many workers.

Caller and workers stay on one CPU, the node or the proxy on another: every hop wakes another CPU, as between hosts.
Left to the kernel, all processes of the reference share a CPU in one round and none in the next, and take 43 or 208 µs:
a ratio to that says nothing. The caller of the reference comes over TCP, as one of the mesh does; what it takes over a
Unix socket stands beside it.
"""

import tempfile
from functools import partial

from rich.console import Console

import mesh
from benchmarks import proxy
from benchmarks.mesh_client import one_at_a_time, with_client
from benchmarks.mesh_node import MeshNode
from benchmarks.processes import in_child, pinned, two_places
from benchmarks.proxy import Proxy
from benchmarks.rounds import Figure, Size
from benchmarks.several import alternate_several

WORKERS = 2

PIECES = 3
"""Alternations a round."""

NOTE = "every hop wakes another CPU"


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
    places = two_places()
    ours, reference = "mesh, call", f"{proxy.NAME}, blocking ends"
    unix = f"{reference}, Unix socket"
    with (
        console.status(f"{rounds} × {jobs:,} jobs, one at a time"),
        tempfile.TemporaryDirectory() as folder,
        Proxy(folder, WORKERS, proxy.SINGLE, tcp=True, places=places) as single,
        Proxy(folder, WORKERS, proxy.SINGLE, places=places) as inside,
        MeshNode(WORKERS, places=places) as node,
    ):
        taken = alternate_several(
            rounds,
            {
                ours: partial(in_child, pinned, places.ends, calls, node.seed, jobs),
                reference: partial(single.one_at_a_time, jobs, cpus=places.ends),
                unix: partial(inside.one_at_a_time, jobs, cpus=places.ends),
            },
        )
    return [
        Figure(
            f"latency.{what}", f"one job at a time, {what}", "µs", all_of[ours], all_of[reference], [all_of[unix]], NOTE
        )
        for what, all_of in taken.items()
    ]
