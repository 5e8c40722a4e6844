"""Which job goes where: the heart of the node. Pure: `docs/architecture.md`, The scheduler.

Events come in batches, effects go out in batches: one turn of the node's loop is one `handle`. Owners
with waiting jobs take turns, in a ring for each *lane*: a priority, and what its jobs wait for (a whole
worker, a place for a coroutine, another node), so that none waits behind one that waits for something
else. A job goes to a worker that the pool chooses; a job in the socket of a worker that drags on is taken
back and given to another.
"""

import heapq
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Protocol, assert_never

from mesh.wire.messages import (
    BUSY,
    CANCELLED,
    CRASH,
    DRAINING,
    EXPIRED,
    GRACE,
    STALE,
    UNKNOWN_TASK,
    Accepted,
    Lost,
    NodeItem,
    Options,
    Reject,
    Started,
    Submit,
    TaskSpec,
)
from meshnode.core.effects import Dispatch, Effect, Empty, Forward, Reply, TakeBack
from meshnode.core.events import (
    CancelAsked,
    Draining,
    Ended,
    Event,
    ForwardEnded,
    GraceOver,
    Left,
    Spoken,
    Submitted,
    TakenBack,
    Tick,
    WorkerLost,
    WorkerReady,
)
from meshnode.core.held import (
    ALL_KINDS,
    COROUTINE,
    ELSEWHERE,
    FOREVER,
    KINDS,
    WHOLE,
    Held,
    Owner,
    TaskEntry,
)
from meshnode.core.orders import Ran
from meshnode.core.pool import MOST, Pool, Worker
from meshnode.core.window import AHEAD_S, Pace, window

DRAG_S = 0.002
"""Seconds between two looks at a worker with prefetched jobs: if it runs the same one at both, those behind it are
taken back."""

NEWS_S = 0.05
"""Seconds after which an owner is told that a job is held or runs, if it has not ended by then."""

NEWS_SLACK_S = 0.01
"""Seconds by which such news may come early, together with earlier ones: each on its own would cost a turn."""

SURE_S = 0.05
"""The same for a job that waits behind one that was sure to end soon."""

LOOK = 32
"""Owners whose next job finds no worker that one turn looks at in each lane, so that a turn stays short."""

NEWS_IDS = 200
"""Ids in one ACCEPTED or STARTED at most: an item is no larger than 4 KiB (docs/protocol.md, Items)."""

_LITTER = 64
"""Entries of jobs that are over which a queue may hold before it is swept, however short it is."""

_DEFAULTS = Options()

Mark = tuple[int, int]
"""How far a worker is: its first order that has not ended as far as it has told, the last that it has taken up."""


class Elsewhere(Protocol):
    """What the scheduler asks about the other nodes of the mesh."""

    @property
    def there(self) -> bool:
        """Is there any?"""

    def free(self, task: str, *, is_async: bool) -> int:
        """Slots free for a task at other nodes, as of their last words."""

    def spec(self, task: str) -> TaskSpec | None:
        """Return a task as another node serves it."""


class Nowhere:
    """A node that knows no other."""

    there = False

    def free(self, task: str, *, is_async: bool) -> int:
        """Return 0."""
        return 0

    def spec(self, task: str) -> TaskSpec | None:
        """Return None."""
        return None


