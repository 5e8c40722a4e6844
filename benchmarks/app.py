"""The tasks that the benchmarks call."""

import time

import mesh


@mesh.task(bridge=True)
def noop() -> None:
    """Do nothing."""


@mesh.task
def nap(seconds: float) -> None:
    """Wait, as a job does that waits for a disk or another server."""
    time.sleep(seconds)
