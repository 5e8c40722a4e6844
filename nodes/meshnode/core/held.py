"""A job as its node holds it, and the owner it came from. Pure."""

from collections import deque

from msgspec import Struct

from mesh.wire.messages import NodeItem, Submit, TaskSpec
from meshnode.core.runtime import RunTime
from meshnode.core.window import AHEAD_S

FOREVER = float("inf")

KINDS = 3
WHOLE, COROUTINE, ELSEWHERE = range(KINDS)
"""What a task's jobs wait for: a whole worker, a place for a coroutine in one, another node."""

ALL_KINDS = (1 << KINDS) - 1


class TaskEntry:
    """One task of the node's catalogue: its description, what runs it, its run times."""

    __slots__ = ("kind", "runtime", "spec")

    def __init__(self, spec: TaskSpec, kind: int = WHOLE) -> None:
        self.spec = spec
        self.kind = kind
        self.runtime = RunTime()

    @property
    def expected(self) -> float:
        """Seconds that one of its jobs is expected to run; a whole `AHEAD_S` while none has ended."""
        mean = self.runtime.mean
        return AHEAD_S if mean is None else mean


class Held(Struct, gc=False, eq=False):
    """One job between its SUBMIT and its end. `seq` is 0 while it waits in the backlog.

    `cost`: while it waits the seconds that it is expected to run, then the share of its worker's budget that it takes.
    `worker`: the key of the one that has it. `over`: its owner has been told its end, or is gone. `unwanted`: it was
    cancelled while it seemed to run. `forwarded`: another node has it. `alarmed`: an alarm is set for the end of its
    time. `told`: its owner has heard that it is held.
    """

    submit: Submit
    entry: TaskEntry
    owner: "Owner"
    expires: float
    seq: int = 0
    worker: int = 0
    cost: float = 0.0
    over: bool = False
    unwanted: bool = False
    forwarded: bool = False
    alarmed: bool = False
    told: bool = False


class Owner:
    """Where jobs come from and outcomes go: a client, or one side of a bridge connection.

    `most`: how many of its jobs run at once; with 1 it is `ordered`: they run strictly one after another.
    `windowed`: it is told a window and keeps to it. `told`, `told_idle`: the window, and whether any worker was
    idle, as it last heard.
    `limit` bounds that window after a job had to be refused; each word opens it again by as many items as it has.
    `queues`: its waiting jobs by lane, which is priority * KINDS + kind; those of an ordered owner lie together, at
    the first kind. `ringed` has a bit set for each lane in whose ring the owner takes turns.
    """

    __slots__ = (
        "gone", "jobs", "key", "limit", "most", "ordered", "queued", "queued_cost", "queues", "replies", "ringed",
        "running", "seen", "told", "told_idle", "windowed", "worker",
    )  # fmt: skip

    def __init__(self, key: int, *, most: int = 2**31, windowed: bool = True) -> None:
        self.key = key
        self.most = most
        self.ordered = most == 1
        self.windowed = windowed
        self.jobs: dict[bytes, Held] = {}
        self.queues: dict[int, deque[Held]] = {}
        self.queued = 0
        self.queued_cost = 0.0
        self.ringed = 0
        self.limit = 2**31
        self.running = 0
        self.worker = 0
        self.seen = 0
        self.told = 0
        self.told_idle = False
        self.gone = False
        self.replies: list[NodeItem] = []
