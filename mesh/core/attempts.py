"""Whether a job is tried again, and when. Pure: `docs/delivery.md`.

Each `after_…` is told how an attempt went. It returns what has become of the job, or the seconds to wait before the
next attempt, and keeps the job's own books for that one.
"""

import random
from typing import Final

from mesh.core.backoff import full_jitter
from mesh.core.budget import Budget
from mesh.core.record import JobRecord
from mesh.core.roster import NodeView, ServedTask
from mesh.errors import (
    JobCancelled,
    JobLost,
    JobTimeout,
    MeshBusy,
    MeshError,
    NotAllowed,
    PayloadTooLarge,
    PoisonTask,
)
from mesh.wire.messages import CANCELLED, CRASH, EXPIRED, LIMIT, NOT_ALLOWED, TOO_BIG, Failed, Lost, Options, Reject

POISON: Final = 3
"""Workers that may die of one job before it is given up."""

LATER_MOST: Final = 10
"""How often a task without a `Retry` of its own may ask to be tried again later."""

LATEST_S: Final = 7 * 86_400.0
"""Seconds to wait at most, whatever a task says: its job lies in the memory of this process."""

MOST_TRIED: Final = 16
"""Nodes that a job is kept away from at most: the latest ones."""

CANCELLED_HERE: Final = "cancelled before it started"


class Attempts:
    """Decides over further attempts. Those for failures and lost workers have a budget; a lost node's jobs move on.

    `served` is the task as a node serves it, None where nobody knows it any more.
    """

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._budget = Budget()

    def handed_in(self, count: int, now: float) -> None:
        """So many jobs were handed in: the budget grows with them."""
        self._budget.handed_in(count, now)

    def after_failure(
        self, view: NodeView, record: JobRecord, served: ServedTask | None, item: Failed, now: float
    ) -> float | Failed:
        """The task raised: that is the outcome, unless it wants another attempt and may have one."""
        if item.again is None or record.bounce or record.cancelled:
            return item
        retry = served.spec.retry if served is not None else None
        if record.extras.retries >= (LATER_MOST if retry is None else retry.n):
            return item
        wait = item.again
        if retry is not None:
            wait = max(wait, full_jitter(record.extras.retries, first=retry.backoff, cap=retry.cap, rng=self._rng))
        allowed = self._allowed(record, wait, now)
        if allowed is None:
            return item
        record.own_extras().retries += 1
        record.began = True
        _leave(view, record, ended=True)
        return allowed

    def after_loss(
        self, view: NodeView, record: JobRecord, served: ServedTask | None, item: Lost, now: float
    ) -> float | MeshError:
        """The node ended the job without an outcome of its own, and says why."""
        if item.reason in (EXPIRED, LIMIT):
            return JobTimeout(item.text, started=item.started)
        if item.reason == CANCELLED:
            return JobCancelled(item.text, started=item.started)
        if item.reason == CRASH and item.started:
            extras = record.own_extras()
            extras.crashes += 1
            if extras.crashes >= POISON and not record.bounce:
                text = f"{extras.crashes} workers died while they ran this job, the last one at {view.about.name}"
                return PoisonTask(f"{text}: {item.text}")
        error = JobLost(f"the job's end is not known: {item.text}", started=item.started)
        wrong = _final(record, served, error)
        if wrong is not None:
            return wrong
        wait = self._allowed(record, 0.0, now)
        if wait is None:
            return error
        record.began = record.began or item.started
        _leave(view, record, ended=True)
        return wait

    def after_silence(
        self, view: NodeView, record: JobRecord, served: ServedTask | None, why: str, *, ended: bool
    ) -> float | MeshError:
        """The node, or all it knew of the job, is gone.

        `ended`: this attempt surely runs no more. Where it may, it is to be found again should the job come to the same
        life of that node.
        """
        wrong = _final(record, served, JobLost(f"the job's end is not known: {why}"))
        if wrong is not None:
            return wrong
        record.began = True
        _leave(view, record, ended=ended)
        return 0.0

    def after_rejection(self, record: JobRecord, item: Reject) -> float | MeshError:
        """The node has not taken it, or has given it back: this attempt surely did not run, and is made again."""
        match item.reason:
            case r if r == CANCELLED:
                return JobCancelled(CANCELLED_HERE)
            case r if r == EXPIRED:
                return JobTimeout("its time was up before a slot was free", started=False)
            case r if r == TOO_BIG:
                return PayloadTooLarge(item.text)
            case r if r == NOT_ALLOWED:
                return NotAllowed(item.text)
            case _:
                pass
        if record.bounce:
            return MeshBusy(item.text)
        return JobCancelled(CANCELLED_HERE) if record.cancelled else 0.0

    def _allowed(self, record: JobRecord, wait: float, now: float) -> float | None:
        """Take a further attempt out of the budget; return the seconds to wait, None where the job has no such time."""
        wait = min(max(wait, self._budget.wait(now)), LATEST_S)
        deadline = record.extras.deadline
        if deadline is not None and now + wait >= deadline:
            return None
        self._budget.take(now)
        return wait


def options(view: NodeView, record: JobRecord) -> Options:
    """Return the options of a job that was tried before, and is sent to this node now: by a new attempt, or resent."""
    extras = record.own_extras()
    resent = extras.lost_at == (view.about.node, view.about.epoch)
    if extras.lost_at is not None and not resent:
        record.attempt += 1
        extras.lost_at = None
    trace, state = extras.trace or (None, None)
    return Options(record.priority, record.forwarded, extras.crashes, resent, trace, state)


def _final(record: JobRecord, served: ServedTask | None, error: JobLost) -> MeshError | None:
    """Return how a lost job ends; None if it may be tried again, for it did not run or its task may run twice."""
    may_run_again = error.started is False or (served is not None and served.spec.idempotent)
    if record.cancelled or not may_run_again:
        return error
    return MeshBusy(str(error), started=error.started) if record.bounce else None


def _leave(view: NodeView, record: JobRecord, *, ended: bool) -> None:
    """The job leaves a node for another, if there is one."""
    extras = record.own_extras()
    if ended:
        record.attempt += 1
        extras.lost_at = None
    else:
        extras.lost_at = view.about.node, view.about.epoch
    if view.about.node not in extras.tried:
        extras.tried = (*extras.tried, view.about.node)[-MOST_TRIED:]
