"""Jobs that wait 10 ms: how much of 64 workers is put to use, and of two nodes."""

from functools import partial

from rich.console import Console

import mesh
from benchmarks.mesh_client import rate, with_client
from benchmarks.mesh_node import MeshNode
from benchmarks.processes import in_child
from benchmarks.rounds import Figure, Samples, Size, alternate

NAP_S = 0.01
WORKERS = 64
IDEAL = WORKERS / NAP_S


def nap_rate(seeds: list[str], jobs: int) -> float:
    """Map jobs that wait over all workers of these nodes; jobs/s, from the first to the last."""

    async def naps(client: mesh.Client, jobs: int) -> None:
        async for _ in client.map("nap", [NAP_S] * jobs, ordered=False):
            pass

    async def work(client: mesh.Client) -> float:
        await naps(client, min(jobs, 256))
        return await rate(jobs, naps(client, jobs))

    return with_client(seeds, work)


def measure(size: Size, console: Console) -> list[Figure]:
    """Measure one node with all workers, and two with half of them each."""
    jobs = size.of(12_800, least=2560)
    one_name, two_name = f"mesh, 1 node × {WORKERS}", f"mesh, 2 nodes × {WORKERS // 2}"
    with (
        console.status(f"{size.rounds} × {jobs:,} jobs of {NAP_S * 1000:g} ms"),
        MeshNode(WORKERS) as whole,
        MeshNode(WORKERS // 2) as left,
        MeshNode(WORKERS // 2) as right,
    ):
        one, two = alternate(
            size.rounds,
            {
                one_name: partial(in_child, nap_rate, [whole.seed], jobs),
                two_name: partial(in_child, nap_rate, [left.seed, right.seed], jobs),
            },
        )
    share = Samples(one_name, [value / IDEAL for value in one.values])
    return [
        Figure("naps.share", f"10 ms jobs on {WORKERS} workers", f"of {IDEAL:,.0f} jobs/s", share),
        Figure("naps.nodes", "10 ms jobs on two nodes", "jobs/s", two, reference=one),
    ]
