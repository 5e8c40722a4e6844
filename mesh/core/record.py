"""One job as the client's core sees it. Pure."""

from collections.abc import Sequence
from typing import Any

PENDING = "pending"
SENT = "sent"
ACCEPTED = "accepted"
STARTED = "started"
DONE = "done"

Alarm = list[Any]
"""Deadline, a number that breaks ties, and the job or None once it is over: an entry of a heap."""


class JobRecord:
    """A job from its submission to its end.

    `deadline`: monotonic seconds, or None. `shape`: count of positional and names of the other arguments, while
    they have not been checked against the task's signature. `state`: one of the constants above. `link`, `node`:
    where it was sent last. `bounce`: it comes back at once where no node has room. `alarm`: its entry among the
    deadlines.
    """

    __slots__ = (
        "alarm", "attempt", "body", "bounce", "cancelled", "deadline", "form", "forwarded", "id", "link", "node",
        "over", "priority", "refused_by", "shape", "state", "submitted", "task", "timeout",
    )  # fmt: skip

    def __init__(self, job_id: bytes, task: str, body: bytes) -> None:
        self.id = job_id
        self.task = task
        self.body = body
        self.form = 0
        self.attempt = 1
        self.priority = 5
        self.submitted = 0.0
        self.timeout: float | None = None
        self.deadline: float | None = None
        self.alarm: Alarm | None = None
        self.shape: tuple[int, Sequence[str]] | None = None
        self.state = PENDING
        self.over = False
        self.cancelled = False
        self.link = 0
        self.node: str | None = None
        self.refused_by = 0
        self.bounce = False
        self.forwarded = False
