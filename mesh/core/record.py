"""One job as the client's core sees it. Pure."""

from collections.abc import Sequence
from typing import Any, Final

from mypy_extensions import i32, mypyc_attr, u8

from mesh.errors import MeshError
from mesh.wire.messages import Body, Failed, Result, Trace

PENDING: Final = "pending"
SENT: Final = "sent"
ACCEPTED: Final = "accepted"
STARTED: Final = "started"
DONE: Final = "done"

Alarm = list[Any]
"""Deadline, a number that breaks ties, and the job or None once it is over: an entry of a heap."""


@mypyc_attr(acyclic=True)
class JobRecord:
    """A job from its submission to its end.

    One is made for each job, so most of it stands in the class until it differs. Compiled, the garbage collector does
    not look at it, which with many jobs under way takes a fifth of the client's time: so nothing here may lead back to
    it for long once it is over.
    `deadline`: monotonic seconds, or None. `shape`: count of positional and names of the other arguments, while
    they have not been checked against the task's signature. `state`: one of the constants above. `link`, `node`:
    where it was sent last. `bounce`: it comes back at once where no node has room. `alarm`: its entry among the
    deadlines. `retries`: how often its task has asked for another attempt; `crashes`: workers that died of it. `began`:
    an earlier attempt has run, or may have. `tried`: ids of the nodes that it is not to go to while there is another.
    `lost_at`: id and epoch of the node where this very attempt may still run. `delayed`: its entry among those that
    wait for their time and not for room. `kept`: it outlives its client. `trace`: the trace that it belongs to.
    """

    submitted: float = 0.0
    timeout: float | None = None
    deadline: float | None = None
    alarm: Alarm | None = None
    shape: tuple[int, Sequence[str]] | None = None
    state: str = PENDING
    node: str | None = None
    delayed: Alarm | None = None
    tried: tuple[str, ...] = ()
    lost_at: tuple[str, bytes] | None = None
    trace: Trace | None = None
    link: i32 = 0
    refused_by: i32 = 0
    attempt: i32 = 1
    retries: i32 = 0
    crashes: i32 = 0
    form: u8 = 0
    priority: u8 = 5
    over: bool = False
    cancelled: bool = False
    bounce: bool = False
    forwarded: bool = False
    began: bool = False
    kept: bool = False

    def __init__(self, job_id: bytes, task: str, body: Body) -> None:
        self.id = job_id
        self.task = task
        self.body = body

    def progressed(self) -> None:
        """Its state has changed."""

    def finish(self, outcome: Result | Failed | MeshError) -> None:
        """It is over."""
