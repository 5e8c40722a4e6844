"""A node with 64 workers: how soon it is ready, what it holds in memory, and what it costs idle."""

import asyncio
import time
from multiprocessing.connection import Connection
from typing import Any

from rich.console import Console

import mesh
from benchmarks.mesh_client import with_client
from benchmarks.mesh_node import MeshNode
from benchmarks.processes import CONTEXT, Child, cpu_seconds, descendants, pss_bytes
from benchmarks.rounds import Figure, Samples, Size
from benchmarks.several import alternate_several

WORKERS = 64

FIRST_S = 30.0
"""Seconds that the first answer may take, from the node's start line on."""

SETTLE_S = 0.5
"""Seconds after the first answer before memory and CPU are looked at."""


def first_answer(line: "Connection[Any, Any]", idle_s: float) -> float:
    """Be told where a node is, call it, and stay connected; return the moment of the first answer."""

    async def work(client: mesh.Client) -> float:
        await client.call("noop")
        answered = time.monotonic()
        line.send(answered)
        await asyncio.sleep(idle_s)
        return answered

    return with_client([line.recv()], work)


def start(idle_s: float) -> dict[str, float]:
    """Start a node, have one client connect; seconds, MB and % of a CPU."""
    ours, theirs = CONTEXT.Pipe()
    with ours, theirs, Child(first_answer, theirs, 2 * SETTLE_S + idle_s) as client, MeshNode(WORKERS) as node:
        ours.send(node.seed)
        client.await_word(ours, FIRST_S)
        answered = ours.recv()
        time.sleep(SETTLE_S)
        memory = pss_bytes(node.pid) + sum(pss_bytes(pid) for pid in descendants(node.pid))
        connected = _idle_percent(node.pid, idle_s)
        client.result()
        time.sleep(SETTLE_S)
        return {
            "answered": answered - node.began,
            "ready": node.ready_s,
            "pss": memory / 1e6,
            "node": pss_bytes(node.pid) / 1e6,
            "idle": connected,
            "alone": _idle_percent(node.pid, idle_s),
        }


def _idle_percent(pid: int, seconds: float) -> float:
    before, began = cpu_seconds(pid), time.monotonic()
    time.sleep(seconds)
    return (cpu_seconds(pid) - before) / (time.monotonic() - began) * 100


def measure(size: Size, console: Console) -> list[Figure]:
    """Start it a few times, one after the other."""
    rounds = (size.rounds + 1) // 2  # each idles for seconds, and these figures move little
    idle_s = max(2.0, 5.0 * size.scale)
    name = f"mesh, {WORKERS} workers"
    with console.status(f"{rounds} × starting {WORKERS} workers, idle for {idle_s:g} s"):
        taken = alternate_several(rounds, {name: lambda: start(idle_s)})

    def samples(what: str, who: str, *, part: bool = False) -> Samples:
        return Samples(who, taken[what][name].values, part)

    return [
        Figure(
            "startup.ready",
            f"{WORKERS} workers ready",
            "s",
            samples("answered", "mesh, to a client's first answer"),
            others=[samples("ready", "mesh, to the log's word", part=True)],
            note="from the start of the process; the client waits, imported, to be told the address. Without mDNS.",
        ),
        Figure(
            "startup.pss",
            f"node, zygote and {WORKERS} idle workers, PSS",
            "MB",
            samples("pss", name),
            others=[samples("node", "mesh, the node's own process", part=True)],
        ),
        Figure(
            "startup.idle",
            "an idle node's CPU",
            "%",
            samples("idle", "mesh, one idle client"),
            others=[samples("alone", "mesh, no client")],
            note="the node's own process, of one CPU; the workers wait in the kernel. Without mDNS.",
        ),
    ]
