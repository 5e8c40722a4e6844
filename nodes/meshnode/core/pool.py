"""The workers of a node: who is free, who has room, who gets the next job. Pure."""

from collections.abc import Collection, Iterable, Sequence
from itertools import islice
from typing import Final

from meshnode.core.held import COROUTINE, FOREVER, WHOLE, Held, TaskEntry
from meshnode.core.runtime import BUDGET_S

MOST: Final = 256
"""Orders outstanding at one worker at most, however short they are (beyond it nothing is won, measured)."""


PACKED_S: Final = 0.001
"""Seconds of expected work that may wait for each of the workers that short jobs are packed onto."""


class Worker:
    """One worker as the scheduler sees it: its outstanding jobs by order number, and their expected work.

    `packed`: it runs short jobs, several of which lie in its socket. `stuck`: it gets nothing more before its next
    word, since a job drags on or its orders are being taken back. `watched`: it is going to be looked at. `lease`: jobs
    that it may still run before it is replaced. `retired`: it gets nothing more at all. `doomed`: it is being killed
    for the job of this number, which ends for this reason, with this text. `since`: when it began with the first of
    what is outstanding, as far as it has told. `done`, `failed`: how many jobs ended well here, and otherwise.
    """

    __slots__ = (
        "coroutines", "done", "doomed", "failed", "key", "last", "lease", "load", "outstanding", "packed", "retired",
        "since", "spare", "stuck", "watched",
    )  # fmt: skip

    def __init__(self, key: int, lease: int | None = None, *, spare: bool = False) -> None:
        self.key = key
        self.lease = lease
        self.spare = spare
        self.retired = False
        self.doomed: tuple[int, str, str] | None = None
        self.outstanding: dict[int, Held] = {}
        self.last = 0
        self.load = 0.0
        self.coroutines = False
        self.packed = False
        self.stuck = False
        self.watched = False
        self.since = 0.0
        self.done = self.failed = 0


