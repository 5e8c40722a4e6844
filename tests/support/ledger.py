"""The ledger: what callers handed in and were told, what workers ran, and what of it does not agree.

The workers' side is `executed()`, which a task calls before anything else. The caller's side is a `Ledger` around the
clients. Both write one line at a time to files, so that neither holds in memory what a long run makes, and so that
no death takes away what was written. Workers import this: nothing of the network is imported here at once.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, cast

import mesh

if TYPE_CHECKING:
    from mesh.client import Client
    from mesh.core.record import JobRecord
    from mesh.tasks import Task
    from mesh.typed import Job

_FILE = "LEDGER"
_NODE = "LEDGER_NODE"
"""Names in the environment of a node: the file of executions, and what the ledger calls the node."""

_UNKNOWN = object()
"""Expected of a job whose result is not judged."""


def executed() -> None:
    """Note in a worker that the job runs here: `id attempt pid node moment`, in one write at the file's end."""
    about = mesh.context()
    line = f"{about.id} {about.attempt} {os.getpid()} {os.environ[_NODE]} {time.monotonic():.6f}\n"
    descriptor = os.open(os.environ[_FILE], os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)


@dataclass(frozen=True, slots=True)
class Execution:
    """One line of a worker. `moment`: monotonic seconds, the same clock in all processes of a host."""

    id: str
    attempt: int
    pid: int
    node: str
    moment: float


@dataclass
class Audit:
    """What the two sides say together. Jobs are counted, and listed by id where something is wrong with them.

    `results`: jobs that ended with the right value; `errors`: other first outcomes, by type and what they say of the
    start, as in `JobLost(started=True)`. `unanswered`: no outcome; `wrong`: a value that was not expected; `second`:
    outcomes after the first; `twice`: run more than once; `untrue`: run, though their error says that they surely
    were not, or a result without a run; `strange`: run, and never handed in. `executions`: lines of the workers.
    """

    submitted: int = 0
    results: int = 0
    executions: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    unanswered: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    second: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)
    untrue: list[str] = field(default_factory=list)
    strange: list[str] = field(default_factory=list)

    @property
    def lost(self) -> int:
        """Jobs without an outcome, and those that ended as `JobLost`."""
        return len(self.unanswered) + sum(count for name, count in self.errors.items() if name.startswith("JobLost("))

    def agrees(self) -> None:
        """Assert what holds under any fault: one outcome a job, the right value, and no error that is not true."""
        assert (self.unanswered, self.wrong, self.second, self.untrue, self.strange) == ([], [], [], [], []), self


