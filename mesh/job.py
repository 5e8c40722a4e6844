"""A job in the hands of the application: await it, look at it, cancel it."""

import asyncio
import copy
import logging
from collections import deque
from collections.abc import Coroutine, Generator
from typing import Any, Final, Protocol, cast

from mypy_extensions import i64, mypyc_attr

from mesh.awaiting import awaited, next_ended, result_within, until_accepted
from mesh.core.record import ACCEPTED, DONE, PENDING, SENT, STARTED, WHOLE, JobRecord
from mesh.errors import ClosedError, JobCancelled, MeshError
from mesh.wire.messages import FORCED, RUNNING, UNSTARTED, Body, Failed, Result
from mesh.wire.payload import NIL, unpack, unpack_failure

log = logging.getLogger("mesh")


class Hands(Protocol):
    """What a job asks of the client that it belongs to."""

    loop: asyncio.AbstractEventLoop

    def cancel(self, job: "Job", how: int) -> None:
        """End it; `how` far that goes if it runs."""

    def keep(self, job: "Job") -> None:
        """Let it outlive the client."""


@mypyc_attr(acyclic=True)
class Job(JobRecord):
    """One submission of a task.

    `await job` gives its result or raises its error; it may be awaited by several and more than once. An await
    that is cancelled cancels the job, if it was its last and the job is not detached.
    """

    _waiters: list[asyncio.Future[None]] | None = None
    _value: Any = None
    _failure: "Fault | None" = None

    def __init__(
        self, client: Hands, job_id: bytes, task: str, body: Body, number: i64 = WHOLE, *, ended: "Ended | None" = None
    ) -> None:
        super().__init__(job_id, task, body, number)
        self._client = client
        self._ended = ended

    @classmethod
    def __class_getitem__(cls, _result: Any) -> "type[Job]":
        """Return the class: `Job[int]` is for type checkers (`mesh.typed`)."""
        return cls

    def __repr__(self) -> str:
        """Return the task, the id and the state."""
        return f"<mesh.Job {self.task} {self.id.hex()} {self.state}>"

    def done(self) -> bool:
        """Is it over?"""
        return self.over

    def __await__(self) -> Generator[Any, None, Any]:
        """Wait for the end; return the result or raise the error."""
        return awaited(self)

    def looked(self) -> None:
        """Its outcome is somebody's business: no warning if it fails."""
        self.wanted = True
        if self._failure is not None:
            self._failure.seen = True

    def outcome(self) -> Any:
        """Return the result or raise the error of a job that is over."""
        assert self.over, "its outcome is not known yet"
        if self._failure is not None:
            self.looked()
            raise self._failure.error()
        return self._value

    def wait(self) -> "asyncio.Future[None]":
        """Return a future that is done when the job is over."""
        waiter = self._client.loop.create_future()
        if self._waiters is None:
            self._waiters = []
        self._waiters.append(waiter)
        return waiter

    def forget(self, waiter: "asyncio.Future[None]") -> bool:
        """Nobody waits with this future any more; was it the last?"""
        if self._waiters is not None and waiter in self._waiters:
            self._waiters.remove(waiter)
        return not self._waiters

    def wait_accepted(self) -> "asyncio.Future[None] | None":
        """Return a future that is done when a node holds the job; None if one does, or the job is over."""
        if self.state not in (PENDING, SENT):
            return None
        waiter = self._client.loop.create_future()
        extras = self.own_extras()
        if extras.awaiting is None:
            extras.awaiting = []
        extras.awaiting.append(waiter)
        return waiter

    def result(self, timeout: float | None = None) -> Coroutine[Any, Any, Any]:
        """Wait at most `timeout` seconds for the end. Raises TimeoutError then, and the job goes on.

        Unlike an await of the job itself, one of this may be cancelled and the job goes on too.
        """
        return result_within(self, timeout)

    def accepted(self) -> Coroutine[Any, Any, None]:
        """Wait until a node holds the job, or it is over; raises nothing of the job's own."""
        return until_accepted(self)

    def cancel(self, force: bool = False) -> None:
        """Ask that it ends: it does not start any more, and if it runs, `JobCancelled` is raised inside it.

        An `async def` task sees a cancellation instead. Either may take its time, or end otherwise; with `force` its
        worker is killed. It ends as the node then says: mostly with `JobCancelled`, `started` if it had begun.
        """
        if not self.over:
            self._client.cancel(self, FORCED if force else RUNNING)

    def detach(self) -> None:
        """Let it outlive this client: nothing cancels it but `cancel`, and leaving the client does not wait for it."""
        if not self.over and not self.kept:
            self.kept = True
            self.looked()
            self._client.keep(self)

    # called by the client

    def abandon(self) -> None:
        """Nobody will ask for its outcome any more: it need not start."""
        self.looked()
        if not self.over and not self.kept:
            self._client.cancel(self, UNSTARTED)

    def progressed(self) -> None:
        """Its state has changed."""
        extras = self.extras
        if extras.awaiting is not None and self.state in (ACCEPTED, STARTED, DONE):
            waiters, extras.awaiting = extras.awaiting, None
            _wake(waiters)

    def finish(self, outcome: Result | Failed | MeshError) -> None:
        """It is over."""
        if type(outcome) is Result:
            if outcome.body != NIL:
                try:
                    self._value = unpack(outcome.body)
                except ValueError as error:
                    self._fail(MeshError(f"the result cannot be decoded: {error}", started=True))
        elif type(outcome) is Failed:
            self._fail(outcome)
        else:
            self._fail(cast("MeshError", outcome))
        self.body = b""
        if self._waiters is not None:
            waiters, self._waiters = self._waiters, None
            _wake(waiters)
        if self.extras.awaiting is not None:
            self.progressed()
        ended, self._ended = self._ended, None  # it holds this job now, and nobody collects a circle
        if ended is not None:
            ended.jobs.append(self)
            if ended.waiter is not None:
                ended.wake()

    def _fail(self, outcome: Failed | MeshError) -> None:
        seen = self.wanted or isinstance(outcome, ClosedError | JobCancelled)
        self._failure = Fault(self.id, self.task, outcome, seen=seen)


