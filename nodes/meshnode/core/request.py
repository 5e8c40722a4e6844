"""What a bridge caller's line comes to: a job, or an answer at once. Pure: `docs/text-protocol.md`."""

from collections.abc import Callable, Container, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Final, Protocol, assert_never

from mypy_extensions import mypyc_attr

from mesh.errors import (
    JobCancelled,
    JobLost,
    JobTimeout,
    MeshBusy,
    MeshError,
    NotAllowed,
    PayloadTooLarge,
    PoisonTask,
    ProtocolError,
    UnknownTask,
)
from mesh.wire.messages import (
    CANCELLED,
    EXPIRED,
    FORM_JSON,
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
    TaskSpec,
)
from meshnode.core import text
from meshnode.core.envelope import BadRequest, Request
from meshnode.core.held import FOREVER, TaskEntry

PING: Final = "$ping"
"""The function that is answered without a worker, for a load balancer's check."""

_ALIVE: Final = b'{"ok":true}'
LONGEST_MS: Final = 2**53
"""Milliseconds that the wire can carry (docs/protocol.md, Items)."""

_OPTIONS: Final = [Options(priority=priority) for priority in range(10)]
_SHOWN: Final = 80
"""Characters of an unknown function's name that are compared and sent back."""

_REJECTED: Final = {
    UNKNOWN_TASK: UnknownTask,
    EXPIRED: JobTimeout,
    CANCELLED: JobCancelled,
    TOO_BIG: PayloadTooLarge,
    QUARANTINED: PoisonTask,
}
"""What a rejected job's caller is told, by reason; for any other reason MeshBusy."""

_LOST: Final = {EXPIRED: JobTimeout, LIMIT: JobTimeout, CANCELLED: JobCancelled, POISON: PoisonTask}
"""The same for a lost one; for any other reason JobLost."""


class Catalogue(Protocol):
    """What is asked about tasks; the scheduler answers."""

    tasks: dict[str, TaskEntry]

    def knows(self, task: str) -> TaskSpec | None:
        """Return the description of a task that some node serves."""


class OpenTasks:
    """Says of a task whether plain sockets may run it: it is marked `bridge=True`, or one of these globs names it."""

    def __init__(self, globs: Sequence[str] = ()) -> None:
        self._globs = tuple(globs)
        self._named: dict[str, bool] = {}

    def __call__(self, spec: TaskSpec) -> bool:
        """Is it open?"""
        return spec.bridge or self.named(spec.name)

    def named(self, task: str) -> bool:
        """Does a glob name this task, which some node serves?"""
        found = self._named.get(task)
        if found is None:
            found = self._named[task] = any(fnmatchcase(task, glob) for glob in self._globs)
        return found


@mypyc_attr(acyclic=True)
class Asked:
    """One request until its answer is written; without `submit` there is no job behind it.

    `size` is the bytes of its arguments, `expires` the moment when its time is up, `fragile` says that it is
    only wanted while its caller is there, and `answer` is its line, kept while earlier ones are still owed theirs.
    """

    __slots__ = ("answer", "expires", "fragile", "size", "submit", "tag")

    def __init__(
        self,
        tag: bytes | None,
        submit: Submit | None = None,
        size: int = 0,
        *,
        expires: float = FOREVER,
        fragile: bool = False,
        answer: bytes | None = None,
    ) -> None:
        self.tag = tag
        self.submit = submit
        self.size = size
        self.expires = expires
        self.fragile = fragile
        self.answer = answer


MARKED: Final = OpenTasks()
"""Open where nothing else is said: the tasks that are marked."""


