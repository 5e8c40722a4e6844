"""One job of an async task in a worker. No socket, no process.

Not compiled, as no coroutine is: `worker/stacks` tells where it waits.
"""

from collections.abc import Awaitable
from contextlib import AbstractContextManager
from typing import Any

from mesh.errors import ResultNotSerializable
from mesh.tasks import Task, current
from mesh.wire.messages import Submit
from meshnode.core.orders import End
from meshnode.worker.runner import Runner, arguments, failed, outcome, over_limit


async def run_async(runner: Runner, task: Task[..., Awaitable[Any]], job: Submit) -> End:
    """Run an async task's job to its end. Raises nothing: whatever happens is an outcome."""
    try:
        args, kwargs = arguments(task, job)
    except BaseException as error:  # noqa: BLE001  # even what can be made of a caller's bytes
        return failed(error, job)
    current.set(lambda: runner.context(task, job))
    limit = runner.limit(task)
    try:
        work = task.function(*args, **kwargs)
        if runner.span is not None:
            work = _spanned(work, runner.span(task.name, job))
        value = await (work if limit is None else _limited(work, limit))
        return outcome(value, job)
    except ResultNotSerializable as error:
        return failed(error, job)
    except BaseException as error:  # noqa: BLE001  # user code; a cancelled task must not end the worker
        return failed(error, job, again=task.settings.again(error))


async def _spanned(work: Awaitable[Any], span: AbstractContextManager[None]) -> Any:
    with span:
        return await work


async def _limited(work: Awaitable[Any], limit: float) -> Any:
    import asyncio

    try:
        async with asyncio.timeout(limit) as scope:
            return await work
    except TimeoutError:
        if scope.expired():
            raise over_limit(limit) from None
        raise