class Scheduler:
    """Owners' jobs in, orders to workers and replies to owners out.

    `slots`: workers that the node is to have. `backlog`: jobs held at most. `elsewhere` answers for the rest of
    the mesh, where bridge jobs go on to when no slot is free here. `taken_up` says which order a worker has taken
    up last.
    """

    def __init__(
        self,
        tasks: Sequence[TaskSpec],
        *,
        slots: int,
        concurrency: int = 1,
        cores: int = 2,
        backlog: int = 100_000,
        elsewhere: Elsewhere | None = None,
        taken_up: Callable[[int], int] = lambda worker: 0,
    ) -> None:
        shared = COROUTINE if concurrency > 1 else WHOLE
        self.tasks = {spec.name: TaskEntry(spec, shared if spec.is_async else WHOLE) for spec in tasks}
        self.pool = Pool(concurrency=concurrency, cores=max(1, min(cores, slots)))
        self.held = 0
        self.draining = False
        self._slots = slots
        self._places = slots * concurrency
        self._backlog = backlog
        self._elsewhere = elsewhere or Nowhere()
        self._taken_up = taken_up
        self._pace = Pace()
        self._active: dict[int, Owner] = {}
        self._rings: dict[int, deque[Owner]] = {}
        self._lanes: tuple[list[int], list[int]] = ([], [])
        self._flip = False
        self._ringed = False
        self._queued = 0
        self._queued_cost = 0.0
        self._queued_bridge = 0
        self._watched: dict[float, deque[tuple[float, Worker, Mark]]] = {DRAG_S: deque(), SURE_S: deque()}
        self._news: deque[tuple[float, list[Held]]] = deque()
        self._sent_on: dict[str, int] = {}
        self._expiring: list[tuple[float, int, Held]] = []
        self._alarms = 0
        self._alarms_over = 0
        self._full: dict[int, Owner] = {}
        self._full_at = FOREVER
        self._loosened = False
        self._talk: dict[int, Owner] = {}
        self._handed_in: list[Owner] = []
        self._fresh: list[Held] = []
        self._dispatched: dict[int, tuple[TaskEntry, list[Submit]]] = {}
        self._effects: list[Effect] = []

    def handle(self, events: Sequence[Event], now: float) -> list[Effect]:
        """Take what happened in one turn, and return what is to be done. `now` is monotonic seconds."""
        for event in events:
            if self._fresh and type(event) is not Submitted:
                self._queue_fresh()
            self._take(event, now)
        self._act_on_time(now)
        if self._fresh:
            self._give_fresh(now)
        if self._queued:
            self._assign(now)
            while self._queued_bridge and self._forward():
                self._assign(now)
        if not self._queued:
            self._nothing_waits()
        if self._handed_in:
            self._tell_who_waits()
        if self._talk:
            self._flush()
        if self._loosened and self._full and self._full_at == FOREVER:
            self._full_at = now + AHEAD_S
        self._loosened = False
        if self.draining and not self.held and self.pool.free == len(self.pool.workers):
            self._effects.append(Empty())
        self._dispatched.clear()
        effects, self._effects = self._effects, []
        return effects

    def next_wake(self) -> float | None:
        """When to call `handle` with a Tick, if nothing else happens before; None for never."""
        wake = self._full_at
        for watched in self._watched.values():
            if watched:
                wake = min(wake, watched[0][0])
        if self._news:
            wake = min(wake, self._news[0][0])
        if self._expiring:
            wake = min(wake, self._expiring[0][0])
        return None if wake == FOREVER else wake

    def knows(self, task: str) -> TaskSpec | None:
        """Return the description of a task that this node serves, or else another one that it knows."""
        entry = self.tasks.get(task)
        return entry.spec if entry else self._elsewhere.spec(task)

    # what happened

    def _take(self, event: Event, now: float) -> None:  # noqa: C901  # one flat match
        match event:
            case Submitted():
                owner, jobs = event.owner, event.jobs
                if len(jobs) == 1 and not owner.windowed and not self._queued and owner.running < owner.most:
                    self._submitted_one(owner, jobs[0], now)
                else:
                    self._submitted(owner, jobs, now, stale=event.stale)
            case Ended():
                self._ended(event.worker, event.ran)
            case WorkerReady():
                self.pool.add(event.worker)
            case CancelAsked():
                self._cancel(event.owner, event.id)
            case Spoken():
                self._say(event.owner, *event.items)
            case Left():
                self._left(event.owner)
            case TakenBack():
                self._taken_back(event.worker, event.seqs, now)
            case WorkerLost():
                self._worker_lost(event, now)
            case ForwardEnded():
                self._forward_ended(event.held, event.item, now)
            case Draining():
                self.draining = True
            case GraceOver():
                self._grace_over()
            case Tick():
                pass
            case _ as never:
                assert_never(never)

    def _submitted(self, owner: Owner, jobs: list[Submit], now: float, *, stale: bool) -> None:
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
        for submit in jobs:
            if submit.task != task or submit.options != options:
                if run:
                    self._enqueue(owner, run)
                    run = []
                task, options = submit.task, submit.options
                entry = self.tasks.get(task) or self._entry_elsewhere(owner, task)
                refusal = self._refusal(entry, task, stale=stale)
                if entry is not None:
                    room = self._room(owner, entry)
                    cost = entry.expected
            job_id = submit.id
            if entry is None or refusal is not None or job_id in ids or room <= 0:
                reason, text = refusal or self._no_room(owner, job_id)
                owner.replies.append(Reject(job_id, submit.attempt, reason, text))
                self._talk[owner.key] = owner
                continue
            held = Held(submit, entry, owner, FOREVER, cost=cost)
            ids[job_id] = held
            run.append(held)
            accepted.append(held)
            room -= 1
            self.held += 1
            if submit.remaining is not None:
                self._set_alarm(held, now + submit.remaining / 1000)
        if accepted:
            self._enqueue(owner, run)
            self._active[owner.key] = owner
            if owner.windowed:
                self._news.append((now + NEWS_S, accepted))
                self._handed_in.append(owner)

    def _submitted_one(self, owner: Owner, submit: Submit, now: float) -> None:
        """Take in one job of a bridge caller, which goes straight to a worker if nothing waits: it overtakes nobody.

        Most plain sockets ask for one thing at a time, and queues and turns would cost more than all the rest.
        """
        entry = self.tasks.get(submit.task)
        if entry is None or submit.id in owner.jobs or self.draining or self.held >= self._backlog or owner.gone:
            self._submitted(owner, [submit], now, stale=False)
            return
        held = Held(submit, entry, owner, FOREVER, cost=entry.expected)
        owner.seen += 1
        owner.jobs[submit.id] = held
        self.held += 1
        self._active[owner.key] = owner
        if submit.remaining is not None:
            self._set_alarm(held, now + submit.remaining / 1000)
        owner.running += 1
        self._fresh.append(held)

    def _set_alarm(self, held: Held, expires: float) -> None:
        held.expires = expires
        held.alarmed = True
        self._alarms += 1
        heapq.heappush(self._expiring, (expires, self._alarms, held))

    def _entry_elsewhere(self, owner: Owner, task: str) -> TaskEntry | None:
        """Return an entry for a task that only other nodes serve: bridge callers may have those too."""
        spec = None if owner.windowed else self._elsewhere.spec(task)
        return None if spec is None else TaskEntry(spec, ELSEWHERE)

    def _refusal(self, entry: TaskEntry | None, task: str, *, stale: bool) -> tuple[str, str] | None:
        """Say why no job of a task is taken, as reason and text; None if they are."""
        if entry is None:
            return UNKNOWN_TASK, f"no task {task!r} here"
        if self.draining:
            return DRAINING, "this node is leaving"
        if stale:
            return STALE, "sent on word from this node that is more than 5 s old"
        return None

    def _no_room(self, owner: Owner, job_id: bytes) -> tuple[str, str]:
        """Say why this job is not taken, since it could be otherwise."""
        if job_id in owner.jobs:
            return BUSY, "a job with this id is already held"
        if self.held >= self._backlog:
            return BUSY, f"the backlog of {self._backlog} jobs is full"
        self._pace.reset()
        owner.limit = len(owner.jobs)
        return BUSY, "more than this node can start soon"

    def _room(self, owner: Owner, entry: TaskEntry) -> int:
        """How many more jobs of a task an owner may hand in.

        As many as the backlog holds; of one that keeps to a window, those that would start about as soon here as
        elsewhere, as its fair share allows.
        """
        room = self._backlog - self.held
        if not owner.windowed:
            return room
        sharers = max(1, len(self._active))
        places = self._slots if entry.kind == WHOLE else self._places
        ahead = int((2 * AHEAD_S * places / sharers - owner.queued_cost) / entry.expected)
        return min(room, max(-(-places // sharers) - len(owner.jobs), ahead))

    def _ended(self, key: int, ran: list[Ran]) -> None:
        worker = self.pool.workers.get(key)
        if worker is None:
            return
        worker.stuck = False
        for one in ran:
            ended = self.pool.end(worker, range(one.first, one.first + len(one.ends)))
            self._observe(ended, one)
            owner: Owner | None = None
            for held, item in zip(ended, one.ends, strict=True):
                if held is None:
                    continue
                if held.owner is not owner:
                    if owner is not None:
                        self._answered(owner)
                    owner = held.owner
                owner.running -= 1
                if held.over:
                    continue
                held.over = True
                self.held -= 1
                del owner.jobs[held.submit.id]
                self._alarms_over += held.alarmed
                owner.replies.append(item)
            if owner is not None:
                self._answered(owner)
        self._loosened = True

    def _answered(self, owner: Owner) -> None:
        """Jobs of an owner have ended at a worker: it is told, and what it has waiting takes its turn."""
        if not owner.jobs:
            self._active.pop(owner.key, None)
        if not owner.gone:
            self._talk[owner.key] = owner
        if owner.queued and not owner.windowed:
            self._ring_again(owner)

    def _observe(self, ended: list[Held | None], ran: Ran) -> None:
        """Learn from jobs of one task that ended together."""
        known = [held for held in ended if held is not None]
        if known:
            known[0].entry.runtime.observe(len(known), ran.spent / 1e9, ran.longest / 1e9)
            self._pace.finished(len(known), ran.spent / 1e9)

    def _cancel(self, owner: Owner, job_id: bytes) -> None:
        held = owner.jobs.get(job_id)
        if held is None or held.forwarded:
            return
        if not held.seq:
            self._reject(held, CANCELLED, "cancelled before it started")
            return
        held.unwanted = True  # a job that seems to run may yet come back unread
        if not self.pool.running(held):
            self._recall(self.pool.workers[held.worker])

    def _left(self, owner: Owner) -> None:
        owner.gone = True
        for held in list(owner.jobs.values()):
            if not held.seq and not held.forwarded:
                self._unqueue(owner, 1, held.cost)
            self._close(held)
        owner.queues.clear()
        owner.replies.clear()
        self._loosened = True
        self._full.pop(owner.key, None)
        self._talk.pop(owner.key, None)

    def _taken_back(self, key: int, seqs: list[int], now: float) -> None:
        worker = self.pool.workers.get(key)
        if worker is None:
            return
        self._requeue([held for held in self.pool.end(worker, seqs) if held is not None], now)
        worker.stuck = bool(worker.outstanding)

    def _worker_lost(self, event: WorkerLost, now: float) -> None:
        waiting: list[Held] = []
        for held in self.pool.remove(event.worker):
            if held.seq > event.started:
                waiting.append(held)
                continue
            held.owner.running -= 1
            self._lost(held, CRASH, event.text)
            self._ring_again(held.owner)
        self._requeue(waiting, now)

    def _requeue(self, jobs: list[Held], now: float) -> None:
        """Put jobs that a worker did not take up back to where they stood, in their order."""
        for held in reversed(jobs):
            held.owner.running -= 1
            held.seq = held.worker = 0
            if not held.over:
                self._wait_again(held, now)
            self._ring_again(held.owner)

    def _wait_again(self, held: Held, now: float) -> None:
        if held.unwanted:
            self._reject(held, CANCELLED, "cancelled before it started", queued=False)
        elif held.expires <= now:
            self._reject(held, EXPIRED, "its time was up before a slot was free", queued=False)
        else:
            held.cost = held.entry.expected
            self._enqueue(held.owner, [held], front=True)

    def _forward_ended(self, held: Held, item: NodeItem | None, now: float) -> None:
        held.owner.running -= 1
        held.forwarded = False
        if item is None and not held.over:
            self._wait_again(held, now)
        elif item is not None and not held.over:
            held.owner.replies.append(item)
            self._close(held)
        self._ring_again(held.owner)

    def _grace_over(self) -> None:
        for owner in list(self._active.values()):
            for held in [held for held in owner.jobs.values() if not held.seq]:
                if held.forwarded:
                    self._lost(held, GRACE, "the node stopped before another one had ended it")
                else:
                    self._reject(held, DRAINING, "this node is leaving")
        for worker in self.pool.workers.values():
            for held in list(worker.outstanding.values()):
                self._lost(held, GRACE, "the node stopped before it ended")

    # queues

    def _enqueue(self, owner: Owner, jobs: list[Held], *, front: bool = False) -> None:
        """Let jobs of one task and priority wait, behind an owner's others or before them."""
        if not jobs:
            return
        first = jobs[0]
        lane = (first.submit.options or _DEFAULTS).priority * KINDS
        if not owner.ordered:
            lane += first.entry.kind
        queue = owner.queues.get(lane)
        if queue is None:
            queue = owner.queues[lane] = deque()
        if front:
            queue.extendleft(reversed(jobs))
        else:
            queue.extend(jobs)
        if not owner.ringed >> lane & 1 and (owner.ordered or owner.running < owner.most):
            self._ring(owner, lane, queue)
        count = len(jobs)
        owner.queued += count
        owner.queued_cost += first.cost * count
        self._queued += count
        self._queued_cost += first.cost * count
        if not owner.windowed:
            self._queued_bridge += count

    def _ring(self, owner: Owner, lane: int, queue: deque[Held]) -> None:
        """Let an owner take turns with the jobs of one of its queues, if it does not yet.

        All jobs of an ordered owner lie in one queue; it takes turns in the lane of the first.
        """
        if owner.ordered:
            if owner.ringed >> lane & ALL_KINDS:
                return
            lane += queue[0].entry.kind
        if owner.ringed >> lane & 1:
            return
        owner.ringed |= 1 << lane
        self._ringed = True
        ring = self._rings.get(lane)
        if ring is None:
            ring = self._rings[lane] = deque()
            self._lanes = (sorted(self._rings, key=_whole_first), sorted(self._rings, key=_coroutines_first))
        ring.append(owner)

    def _unring(self, owner: Owner, lane: int) -> None:
        """Take the owner whose turn it is out of the ring."""
        owner.ringed &= ~(1 << lane)
        self._rings[lane].popleft()

    def _ring_again(self, owner: Owner) -> None:
        """Let an owner that stood aside while its job ran take turns again."""
        if owner.queued:
            for lane, queue in owner.queues.items():
                if queue:
                    self._ring(owner, lane, queue)

    def _nothing_waits(self) -> None:
        """Owners whose jobs were given, cancelled or dropped stand aside; idle workers get what waits behind others."""
        if self._ringed:
            for ring in self._rings.values():
                for owner in ring:
                    owner.ringed = 0
                ring.clear()
            self._ringed = False
        for worker in self.pool.ahead(self.pool.free):
            self._recall(worker)

    def _unqueue(self, owner: Owner, count: int, cost: float) -> None:
        """Count jobs out of the backlog; an entry left in a queue is passed over when its turn comes."""
        owner.queued -= count
        owner.queued_cost = owner.queued_cost - cost if owner.queued else 0.0
        self._queued -= count
        self._queued_cost = self._queued_cost - cost if self._queued else 0.0
        if not owner.windowed:
            self._queued_bridge -= count

    def _sweep(self, owner: Owner) -> None:
        """Take out what is over where it is most of what lies in an owner's queues."""
        if sum(map(len, owner.queues.values())) > 2 * owner.queued + _LITTER:
            for lane, queue in owner.queues.items():
                owner.queues[lane] = deque(held for held in queue if not held.over)

    def _close(self, held: Held) -> None:
        """A job is over: it leaves the books, and its owner is told what lies in `replies`."""
        owner = held.owner
        held.over = True
        self.held -= 1
        del owner.jobs[held.submit.id]
        if held.alarmed:
            self._alarms_over += 1
        if not owner.jobs:
            self._active.pop(owner.key, None)
            self._loosened = True
        if not owner.gone:
            self._talk[owner.key] = owner

    def _reject(self, held: Held, reason: str, text: str, *, queued: bool = True) -> None:
        held.owner.replies.append(Reject(held.submit.id, held.submit.attempt, reason, text))
        self._close(held)
        if queued:
            self._unqueue(held.owner, 1, held.cost)
            if held.owner.queued:
                self._sweep(held.owner)
            else:
                held.owner.queues.clear()  # they lead back to their owner, and nobody collects that

    def _lost(self, held: Held, reason: str, text: str) -> None:
        if not held.over:
            held.owner.replies.append(Lost(held.submit.id, held.submit.attempt, reason, True, text))
            self._close(held)

    # giving jobs to workers

    def _assign(self, now: float) -> None:
        """Give out what workers have room for: by priority; within one, whole workers and places go first in turn."""
        self._flip = not self._flip
        again = True
        while again:
            again = False
            for lane in self._lanes[self._flip]:
                if lane % KINDS != ELSEWHERE and self._assign_lane(lane, now):
                    again = True

    def _assign_lane(self, lane: int, now: float) -> bool:
        """Let the owners of one ring take turns; True if one of them has moved to another ring."""
        ring = self._rings[lane]
        moved = False
        passed = 0
        full: TaskEntry | None = None
        while self._queued and passed < min(len(ring), LOOK):
            owner = ring[0]
            queue = _waiting(owner, lane)
            if not queue or (owner.running >= owner.most and not self._may_follow(owner, queue[0])):
                self._unring(owner, lane)  # it comes back when a job of its own has ended
            elif queue[0].entry.kind != lane % KINDS:
                self._unring(owner, lane)
                self._ring(owner, lane - lane % KINDS, queue)
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
            self._enqueue(held.owner, [held], front=True)
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
        if ring[0].ordered and ring[0].running:
            worker = self.pool.workers[ring[0].worker]
            given = self._round(ring, lane, worker, self.pool.room(worker, entry), now, most=1)
        else:
            choice = self.pool.pick(entry, min(self._queued, MOST), self._queued_cost)
            if choice is None:
                return False
            worker, room = choice
            given = self._round(ring, lane, worker, max(1, room), now, most=len(ring))
        if given:
            self._dispatch(worker, entry, given, now)
        return True

    def _round(self, ring: deque[Owner], lane: int, worker: Worker, room: int, now: float, *, most: int) -> list[Held]:
        """Take the next jobs from at most `most` owners in turn, all of one task, as many as a worker has room for."""
        given: list[Held] = []
        entry: TaskEntry | None = None
        for _ in range(most):
            owner = ring[0]
            queue = _waiting(owner, lane)
            if entry is None and queue:
                entry = queue[0].entry
            elif not queue or queue[0].entry is not entry or owner.running >= owner.most:
                break
            assert entry is not None
            left = room - len(given)
            if not owner.ordered:
                left = min(left, owner.most - owner.running)
            elif entry.kind != WHOLE:
                left = 1
            taken = self._next_of(owner, queue, entry, left, now)
            owner.running += len(taken)
            owner.worker = worker.key
            given += taken
            ring.rotate(-1)
            if len(given) >= room:
                break
        return given

    def _dispatch(self, worker: Worker, entry: TaskEntry, given: list[Held], now: float) -> None:
        """Send jobs of one task to a worker, with those that it gets in this turn already.

        Those that need a whole worker and are not short travel alone: what has been read cannot be taken back.
        """
        first = self.pool.give(worker, given)
        jobs = [held.submit for held in given]
        known = self._dispatched.get(worker.key)
        if known is not None and known[0] is entry and (entry.runtime.short or entry.kind != WHOLE):
            known[1].extend(jobs)
        else:
            self._dispatched[worker.key] = entry, jobs
            self._effects.append(Dispatch(worker.key, first, jobs))
        for held in given:
            if held.told and self.pool.running(held):
                self._say(held.owner, Started([held.submit.id]))
        if len(worker.outstanding) > 1 and not worker.watched and not worker.coroutines:
            self._watch(worker, now)

    def _next_of(self, owner: Owner, queue: deque[Held], entry: TaskEntry, most: int, now: float) -> list[Held]:
        """Take an owner's next jobs of one task out of its queue; those whose time is up end here."""
        taken: list[Held] = []
        late: list[Held] = []
        cost = 0.0
        while queue and len(taken) < most:
            held = queue[0]
            if held.entry is not entry:
                break
            queue.popleft()
            if not held.over:
                cost += held.cost
                (taken if held.expires > now else late).append(held)
        self._unqueue(owner, len(taken) + len(late), cost)
        for held in late:
            self._reject(held, EXPIRED, "its time was up before a slot was free", queued=False)
        return taken

    def _forward(self) -> bool:
        """Send on what waits here for want of a slot while other nodes have one: bridge callers' jobs only.

        True if an owner's next job, behind one for other nodes, is for this node's workers after all.
        """
        moved = False
        for lane in self._lanes[self._flip]:
            if not self._elsewhere.there and lane % KINDS != ELSEWHERE:
                continue
            ring = self._rings[lane]
            looked = list(islice(ring, LOOK))
            for owner in looked:
                while (queue := _waiting(owner, lane)) and self._forward_one(owner, queue[0]):
                    queue.popleft()
            if lane % KINDS == ELSEWHERE and self._turn_elsewhere(ring, lane, len(looked)):
                moved = True
        self._sent_on.clear()
        return moved

    def _turn_elsewhere(self, ring: deque[Owner], lane: int, looked: int) -> bool:
        """Turn a ring of jobs for other nodes, which the workers' turns pass over, and take out who has none."""
        moved = False
        for _ in range(looked):
            owner = ring[0]
            queue = _waiting(owner, lane)
            if not queue or owner.running >= owner.most:
                self._unring(owner, lane)
            elif queue[0].entry.kind != ELSEWHERE:
                self._unring(owner, lane)
                self._ring(owner, lane - ELSEWHERE, queue)
                moved = True
            else:
                ring.rotate(-1)
        return moved

    def _forward_one(self, owner: Owner, held: Held) -> bool:
        spec = held.entry.spec
        if owner.windowed or owner.running >= owner.most:
            return False
        sent = self._sent_on.get(spec.name, 0)
        if self._elsewhere.free(spec.name, is_async=spec.is_async) <= sent:
            return False
        self._sent_on[spec.name] = sent + 1
        self._unqueue(owner, 1, held.cost)
        held.forwarded = True
        owner.running += 1
        owner.worker = 0  # nothing may follow it here
        self._effects.append(Forward(held))
        return True

    # time

    def _act_on_time(self, now: float) -> None:
        for watched in self._watched.values():
            while watched and watched[0][0] <= now:
                _, worker, mark = watched.popleft()
                self._look_at(worker, mark, now)
        if self._news and self._news[0][0] <= now:
            while self._news and self._news[0][0] <= now + NEWS_SLACK_S:
                self._tell_news(self._news.popleft()[1])
        while self._expiring and self._expiring[0][0] <= now:
            held = heapq.heappop(self._expiring)[2]
            held.alarmed = False
            if held.over:
                self._alarms_over -= 1
            else:
                self._expire(held)
        if self._alarms_over > len(self._expiring) // 2 + _LITTER:
            self._expiring = [alarm for alarm in self._expiring if not alarm[2].over]
            heapq.heapify(self._expiring)
            self._alarms_over = 0
        if self._full_at <= now:
            self._tell_full()

    def _watch(self, worker: Worker, now: float) -> None:
        worker.watched = True
        patience = DRAG_S if worker.packed else SURE_S
        self._watched[patience].append((now + patience, worker, self._mark(worker)))

    def _mark(self, worker: Worker) -> Mark:
        return next(iter(worker.outstanding), 0), self._taken_up(worker.key)

    def _look_at(self, worker: Worker, mark: Mark, now: float) -> None:
        worker.watched = False
        behind = len(worker.outstanding) - 1
        if behind < 0 or worker.stuck or worker.key not in self.pool.workers:
            return
        if self._mark(worker) != mark:
            if behind:
                self._watch(worker, now)
        elif behind:
            self._recall(worker)
        else:
            worker.stuck = True

    def _recall(self, worker: Worker) -> None:
        """Have a worker's unread orders taken back; it gets no others before its next word."""
        if not worker.stuck:
            worker.stuck = True
            self._effects.append(TakeBack(worker.key))

    def _tell_news(self, jobs: list[Held]) -> None:
        """Say ACCEPTED of an owner's jobs that have not ended by now, and STARTED of those that run."""
        going = [held for held in jobs if not held.over]
        for held in going:
            held.told = True
        accepted = [held.submit.id for held in going]
        started = [held.submit.id for held in going if self.pool.running(held)]
        for shape, ids in ((Accepted, accepted), (Started, started)):
            for n in range(0, len(ids), NEWS_IDS):
                self._say(jobs[0].owner, shape(ids[n : n + NEWS_IDS]))

    def _expire(self, held: Held) -> None:
        if not held.seq and not held.forwarded:
            self._reject(held, EXPIRED, "its time was up before a slot was free")
        elif not held.owner.windowed:
            self._lost(held, EXPIRED, "its time was up while it ran")

    # talking to owners

    def _say(self, owner: Owner, *items: NodeItem) -> None:
        if not owner.gone:
            owner.replies.extend(items)
            self._talk[owner.key] = owner

    def window(self, owner: Owner) -> int:
        """How many jobs this owner may have outstanding here now."""
        if self.draining:
            return 0
        sharers = len(self._active) + (owner.key not in self._active)
        return max(1, min(window(self._places, self._pace.ahead(self._slots, self.pool.cores), sharers), owner.limit))

    def _flush(self) -> None:
        free, free_async = self.pool.free, self.pool.free_async
        for owner in self._talk.values():
            items, owner.replies = owner.replies, []
            if not owner.windowed:
                if items:
                    self._effects.append(Reply(owner, items))
                continue
            allowed = self.window(owner)
            self._effects.append(Reply(owner, items, allowed, free, free_async, owner.seen))
            owner.told = allowed
            owner.told_idle = free > 0 or free_async > 0
            owner.limit += max(1, len(items))
            if len(owner.jobs) >= allowed:
                self._full[owner.key] = owner
        self._talk.clear()

    def _tell_who_waits(self) -> None:
        """Correct those whose new jobs wait here although they were told of idle workers; note whose window is full."""
        for owner in self._handed_in:
            if owner.gone:
                continue
            if owner.queued and owner.told_idle:
                self._talk[owner.key] = owner
            elif len(owner.jobs) >= owner.told:
                self._full[owner.key] = owner
        self._handed_in.clear()

    def _tell_full(self) -> None:
        """Tell those who had no room left when they last heard from us, if they have some now."""
        for key, owner in list(self._full.items()):
            if len(owner.jobs) < owner.told:
                del self._full[key]
            elif self.window(owner) > owner.told:
                del self._full[key]
                self._talk[key] = owner
        self._full_at = FOREVER


def _waiting(owner: Owner, lane: int) -> "deque[Held] | None":
    """Return the queue with which an owner stands in a lane, its first job one that is not over."""
    queue = owner.queues.get(lane - lane % KINDS if owner.ordered else lane)
    while queue and queue[0].over:
        queue.popleft()
    return queue


def _whole_first(lane: int) -> tuple[int, int]:
    return -(lane // KINDS), lane % KINDS


def _coroutines_first(lane: int) -> tuple[int, int]:
    return -(lane // KINDS), -(lane % KINDS)