class Desk:
    """Reads lines for one connection. `new_id` gives each job its id, which is unique for ever."""

    def __init__(
        self,
        catalogue: Catalogue,
        new_id: Callable[[], bytes],
        *,
        draining: bool,
        is_open: OpenTasks = MARKED,
    ) -> None:
        self.draining = draining
        self._catalogue = catalogue
        self._is_open = is_open
        self._new_id = new_id

    def take(self, line: bytes, now: float, *, open_tags: Container[bytes]) -> Asked:
        """Read a line: a request with a job to hand on, or with its answer. `open_tags` are the ids in use."""
        request = text.parse(line)
        if isinstance(request, BadRequest):
            return refused(request.tag, ProtocolError, request.message)
        tag = request.tag
        if tag is not None and tag in open_tags:
            return refused(tag, ProtocolError, "an earlier request with this id is not answered yet")
        if request.function == PING:
            if self.draining:
                return refused(tag, MeshBusy, "this node is leaving")
            return Asked(tag, answer=text.success(tag, _ALIVE))
        spec = self._catalogue.knows(request.function)
        if spec is None:
            return refused(tag, UnknownTask, self._unknown(request.function[:_SHOWN]))
        if not self._is_open(spec):
            return refused(tag, NotAllowed, f"the task {spec.name!r} is not open to plain sockets")
        return self._job(request, spec, now)

    def plain(self, piece: bytes, *, limit: int) -> list[Submit] | None:
        """Read a piece of whole lines that all ask for jobs of one task without id or options, as most do.

        None if there is the least that is unusual: that is left to `take`.
        """
        if piece[:1] != b"{" or piece[-1:] != b"\n" or len(piece) >= limit:
            return None
        lines = text.plain(piece)
        if lines is None:
            return None
        function = lines[0].function
        entry = self._catalogue.tasks.get(function)
        if entry is None or not (entry.spec.bridge or self._is_open(entry.spec)):
            return None
        spec = entry.spec
        name, options = spec.name, _OPTIONS[spec.priority]
        remaining = None if spec.timeout is None else milliseconds(spec.timeout)
        jobs: list[Submit] = []
        submit, new_id = Submit, self._new_id
        for line in lines:
            if line.function != function:
                return None
            args = bytes(line.args)
            jobs.append(submit(new_id(), 1, name, FORM_JSON, remaining, options, b"" if args == b"null" else args))
        return jobs

    def _job(self, request: Request, spec: TaskSpec, now: float) -> Asked:
        timeout = spec.timeout if request.timeout is None else request.timeout
        priority = spec.priority if request.priority is None else request.priority
        options = _OPTIONS[priority]
        if request.trace is not None:
            options = Options(priority=priority, trace=request.trace)
        return Asked(
            request.tag,
            Submit(self._new_id(), 1, spec.name, FORM_JSON, None, options, request.args),
            size=len(request.args),
            expires=FOREVER if timeout is None else now + timeout,
            fragile=request.cancel_on_disconnect,
        )

    def _unknown(self, name: str) -> str:
        open_here = [name for name, entry in self._catalogue.tasks.items() if self._is_open(entry.spec)]
        near = get_close_matches(name, open_here)
        hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
        return f"no node serves a task {name!r}{hint}"


def milliseconds(seconds: float) -> int:
    """Turn what is left of a request's time into what the wire carries."""
    return round(min(max(seconds, 0.0) * 1000, LONGEST_MS))


def refused(tag: bytes | None, kind: type[MeshError], message: str) -> Asked:
    """Return a request that comes to nothing but this error."""
    return Asked(tag, answer=failed(tag, kind, message))


def failed(tag: bytes | None, kind: type[MeshError], message: str, *, started: bool = False) -> bytes:
    """Write the line that says how a request failed."""
    return text.failure(tag, text.error(kind, message, started=started))


def outcome(tag: bytes | None, item: Result | Failed | Reject | Lost) -> bytes:
    """Write the line that says what came of a request's job."""
    match item:
        case Result():
            return text.success(tag, item.body)
        case Failed():
            return text.failure(tag, item.body)
        case Reject():
            return failed(tag, _REJECTED.get(item.reason, MeshBusy), item.text)
        case Lost():
            return failed(tag, _LOST.get(item.reason, JobLost), item.text, started=item.started)
        case _ as never:
            assert_never(never)
