"""Waiting for a job. Shell; apart from `mesh.job`, which is compiled: coroutines are not (docs/decisions/0011)."""

import asyncio
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mesh.job import Ended, Job


def awaited(job: "Job") -> Generator[Any, None, Any]:
    """Wait for the end; return the result or raise the error. The last await that is cancelled cancels the job."""
    if not job.over:
        job.looked()
        waiter = job.wait()
        try:
            yield from waiter
        except asyncio.CancelledError:
            if job.forget(waiter) and not job.kept:
                job.cancel()
            raise
    return job.outcome()


async def result_within(job: "Job", timeout: float | None) -> Any:
    """Wait at most `timeout` seconds for the end. Raises TimeoutError then."""
    if not job.over:
        waiter = job.wait()
        try:
            await asyncio.wait((waiter,), timeout=timeout)
        finally:
            job.forget(waiter)
        if not job.over:
            raise TimeoutError(f"job {job.id.hex()} has not ended within {timeout:g} s; it goes on")
    return job.outcome()


async def until_accepted(job: "Job") -> None:
    """Wait until a node holds the job, or it is over."""
    waiter = job.wait_accepted()
    if waiter is not None:
        await waiter


async def next_ended(ended: "Ended") -> "Job":
    """Wait for a job that is over, and return it."""
    while not ended.jobs:
        await ended.wait()
    return ended.jobs.popleft()
