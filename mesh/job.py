"""A job in the hands of the application: await it, look at it, cancel it."""

import asyncio
import logging
from collections import deque
from collections.abc import Generator
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from mesh.core.record import ACCEPTED, DONE, PENDING, SENT, STARTED, JobRecord
from mesh.errors import ClosedError, JobCancelled, MeshError
from mesh.wire.messages import Failed, Result
from mesh.wire.payload import unpack, unpack_failure

if TYPE_CHECKING:
    from mesh.client import Client

R_co = TypeVar("R_co", covariant=True)
log = logging.getLogger("mesh")


class Outgoing(JobRecord):
    """A job that a client hands in, and is told of."""

    __slots__ = ()

    def progressed(self) -> None:
        """Its state has changed."""

    def finish(self, outcome: Result | Failed | MeshError) -> None:
        """It is over."""


class Job(Outgoing, Generic[R_co]):
    """One submission of a task.

    `await job` gives its result or raises its error; it may be awaited by several and more than once. An await
    that is cancelled cancels the job if it was its last and the job has not started.
    """

    __slots__ = ("_accepted", "_client", "_ended", "_error", "_looked", "_value", "_waiters")

    def __init__(self, client: "Client", job_id: bytes, task: str, body: bytes) -> None:
        super().__init__(job_id, task, body)
        self._client = client
        self._waiters: list[asyncio.Future[None]] | None = None
        self._accepted: list[asyncio.Future[None]] | None = None
        self._ended: Ended | None = None
        self._value: Any = None
        self._error: BaseException | None = None
        self._looked = False

    def __repr__(self) -> str:
        """Return the task, the id and the state."""
        return f"<mesh.Job {self.task} {self.id.hex()} {self.state}>"

    def done(self) -> bool:
        """Is it over?"""
        return self.over

    def __await__(self) -> Generator[Any, None, R_co]:
        """Wait for the end; return the result or raise the error."""
        self._looked = True
        if not self.over:
            waiter = self._wait()
            try:
                yield from waiter
            except asyncio.CancelledError:
                self._forget(waiter)
                if not self._waiters:
                    self.cancel()
                raise
        return self._outcome()

    def _outcome(self) -> R_co:
        self._looked = True
        if self._error is not None:
            raise self._error.with_traceback(None)  # not that of whoever asked before
        return cast("R_co", self._value)

    def _wait(self) -> "asyncio.Future[None]":
        waiter = self._client.loop.create_future()
        if self._waiters is None:
            self._waiters = []
        self._waiters.append(waiter)
        return waiter

    def _forget(self, waiter: "asyncio.Future[None]") -> None:
        if self._waiters is not None and waiter in self._waiters:
            self._waiters.remove(waiter)

    async def result(self, timeout: float | None = None) -> R_co:
        """Wait at most `timeout` seconds for the end. Raises TimeoutError then, and the job goes on.

        Unlike an await of the job itself, one of this may be cancelled and the job goes on too.
        """
        if not self.over:
            waiter = self._wait()
            try:
                await asyncio.wait((waiter,), timeout=timeout)
            finally:
                self._forget(waiter)
            if not self.over:
                raise TimeoutError(f"job {self.id.hex()} has not ended within {timeout:g} s; it goes on")
        return self._outcome()

    async def accepted(self) -> None:
        """Wait until a node holds the job, or it is over; raises nothing of the job's own."""
        if self.state in (PENDING, SENT):
            waiter = self._client.loop.create_future()
            if self._accepted is None:
                self._accepted = []
            self._accepted.append(waiter)
            await waiter

    def cancel(self) -> None:
        """Ask that it does not start. If it has started already, it ends as it would have ended."""
        if not self.over:
            self._client.cancel(self)

    # called by the client

    def report_to(self, ended: "Ended | None") -> None:
        """Put itself there when it is over."""
        self._ended = ended

    def abandon(self) -> None:
        """Nobody will ask for its outcome any more."""
        self._looked = True
        self.cancel()

    def progressed(self) -> None:
        """Its state has changed."""
        if self._accepted is not None and self.state in (ACCEPTED, STARTED, DONE):
            waiters, self._accepted = self._accepted, None
            _wake(waiters)

    def finish(self, outcome: Result | Failed | MeshError) -> None:
        """It is over."""
        if type(outcome) is Result:
            try:
                self._value = unpack(outcome.body)
            except ValueError as error:
                self._error = MeshError(f"the result cannot be decoded: {error}", started=True)
        elif isinstance(outcome, Failed):
            self._error = unpack_failure(outcome.body).to_exception()
        else:
            self._error = cast("MeshError", outcome)
        self.body = b""
        if self._waiters is not None:
            waiters, self._waiters = self._waiters, None
            _wake(waiters)
        if self._accepted is not None:
            self.progressed()
        if self._ended is not None:
            self._ended.put(self)

    def __del__(self) -> None:
        """Warn, once, of a failure that nobody ever looked at."""
        try:
            error = self._error
            if error is None or self._looked or isinstance(error, ClosedError | JobCancelled):
                return
        except AttributeError:
            return  # it was never made whole
        log.warning("job %s of task %r failed and nobody asked for its outcome: %r", self.id.hex(), self.task, error)


def _wake(waiters: "list[asyncio.Future[None]]") -> None:
    for waiter in waiters:
        if not waiter.done():
            waiter.set_result(None)


class Ended:
    """Jobs in the order in which they end."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._jobs: deque[Job[Any]] = deque()
        self._waiter: asyncio.Future[None] | None = None

    def put(self, job: Job[Any]) -> None:
        """A job is over."""
        self._jobs.append(job)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def get(self) -> Job[Any]:
        """Return the next job that is over."""
        while not self._jobs:
            self._waiter = self._loop.create_future()
            await self._waiter
        return self._jobs.popleft()
