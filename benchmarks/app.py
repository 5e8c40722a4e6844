"""The tasks that the benchmarks call."""

import time

import mesh


@mesh.task(bridge=True)
def noop(value: object = None) -> None:
    """Do nothing; `map` gives each job a value."""


@mesh.task
def nap(seconds: float) -> None:
    """Wait, as a job does that waits for a disk or another server."""
    time.sleep(seconds)


@mesh.task
def swallow(body: bytes) -> None:
    """Take a body."""


@mesh.task
def give_back(body: bytes) -> bytes:
    """Take a body and return it."""
    return body
