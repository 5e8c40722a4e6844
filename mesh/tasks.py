"""Tasks: registering them, describing them, and what they know of the job they run.

A worker process imports this and the application, nothing of the network: no ZeroMQ, no event loop.
"""

import contextvars
import copy
import hashlib
import inspect
import math
import types
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, overload

from mesh.errors import ConfigError, RetryLater
from mesh.signature import Signature, parameters_of
from mesh.wire.messages import RetrySpec, TaskSpec, Trace

if TYPE_CHECKING:
    from mesh.client import Client
    from mesh.inner import InnerClient
    from mesh.typed import Job

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

Lifespan = Callable[[types.SimpleNamespace], AsyncIterator[None] | Iterator[None]]

ambient: contextvars.ContextVar["Client | InnerClient"] = contextvars.ContextVar("mesh.client")
"""The client whose `async with` block, or the worker, this code runs in; `Task.call` and `Task.submit` use it."""


LIMIT_KILL_S = 5.0
"""Seconds that a task has to end after its limit, where it does not say; then its worker is killed."""


class Retry:
    """Try a job again when its task raises one of `on`: `n` times more, each on another node where there is one.

    Waits a random time up to `backoff` seconds before the first time, twice as long before each further one, `cap`
    at most (full jitter: M. Brooker, "Exponential Backoff And Jitter", 2015). Raises ConfigError for what makes no
    sense.
    """

    def __init__(
        self, n: int, *, on: Sequence[type[BaseException]] = (Exception,), backoff: float = 0.5, cap: float = 30.0
    ) -> None:
        if type(n) is not int or n < 0:
            raise ConfigError(f"Retry's n is a whole number of further attempts, not {n!r}")
        kinds: tuple[Any, ...] = (on,) if isinstance(on, type) else tuple(on)
        if not all(isinstance(kind, type) and issubclass(kind, BaseException) for kind in kinds):
            raise ConfigError(f"Retry's on is a tuple of exception classes, not {on!r}")
        self.on = kinds
        self.spec = RetrySpec(n, _positive(backoff), _positive(cap))


@dataclass(frozen=True, slots=True)
class Settings:
    """What a task says of itself beside its function. Lengths of time are seconds; see `task`."""

    timeout: float | None = None
    priority: int = 5
    bridge: bool = False
    idempotent: bool = False
    retry: Retry | None = None
    limit: float | None = None
    limit_kill: float | None = None

    def again(self, error: BaseException) -> float | None:
        """Return the seconds to wait before a job that raised this may be tried again; None if it may not."""
        if isinstance(error, RetryLater):
            return error.seconds
        return 0.0 if self.retry is not None and isinstance(error, self.retry.on) else None


