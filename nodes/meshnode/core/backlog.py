"""The jobs that wait, and whose turn it is. Pure: `docs/architecture.md`, The scheduler.

Owners with waiting jobs take turns, in a ring for each *lane*: a priority, and what its jobs wait for (a whole
worker, a place for a coroutine, another node), so that none waits behind one that waits for something else.
"""

from collections import deque
from itertools import islice
from typing import Final, Protocol

from mesh.wire.messages import Options, TaskSpec
from meshnode.core.held import ALL_KINDS, ELSEWHERE, KINDS, WHOLE, Held, Owner, TaskEntry

LOOK: Final = 32
"""Owners whose next job finds no room that one turn looks at in each lane, so that a turn stays short."""

_LITTER: Final = 64
"""Entries of jobs that are over which a queue may hold before it is swept, however short it is."""

INNER: Final = 10
"""The priority of what running jobs have called: above all others, since a worker waits for it."""

_DEFAULTS: Final = Options()


class Elsewhere(Protocol):
    """What a node asks about the other nodes of the mesh."""

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


class Backlog:
    """Owners' waiting jobs, and the turns that the owners take.

    `count`, `cost`, `bridge`: how many there are, how many seconds they are expected to run, how many are bridge
    callers'. `lanes`: all lanes, higher priorities first.
    """

    def __init__(self) -> None:
        self.count = 0
        self.cost = 0.0
        self.bridge = 0
        self.lanes: list[int] = []
        self._rings: dict[int, deque[Owner]] = {}
        self._orders: tuple[list[int], list[int]] = ([], [])
        self._flip = False
        self._ringed = False

    # in and out

    def add(self, owner: Owner, jobs: list[Held], *, front: bool = False) -> None:
        """Let jobs of one task and priority, one at least, wait behind an owner's others or before them."""
        first = jobs[0]
        lane = (INNER if owner.key < 0 else (first.submit.options or _DEFAULTS).priority) * KINDS
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
        self.count += count
        self.cost += first.cost * count
        if not owner.windowed:
            self.bridge += count

    def drop(self, held: Held) -> None:
        """A job that waits is over. Its entry stays and is passed over in its turn, unless most there are such."""
        owner = held.owner
        self._count_out(owner, 1, held.cost)
        if not owner.queued:
            owner.queues.clear()  # they lead back to their owner, and nobody collects that
        elif sum(map(len, owner.queues.values())) > 2 * owner.queued + _LITTER:
            for lane, queue in owner.queues.items():
                owner.queues[lane] = deque(held for held in queue if not held.over)

    def drop_all(self, owner: Owner) -> None:
        """Nothing of an owner waits any more."""
        self._count_out(owner, owner.queued, owner.queued_cost)
        owner.queues.clear()

    def take(self, lane: int, worker: int, *, room: int, most: int, now: float) -> tuple[list[Held], list[Held]]:
        """Take the next jobs of at most `most` owners of a lane in turn, all of one task, as many as there is room for.

        Returns those that go to the worker, and those whose time was up.
        """
        ring = self._rings[lane]
        taken: list[Held] = []
        late: list[Held] = []
        entry: TaskEntry | None = None
        for _ in range(most):
            owner = ring[0]
            queue = waiting(owner, lane)
            if entry is None and queue:
                entry = queue[0].entry
            elif not queue or queue[0].entry is not entry or owner.running >= owner.most:
                break
            assert entry is not None
            left = room - len(taken)
            if not owner.ordered:
                left = min(left, owner.most - owner.running)
            elif entry.kind != WHOLE:
                left = 1
            nexts = self._next_of(owner, queue, left, now, late)
            owner.running += len(nexts)
            owner.worker = worker
            taken += nexts
            ring.rotate(-1)
            if len(taken) >= room:
                break
        return taken, late

    def _next_of(self, owner: Owner, queue: deque[Held], most: int, now: float, late: list[Held]) -> list[Held]:
        """Take an owner's next jobs of one task out of its queue; those whose time is up are `late`."""
        entry = queue[0].entry
        taken: list[Held] = []
        behind = len(late)
        cost = 0.0
        while queue and len(taken) < most:
            held = queue[0]
            if held.entry is not entry:
                break
            queue.popleft()
            if not held.over:
                cost += held.cost
                (taken if held.expires > now else late).append(held)
        self._count_out(owner, len(taken) + len(late) - behind, cost)
        _sweep(owner)
        return taken

    def send_on(self, elsewhere: Elsewhere) -> tuple[list[Held], bool]:
        """Take out what waits here for want of a slot while other nodes have one: bridge callers' jobs only.

        The second value says whether an owner's next job, behind one for other nodes, is for this node's workers after
        all.
        """
        sent: list[Held] = []
        slots: dict[str, int] = {}
        moved = False
        for lane in self.lanes:
            if not elsewhere.there and lane % KINDS != ELSEWHERE:
                continue
            looked = list(islice(self._rings[lane], LOOK))
            for owner in looked:
                while (queue := waiting(owner, lane)) and self._may_go(owner, queue[0].entry.spec, elsewhere, slots):
                    sent.append(self._send_on(owner, queue.popleft()))
            if lane % KINDS == ELSEWHERE and self._turn_elsewhere(lane, len(looked)):
                moved = True
        return sent, moved

    def _may_go(self, owner: Owner, spec: TaskSpec, elsewhere: Elsewhere, slots: dict[str, int]) -> bool:
        """Is there a slot at another node for one more job? `slots`: how many of this turn's each task has left."""
        if owner.windowed or owner.running >= owner.most:
            return False
        if spec.name not in slots:
            slots[spec.name] = elsewhere.free(spec.name, is_async=spec.is_async)
        slots[spec.name] -= 1
        return slots[spec.name] >= 0

    def _send_on(self, owner: Owner, held: Held) -> Held:
        self._count_out(owner, 1, held.cost)
        _sweep(owner)
        held.forwarded = True
        owner.running += 1
        owner.worker = 0  # nothing may follow it here
        return held

    def _count_out(self, owner: Owner, count: int, cost: float) -> None:
        owner.queued -= count
        owner.queued_cost = owner.queued_cost - cost if owner.queued else 0.0
        self.count -= count
        self.cost = self.cost - cost if self.count else 0.0
        if not owner.windowed:
            self.bridge -= count

    # turns

    def alternate(self) -> None:
        """Have places for coroutines go before whole workers of the same priority, if it was the other way round."""
        self._flip = not self._flip
        self.lanes = self._orders[self._flip]

    def ring(self, lane: int) -> deque[Owner]:
        """Return the owners that take turns in a lane, the next one first. Only to be rotated."""
        return self._rings[lane]

    def ring_again(self, owner: Owner) -> None:
        """Let an owner that stood aside while its job ran take turns again."""
        if owner.queued:
            for lane, queue in owner.queues.items():
                if queue:
                    self._ring(owner, lane, queue)

    def step_aside(self, lane: int) -> None:
        """Take the owner whose turn it is out of a lane."""
        owner = self._rings[lane].popleft()
        owner.ringed &= ~(1 << lane)

    def change_lane(self, lane: int) -> None:
        """Let the ordered owner whose turn it is take turns in the lane of its next job."""
        owner = self._rings[lane][0]
        first = lane - lane % KINDS
        self.step_aside(lane)
        self._ring(owner, first, owner.queues[first])

    def rest(self) -> None:
        """Nothing waits: owners whose jobs were given, cancelled or dropped stand aside."""
        if self._ringed:
            for ring in self._rings.values():
                for owner in ring:
                    owner.ringed = 0
                ring.clear()
            self._ringed = False

    def _turn_elsewhere(self, lane: int, looked: int) -> bool:
        """Turn a ring of jobs for other nodes, which the workers' turns pass over, and take out who has none."""
        ring = self._rings[lane]
        moved = False
        for _ in range(looked):
            owner = ring[0]
            queue = waiting(owner, lane)
            if not queue or owner.running >= owner.most:
                self.step_aside(lane)
            elif queue[0].entry.kind != ELSEWHERE:
                self.change_lane(lane)
                moved = True
            else:
                ring.rotate(-1)
        return moved

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
            self._orders = (sorted(self._rings, key=_whole_first), sorted(self._rings, key=_coroutines_first))
            self.lanes = self._orders[self._flip]
        ring.append(owner)


def _sweep(owner: Owner) -> None:
    """Drop what is over and lies behind all that waited: it leads back to its owner, and nobody collects that."""
    if not owner.queued and any(owner.queues.values()):
        owner.queues.clear()


def waiting(owner: Owner, lane: int) -> deque[Held] | None:
    """Return the queue with which an owner stands in a lane, its first job one that is not over."""
    queue = owner.queues.get(lane - lane % KINDS if owner.ordered else lane)
    while queue and queue[0].over:
        queue.popleft()
    return queue


def _whole_first(lane: int) -> tuple[int, int]:
    return -(lane // KINDS), lane % KINDS


def _coroutines_first(lane: int) -> tuple[int, int]:
    return -(lane // KINDS), -(lane % KINDS)
