"""Which job goes where: the heart of the node. Pure: `docs/architecture.md`, The scheduler.

Events come in batches, effects go out in batches: one turn of the node's loop is one `handle`. What waits lies in the
`Backlog`, which knows whose turn it is; a job goes to a worker that the `Pool` chooses; a job in the socket of a worker
that the `Watch` sees drag on is taken back and given to another; the `Word` is what owners are told of all that.
"""

import random
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Final, assert_never

from mesh.core.backoff import full_jitter
from mesh.core.deadlines import Alarms
from mesh.wire.messages import (
    BUSY,
    CANCELLED,
    CRASH,
    DRAINING,
    EXPIRED,
    FORCED,
    GRACE,
    LIMIT,
    POISON,
    QUARANTINED,
    RUNNING,
    STALE,
    UNKNOWN_TASK,
    UNSTARTED,
    WORKER,
    Failed,
    Lost,
    NodeItem,
    Reject,
    Started,
    Submit,
    TaskSpec,
)
from meshnode.core.backlog import LOOK, Backlog, Elsewhere, Nowhere, waiting
from meshnode.core.callers import Callers
from meshnode.core.counts import FAILED, OK, Counts
from meshnode.core.effects import (
    Dismiss,
    Dispatch,
    Effect,
    Empty,
    Forward,
    Interrupt,
    Kill,
    Replace,
    Spare,
    TakeBack,
)
from meshnode.core.events import (
    Called,
    CancelAsked,
    Draining,
    Ended,
    Event,
    ForwardEnded,
    GraceOver,
    KeepAsked,
    Left,
    Paused,
    Queried,
    Resized,
    Resumed,
    Retired,
    Served,
    SpareLost,
    Spoken,
    Stalled,
    Submitted,
    TakenBack,
    Tick,
    Undraining,
    WorkerLost,
    WorkerReady,
)
from meshnode.core.held import COROUTINE, COUNTED, ELSEWHERE, FOREVER, KINDS, UNBOUNDED, WHOLE, Held, Owner, TaskEntry
from meshnode.core.orders import Ran
from meshnode.core.outcomes import Outcomes
from meshnode.core.pool import MOST, Pool, Worker
from meshnode.core.quarantine import Quarantine
from meshnode.core.timeline import Timeline
from meshnode.core.watch import Watch
from meshnode.core.window import AHEAD_S
from meshnode.core.word import Word

CRASHES: Final = 3
"""Workers that may die of a bridge caller's job before it is given up; a client counts for itself."""

_QUARANTINED: Final = "worker after worker died of this task here"

LATER_MOST: Final = 10
"""How often a task without a `Retry` of its own may ask for a bridge caller's job to be tried again later."""


