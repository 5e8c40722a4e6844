"""The mesh beside its peers: the same four loads on each, in one run, in alternation with ours.

Each peer is a module of this package that runs under a Python of its own (`environment.py`) and is told what to measure
over a pipe (`driver.py`), so that the project's own environment stays free of them all.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # a peer's Python imports this package too, and has neither rich nor the mesh
    from rich.console import Console

    from benchmarks.rounds import Figure, Size

PEERS = {
    "nats": "NATS",
    "pool": "multiprocessing.Pool, one host",
    "aiozmq": "aiozmq.rpc",
    "executor": "ProcessPoolExecutor, one host",
    "loky": "loky, one host",
    "celery": "Celery, Redis",
    "dramatiq": "Dramatiq, Redis",
    "rq": "RQ, Redis",
    "taskiq": "Taskiq, Redis",
    "arq": "arq, Redis",
    "dask": "Dask.distributed",
    "ray": "Ray",
}
"""Module and what the tables call it; those that a target names or that are fast come first, should time run out."""


def measure(
    size: "Size",
    console: "Console",
    *,
    venv: Path | None = None,
    out: Path | None = None,
    readme: Path | None = None,
    names: Sequence[str] = tuple(PEERS),
) -> "list[Figure]":
    """Measure every peer that installs; write peers.json and peers.md to `out`, and the table into `readme`.

    Takes less than 20 minutes, installing included. Where no peer has a rate nothing is written and returned.
    """
    from benchmarks.peers import environment, report, survey

    began = time.monotonic()
    python = environment.prepare(venv or environment.CACHE, console, until=began + environment.INSTALL_S)
    found = survey.run(names, size, python=python, console=console, until=began + survey.ALL_S)
    console.print(report.table(found))
    if not any(row.noop for row in found.peers):
        return []
    if out is not None:
        report.write(found, out)
    if readme is not None:
        report.write_readme(found, readme)
    return survey.figures(found)
