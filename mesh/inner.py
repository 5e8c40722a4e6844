"""Calls that a task makes of other tasks, from inside a worker: they travel over the worker's own socket to its node.

Shell: owns the worker's end of that socket. The node treats such a call as a bridge caller's: it runs here or at
another node, within what is left of the caller's own time. No ZeroMQ enters a worker for it.
"""

import os
import socket
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from mesh.errors import (
    BadArguments,
    ConfigError,
    JobCancelled,
    JobLost,
    JobTimeout,
    MeshBusy,
    MeshError,
    PayloadTooLarge,
    PoisonTask,
    UnknownTask,
)
from mesh.tasks import Task, trace_here
from mesh.wire.messages import (
    CANCELLED,
    EXPIRED,
    FORM_MSGPACK,
    LIMIT,
    POISON,
    QUARANTINED,
    TOO_BIG,
    UNKNOWN_TASK,
    Failed,
    Lost,
    Options,
    Reject,
    Result,
    Submit,
    Trace,
)
from mesh.wire.payload import pack_arguments, unpack, unpack_failure

if TYPE_CHECKING:
    import asyncio

Answer = Result | Failed | Reject | Lost

_REJECTED: dict[str, type[MeshError]] = {
    UNKNOWN_TASK: UnknownTask,
    EXPIRED: JobTimeout,
    CANCELLED: JobCancelled,
    TOO_BIG: PayloadTooLarge,
    QUARANTINED: PoisonTask,
}
_LOST: dict[str, type[MeshError]] = {
    EXPIRED: JobTimeout,
    LIMIT: JobTimeout,
    CANCELLED: JobCancelled,
    POISON: PoisonTask,
}


class InnerClient:
    """What `Task.call` and `mesh.context().call` use in a worker.

    `send` writes a call for the job that runs here; `receive` reads one answer, and raises BlockingIOError where there
    is none and it may not wait. `running` tells the number of the job that runs; `tracing`
    which trace a call belongs to.
    """

    def __init__(
        self,
        link: socket.socket,
        *,
        send: Callable[[int, Submit], None],
        receive: Callable[[int], Answer],
        running: Callable[[], int],
    ) -> None:
        self._link = link
        self._send = send
        self._receive = receive
        self._running = running
        self.tracing: Callable[[str, bytes], Trace | None] = trace_here
        self._prefix = os.urandom(8)
        self._last = 0
        self._waiting: dict[bytes, asyncio.Future[Answer]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    def submit(self, task: Any, *args: Any, **kwargs: Any) -> NoReturn:
        """Refuse: a job handed in here would have nobody to wait for it."""
        raise ConfigError(
            "inside a task use call: await task.call(…), or mesh.context().call(task, …) where it is sync"
        )

    async def call(self, task: Any, *args: Any, **kwargs: Any) -> Any:
        """Run a job and return its result; for `async def` tasks. Raises as `Client.call` does."""
        import asyncio

        loop = asyncio.get_running_loop()
        job_id = self._hand_in(task, args, kwargs)
        future: asyncio.Future[Answer] = loop.create_future()
        if self._loop is not loop:  # a task may run a loop of its own
            self._leave_loop()
            self._loop = loop
            loop.add_reader(self._link.fileno(), self._readable)
        self._waiting[job_id] = future
        try:
            return _outcome(await future)
        finally:
            self._waiting.pop(job_id, None)
            if not self._waiting and self._loop is loop:
                self._leave_loop()

    def _leave_loop(self) -> None:
        loop, self._loop = self._loop, None
        if loop is not None and not loop.is_closed():
            loop.remove_reader(self._link.fileno())

    def _readable(self) -> None:
        try:
            answer = self._receive(socket.MSG_DONTWAIT)
        except (BlockingIOError, ConnectionError):
            return
        future = self._waiting.get(answer.id)
        if future is not None and not future.done():
            future.set_result(answer)

    def call_and_wait(self, task: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        """Run a job and return its result, blocking this worker meanwhile; for sync tasks."""
        job_id = self._hand_in(task, args, kwargs)
        while (answer := self._receive(0)).id != job_id:
            pass  # the answer to a call whose job was stopped while it waited
        return _outcome(answer)

    def _hand_in(self, task: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> bytes:
        name, priority, timeout = task, 5, None
        if isinstance(task, Task):
            wrong = task.signature.misfit(len(args), kwargs)
            if wrong:
                raise BadArguments(f"{task.name} {wrong}")
            name, priority, timeout = task.name, task.settings.priority, task.settings.timeout
        elif not isinstance(task, str):
            raise BadArguments(f"a task is one that @mesh.task made, or its name, not {type(task).__name__}")
        self._last += 1
        job_id = self._prefix + self._last.to_bytes(8, "big")
        remaining = None if timeout is None else round(timeout * 1000)
        body = pack_arguments(args, kwargs)
        trace, state = self.tracing(name, job_id) or (None, None)
        options = None if priority == 5 and trace is None else Options(priority=priority, trace=trace, state=state)
        self._send(self._running(), Submit(job_id, 1, name, FORM_MSGPACK, remaining, options, body))
        return job_id


def _outcome(answer: Answer) -> Any:
    """Return what a job returned, or raise what it ended with."""
    match answer:
        case Result():
            return unpack(answer.body)
        case Failed():
            raise unpack_failure(answer.body).to_exception()
        case Reject():
            raise _REJECTED.get(answer.reason, MeshBusy)(answer.text, started=False)
        case Lost():
            raise _LOST.get(answer.reason, JobLost)(answer.text, started=answer.started)
