"""One job as the client's core sees it. Pure."""

from collections.abc import Sequence
from typing import Any, Final

from mypy_extensions import i32, i64, mypyc_attr, u8

from mesh.errors import MeshError
from mesh.wire.messages import Body, Failed, Result, Trace

PENDING: Final = "pending"
SENT: Final = "sent"
ACCEPTED: Final = "accepted"
STARTED: Final = "started"
DONE: Final = "done"

WHOLE: Final = -1
"""The number of a job whose id was given whole."""

Alarm = list[Any]
"""Deadline, a number that breaks ties, and the job or None once it is over: an entry of a heap."""


@mypyc_attr(acyclic=True)
class Extras:
    """What few jobs have; the others do without the memory.

    `timeout`: seconds; `deadline`: monotonic seconds. `alarm`: its entry among the deadlines. `delayed`: its entry
    among those that wait for their time and not for room. `tried`: ids of the nodes that it is not to go to while there
    is another. `lost_at`: id and epoch of the node where this very attempt may still run. `trace`: the trace that it
    belongs to. `retries`: how often its task has asked for another attempt; `crashes`: workers that died of it.
    `awaiting`: futures of those who wait until a node holds it.
    """

    timeout: float | None = None
    deadline: float | None = None
    alarm: Alarm | None = None
    delayed: Alarm | None = None
    tried: tuple[str, ...] = ()
    lost_at: tuple[str, bytes] | None = None
    trace: Trace | None = None
    awaiting: list[Any] | None = None
    retries: i32 = 0
    crashes: i32 = 0


_NONE: Final = Extras()
"""What a job has of these while it has none; nobody writes to it."""


@mypyc_attr(acyclic=True)
class JobRecord:
    """A job from its submission to its end.

    One is made for each job, so most of it stands in the class until it differs. Compiled, the garbage collector does
    not look at it, which with many jobs under way takes a fifth of the client's time: so nothing here may lead back to
    it for long once it is over. It is small, since a million jobs handed in at once are slower by the memory that they
    touch first: 128 bytes more cost 4 % (`python -m benchmarks growth`).
    `extras`: what few have, to be looked at and not written; `own_extras` is for that. `shape`: count of positional and
    names of the other arguments, while they have not been checked against the task's signature. `state`: one of the
    constants above. `link`, `node`: where it was sent last. `bounce`: it comes back at once where no node has room.
    `began`: an earlier attempt has run, or may have. `kept`: it outlives its client. `wanted`: somebody has asked for
    its outcome, or said not to care.
    """

    extras: Extras = _NONE
    submitted: float = 0.0
    shape: tuple[int, Sequence[str]] | None = None
    state: str = PENDING
    node: str | None = None
    link: i32 = 0
    refused_by: i32 = 0
    attempt: i32 = 1
    form: u8 = 0
    priority: u8 = 5
    over: bool = False
    cancelled: bool = False
    bounce: bool = False
    forwarded: bool = False
    began: bool = False
    kept: bool = False
    wanted: bool = False

    def __init__(self, job_id: bytes, task: str, body: Body, number: i64 = WHOLE) -> None:
        """Make one with an id of 16 bytes, or of the 8 that a client's jobs share and its number."""
        self._id = job_id
        self._number = number
        self.task = task
        self.body = body

    @property
    def id(self) -> bytes:
        """The 16 bytes that tell it from all others, put together for each who asks: together they take 64."""
        return self._id if self._number == WHOLE else self._id + int(self._number).to_bytes(8, "big")

    @property
    def alarm(self) -> Alarm | None:
        """Its entry among the deadlines."""
        return self.extras.alarm

    @alarm.setter
    def alarm(self, alarm: Alarm | None) -> None:
        self.own_extras().alarm = alarm

    def own_extras(self) -> Extras:
        """Return what is this job's alone of what few have, to be written to."""
        if self.extras is _NONE:
            self.extras = Extras()
        return self.extras

    def progressed(self) -> None:
        """Its state has changed."""

    def finish(self, outcome: Result | Failed | MeshError) -> None:
        """It is over."""