_SHOWN: Final = 200
"""Characters of a type's name that are logged."""


class Fault:
    """How a job failed. Warns, once, if nobody ever looked at it. Only jobs that failed carry one."""

    __slots__ = ("_id", "_outcome", "_task", "seen")

    def __init__(self, job_id: bytes, task: str, outcome: Failed | MeshError, *, seen: bool) -> None:
        self._id = job_id
        self._task = task
        self._outcome = outcome
        self.seen = seen

    def error(self) -> BaseException:
        """Make the error anew for each who asks.

        One that was raised leads, by its traceback, to the frames of whoever asked, and these to the job: it is not
        kept.
        """
        outcome = self._outcome
        if type(outcome) is Failed:
            return unpack_failure(outcome.body).to_exception()
        return copy.copy(cast("MeshError", outcome))

    def __del__(self) -> None:
        """Warn unless it was seen. The text of a failure may quote what the job was given: it belongs in no log."""
        if not self.seen:
            outcome = self._outcome
            name = unpack_failure(outcome.body).type[:_SHOWN] if type(outcome) is Failed else type(outcome).__name__
            text = "job %s of task %r failed with %s, and nobody asked for its outcome"
            log.warning(text, self._id.hex(), self._task, name)


def _wake(waiters: "list[asyncio.Future[None]]") -> None:
    for waiter in waiters:
        if not waiter.done():
            waiter.set_result(None)


class Ended:
    """Jobs in the order in which they end."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.jobs: deque[Job] = deque()
        self.waiter: asyncio.Future[None] | None = None

    def wake(self) -> None:
        """Jobs have ended: whoever waits for one may go on."""
        waiter, self.waiter = self.waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def wait(self) -> "asyncio.Future[None]":
        """Return a future that is done when a job has ended."""
        self.waiter = self._loop.create_future()
        return self.waiter

    def get(self) -> Coroutine[Any, Any, Job]:
        """Return the next job that is over."""
        return next_ended(self)