class Ledger:
    """The caller's side, for clients of this process, while its block lasts.

    Jobs go in by `submit` or `feed`. Every outcome that a client settles is written down, the second of a job too:
    the ledger listens where the client tells the job (`Client.on_end`), not where the application awaits it.
    `folder`: where the two files are.
    """

    def __init__(self, folder: Path) -> None:
        self._ran = folder / "executed"
        self._told = folder / "told"
        self._ran.touch()
        self._file = self._told.open("a", buffering=1 << 16)
        self._open: dict[bytes, object] = {}
        self._clients: list[Client] = []
        self._listeners: list[Callable[[Job[Any]], None]] = []
        self.submitted = 0

    def environment(self, node: str) -> dict[str, str]:
        """Return what a node's process needs to be told; `node` is its name in the lines of its workers."""
        return {_FILE: str(self._ran), _NODE: node}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for client in self._clients:
            client.on_end = None
        self._file.close()

    # handing in

    def submit(
        self, client: Client, task: Task[..., Any] | str, *args: Any, expected: object = _UNKNOWN, **kwargs: Any
    ) -> Job[Any]:
        """Hand in a job and note it. `expected`: the value that it must return, where there is one."""
        if client not in self._clients:
            self._clients.append(client)
            client.on_end = self._note
        job = client.submit(task, *args, **kwargs)
        self.submitted += 1
        self._file.write(f"{job.id.hex()} {time.monotonic():.6f} submitted\n")
        if not job.over:  # one that is over at once has failed, and is noted already
            self._open[job.id] = expected
        return job

    async def feed(
        self,
        client: Client,
        task: Task[..., Any] | str,
        inputs: Iterable[Any],
        *,
        in_flight: int = 256,
        expected: Callable[[Any], object] | None = None,
        on_end: Callable[[Job[Any]], None] | None = None,
    ) -> None:
        """Hand in a job for each input, `in_flight` under way at most, and return when all have ended.

        Failures are written down like results and raised by nobody. `expected`: from an input to the value that
        its job must return. `on_end` is called with each job that has ended.
        """
        room = asyncio.Semaphore(in_flight)
        mine: set[bytes] = set()

        def ended(job: Job[Any]) -> None:
            if job.id in mine:
                mine.discard(job.id)
                room.release()
                if on_end is not None:
                    on_end(job)

        self._listeners.append(ended)
        try:
            for one in inputs:
                await room.acquire()
                job = self.submit(client, task, one, expected=_UNKNOWN if expected is None else expected(one))
                mine.add(job.id)
                if job.over:
                    ended(job)
            for _ in range(in_flight):
                await room.acquire()
        finally:
            self._listeners.remove(ended)

    async def settle(self, timeout: float) -> None:
        """Wait until every job that was handed in has ended, at most `timeout` seconds; the audit names the others."""
        idle = asyncio.Event()

        def look(_job: Job[Any] | None) -> None:
            if not self._open:
                idle.set()

        self._listeners.append(look)
        look(None)
        try:
            with suppress(TimeoutError):
                await asyncio.wait_for(idle.wait(), timeout)
        finally:
            self._listeners.remove(look)

    @property
    def open(self) -> int:
        """Jobs that were handed in and have not ended."""
        return len(self._open)

    def _note(self, record: JobRecord) -> None:
        """Write down an outcome of a job that a client has just told."""
        job = cast("Job[Any]", record)
        expected = self._open.pop(job.id, _UNKNOWN)
        self._file.write(f"{job.id.hex()} {time.monotonic():.6f} {_word(job, expected)}\n")
        for listener in [*self._listeners]:
            listener(job)

    # comparing

    def executions(self) -> list[Execution]:
        """Return what the workers have written so far, in that order."""
        return [*_executions(self._ran)]

    def outcomes(self) -> dict[str, list[tuple[float, str]]]:
        """Return the outcomes of each job that was handed in, each with its moment, in words as in `Audit.errors`."""
        self._file.flush()
        told: dict[str, list[tuple[float, str]]] = {}
        early: list[tuple[str, float, str]] = []
        with self._told.open() as lines:
            for line in lines:
                id, moment, word = line.split()
                if word == _SUBMITTED:
                    told[id] = []
                elif id in told:
                    told[id].append((float(moment), sys.intern(word)))
                else:
                    early.append((id, float(moment), word))
        for id, at, word in early:
            if id in told:  # others were handed in beside the ledger
                told[id].insert(0, (at, word))
        return told

    def audit(self) -> Audit:
        """Compare the two sides. Call it when the nodes are at rest."""
        told = self.outcomes()
        runs = Counter(execution.id for execution in _executions(self._ran))
        audit = Audit(submitted=len(told), executions=runs.total())
        audit.twice = [id for id, count in runs.items() if count > 1]
        audit.strange = [id for id in runs if id not in told]
        for id, outcomes in told.items():
            if not outcomes:
                audit.unanswered.append(id)
                continue
            audit.second += [id] * (len(outcomes) - 1)
            word = outcomes[0][1]
            if word == _RESULT:
                audit.results += 1
            elif word == _WRONG:
                audit.wrong.append(id)
            else:
                audit.errors[word] += 1
            if id not in runs if word in (_RESULT, _WRONG) else id in runs and word.endswith("(started=False)"):
                audit.untrue.append(id)
        return audit


_SUBMITTED = "submitted"
_RESULT = "result"
_WRONG = "wrong"


def _word(job: Job[Any], expected: object) -> str:
    """How a job ended, in one word."""
    try:
        value = job.outcome()
    except BaseException as error:  # noqa: BLE001  # whatever the job ended with
        started = getattr(error, "started", True)  # what the task raised comes as it is: it ran
        return f"{type(error).__name__}(started={started})"
    return _RESULT if expected is _UNKNOWN or value == expected else _WRONG


def _executions(path: Path) -> Iterator[Execution]:
    with path.open() as lines:
        for line in lines:
            if not line.endswith("\n"):
                return  # a worker is about to write the rest
            id, attempt, pid, node, moment = line.split()
            yield Execution(id, int(attempt), int(pid), node, float(moment))
