"""Every error of the mesh, each with an answer to: may I retry, and did it run?

    MeshError
    ├── ConfigError             a setting, a flag or a task module is wrong
    ├── ClosedError             the client was closed before the job ended, or took no more
    ├── ProtocolError           a peer sent what docs/protocol.md does not allow
    ├── NoNodes                 no node of the mesh was found in time
    ├── UnknownTask             no node serves a task of this name; names near ones
    ├── MeshBusy                a bound is reached; try again later
    ├── BadArguments            the arguments do not fit the task's signature
    ├── PayloadTooLarge         the body is larger than a node takes; names the limit
    ├── ResultNotSerializable   the task returned what cannot travel
    ├── NotAllowed              the task is not open to this caller
    ├── KeyRefused              nodes were found, and all refused this client's key
    ├── JobTimeout              its time is up (also a TimeoutError)
    ├── JobCancelled            it was cancelled; `started` says whether it had begun
    ├── JobLost                 its worker or node went away
    ├── PoisonTask              three workers died of it
    ├── RetryLater              the task asked to be tried again, once too often
    └── RemoteError             the task raised; type, message and traceback of the original

`retryable` says whether the same call may succeed later without a change. `started` says whether the
job may have had its effect: False means surely not, None that the error is not about one job's end.
"""

import builtins
from typing import Any

MESSAGE_LIMIT = 8 * 1024
"""Characters of a remote message that travel: enough for any sane one, too few to flood a log."""

TRACEBACK_LIMIT = 32 * 1024
"""Characters of a remote traceback that travel; the middle of a longer one is left out."""


class MeshError(Exception):
    """Base of all errors of the mesh."""

    retryable: bool = False
    started: bool | None = None

    def __init__(self, message: str = "", *, started: bool | None = None) -> None:
        super().__init__(message)
        if started is not None:
            self.started = started


class ConfigError(MeshError):
    """A setting, a flag or a task module is wrong; the message says which and what would be right."""


class ClosedError(MeshError):
    """The client was closed before the job ended, or before it was handed in (`started` is False then)."""


class ProtocolError(MeshError):
    """A peer sent what `docs/protocol.md` does not allow."""


class NoNodes(MeshError):
    """No node of the mesh was found within the discovery grace; the job surely did not run."""

    retryable = True
    started = False


class UnknownTask(MeshError):
    """No node serves a task of this name; the message names near ones."""

    started = False


class MeshBusy(MeshError):
    """A bound is reached (pending jobs, a draining node); the job surely did not run."""

    retryable = True
    started = False


class BadArguments(MeshError):
    """The arguments do not fit the task's signature; user code did not run."""

    started = False


class PayloadTooLarge(MeshError):
    """The encoded arguments or result exceed the node's limit, which the message names."""

    started = False


class ResultNotSerializable(MeshError):
    """The task ran, and returned something that neither msgpack nor JSON can carry."""

    started = True


class NotAllowed(MeshError):
    """The task is not open to this caller."""

    started = False


class KeyRefused(MeshError):
    """Nodes of the mesh were found, and all of them refused this client's key, or that it has none; it names them."""

    started = False


class JobTimeout(MeshError, TimeoutError):
    """The job's time is up, or it ran into its limit. `started` is False only if it surely had not begun."""

    retryable = True
    started = True


class JobCancelled(MeshError):
    """The job was cancelled; `started` is True if it was stopped while it ran. Raised inside a running task too."""

    started = False


class JobLost(MeshError):
    """The worker or the node that held the job went away. `started` is True if it may have run."""

    retryable = True
    started = True


class PoisonTask(MeshError):
    """The job brought three workers down, or its task so many that no node runs it at the moment."""

    started = True


class RetryLater(MeshError):
    """Raised by a task: try this job again in so many `seconds`, as another attempt.

    The caller sees it only where the task has used up its attempts, or the job its time.
    """

    retryable = True
    started = True

    def __init__(self, seconds: float = 1.0, message: str = "", *, started: bool | None = None) -> None:
        if not isinstance(seconds, (int, float)):  # as it travels: with its text alone
            seconds, message = 1.0, str(seconds)
        super().__init__(message or f"try again in {seconds:g} s", started=started)
        self.seconds = max(0.0, float(seconds))


class RemoteError(MeshError):
    """The task raised an exception.

    `type` is the exception's qualified name, `message` its text, `traceback` the remote traceback as
    printed there. For a built-in exception the caller gets that built-in, with this as its cause.
    """

    started = True

    def __init__(self, type: str, message: str, traceback: str = "") -> None:
        super().__init__(f"{type}: {message}" if message else type)
        self.type = type
        self.message = message
        self.traceback = traceback

    def __reduce__(self) -> tuple[Any, ...]:
        """Let it be copied and pickled, as an application's own process pool does."""
        return RemoteError, (self.type, self.message, self.traceback), self.__dict__

    def __str__(self) -> str:
        """Return type and message, then the traceback as it was printed on the node."""
        head = super().__str__()
        return f"{head}\n\nOn the node:\n{self.traceback.rstrip()}" if self.traceback else head


BY_NAME: dict[str, type[MeshError]] = {
    cls.__name__: cls
    for cls in (
        ConfigError, ClosedError, ProtocolError, NoNodes, UnknownTask, MeshBusy, BadArguments,
        PayloadTooLarge, ResultNotSerializable, NotAllowed, KeyRefused, JobTimeout, JobCancelled,
        JobLost, PoisonTask, RetryLater,
    )
}  # fmt: skip
"""Errors by the name under which they travel: the bridge and the wire use the class names."""

_NOT_RAISED_AGAIN = {"StopIteration", "StopAsyncIteration"}
"""Built-in exceptions that control a generator: raised inside one they would end it in silence."""


class Failure:
    """How a job failed, as plain values: what FAILURE carries (docs/protocol.md, Bodies)."""

    __slots__ = ("args", "mesh", "message", "started", "traceback", "type")

    def __init__(
        self,
        type: str,
        message: str,
        *,
        traceback: str = "",
        args: tuple[Any, ...] | None = None,
        mesh: bool = False,
        started: bool = True,
    ) -> None:
        self.type = type
        self.message = message
        self.traceback = traceback
        self.args = args
        self.mesh = mesh
        self.started = started

    def to_exception(self) -> BaseException:
        """Build what the caller sees: a mesh error, a built-in with its cause, or a RemoteError."""
        if self.mesh:
            cls = BY_NAME.get(self.type, MeshError)
            return cls(self.message, started=self.started)
        remote = RemoteError(self.type, self.message, self.traceback)
        builtin = getattr(builtins, self.type, None)
        if isinstance(builtin, type) and issubclass(builtin, Exception) and self.type not in _NOT_RAISED_AGAIN:
            try:
                again = builtin(*(self.args if self.args is not None else (self.message,)))
            except (TypeError, ValueError):  # not made of these (UnicodeDecodeError, ExceptionGroup)
                return remote
            again.__cause__ = remote
            return again
        return remote


def capped(text: str, limit: int) -> str:
    """Shorten `text` to about `limit` characters by leaving out its middle, and say so."""
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]}\n… {len(text) - 2 * half} characters left out …\n{text[-half:]}"
