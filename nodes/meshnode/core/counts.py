"""What became of the jobs, counted by task, and how long they waited and ran. Pure: `docs/metrics.md`.

The scheduler tells of whole batches, since most jobs end by the dozen: what is counted costs next to nothing a job.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

from mesh.wire.messages import CANCELLED, EXPIRED, LIMIT, Lost, Reject
from meshnode.core.held import COUNTED, Held

BOUNDS: Final = (
    0.0001, 0.0005, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0,
)  # fmt: skip
"""Seconds up to which each bucket of a histogram reaches; one more has no end."""

OTHERS: Final = ""
"""The name under which the jobs of all tasks are counted that this node does not serve: callers may make up any."""

OK, FAILED, LOST, REJECTED, TIMEOUT, STOPPED, DROPPED = (
    "ok", "failed", "lost", "rejected", "timeout", "cancelled", "dropped",
)  # fmt: skip
"""How jobs end; `docs/metrics.md` says what each means."""


class Histogram:
    """How often something took how long: counts by bucket, and the sum of all, in seconds."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.total = 0.0

    def observe(self, seconds: float, count: int = 1) -> None:
        """Count so many that took this long each."""
        self.counts[bisect_left(BOUNDS, seconds)] += count
        self.total += seconds * count

    def as_of_now(self) -> "Histogram":
        """Return a copy, which stays as it is."""
        copy = Histogram()
        copy.counts, copy.total = self.counts[:], self.total
        return copy


class TaskCounts:
    """One task's. `ended`: jobs by how they ended and for which reason, which is empty where the task itself ended."""

    __slots__ = ("ended", "retries", "run", "wait")

    def __init__(self) -> None:
        self.ended: Counter[tuple[str, str]] = Counter()
        self.retries = 0
        self.run = Histogram()
        self.wait = Histogram()

    def as_of_now(self) -> "TaskCounts":
        """Return a copy, which stays as it is."""
        copy = TaskCounts()
        copy.ended, copy.retries = self.ended.copy(), self.retries
        copy.run, copy.wait = self.run.as_of_now(), self.wait.as_of_now()
        return copy


class Counts:
    """All of a node's. `late`: outcomes of jobs that were over; `forwarded`: by what came of jobs sent on."""

    def __init__(self) -> None:
        self.tasks: dict[str, TaskCounts] = {}
        self.late = 0
        self.forwarded: Counter[str] = Counter()

    def as_of_now(self) -> "Counts":
        """Return a copy, which stays as it is."""
        copy = Counts()
        copy.tasks = {task: counts.as_of_now() for task, counts in self.tasks.items()}
        copy.late, copy.forwarded = self.late, self.forwarded.copy()
        return copy

    def serve(self, tasks: Iterable[str]) -> None:
        """Count the jobs of these tasks each under its own name; those that were served before keep theirs."""
        for task in (*tasks, OTHERS):
            self.tasks.setdefault(task, TaskCounts())

    def of(self, task: str) -> TaskCounts:
        """Return where a task's jobs are counted."""
        return self.tasks.get(task) or self.tasks[OTHERS]

    def waited(self, task: str, given: Sequence[Held], now: float) -> None:
        """Jobs of a task are given to a worker: those that came together have waited as long as each other.

        Each is counted the first time only.
        """
        wait = self.of(task).wait
        since, count = COUNTED, 0
        for held in given:
            if held.since != since:
                if since != COUNTED:
                    wait.observe(now - since, count)
                since, count = held.since, 0
            count += 1
        if since != COUNTED:
            wait.observe(now - since, count)

    def ran(self, task: str, count: int, spent: float, longest: float) -> None:
        """Jobs of a task ended together, after so many seconds in all: one took the longest, the others share alike."""
        run = self.of(task).run
        run.observe(longest)
        if count > 1:
            run.observe(max(0.0, spent - longest) / (count - 1), count - 1)

    def told(self, task: str, count: int, *, failed: int, cancelled: int) -> None:
        """So many jobs ended at a worker: `failed` of them with an exception, `cancelled` of those after a cancel."""
        ended = self.of(task).ended
        ended[OK, ""] += count - failed
        if failed:
            ended[FAILED, ""] += failed - cancelled
            if cancelled:
                ended[STOPPED, CANCELLED] += cancelled

    def ended(self, task: str, item: Reject | Lost) -> None:
        """A job ended otherwise, or was not taken."""
        self.of(task).ended[outcome(item), item.reason] += 1

    def dropped(self, task: str) -> None:
        """A job that waited is of no use to anybody: its owner is gone."""
        self.of(task).ended[DROPPED, ""] += 1

    def retried(self, task: str) -> None:
        """A job runs once more here."""
        self.of(task).retries += 1


def outcome(item: Reject | Lost) -> str:
    """Return how a job has ended about which an owner is told this."""
    if item.reason == CANCELLED:
        return STOPPED
    if item.reason in (EXPIRED, LIMIT):
        return TIMEOUT
    return LOST if isinstance(item, Lost) else REJECTED
