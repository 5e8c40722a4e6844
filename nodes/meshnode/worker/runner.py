"""One job in a worker: body in, function called, outcome out. No socket, no process."""

import traceback
import types
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final

import msgspec

from mesh.errors import (
    MESSAGE_LIMIT,
    TRACEBACK_LIMIT,
    BadArguments,
    Failure,
    JobTimeout,
    MeshError,
    ResultNotSerializable,
    capped,
)
from mesh.tasks import Context, Task, current
from mesh.wire.messages import FORM_JSON, Body, Failed, Result, Submit, trace_of
from mesh.wire.payload import pack_failure, pack_result, unpack_arguments
from meshnode.core.orders import End

_NO_ARGUMENTS: Final = (b"", b"[]", b"{}")
"""What most callers without arguments send; it is not worth decoding."""

_json_decode: Final = msgspec.json.Decoder(strict=True).decode
JSON_DEPTH: Final = 200
"""Levels of nesting in a bridge caller's arguments: more is an attack or a mistake."""


class Runner:
    """Calls tasks, which are found by name. `state` is what the lifespans of this worker set up.

    `limit`: seconds that a task may run which does not say so itself. `inside`: user code of a sync task runs, so that
    something may be raised in it; whoever does so clears it first, so that it happens once, and never outside.
    `span` makes a span around a job, where the application traces.
    """

    def __init__(self, tasks: Sequence[Task[..., Any]], *, limit: float | None = None) -> None:
        self.tasks = {task.name: task for task in tasks}
        self.state = types.SimpleNamespace()
        self.inside = False
        self.span: Callable[[str, Submit], AbstractContextManager[None]] | None = None
        self._limit = limit

    def limit(self, task: Task[..., Any]) -> float | None:
        """Return the seconds that a task may run; None for as long as it likes."""
        return self._limit if task.settings.limit is None else task.settings.limit

    def context(self, task: Task[..., Any], job: Submit) -> Context:
        """Return what a job's task is told of it."""
        trace = trace_of(job.options) or (None, None)
        return Context(self.state, job.id.hex(), task.name, job.attempt, *trace)

    def run(self, task: Task[..., Any], job: Submit) -> End:
        """Run a sync task's job to its end. Raises nothing: whatever happens is an outcome."""
        try:
            args, kwargs = arguments(task, job)
        except BaseException as error:  # noqa: BLE001  # even what can be made of a caller's bytes
            return failed(error, job)
        current.set(lambda: self.context(task, job))
        try:
            if self.span is not None:
                return outcome(self._run_in_span(task, job, args, kwargs), job)
            self.inside = True
            value = task.function(*args, **kwargs)
            self.inside = False
            return outcome(value, job)
        except ResultNotSerializable as error:
            self.inside = False
            return failed(error, job)
        except BaseException as error:  # noqa: BLE001  # user code; SystemExit must not end the worker
            self.inside = False
            return failed(error, job, again=task.settings.again(error))

    def _run_in_span(self, task: Task[..., Any], job: Submit, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        assert self.span is not None
        with self.span(task.name, job):
            self.inside = True
            try:
                return task.function(*args, **kwargs)
            finally:
                self.inside = False


def over_limit(limit: float) -> JobTimeout:
    """Return what is raised inside a task that runs beyond its limit."""
    return JobTimeout(f"it ran longer than its limit of {limit:g} s", started=True)


def arguments(task: Task[..., Any], job: Submit) -> tuple[Sequence[Any], dict[str, Any]]:
    """Decode a job's arguments and check them against the task's parameters. Raises BadArguments.

    The body is let go of: it may be a mapping of many megabytes, and the job may run for long.
    """
    body, job.body = job.body, b""
    args, kwargs = _json_arguments(task, body) if job.form == FORM_JSON else unpack_arguments(body)
    wrong = task.signature.misfit(len(args), kwargs)
    if wrong:
        raise BadArguments(f"{task.name} {wrong}")
    return args, kwargs


def _json_arguments(task: Task[..., Any], body: Body) -> tuple[list[Any], dict[str, Any]]:
    if body in _NO_ARGUMENTS:
        return [], {}
    try:
        value = _json_decode(body)
    except RecursionError:
        raise BadArguments("args is nested too deep") from None
    except (msgspec.MsgspecError, ValueError) as error:
        raise BadArguments(f"args is not JSON: {error}") from None
    if value is None:
        return [], {}
    if len(body) > 2 * JSON_DEPTH and _deeper_than(value, JSON_DEPTH):
        raise BadArguments(f"args is nested deeper than {JSON_DEPTH} levels")
    if isinstance(value, list):
        return value, {}
    if isinstance(value, dict):
        for name, parameter in task.signature.reserved(value).items():
            if parameter not in value:
                value[parameter] = value.pop(name)
        return [], value
    raise BadArguments("args is an object (by name), an array (by position) or null")


def _deeper_than(value: Any, levels: int) -> bool:
    layer: list[Any] = [value]
    for _ in range(levels):
        layer = [
            child
            for part in layer
            if isinstance(part, (dict, list))
            for child in (part.values() if isinstance(part, dict) else part)
            if isinstance(child, (dict, list))
        ]
        if not layer:
            return False
    return True


def outcome(value: Any, job: Submit) -> Result:
    """Pack what a task returned. Raises ResultNotSerializable."""
    return Result(job.id, job.attempt, json_result(value) if job.form == FORM_JSON else pack_result(value))


def failed(error: BaseException, job: Submit, *, again: float | None = None) -> Failed:
    """Pack what a task, or what was to be done for it, raised; `again`: seconds until it may be tried again."""
    return Failed(job.id, job.attempt, failure(error, job.form), again)


def json_result(value: Any) -> bytes:
    """Write a result as one line of compact ASCII JSON, without NaN or Infinity.

    Raises ResultNotSerializable. The fast encoder writes UTF-8 and turns NaN into null; what it is not fit
    for goes through the standard library's.
    """
    if value is None:
        return b"null"
    try:
        fast = _fast_json(value)
    except (msgspec.MsgspecError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise _no_json(error) from None
    if fast.isascii() and b"null" not in fast:
        return fast
    import json

    try:
        plain = msgspec.to_builtins(value, enc_hook=_no_json_type)
        return json.dumps(plain, allow_nan=False, separators=(",", ":")).encode("ascii")
    except (msgspec.MsgspecError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise _no_json(error) from None


def _no_json_type(value: Any) -> Any:
    raise TypeError(f"a value of type {type(value).__qualname__!r} cannot travel as JSON")


_fast_json: Final = msgspec.json.Encoder(enc_hook=_no_json_type).encode


def _no_json(error: Exception) -> ResultNotSerializable:
    why = "it is nested too deep" if isinstance(error, RecursionError) else str(error)
    return ResultNotSerializable(f"the task ran, but its result cannot be written as JSON: {why}. Return plain values")


def failure(error: BaseException, form: int) -> bytes:
    """Pack an exception of user code: type, message, traceback (not for JSON: callers there are strangers)."""
    if isinstance(error, MeshError):
        return _mesh_failure(error, form)
    cls = type(error)
    name = cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"
    try:
        message = capped(str(error), MESSAGE_LIMIT)
    except Exception:  # noqa: BLE001  # user code: an exception whose __str__ raises
        message = "(its message cannot be shown)"
    if form == FORM_JSON:
        return _json_error(name, message, retryable=False, started=True)
    own = error.__traceback__.tb_next if error.__traceback__ else None
    try:
        trace = "".join(traceback.format_exception(cls, error, own))
    except Exception:  # noqa: BLE001  # user code: an exception that cannot be printed
        trace = ""
    return pack_failure(Failure(name, message, traceback=capped(trace, TRACEBACK_LIMIT), args=error.args or None))


def _mesh_failure(error: MeshError, form: int) -> bytes:
    name, message = type(error).__name__, capped(str(error), MESSAGE_LIMIT)
    if form == FORM_JSON:
        return _json_error(name, message, retryable=error.retryable, started=error.started is not False)
    return pack_failure(Failure(name, message, mesh=True, started=error.started is not False))


def _json_error(name: str, message: str, *, retryable: bool, started: bool) -> bytes:
    import json

    fields = {"type": name, "message": message, "retryable": retryable, "started": started}
    return json.dumps(fields, separators=(",", ":")).encode("ascii")
