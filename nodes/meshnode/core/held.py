"""A job as its node holds it, and the owner it came from. Pure."""

from collections import deque
from typing import Final

from mypy_extensions import mypyc_attr

from mesh.core.record import Alarm
from mesh.tasks import LIMIT_KILL_S
from mesh.wire.messages import NodeItem, Submit, TaskSpec
from meshnode.core.quarantine import Quarantine
from meshnode.core.runtime import RunTime
from meshnode.core.window import AHEAD_S

UNBOUNDED: Final = 2**31

FOREVER: Final = float("inf")

COUNTED: Final = -1.0
"""`since` of a job that has been given to a worker before: how long it waited then is counted."""

KINDS: Final = 3
WHOLE: Final = 0
COROUTINE: Final = 1
ELSEWHERE: Final = 2
"""What a task's jobs wait for: a whole worker, a place for a coroutine in one, another node."""

ALL_KINDS: Final = (1 << KINDS) - 1


class TaskEntry:
    """One task of the node's catalogue: its description, what runs it, its run times.

    `kill_s`: seconds after which the worker that runs a job of it is killed; None for never. `suspect`: jobs of it that
    may have brought a worker down are kept apart, each alone on a worker, so that it shows which one it is.
    """

    __slots__ = ("_suspect", "kill_s", "kind", "quarantine", "runtime", "spec")

    def __init__(self, spec: TaskSpec, kind: int = WHOLE, *, limit: float | None = None, alone: bool = False) -> None:
        self.spec = spec
        self.kind = kind
        self.kill_s = _kill_after(spec, limit)
        self.runtime = RunTime(alone=alone or self.kill_s is not None)
        self.quarantine = Quarantine()
        self._suspect: TaskEntry | None = None

    @property
    def suspect(self) -> "TaskEntry":
        """The same for jobs that may have brought a worker down."""
        if self._suspect is None:
            self._suspect = TaskEntry(self.spec, WHOLE, alone=True)
            self._suspect.kill_s = self.kill_s
            self._suspect.quarantine = self.quarantine
            self._suspect._suspect = self._suspect
        return self._suspect

    @property
    def expected(self) -> float:
        """Seconds that one of its jobs is expected to run; a whole `AHEAD_S` while none has ended."""
        mean = self.runtime.mean
        return AHEAD_S if mean is None else mean


def _kill_after(spec: TaskSpec, limit: float | None) -> float | None:
    """Return the seconds that a job of a task may run; `limit`: seconds for those that do not say so themselves."""
    if spec.limit is not None:
        return spec.limit + (LIMIT_KILL_S if spec.limit_kill is None else spec.limit_kill)
    return None if limit is None else limit + LIMIT_KILL_S


@mypyc_attr(acyclic=True)
class Held:
    """One job between its SUBMIT and its end. `seq` is 0 while it waits in the backlog.

    `cost`: while it waits the seconds that it is expected to run, then the share of its worker's budget that it takes.
    `worker`: the key of the one that has it. `over`: its owner has been told its end, or is gone. `unwanted`: it was
    cancelled while it seemed to run. `forwarded`: another node has it. `alarm`: its entry among the deadlines.
    `told`: its owner has heard that it is held. `kept`: it outlives its owner. `delayed`: it waits for its time to be
    tried again. `retries`, `crashes`: how often its task asked for that, how many workers died of it.
    `stopping`: how far its owner wanted it cancelled when it last said so. `since`: when it was taken in, or `COUNTED`.
    `moment`: when it came; of a coroutine that was given to a worker, when that was.

    Most of it stands in the class until it differs: one is made for each job. Compiled, the garbage collector does not
    look at it, so nothing here may lead back to it once it is over.
    """

    seq: int = 0
    worker: int = 0
    over: bool = False
    unwanted: bool = False
    forwarded: bool = False
    alarm: Alarm | None = None
    told: bool = False
    kept: bool = False
    delayed: bool = False
    retries: int = 0
    crashes: int = 0
    stopping: int = -1

    def __init__(
        self,
        submit: Submit,
        entry: TaskEntry,
        owner: "Owner",
        expires: float,
        *,
        cost: float = 0.0,
        since: float = COUNTED,
        moment: float = 0.0,
    ) -> None:
        self.id = submit.id
        self.submit = submit
        self.entry = entry
        self.owner = owner
        self.expires = expires
        self.cost = cost
        self.since = since
        self.moment = moment

    @property
    def waits(self) -> bool:
        """Does it lie in the backlog?"""
        return not (self.seq or self.forwarded or self.delayed or self.over)


class Owner:
    """Where jobs come from and outcomes go: a client, or one side of a bridge connection.

    `most`: how many of its jobs run at once, none while it reads nothing; made with 1 it is `ordered`: they run
    strictly one after another.
    `windowed`: it is told a window and keeps to it. `told`, `told_idle`: the window, and whether any worker was
    idle, as it last heard.
    `member`: whom its jobs are found again by, over another connection; one text for all where there are no keys.
    `limit` bounds that window after a job had to be refused; each word opens it again by as many items as it has.
    `queues`: its waiting jobs by lane, which is priority * KINDS + kind; those of an ordered owner lie together, at
    the first kind. `ringed` has a bit set for each lane in whose ring the owner takes turns.
    """

    __slots__ = (
        "gone", "jobs", "key", "limit", "member", "most", "ordered", "queued", "queued_cost", "queues", "replies",
        "ringed", "running", "seen", "told", "told_idle", "windowed", "worker",
    )  # fmt: skip

    def __init__(self, key: int, *, most: int = UNBOUNDED, windowed: bool = True, member: str = "") -> None:
        self.key = key
        self.member = member
        self.most = most
        self.ordered = most == 1
        self.windowed = windowed
        self.jobs: dict[bytes, Held] = {}
        self.queues: dict[int, deque[Held]] = {}
        self.queued = 0
        self.queued_cost = 0.0
        self.ringed = 0
        self.limit = UNBOUNDED
        self.running = 0
        self.worker = 0
        self.seen = 0
        self.told = 0
        self.told_idle = False
        self.gone = False
        self.replies: list[NodeItem] = []