class Scheduler:
    """Owners' jobs in, orders to workers and replies to owners out.

    `slots`: workers that the node is to have. `backlog`: jobs held at most. `elsewhere` answers for the rest of
    the mesh, where bridge jobs go on to when no slot is free here. `taken_up` says which order a worker has taken
    up last.
    `counts`: where to count what becomes of the jobs, if that is wanted.
    `held`: jobs that it has taken in and not ended; `done`, `failed`, `lost`: how many have ended at a worker well,
    with a failure, or not at all since their worker died or was killed. Its parts: the workers (`pool`), what waits
    (`backlog`), what owners are told (`word`).
    """

    def __init__(
        self,
        tasks: Sequence[TaskSpec],
        *,
        slots: int,
        concurrency: int = 1,
        cores: int = 2,
        backlog: int = 100_000,
        limit: float | None = None,
        elsewhere: Elsewhere | None = None,
        taken_up: Callable[[int], int] = lambda worker: 0,
        counts: Counts | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self._limit = limit
        self._shared = COROUTINE if concurrency > 1 else WHOLE
        self.tasks = {spec.name: self._entry(spec) for spec in tasks}
        self.pool = Pool(concurrency=concurrency, cores=max(1, min(cores, slots)))
        self.backlog = Backlog()
        self.word = Word(self.pool, slots)
        self.counts = counts
        if counts is not None:
            counts.serve(self.tasks)
        self.held = 0
        self.done = self.failed = self.lost = 0
        self._cores = cores
        self._most = backlog
        self._elsewhere = elsewhere or Nowhere()
        self._watch = Watch(self.pool, taken_up)
        self._rng = rng or random.Random()  # noqa: S311  # spreads retries; guards nothing
        self._deadlines: Alarms[Held] = Alarms()
        self._limits: Timeline[tuple[Held, int, int]] = Timeline(self._has_ended)
        self._later: Timeline[Held] = Timeline(lambda held: held.over)
        self._outcomes = Outcomes()
        self._callers = Callers(slots)
        self._ends: dict[str, list[NodeItem]] = {}
        self._to_stop: dict[Held, int] = {}
        self._fresh: list[Held] = []
        self._dispatched: dict[int, tuple[TaskEntry, list[Submit]]] = {}
        self._effects: list[Effect] = []

    @property
    def draining(self) -> bool:
        """Does it take nothing new?"""
        return self.word.draining

    def handle(self, events: Sequence[Event], now: float) -> list[Effect]:
        """Take what happened in one turn, and return what is to be done. `now` is monotonic seconds."""
        for event in events:
            if self._fresh and type(event) is not Submitted:
                self._queue_fresh()
            self._take(event, now)
        self._act_on_time(now)
        if self._to_stop:
            self._stop_late()
        if self._fresh:
            self._give_fresh(now)
        if self.backlog.count:
            self._assign(now)
            while self.backlog.bridge and self._forward():
                self._assign(now)
        if not self.backlog.count:
            self._nothing_waits()
        if self._callers:
            self._look_after_callers(now)
        self._effects += self.word.replies(now)
        self._keep_ends(now)
        if self.word.draining and not self.held and self.pool.at_rest:
            self._effects.append(Empty())
        self._dispatched.clear()
        effects, self._effects = self._effects, []
        return effects

    def next_wake(self) -> float | None:
        """When to call `handle` with a Tick, if nothing else happens before; None for never."""
        wake = min(
            self._watch.at, self.word.news_at, self.word.full_at, self._limits.at, self._later.at, self._callers.at
        )
        expires = self._deadlines.next()
        if expires is not None and expires < wake:
            wake = expires
        return None if wake == FOREVER else wake

    def _entry(self, spec: TaskSpec) -> TaskEntry:
        return TaskEntry(spec, self._shared if spec.is_async else WHOLE, limit=self._limit)

    def knows(self, task: str) -> TaskSpec | None:
        """Return the description of a task that this node serves, or else another one that it knows."""
        entry = self.tasks.get(task)
        return entry.spec if entry else self._elsewhere.spec(task)

    # what happened

    def _take(self, event: Event, now: float) -> None:  # noqa: C901, PLR0915  # one flat match
        match event:
            case Submitted():
                owner, jobs = event.owner, event.jobs
                if len(jobs) == 1 and not owner.windowed and not self.backlog.count and owner.running < owner.most:
                    self._submitted_one(owner, jobs[0], now)
                elif not (event.alike and self._submitted_alike(owner, jobs, now)):
                    self._submitted(owner, jobs, now, stale=event.stale)
            case Ended():
                self._ended(event, now)
            case WorkerReady():
                self.pool.add(event.worker, event.lease, spare=event.spare)
                self.word.loosen()
                if event.spare:
                    self._callers.came(event.worker)
            case SpareLost():
                self._callers.came(None)
            case Called():
                self._called(event.worker, event.seq, event.job, now)
            case Retired():
                self._retire(event.worker)
            case CancelAsked():
                self._cancel(event.owner, event.id, event.how)
            case KeepAsked():
                held = event.owner.jobs.get(event.id)
                if held is not None:
                    held.kept = True
            case Queried():
                self._queried(event.owner, event.ids, now)
            case Spoken():
                self.word.say(event.owner, *event.items)
            case Left():
                self._left(event.owner, now, revoked=event.revoked)
            case Paused():
                event.owner.most = 0
            case Resumed():
                event.owner.most = UNBOUNDED
                self.backlog.ring_again(event.owner)
            case TakenBack():
                self._taken_back(event.worker, event.seqs, now)
            case WorkerLost():
                self._worker_lost(event, now)
            case ForwardEnded():
                self._forward_ended(event, now)
            case Draining():
                self.word.drain()
            case Undraining():
                self.word.undrain()
            case Served():
                self._serve(event.tasks)
            case Resized():
                self._resize(event.slots)
            case Stalled():
                self._stalled()
            case GraceOver():
                self._grace_over()
            case Tick():
                pass
            case _ as never:
                assert_never(never)

    def _submitted(  # noqa: C901  # hot: a call for each job would cost more than all of this
        self, owner: Owner, jobs: list[Submit], now: float, *, stale: bool
    ) -> None:
        """Take jobs in, by runs of one task and priority: what is the same for all of a run is asked once."""
        if owner.gone:
            return
        owner.seen += len(jobs)
        ids = owner.jobs
        accepted: list[Held] = []
        entry: TaskEntry | None = None
        run: list[Held] = []
        task = options = None
        room = 0
        cost = AHEAD_S
        refusal: tuple[str, str] | None = None
        known: set[bytes] | None = None
        for submit in jobs:
            if submit.task != task or (submit.options is not options and submit.options != options):
                if run:
                    self.backlog.add(owner, run)
                    run = []
                task, options = submit.task, submit.options
                entry = self.tasks.get(task) or self._entry_elsewhere(owner, task)
                refusal = self._refusal(owner, entry, task, now, stale=stale)
                if options is not None and options.resent:
                    known = self._found_again(owner, jobs, now) if known is None else known
                if entry is not None:
                    room = self._room(owner, entry)
                    cost = entry.expected
                    if options is not None and options.crashes:
                        entry = entry.suspect
            job_id = submit.id
            if known and job_id in known:
                continue
            if entry is None or refusal is not None or job_id in ids or room <= 0:
                reason, text = refusal or self._no_room(owner, job_id)
                owner.replies.append(rejected := Reject(job_id, submit.attempt, reason, text))
                if self.counts is not None:
                    self.counts.ended(submit.task, rejected)
                continue
            held = Held(submit, entry, owner, FOREVER, cost=cost, since=now, moment=now)
            ids[job_id] = held
            run.append(held)
            accepted.append(held)
            room -= 1
            self.held += 1
            if submit.remaining is not None:
                self._set_alarm(held, now + submit.remaining / 1000)
        if run:
            self.backlog.add(owner, run)
        if accepted:
            self.word.took_in(owner, accepted, now)
        if len(accepted) < len(jobs):
            self.word.say(owner)

    def _submitted_alike(self, owner: Owner, jobs: list[Submit], now: float) -> bool:
        """Take in a bridge caller's jobs that are all of one kind; False if anything speaks against any of them."""
        first = jobs[0]
        entry = self.tasks.get(first.task)
        if entry is None or not self._plainly_taken(owner, entry, len(jobs), now):
            return False
        ids = owner.jobs
        cost = entry.expected
        run = [Held(submit, entry, owner, FOREVER, cost=cost, since=now, moment=now) for submit in jobs]
        for held in run:
            ids[held.id] = held
        if first.remaining is not None:
            for held in run:
                self._set_alarm(held, now + first.remaining / 1000)
        self.held += len(run)
        self.backlog.add(owner, run)
        self.word.active[owner.key] = owner
        return True

    def _plainly_taken(self, owner: Owner, entry: TaskEntry, count: int, now: float) -> bool:
        """Does nothing speak against taking so many new jobs of a bridge caller?"""
        return not (self.word.draining or self.held + count > self._most or owner.gone or entry.quarantine.until > now)

    def _submitted_one(self, owner: Owner, submit: Submit, now: float) -> None:
        """Take in one job of a bridge caller, which goes straight to a worker if nothing waits: it overtakes nobody.

        Most plain sockets ask for one thing at a time, and queues and turns would cost more than all the rest.
        """
        entry = self.tasks.get(submit.task)
        if entry is None or submit.id in owner.jobs or not self._plainly_taken(owner, entry, 1, now):
            self._submitted(owner, [submit], now, stale=False)
            return
        held = Held(submit, entry, owner, FOREVER, cost=entry.expected, since=now, moment=now)
        owner.jobs[submit.id] = held
        self.held += 1
        self.word.active[owner.key] = owner
        if submit.remaining is not None:
            self._set_alarm(held, now + submit.remaining / 1000)
        owner.running += 1
        self._fresh.append(held)

    def _set_alarm(self, held: Held, expires: float) -> None:
        held.expires = expires
        self._deadlines.set(held, expires)

    def _entry_elsewhere(self, owner: Owner, task: str) -> TaskEntry | None:
        """Return an entry for a task that only other nodes serve: bridge callers may have those too."""
        spec = None if owner.windowed else self._elsewhere.spec(task)
        return None if spec is None else TaskEntry(spec, ELSEWHERE)

    def _refusal(
        self, owner: Owner, entry: TaskEntry | None, task: str, now: float, *, stale: bool
    ) -> tuple[str, str] | None:
        """Say why no job of a task is taken, as reason and text; None if they are."""
        if entry is None:
            return UNKNOWN_TASK, f"no task {task!r} here"
        if self.word.draining and owner.key >= 0:  # what a running job calls is part of what is to be finished
            return DRAINING, "this node is leaving"
        if stale:
            return STALE, "sent on word from this node that is more than 5 s old"
        if entry.quarantine.closed(now):
            return QUARANTINED, f"{task!r} is in quarantine here: worker after worker died of it"
        return None

    def _no_room(self, owner: Owner, job_id: bytes) -> tuple[str, str]:
        """Say why this job is not taken, since it could be otherwise."""
        if job_id in owner.jobs:
            return BUSY, "a job with this id is already held"
        if self.held >= self._most:
            return BUSY, f"the backlog of {self._most} jobs is full"
        self.word.refused(owner)
        return BUSY, "more than this node can start soon"

    def _room(self, owner: Owner, entry: TaskEntry) -> int:
        """How many more jobs of a task an owner may hand in."""
        room = self._most - self.held
        return min(room, self.word.room(owner, entry)) if owner.windowed else room

    def _ended(self, event: Ended, now: float) -> None:  # noqa: C901, PLR0915  # hot, as above
        ran = event.ran
        worker = self.pool.workers.get(event.worker)
        if worker is None:
            self._keep_outcomes(event, [], [], now)
            return
        worker.stuck = False
        worker.since = now
        failures = count = 0
        orphans = self._outcomes.orphans
        answered: list[Owner] = []
        came: list[list[Held | None]] = []
        failure = Failed  # a struct's name is looked up anew each time where this is compiled
        for one in ran:
            ended = self.pool.end(worker, range(one.first, one.first + len(one.ends)))
            came.append(ended)
            self._observe(ended, one)
            count += len(one.ends)
            owner: Owner | None = None
            task = ""
            told, failed, cancelled = len(ended), 0, 0
            for held, item in zip(ended, one.ends, strict=True):
                if held is None:
                    told -= 1
                    continue
                if type(item) is failure:
                    failures += 1
                if held.owner is not owner:
                    owner, task = held.owner, held.entry.spec.name
                    answered.append(owner)
                owner.running -= 1
                if held.over:
                    told -= 1
                    if self.counts is not None:
                        self.counts.late += 1
                    if orphans and self._outcomes.ended(held):
                        self._outcomes.keep_orphaned(item, now, whose=held.owner.member)
                    continue
                if type(item) is failure:
                    if item.again is not None and self._asks_again(held, item.again, now):
                        told -= 1
                        continue
                    failed += 1
                    cancelled += held.unwanted
                held.over = True
                self.held -= 1
                del owner.jobs[held.id]
                if held.alarm is not None:
                    self._deadlines.clear(held)
                owner.replies.append(item)
                if owner.gone:
                    self._outcomes.keep_orphaned(item, now, whose=owner.member)
            if self.counts is not None and told:
                self.counts.told(task, told, failed=failed, cancelled=cancelled)
        worker.failed += failures
        worker.done += count - failures
        self.failed += failures
        self.done += count - failures
        self.word.ended_at_worker(answered)
        for owner in answered:
            if owner.queued and not owner.windowed:
                self.backlog.ring_again(owner)
        if worker.retired:
            self._dismiss_if_done(worker)
        elif worker.lease is not None:
            self._wear(worker, sum(len(one.ends) for one in ran))
        self._keep_outcomes(event, answered, came, now)

    def _keep_outcomes(self, event: Ended, owners: list[Owner], came: list[list[Held | None]], now: float) -> None:
        """Keep what came of jobs for whoever asks again: apart where these are members of several names.

        Only clients do: a bridge caller knows no ids, and a job that has called another one asks nobody twice.
        """
        if owners and not any(owner.windowed for owner in owners):
            return
        members = {owner.member for owner in owners} or {""}
        if len(members) == 1:
            self._outcomes.keep([one.ends for one in event.ran], event.size, now, whose=members.pop())
            return
        apart: dict[str, list[NodeItem]] = {}
        for one, ended in zip(event.ran, came, strict=True):
            for held, item in zip(ended, one.ends, strict=True):
                if held is not None:
                    apart.setdefault(held.owner.member, []).append(item)
        count = sum(map(len, apart.values()))
        for whose, items in apart.items():
            self._outcomes.keep([items], event.size * len(items) // count, now, whose=whose)

    def _observe(self, ended: list[Held | None], ran: Ran) -> None:
        """Learn from jobs of one task that ended together."""
        known = [held for held in ended if held is not None]
        if known:
            entry = known[0].entry
            entry.runtime.observe(len(known), ran.spent / 1e9, ran.longest / 1e9)
            if entry.quarantine.crashes:
                entry.quarantine.survived()
            self.word.pace.finished(len(known), ran.spent / 1e9)
            if self.counts is not None:
                self.counts.ran(entry.spec.name, len(known), ran.spent / 1e9, ran.longest / 1e9)

    def _cancel(self, owner: Owner, job_id: bytes, how: int) -> None:
        held = owner.jobs.get(job_id)
        if held is None or held.forwarded:
            return
        if not held.seq:
            self._reject(held, CANCELLED, "cancelled before it started")
            return
        held.unwanted = True  # a job that seems to run may yet come back unread
        if how <= held.stopping:
            return
        held.stopping = how
        worker = self.pool.workers[held.worker]
        if self.pool.running(held):
            self._stop(worker, held, how)
            return
        self._recall(worker)
        if how != UNSTARTED:  # it may run all the same: what ended before it is on its way here
            self._to_stop[held] = how

    def _stop(self, worker: Worker, held: Held, how: int) -> None:
        """Stop a job that runs, as far as its owner said."""
        if how == FORCED:
            self._kill(worker, held.seq, CANCELLED, "cancelled while it ran: its worker was killed")
        elif how == RUNNING:
            self._effects.append(Interrupt(worker.key, held.seq, worker.coroutines))

    def _stop_late(self) -> None:
        """Stop those that were not known to run when they were cancelled, and are now."""
        for held, how in list(self._to_stop.items()):
            if held.over or not held.seq:
                del self._to_stop[held]
            elif self.pool.running(held):
                del self._to_stop[held]
                self._stop(self.pool.workers[held.worker], held, how)

    def _left(self, owner: Owner, now: float, *, revoked: bool = False) -> None:
        """An owner is gone: what it had waiting is dropped, what runs ends unheard, both to be found for a while."""
        owner.gone = True
        if revoked:
            for held in owner.jobs.values():
                held.kept = False
        running = [held for held in owner.jobs.values() if held.seq]
        kept = [held for held in owner.jobs.values() if held.kept and held.waits]
        self.backlog.drop_all(owner)
        dropped: list[NodeItem] = []
        for held in [held for held in owner.jobs.values() if not held.kept]:
            if self.counts is not None and not held.seq:
                self.counts.dropped(held.entry.spec.name)
            if owner.windowed and held.seq:
                self._outcomes.orphaned(held)
            elif owner.windowed:
                dropped.append(_dropped(held))
            self._close(held)
        for held in kept:
            self.backlog.add(owner, [held])
        if dropped:
            self._outcomes.keep([dropped], 0, now, whose=owner.member)
        for worker in {held.worker for held in running}:
            if len(self.pool.workers[worker].outstanding) > 1 and not self.pool.workers[worker].coroutines:
                self._recall(self.pool.workers[worker])  # what is not begun need not be
        self.word.left(owner)

    def _taken_back(self, key: int, seqs: list[int], now: float) -> None:
        worker = self.pool.workers.get(key)
        if worker is None:
            return
        self._requeue([held for held in self.pool.end(worker, seqs) if held is not None], now)
        worker.stuck = bool(worker.outstanding)
        if worker.retired:
            self._dismiss_if_done(worker)

    def _worker_lost(self, event: WorkerLost, now: float) -> None:
        worker = self.pool.workers.get(event.worker)
        caller = self._callers.lost(event.worker)
        if caller is not None:
            self._left(caller, now)
        if worker is None:
            return
        unread: list[Held] = []
        again: list[Held] = []
        counted: set[Quarantine] = set()
        for held in self.pool.remove(event.worker):
            if held.seq > event.started:
                unread.append(held)
                continue
            held.owner.running -= 1
            self.lost += 1
            if worker.doomed is not None and worker.doomed[0] == held.seq:
                reason, text = worker.doomed[1:]
            else:
                blamed = worker.coroutines or held.seq == event.started
                reason, text = (CRASH if blamed and worker.doomed is None else WORKER), event.text
            quarantine = held.entry.quarantine
            if reason == CRASH and quarantine not in counted:  # one worker died, however many coroutines it ran
                counted.add(quarantine)
                if quarantine.crashed(now):
                    self._reject_all(held.entry.spec.name, QUARANTINED, _QUARANTINED)
            if self._lost_at_worker(held, reason, text, now):
                again.append(held)
            self.backlog.ring_again(held.owner)
        self._requeue(unread, now)
        for held in reversed(again):  # they came before what was not read
            self._try_again(held, 0.0, now)

    def _lost_at_worker(self, held: Held, reason: str, text: str, now: float) -> bool:
        """A job's worker died: that is its end, unless it is a bridge caller's and may run again; True if it is to."""
        if held.over:
            if self._outcomes.ended(held):
                lost = Lost(held.id, held.submit.attempt, reason, True, text)
                self._outcomes.keep_orphaned(lost, now, whose=held.owner.member)
            return False
        if held.owner.windowed or not held.entry.spec.idempotent or held.unwanted or reason not in (CRASH, WORKER):
            self._lost(held, reason, text)
            return False
        held.crashes += reason == CRASH
        if held.crashes >= CRASHES:
            self._lost(held, POISON, f"{held.crashes} workers died while they ran this job; the last one: {text}")
            return False
        if held.crashes:
            held.entry = held.entry.suspect
        return True

    def _asks_again(self, held: Held, wait: float, now: float) -> bool:
        """A task wants a job to be tried again: a client does that itself, for a bridge caller it is done here."""
        if held.owner.windowed or held.unwanted:
            return False
        retry = held.entry.spec.retry
        if held.retries >= (LATER_MOST if retry is None else retry.n):
            return False
        if retry is not None:
            wait = max(wait, full_jitter(held.retries, first=retry.backoff, cap=retry.cap, rng=self._rng))
        if now + wait >= held.expires:
            return False
        held.retries += 1
        self._try_again(held, wait, now)
        return True

    def _try_again(self, held: Held, wait: float, now: float) -> None:
        """Run a job once more, as the next attempt, after so many seconds."""
        held.submit.attempt += 1
        held.seq = held.worker = 0
        held.since = COUNTED
        if self.counts is not None:
            self.counts.retried(held.entry.spec.name)
        if wait > 0:
            held.delayed = True
            self._later.push(now + wait, held)
        else:
            self._wait_again(held, now)

    def _requeue(self, jobs: list[Held], now: float) -> None:
        """Put jobs that a worker did not take up back to where they stood, in their order."""
        for held in reversed(jobs):
            held.owner.running -= 1
            held.seq = held.worker = 0
            held.since = COUNTED
            if not held.over:
                self._wait_again(held, now)
            elif self._outcomes.ended(held):
                self._outcomes.keep([[_dropped(held)]], 0, now, whose=held.owner.member)
            self.backlog.ring_again(held.owner)

    def _wait_again(self, held: Held, now: float) -> None:
        if held.unwanted:
            self._reject(held, CANCELLED, "cancelled before it started", queued=False)
        elif held.expires <= now:
            self._reject(held, EXPIRED, "its time was up before a slot was free", queued=False)
        elif held.entry.quarantine.closed(now):
            self._reject(held, QUARANTINED, _QUARANTINED, queued=False)
        elif held.entry.kind != ELSEWHERE and held.entry.spec.name not in self.tasks:
            self._reject(held, UNKNOWN_TASK, f"no task {held.entry.spec.name!r} here any more", queued=False)
        else:
            held.cost = held.entry.expected
            self.backlog.add(held.owner, [held], front=True)

    def _forward_ended(self, event: ForwardEnded, now: float) -> None:
        """Another node is done with a job: it is over, or none took it, or it is to be tried again."""
        held, item = event.held, event.item
        held.owner.running -= 1
        held.forwarded = False
        held.crashes = max(held.crashes, event.crashes)
        if self.counts is not None:
            self.counts.forwarded["back" if item is None else FAILED if type(item) is Failed else OK] += 1
        if event.began:
            held.submit.attempt += 1
        if held.over:
            pass
        elif held.crashes >= CRASHES:
            self._lost(held, POISON, f"{held.crashes} workers died while they ran this job")
        elif item is None:
            self._wait_again(held, now)
        elif not (type(item) is Failed and item.again is not None and self._asks_again(held, item.again, now)):
            held.owner.replies.append(item)
            self._close(held)
        self.backlog.ring_again(held.owner)

    def _stalled(self) -> None:
        for owner in list(self.word.active.values()):
            if owner.windowed:
                for held in [held for held in owner.jobs.values() if held.waits and not held.kept]:
                    self._reject(held, STALE, "this node stood still for so long that it was taken for dead")

    def _serve(self, tasks: Sequence[TaskSpec]) -> None:
        """Serve these tasks from now on. Jobs of others that wait go elsewhere."""
        former = self.tasks
        self.tasks = {spec.name: self._entry(spec) for spec in tasks}
        if self.counts is not None:
            self.counts.serve(self.tasks)
        for name, entry in former.items():
            anew = self.tasks.get(name)
            if anew is None:
                self._reject_all(name, UNKNOWN_TASK, f"no task {name!r} here any more")
            elif anew.spec == entry.spec:
                self.tasks[name] = entry
                entry.quarantine.until = 0.0  # the code may have been mended
                entry.quarantine.survived()

    def _resize(self, slots: int) -> None:
        """Have so many workers from now on; windows follow."""
        self.pool.cores = max(1, min(self._cores, slots))
        self.word.resize(slots)
        self._callers.resize(slots)

    def _reject_all(self, task: str, reason: str, text: str) -> None:
        """Give back all jobs of a task that wait."""
        for owner in list(self.word.active.values()):
            for held in [held for held in owner.jobs.values() if held.entry.spec.name == task and held.waits]:
                self._reject(held, reason, text)

    # jobs that are found again

    def _queried(self, owner: Owner, ids: list[bytes], now: float) -> None:
        """Tell an owner what became of jobs that it had before it was forgotten; those still held are its own again."""
        if owner.gone:
            return
        self._keep_ends(now)
        self._adopt(owner, dict.fromkeys(ids))
        held = [owner.jobs[job_id] for job_id in dict.fromkeys(ids) if job_id in owner.jobs]
        gone: dict[bytes, int | None] = {job_id: None for job_id in ids if job_id not in owner.jobs}
        found = self._outcomes.find(gone, now, whose=owner.member)
        self.word.say(owner, *found.values())
        # All of them, since what was found may be the end of an attempt before the one that is asked for.
        self.word.tell_held(owner, held, list(gone))

    def _found_again(self, owner: Owner, jobs: list[Submit], now: float) -> set[bytes]:
        """Of attempts that may have been handed in before, return those that were; their outcomes are said if known."""
        self._keep_ends(now)
        resent = {job.id: job.attempt for job in jobs if job.options is not None and job.options.resent}
        known: set[bytes] = set()
        gone: dict[bytes, int | None] = {}
        self._adopt(owner, resent)
        for job_id, attempt in resent.items():
            held = owner.jobs.get(job_id)
            if held is None:
                gone[job_id] = attempt
            elif held.submit.attempt == attempt:
                known.add(job_id)
        for job_id, item in self._outcomes.find(gone, now, whose=owner.member).items():
            if not isinstance(item, Reject):
                owner.replies.append(item)
                known.add(job_id)
        return known

    def _adopt(self, owner: Owner, wanted: Mapping[bytes, int | None]) -> None:
        """Let jobs that the same member handed in over another connection belong to an owner from now on.

        Those of these attempts only. Who knows the id of another member's job has no part in it.
        """
        orphans = self._outcomes.orphans
        found = [orphans[job_id] for job_id in wanted.keys() & orphans.keys()]
        found = [held for held in found if held.owner.member == owner.member]
        for other in self.word.active.values():
            if other is not owner and other.windowed and other.member == owner.member:
                found += [other.jobs[job_id] for job_id in wanted.keys() & other.jobs.keys()]
        for held in found:
            if held.id not in owner.jobs and wanted[held.id] in (None, held.submit.attempt):
                self._take_over(held, owner)

    def _take_over(self, held: Held, owner: Owner) -> None:
        job_id = held.id
        if held.waits:
            self._move(held, owner)
            return
        held.owner.running -= 1
        if held.over:  # an orphan
            del self._outcomes.orphans[job_id]
            held.over = False
            held.stopping = -1  # a cancel that had no effect yet was given up with its owner
            self.held += 1
        else:
            del held.owner.jobs[job_id]
            self.word.ended(held.owner)
        held.owner = owner
        owner.running += 1
        owner.jobs[job_id] = held
        self.word.active[owner.key] = owner

    def _move(self, held: Held, owner: Owner) -> None:
        """Let a job that waits belong to another owner, at the end of what that has."""
        again = Held(held.submit, held.entry, owner, FOREVER, cost=held.entry.expected, since=held.since)
        again.moment = held.moment
        again.kept = held.kept
        if held.alarm is not None:
            self._set_alarm(again, held.expires)
        self._close(held)
        self.backlog.drop(held)
        self.held += 1
        owner.jobs[held.id] = again
        self.backlog.add(owner, [again])
        self.word.active[owner.key] = owner

    # calls that jobs make

    def _called(self, key: int, seq: int, job: Submit, now: float) -> None:
        """A job calls another one, which has no more time than is left to the first; nothing is to wait behind that."""
        worker = self.pool.workers.get(key)
        if worker is None:
            return
        parent = worker.outstanding.get(seq)
        if parent is not None and parent.expires != FOREVER:
            left = max(0, int((parent.expires - now) * 1000))
            job.remaining = left if job.remaining is None else min(left, job.remaining)
        if not worker.coroutines:
            self._recall(worker)
        self._submitted(self._callers.of(key), [job], now, stale=False)

    def _look_after_callers(self, now: float) -> None:
        """Have spare workers come while calls wait for one, and go when nobody has waited for a call for a while."""
        waiting_for_worker = self._callers.queued
        if waiting_for_worker and not self.pool.free:
            wanted = sum(owner.queued for owner in waiting_for_worker)
            coming = [Spare() for _ in range(wanted) if self._callers.wants_spare()]
            self._effects += coming
            if not coming and self._callers.exhausted() and self._callers.blocked >= len(self.pool.workers):
                for owner in waiting_for_worker:
                    for held in [held for held in owner.jobs.values() if held.waits]:
                        self._reject(held, BUSY, "all workers here, and all spare ones, wait for jobs that they called")
        for key in self._callers.superfluous(now):
            self._retire(key)

    # workers that go

    def _retire(self, key: int) -> None:
        """A worker's successor is there."""
        worker = self.pool.workers.get(key)
        if worker is None or worker.retired:
            return
        self.pool.retire(worker)
        if len(worker.outstanding) > 1 and not worker.coroutines:
            self._recall(worker)
        self._dismiss_if_done(worker)

    def _dismiss_if_done(self, worker: Worker) -> None:
        if not worker.outstanding and worker.doomed is None and worker.key in self.pool.workers:
            self.pool.remove(worker.key)
            self._effects.append(Dismiss(worker.key))

    def _wear(self, worker: Worker, jobs: int) -> None:
        """A worker has run so many jobs more."""
        assert worker.lease is not None
        worker.lease -= jobs
        if worker.lease <= 0:
            worker.lease = None
            self._effects.append(Replace(worker.key))

    def _kill(self, worker: Worker, seq: int, reason: str, text: str) -> None:
        """Kill a worker for one of its jobs, which ends for this reason; what it has not read goes to others."""
        if worker.doomed is None:
            worker.doomed = seq, reason, text
            self.pool.retire(worker)
            if not worker.coroutines:
                self._effects.append(TakeBack(worker.key))
            self._effects.append(Kill(worker.key))

    def _grace_over(self) -> None:
        for owner in list(self.word.active.values()):
            for held in [held for held in owner.jobs.values() if not held.seq]:
                if held.forwarded:
                    self._lost(held, GRACE, "the node stopped before another one had ended it")
                else:
                    self._reject(held, DRAINING, "this node is leaving")
        for worker in self.pool.workers.values():
            for held in list(worker.outstanding.values()):
                self._lost(held, GRACE, "the node stopped before it ended")

    # ends

    def _close(self, held: Held) -> None:
        """A job is over: it leaves the books, and its owner is told what lies in `replies`."""
        owner = held.owner
        held.over = True
        self.held -= 1
        del owner.jobs[held.id]
        if held.alarm is not None:
            self._deadlines.clear(held)
        self.word.ended(owner)

    def _reject(self, held: Held, reason: str, text: str, *, queued: bool = True) -> None:
        queued = queued and held.waits
        item: Reject | Lost = Reject(held.id, held.submit.attempt, reason, text)
        if held.submit.attempt > 1 and not held.owner.windowed:  # the attempts before were made here
            item = Lost(item.id, item.attempt, reason, True, f"it ran before, and was to run again: {text}")
        self._end(held, item)
        if queued:
            self.backlog.drop(held)

    def _lost(self, held: Held, reason: str, text: str) -> None:
        if not held.over:
            self._end(held, Lost(held.id, held.submit.attempt, reason, True, text))

    def _end(self, held: Held, item: Reject | Lost) -> None:
        """A job ends otherwise than at a worker. A client that cannot be reached just now may ask for that later."""
        if self.counts is not None:
            self.counts.ended(held.entry.spec.name, item)
        if held.owner.windowed:
            self._ends.setdefault(held.owner.member, []).append(item)
        if not held.owner.gone:
            held.owner.replies.append(item)
        self._close(held)

    def _keep_ends(self, now: float) -> None:
        for whose, items in self._ends.items():
            self._outcomes.keep([items], 0, now, whose=whose)
        self._ends = {}

    # giving jobs to workers

    def _assign(self, now: float) -> None:
        """Give out what workers have room for: by priority; within one, whole workers and places go first in turn."""
        self.backlog.alternate()
        again = True
        while again:
            again = False
            for lane in self.backlog.lanes:
                if lane % KINDS != ELSEWHERE and self._assign_lane(lane, now):
                    again = True

    def _assign_lane(self, lane: int, now: float) -> bool:
        """Let the owners of one lane take turns; True if one of them has moved to another lane."""
        backlog = self.backlog
        ring = backlog.ring(lane)
        moved = False
        passed = 0
        full: TaskEntry | None = None
        while backlog.count and passed < min(len(ring), LOOK):
            owner = ring[0]
            queue = waiting(owner, lane)
            if not queue or (owner.running >= owner.most and not self._may_follow(owner, queue[0])):
                backlog.step_aside(lane)  # it comes back when a job of its own has ended
            elif queue[0].entry.kind != lane % KINDS:
                backlog.change_lane(lane)
                moved = True
            elif queue[0].entry is not full and self._give(ring, lane, queue[0].entry, now):
                passed = 0
            else:
                full = queue[0].entry
                passed += 1
                ring.rotate(-1)
        return moved

    def _give_fresh(self, now: float) -> None:
        """Give the single jobs that came while nothing waited to workers; queue those that find none."""
        while self._fresh:
            entry = self._fresh[0].entry
            choice = self.pool.pick(entry, len(self._fresh)) if entry.kind == WHOLE else None
            if choice is None:
                break
            worker, room = choice
            given = [held for held in self._fresh[: max(1, room)] if held.entry is entry and held.expires > now]
            if len(given) < min(len(self._fresh), max(1, room)):
                break
            del self._fresh[: len(given)]
            for held in given:
                held.owner.worker = worker.key
            self._dispatch(worker, entry, given, now)
        self._queue_fresh()

    def _queue_fresh(self) -> None:
        for held in reversed(self._fresh):
            held.owner.running -= 1
            self.backlog.add(held.owner, [held], front=True)
        self._fresh.clear()

    def _may_follow(self, owner: Owner, held: Held) -> bool:
        """May an ordered owner's next job go behind the one that runs, to the same worker's queue?"""
        worker = self.pool.workers.get(owner.worker)
        if worker is None or not owner.ordered or not held.entry.runtime.short:
            return False
        return self.pool.room(worker, held.entry) > 0

    def _give(self, ring: deque[Owner], lane: int, entry: TaskEntry, now: float) -> bool:
        """Give the next jobs of a task, of the owner whose turn it is and those behind, to a worker.

        False if no worker has room.
        """
        most = len(ring)
        if ring[0].ordered and ring[0].running:
            worker, most = self.pool.workers[ring[0].worker], 1
            room = self.pool.room(worker, entry)
        else:
            choice = self.pool.pick(entry, min(self.backlog.count, MOST), self.backlog.cost)
            if choice is None and ring[0].key < 0 and (spare := self.pool.pick_spare()) is not None:
                choice = spare, 1
            if choice is None:
                return False
            worker, room = choice[0], max(1, choice[1])
        given, late = self.backlog.take(lane, worker.key, room=room, most=most, now=now)
        for held in late:
            self._reject(held, EXPIRED, "its time was up before a slot was free", queued=False)
        if given:
            self._dispatch(worker, entry, given, now)
        return True

    def _dispatch(self, worker: Worker, entry: TaskEntry, given: list[Held], now: float) -> None:
        """Send jobs of one task to a worker, with those that it gets in this turn already.

        Those that need a whole worker and are not short travel alone: what has been read cannot be taken back.
        """
        if not worker.outstanding:
            worker.since = now
        first = self.pool.give(worker, given)
        if worker.coroutines:
            for held in given:
                held.moment = now
        if self.counts is not None:
            self.counts.waited(entry.spec.name, given, now)
        jobs = [held.submit for held in given]
        known = self._dispatched.get(worker.key)
        if known is not None and known[0] is entry and (entry.runtime.short or entry.kind != WHOLE):
            known[1].extend(jobs)
        else:
            self._dispatched[worker.key] = entry, jobs
            self._effects.append(Dispatch(worker.key, first, jobs))
        for held in given:
            if held.told and self.pool.running(held):
                self.word.say(held.owner, Started([held.id]))
        if entry.kill_s is not None:
            for held in given:
                self._limits.push(now + entry.kill_s, (held, worker.key, held.seq))
        if len(worker.outstanding) > 1 and not worker.watched and not worker.coroutines:
            self._watch.begin(worker, now)

    def _recall(self, worker: Worker) -> None:
        """Have a worker's unread orders taken back; it gets no others before its next word."""
        if not worker.stuck:
            worker.stuck = True
            self._effects.append(TakeBack(worker.key))

    def _nothing_waits(self) -> None:
        """Nobody has a turn to wait for; idle workers get what waits behind others."""
        self.backlog.rest()
        for worker in self.pool.ahead(self.pool.free):
            self._recall(worker)

    def _forward(self) -> bool:
        """Send on what other nodes have slots for; True if jobs for workers here have come up behind it."""
        sent, moved = self.backlog.send_on(self._elsewhere)
        self._effects += [Forward(held) for held in sent]
        return moved

    # time

    def _act_on_time(self, now: float) -> None:
        if self._watch.at <= now:
            for worker in self._watch.dragging(now):
                self._recall(worker)
        if self.word.news_at <= now:
            self.word.tell_news(now)
        for held in self._deadlines.due(now):
            self._expire(held)
        for held, key, seq in self._limits.due(now):
            if not self._has_ended((held, key, seq)):
                text = f"it ran longer than {held.entry.kill_s:g} s: its worker was killed"
                self._kill(self.pool.workers[key], seq, LIMIT, text)
        for held in self._later.due(now):
            held.delayed = False
            if not held.over:
                self._wait_again(held, now)
        if self.word.full_at <= now:
            self.word.tell_full()

    def _has_ended(self, limited: tuple[Held, int, int]) -> bool:
        """Is it over with a job at this worker, under this number?"""
        held, key, seq = limited
        worker = self.pool.workers.get(key)
        return worker is None or worker.outstanding.get(seq) is not held

    def _expire(self, held: Held) -> None:
        if not held.seq and not held.forwarded:
            self._reject(held, EXPIRED, "its time was up before a slot was free")
        elif not held.owner.windowed:
            self._lost(held, EXPIRED, "its time was up while it ran")


def _dropped(held: Held) -> Reject:
    return Reject(held.id, held.submit.attempt, STALE, "dropped: its client was silent")
