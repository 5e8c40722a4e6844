"""Jobs of 200 bytes per second between a client and a node with keys, against the same without."""

import os
import tempfile
from functools import partial
from pathlib import Path

from rich.console import Console

import mesh
from benchmarks.mesh_client import WARM_UP, rate, with_client
from benchmarks.mesh_node import MeshNode
from benchmarks.processes import in_child
from benchmarks.rounds import Figure, Size, alternate
from benchmarks.targets import KEYLESS
from mesh.keygen import Workshop

BODY_BYTES = 200
WORKERS = 2
NONE = "none"


def call_rate(seed: str, jobs: int, keys: str) -> float:
    """Map a task over as many bodies, and take the results as they come; jobs/s."""
    body = os.urandom(BODY_BYTES)

    async def call_all(client: mesh.Client, count: int) -> None:
        async for _ in client.map("swallow", (body for _ in range(count)), ordered=False):
            pass

    async def work(client: mesh.Client) -> float:
        await call_all(client, WARM_UP)
        return await rate(jobs, call_all(client, jobs))

    return with_client([seed], work, keys=keys)


def measure(size: Size, console: Console) -> list[Figure]:
    """Measure both in turn, the nodes side by side and idle while it is not theirs."""
    jobs = size.of(100_000, least=20_000)
    with (
        console.status(f"{size.rounds} × {jobs:,} jobs of {BODY_BYTES} bytes, {WORKERS} workers"),
        tempfile.TemporaryDirectory() as folder,
    ):
        keys = str(Path(folder, "keys"))
        Workshop("default", Path(keys)).begin()
        with MeshNode(WORKERS, keys=keys) as keyed, MeshNode(WORKERS, keys=NONE) as keyless:
            ours, reference = alternate(
                size.rounds,
                {
                    "mesh, with keys": partial(in_child, call_rate, keyed.seed, jobs, keys),
                    KEYLESS: partial(in_child, call_rate, keyless.seed, jobs, NONE),
                },
            )
    title = f"jobs of {BODY_BYTES} bytes with keys, {WORKERS} workers"
    return [Figure("keys.throughput", title, "jobs/s", ours, reference=reference)]