class Pool:
    """Chooses workers. A sync job takes a worker whole; coroutines share one, up to `concurrency`.

    Idle workers are a stack: the one that went idle last is warm. Short jobs are packed onto as many
    workers as there are `cores`, and others are woken only while more than these soon get through is waiting
    (measured: 64 workers, tiny jobs, 3.5 times the throughput of the least loaded); slow ones take a worker each.
    Where all are at work, a job of a task that runs for some milliseconds, and always for about as many, goes behind
    the one that began first: it is read the moment that ends, and taken back if another worker is idle before.

    `leaving`: workers that get nothing more and have not ended what they have.
    """

    def __init__(self, *, concurrency: int, cores: int) -> None:
        self.concurrency = concurrency
        self.cores = cores
        self.workers: dict[int, Worker] = {}
        self.leaving: set[int] = set()
        self._idle: list[Worker] = []
        self._alone: dict[int, Worker] = {}
        self._ahead: dict[int, Worker] = {}
        self._shared: list[Worker] = []
        self._spare: list[Worker] = []

    @property
    def at_rest(self) -> bool:
        """Does no worker do anything?"""
        return len(self._idle) + len(self._spare) == len(self.workers)

    @property
    def free(self) -> int:
        """Workers that do nothing, but for spare ones: these are there for what jobs that wait have called."""
        return len(self._idle)

    @property
    def free_async(self) -> int:
        """Places for coroutines that nobody uses."""
        places = len(self._idle) * self.concurrency
        if self.concurrency > 1:
            places += sum(self.concurrency - len(w.outstanding) for w in self._shared if w.coroutines)
        return places

    def add(self, key: int, lease: int | None = None, *, spare: bool = False) -> None:
        """A worker is ready."""
        worker = self.workers[key] = Worker(key, lease, spare=spare)
        (self._spare if spare else self._idle).append(worker)

    def pick_spare(self) -> Worker | None:
        """Choose a spare worker that does nothing."""
        return self._spare[-1] if self._spare else None

    def retire(self, worker: Worker) -> None:
        """Give a worker nothing more; what it has it may end."""
        worker.retired = True
        self.leaving.add(worker.key)
        self._forget(worker)

    def _forget(self, worker: Worker) -> None:
        for group in (self._idle, self._shared, self._spare):
            if worker in group:
                group.remove(worker)
        self._alone.pop(worker.key, None)
        self._ahead.pop(worker.key, None)

    def remove(self, key: int) -> Collection[Held]:
        """Forget a worker, and return its outstanding jobs in the order they were sent."""
        worker = self.workers.pop(key, None)
        self.leaving.discard(key)
        if worker is None:
            return []
        self._forget(worker)
        return worker.outstanding.values()

    def pick(self, entry: TaskEntry, wanted: int, waiting: float = FOREVER) -> tuple[Worker, int] | None:
        """Choose a worker for up to `wanted` jobs of a task: the worker, and how many it has room for.

        `waiting`: seconds of expected work that wait. While they are few for the workers that short jobs are packed
        onto, no other is woken.
        """
        if entry.kind == COROUTINE:
            return self._pick_coroutines(wanted)
        if not entry.runtime.short:
            worker = self._idle[-1] if self._idle else self._next_free(entry)
            return None if worker is None else (worker, 1)
        packed = [worker for worker in self._shared if worker.packed and not worker.stuck and not worker.spare]
        if len(packed) < self.cores and self._idle:
            share = -(-wanted // (self.cores - len(packed)))
            return self._idle[-1], min(self.room(self._idle[-1], entry), share)
        best = min(packed, key=_load, default=None)
        if best is not None and (room := self.room(best, entry)) > 0:
            return best, min(room, wanted)
        if self._idle and waiting > PACKED_S * self.cores:
            return self._idle[-1], min(self.room(self._idle[-1], entry), wanted)
        return None

    def _next_free(self, entry: TaskEntry) -> Worker | None:
        """Choose the worker that is expected to be free next, to have its next job there by then."""
        if not entry.runtime.steady:
            return None
        return next((worker for worker in self._alone.values() if not worker.stuck), None)

    def ahead(self, most: int) -> list[Worker]:
        """Return workers with a job that waits behind another, those first where it has longest to wait."""
        if not most or not self._ahead:
            return []
        return [worker for worker in islice(reversed(self._ahead.values()), most) if not worker.stuck]

    def room(self, worker: Worker, entry: TaskEntry) -> int:
        """How many more short jobs of a task a worker's socket may hold."""
        if worker.stuck or worker.coroutines or worker.retired or entry.kind != WHOLE:
            return 0
        cost = max(entry.runtime.cost, BUDGET_S / MOST)
        return min(int((BUDGET_S - worker.load) / cost), MOST - len(worker.outstanding))

    def _pick_coroutines(self, wanted: int) -> tuple[Worker, int] | None:
        sharing = [w for w in self._shared if w.coroutines and len(w.outstanding) < self.concurrency and not w.spare]
        if self._idle and len(sharing) < self.cores:
            return self._idle[-1], min(self.concurrency, -(-wanted // self.cores))
        if sharing:
            worker = min(sharing, key=_count)
            return worker, min(self.concurrency - len(worker.outstanding), wanted)
        return None

    def give(self, worker: Worker, jobs: Sequence[Held]) -> int:
        """Note that jobs of one task go to a worker that `pick` chose or that is at work.

        They are numbered on from the worker's last; returns the number of the first.
        """
        entry = jobs[0].entry
        outstanding = worker.outstanding
        if not outstanding:
            rested = self._spare if worker.spare else self._idle
            rested.pop()  # the one that was chosen
            self._shared.append(worker)
            worker.coroutines = entry.kind == COROUTINE
            worker.packed = entry.runtime.short and not worker.coroutines
        key = worker.key
        cost = entry.runtime.cost
        first = seq = worker.last + 1
        for held in jobs:
            held.seq = seq
            held.worker = key
            held.cost = cost
            outstanding[seq] = held
            seq += 1
        if not worker.packed:
            self._sort(worker)
        worker.last = seq - 1
        worker.load += cost * len(jobs)
        return first

    def end(self, worker: Worker, seqs: Iterable[int]) -> list[Held | None]:
        """Note that orders ended or were taken back; None for each that the worker did not have."""
        outstanding = worker.outstanding
        load = worker.load
        ended: list[Held | None] = []
        for seq in seqs:
            held = outstanding.pop(seq, None)
            ended.append(held)
            if held is not None:
                load -= held.cost
        worker.load = load
        if not outstanding and worker in self._shared:
            worker.load = 0.0
            worker.coroutines = False
            self._shared.remove(worker)
            (self._spare if worker.spare else self._idle).append(worker)
        if not worker.packed:
            self._sort(worker)
        return ended

    def _sort(self, worker: Worker) -> None:
        """Note whether a worker runs one job that is sure to end soon, or has another behind it."""
        key = worker.key
        jobs = 0 if worker.coroutines else len(worker.outstanding)
        self._alone.pop(key, None)
        if worker.retired or worker.spare:
            return
        if jobs > 1:
            self._ahead[key] = worker
            return
        self._ahead.pop(key, None)
        if jobs and next(iter(worker.outstanding.values())).entry.runtime.steady:
            self._alone[key] = worker

    def running(self, held: Held) -> bool:
        """Has the worker surely or probably taken this job up? Those behind the first have to wait."""
        worker = self.workers.get(held.worker)
        if worker is None or not held.seq:
            return False
        return worker.coroutines or next(iter(worker.outstanding), 0) == held.seq


def _load(worker: Worker) -> float:
    return worker.load


def _count(worker: Worker) -> int:
    return len(worker.outstanding)
