"""Single calls of one client while another keeps its window full of no-ops: who floods must not starve others."""

from collections.abc import Iterator
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event
from typing import Any

from rich.console import Console

import mesh
from benchmarks.latency import calls
from benchmarks.mesh_client import WARM_UP, map_all, with_client
from benchmarks.mesh_node import MeshNode
from benchmarks.processes import CONTEXT, Child, in_child
from benchmarks.rounds import Figure, Samples, Size
from benchmarks.several import alternate_several

WORKERS = 2
ALONE, FLOODED = "mesh, alone", "mesh, beside a flood"

LOOK = 1000
"""Jobs after which the flood looks whether it is to end."""


START_S = 30.0
"""Seconds that the flood may take until it flows."""


def flood(seed: str, line: "Connection[Any, Any]", enough: Event) -> int:
    """Keep the window full until it is enough, and say when it is; return how many jobs it was."""

    def endless() -> Iterator[int]:
        number = 0
        while number % LOOK or not enough.is_set():
            yield number
            number += 1

    async def work(client: mesh.Client) -> int:
        await map_all(client, WARM_UP)
        done = 0
        async for _ in client.map("noop", endless(), ordered=False):
            done += 1
            if done == WARM_UP:
                line.send("flowing")
        return done

    return with_client([seed], work)


def beside_a_flood(seed: str, jobs: int) -> dict[str, float]:
    """Call one after the other while another process floods the node."""
    ours, theirs = CONTEXT.Pipe()
    enough = CONTEXT.Event()
    with ours, theirs, Child(flood, seed, theirs, enough) as other:
        other.await_word(ours, START_S)
        taken = in_child(calls, seed, jobs)
        enough.set()
        other.result()
    return taken


def measure(size: Size, console: Console) -> list[Figure]:
    """Measure p50 and p99, alone and beside the flood."""
    jobs = size.of(1000)
    with console.status(f"{size.rounds} × {jobs:,} single calls beside a flood"), MeshNode(WORKERS) as node:
        taken = alternate_several(
            size.rounds,
            {FLOODED: partial(beside_a_flood, node.seed, jobs), ALONE: partial(in_child, calls, node.seed, jobs)},
        )
    return [_figure(what, both[FLOODED], both[ALONE]) for what, both in taken.items()]


def _figure(what: str, flooded: Samples, alone: Samples) -> Figure:
    return Figure(f"flood.{what}", f"single calls beside a flood, {what}", "µs", flooded, reference=alone)