class Task(Generic[P, R]):
    """A registered function. Called plainly it runs here; `call` and `submit` hand it to the mesh."""

    def __init__(self, function: Callable[P, R], name: str, settings: Settings) -> None:
        self.function = function
        self.name = name
        self.settings = settings
        self.is_async = inspect.iscoroutinefunction(function)
        self.__doc__ = function.__doc__
        self.__name__ = name
        self.__wrapped__ = function
        self.parameters = parameters_of(function)
        self.signature = Signature(self.parameters)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the function here and now."""
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        """Return the task's name and where its function stands."""
        return f"<mesh.Task {self.name!r} at {self.place}>"

    @property
    def place(self) -> str:
        """Where the function stands, for messages: file and line."""
        code = getattr(inspect.unwrap(self.function), "__code__", None)
        return f"{code.co_filename}:{code.co_firstlineno}" if code else repr(self.function)

    def options(self, *, timeout: float | None = None, priority: int | None = None) -> "Task[P, R]":
        """Return this task with other options: `timeout` in seconds, `priority` 0–9, 9 first."""
        again = copy.copy(self)
        again.settings = replace(
            self.settings,
            timeout=self.settings.timeout if timeout is None else _positive(timeout),
            priority=self.settings.priority if priority is None else _priority(priority),
        )
        return again

    @overload
    def submit(self: "Task[P, Awaitable[R_co]]", *args: P.args, **kwargs: P.kwargs) -> "Job[R_co]": ...
    @overload
    def submit(self, *args: P.args, **kwargs: P.kwargs) -> "Job[R]": ...
    def submit(self, *args: P.args, **kwargs: P.kwargs) -> "Job[Any]":
        """Hand a job to the mesh through the client whose `async with` block this is."""
        return _ambient_client().submit(self, *args, **kwargs)

    @overload
    async def call(self: "Task[P, Awaitable[R_co]]", *args: P.args, **kwargs: P.kwargs) -> R_co: ...
    @overload
    async def call(self, *args: P.args, **kwargs: P.kwargs) -> R: ...
    async def call(self, *args: P.args, **kwargs: P.kwargs) -> Any:
        """Run a job in the mesh and return its result, through the client whose block this is."""
        return await _ambient_client().call(self, *args, **kwargs)

    def spec(self) -> TaskSpec:
        """Describe the task as its node tells it to clients."""
        doc = (inspect.getdoc(self.function) or "").strip().split("\n")[0]
        text = repr([(p.name, p.kind, p.required) for p in self.parameters])
        return TaskSpec(
            name=self.name,
            parameters=self.parameters,
            signature=_signature_text(self.function),
            fingerprint=hashlib.blake2b(text.encode(), digest_size=6).hexdigest(),
            is_async=self.is_async,
            bridge=self.settings.bridge,
            timeout=self.settings.timeout,
            priority=self.settings.priority,
            doc=doc[:200],
            idempotent=self.settings.idempotent,
            retry=self.settings.retry.spec if self.settings.retry else None,
            limit=self.settings.limit,
            limit_kill=self.settings.limit_kill,
        )


def _signature_text(function: Callable[..., Any]) -> str:
    return str(inspect.signature(function))[:500]


def _ambient_client() -> "Client | InnerClient":
    try:
        return ambient.get()
    except LookupError:
        raise ConfigError("there is no client here: use this inside `async with mesh.Client():`") from None


class Registry:
    """The tasks and lifespans that importing an application has registered, in that order."""

    def __init__(self) -> None:
        self.tasks: list[Task[..., Any]] = []
        self.lifespans: list[Lifespan] = []

    def catalogue(self) -> dict[str, Task[..., Any]]:
        """Return the tasks by name. Raises ConfigError where two have the same, and shows both places."""
        return catalogue(self.tasks)


def catalogue(tasks: list[Task[..., Any]]) -> dict[str, Task[..., Any]]:
    """Return tasks by name. Raises ConfigError where two have the same, and shows both places."""
    named: dict[str, Task[..., Any]] = {}
    for task in tasks:
        other = named.setdefault(task.name, task)
        if other is not task and other.place != task.place:
            raise ConfigError(
                f"two tasks are called {task.name!r}: at {other.place} and at {task.place}. "
                "Rename one, or give it @mesh.task(name=…)"
            )
    return named


registry = Registry()


