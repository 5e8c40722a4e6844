"""`Client.map`: results as they come, a bounded number of jobs under way. Shell.

A part of the client that stands apart since mypyc knows no asynchronous generators.
"""

from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any

from mesh.job import Ended, Job

if TYPE_CHECKING:
    from mesh.client import Client


async def mapped(
    client: "Client", task: Any, arguments: Iterator[tuple[Any, ...]], *, ordered: bool, bound: int
) -> AsyncIterator[Any]:
    """Run a job for each of the arguments, at most `bound` at once, and yield the results."""
    client._require_open()
    under_way: dict[Job, None] = {}
    ended = None if ordered else Ended(client.loop)
    no_names: dict[str, Any] = {}
    try:
        exhausted = False
        while True:
            while not exhausted and len(under_way) < bound and (client._has_room() or not under_way):
                element = next(arguments, None)
                if element is None:
                    exhausted = True
                elif client._has_room():
                    under_way[client._submit(task, element, no_names, ended)] = None
                else:
                    under_way[await client._submit_with_room(task, element, no_names, ended)] = None
            if not under_way:
                return
            if ended is None:
                job = next(iter(under_way))
            elif ended.jobs:
                job = ended.jobs.popleft()
            else:
                job = await ended.get()
            result = job.outcome() if job.over else await job
            del under_way[job]
            yield result
    finally:
        for job in under_way:
            job.abandon()