@overload
def task(function: Callable[P, R], /) -> Task[P, R]: ...
@overload
def task(
    *,
    name: str | None = None,
    timeout: float | None = None,
    retry: Retry | None = None,
    idempotent: bool = False,
    priority: int = 5,
    bridge: bool = False,
    limit: float | None = None,
    limit_kill: float | None = None,
) -> Callable[[Callable[P, R]], Task[P, R]]: ...
def task(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    timeout: float | None = None,
    retry: Retry | None = None,
    idempotent: bool = False,
    priority: int = 5,
    bridge: bool = False,
    limit: float | None = None,
    limit_kill: float | None = None,
) -> Any:
    """Register a function as a task, under its own name or `name`.

    `timeout`: seconds from submission to outcome, unless the caller says otherwise. `retry`: whether a job that raised
    is tried again. `idempotent`: it may run more than once, so that a job whose node or worker dies goes to another.
    `priority`: 0–9, 9 first. `bridge`: plain sockets may call it too. `limit`: seconds that it may run; then
    `JobTimeout` is raised inside it, and `limit_kill` seconds later (5 if not given) its worker is killed. Raises
    ConfigError where a value makes no sense.
    """

    def register(function: Callable[..., Any]) -> Task[..., Any]:
        chosen = name or str(getattr(function, "__name__", ""))
        if not 0 < len(chosen.encode()) <= _NAME_LIMIT or not chosen.isprintable():
            raise ConfigError(f"a task's name is 1 to {_NAME_LIMIT} printable bytes, not {chosen!r}")
        if inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function):
            raise ConfigError(f"task {chosen!r} is a generator; a task returns one value")
        if limit_kill is not None and limit is None:
            raise ConfigError(f"task {chosen!r} has a limit_kill without a limit: it counts from the limit on")
        settings = Settings(
            timeout=None if timeout is None else _positive(timeout),
            priority=_priority(priority),
            bridge=bridge,
            idempotent=idempotent,
            retry=retry,
            limit=None if limit is None else _positive(limit),
            limit_kill=_limit_kill(limit, limit_kill),
        )
        try:
            registered = Task(function, chosen, settings)
        except (ValueError, TypeError) as error:
            raise ConfigError(f"task {chosen!r} has no signature that Python can tell: {error}") from None
        registry.tasks.append(registered)
        return registered

    return register if function is None else register(function)


_NAME_LIMIT = 200
"""Bytes of a task's name: it travels with every job (docs/protocol.md, Items)."""


def _positive(seconds: float) -> float:
    if type(seconds) not in (int, float) or not 0 < seconds < math.inf:
        raise ConfigError(f"a length of time is a number of seconds above 0, not {seconds!r}")
    return float(seconds)


def _limit_kill(limit: float | None, limit_kill: float | None) -> float | None:
    if limit is None:
        return None
    return LIMIT_KILL_S if limit_kill is None else _positive(limit_kill)


def _priority(priority: int) -> int:
    if type(priority) is not int or priority not in range(10):
        raise ConfigError(f"a priority is 0 to 9, 9 first, not {priority!r}")
    return priority


def lifespan(function: Lifespan) -> Lifespan:
    """Register what is set up once in each worker: an async (or plain) generator that yields once.

    It gets a namespace, `mesh.context().state` inside tasks. What stands before the `yield` runs before the
    worker's first job, what stands behind it when the worker ends in order.
    """
    if not (inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function)):
        raise ConfigError(f"lifespan {function.__name__!r} must be a generator that yields once")
    registry.lifespans.append(function)
    return function


@dataclass(slots=True)
class Context:
    """What a running task may know of its job. `state` is what the lifespans set up in this worker.

    `traceparent`, `tracestate`: the trace that it belongs to (W3C Trace Context), as its caller had it, or None.
    """

    state: types.SimpleNamespace
    id: str
    task: str
    attempt: int
    traceparent: str | None = None
    tracestate: str | None = None

    def call(self, task: "Task[..., Any] | str", *args: Any, **kwargs: Any) -> Any:
        """Run a job of another task in the mesh and return its result, from inside a sync task.

        It has no more time than this job has left. Async tasks use `await task.call(…)`.
        """
        client = _ambient_client()
        if not hasattr(client, "call_and_wait"):
            raise ConfigError("mesh.context().call is there inside a task that a node runs")
        return client.call_and_wait(task, args, kwargs)


current: contextvars.ContextVar[Callable[[], Context]] = contextvars.ContextVar("mesh.context")


def no_job() -> Context:
    """Stand in `current` where no job runs any more. Raises LookupError."""
    raise LookupError("no job runs here")


def trace_here(_task: str, _job_id: bytes) -> Trace | None:
    """Return the trace of the job that runs here: what it calls belongs to it too."""
    try:
        job = current.get()()
    except LookupError:
        return None
    return None if job.traceparent is None else (job.traceparent, job.tracestate)


def context() -> Context:
    """Return the context of the job that runs here. Raises ConfigError outside a worker."""
    try:
        return current.get()()
    except LookupError:
        raise ConfigError("mesh.context() is there inside a task that a node runs") from None
