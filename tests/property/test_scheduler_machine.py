"""Whatever owners, workers, other nodes and the clock do: every job ends once, and nothing idles or leaks.

The workers are fakes that read datagrams first in, first out, take orders up one after another (coroutines
together), may die at any point and have unread datagrams taken back, as real ones do. The ledger knows what
truly ran; the scheduler only hears what a node would hear. Jobs may change hands: a client that was forgotten
greets anew, asks for what it had, or hands it in once more.
"""

from collections import deque
from typing import NamedTuple, assert_never

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

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
    UNSTARTED,
    WORKER,
    Accepted,
    Failed,
    Lost,
    NodeItem,
    Options,
    Reject,
    Result,
    RetrySpec,
    Started,
    Submit,
    TaskSpec,
    Unknown,
)
from meshnode.core.counts import Counts
from meshnode.core.effects import (
    Dismiss,
    Dispatch,
    Effect,
    Empty,
    Forward,
    Interrupt,
    Kill,
    Replace,
    Reply,
    Spare,
    TakeBack,
)
from meshnode.core.events import (
    CancelAsked,
    Draining,
    Ended,
    Event,
    ForwardEnded,
    GraceOver,
    KeepAsked,
    Left,
    Queried,
    Resized,
    Retired,
    Served,
    Stalled,
    Submitted,
    TakenBack,
    Tick,
    Undraining,
    WorkerLost,
    WorkerReady,
)
from meshnode.core.held import COROUTINE, Held, Owner
from meshnode.core.orders import Orders, Ran
from meshnode.core.outcomes import KEPT_S
from meshnode.core.pool import PACKED_S
from meshnode.core.scheduler import CRASHES, Scheduler

SLOTS = 3
CORES = 2
BACKLOG = 30
SLOW = TaskSpec(name="slow")
CHANGED = TaskSpec(name="slow", doc="as it is now")
TASKS = [
    TaskSpec(name="quick"),
    TaskSpec(name="co", is_async=True),
    TaskSpec(name="safe", idempotent=True, retry=RetrySpec(n=2, backoff=0.01, cap=0.015)),
    TaskSpec(name="limited", idempotent=True, limit=1.0, limit_kill=0.5),
]
LIMIT_S = 1.5
FAR = TaskSpec(name="far")
ASYNC = "co"
OPEN_FOR_ALL = ["quick", "quick", "slow", "co", "safe", "limited", "far"]

NUMBER = st.integers(0, 10_000)
STEP = st.sampled_from(["read", "end", "end", "hear"])
MICROS = st.sampled_from([5, 5, 5, 60, 401, 20_000])


def like(one: Submit, other: Submit) -> bool:
    """Do two jobs differ in nothing but their ids and arguments?"""
    return (one.task, one.options, one.remaining) == (other.task, other.options, other.remaining)


class Story:
    """What the ledger knows of one job: of one attempt, where a client counts them, else of all."""

    def __init__(self, owner: Owner, submit: Submit, expires: float) -> None:
        self.owner = owner
        self.submit = submit
        self.attempt = submit.attempt
        self.expires = expires
        self.worker = 0
        self.last_worker = 0
        self.given = 0.0
        self.ran: set[int] = set()
        self.runs = False
        self.sent_on = False
        self.again = False
        self.how = UNSTARTED
        self.forced = False
        self.kept = False
        self.dropped = False
        self.remembered: float | None = None
        self.items: list[NodeItem] = []

    @property
    def held(self) -> Held | None:
        """What the node holds of it, if it does."""
        held = self.owner.jobs.get(self.submit.id)
        if held is None or (self.owner.windowed and held.submit.attempt != self.attempt):
            return None
        return held

    @property
    def open(self) -> bool:
        """Is it to end? Of those whose owner is gone only what is kept is, and only the node knows its end."""
        if self.items:
            return False
        return not self.owner.gone or (self.kept and self.held is not None)

    @property
    def orphan(self) -> bool:
        """Does it run, or lie at a worker, though its client is gone?"""
        return bool(self.owner.windowed and self.owner.gone and self.worker and not self.items and not self.kept)

    @property
    def delayed(self) -> bool:
        """Does it wait for its time to be tried again?"""
        return self.again and self.held is not None and self.held.delayed

    @property
    def waits(self) -> bool:
        return self.open and not self.worker and not self.sent_on and not self.delayed

    @property
    def alone(self) -> bool:
        """Is it to have a worker for itself?"""
        return self.submit.task == "limited" or bool(self.submit.options and self.submit.options.crashes)


class Order(NamedTuple):
    """One job that a worker has read: its number, and the number of the first in the same datagram."""

    seq: int
    first: int
    job: Submit


class FakeWorker:
    """One worker process, and what the node thinks that it has."""

    def __init__(self, key: int) -> None:
        self.key = key
        self.socket: deque[Orders] = deque()
        self.read: deque[Order] = deque()
        self.running: list[Order] = []
        self.started = 0
        self.unsent: list[Ran] = []
        self.sent: deque[list[Ran]] = deque()
        self.outstanding: dict[int, Story] = {}
        self.retired = False
        self.killed = False
        self.lease: int | None = None
        self.replaced = False
        self.interrupted: set[int] = set()

    @property
    def at_work(self) -> bool:
        return not self.killed and bool(self.socket or self.read or self.running or self.unsent or self.sent)


class FakeElsewhere:
    """The rest of the mesh: it serves `far` and what this node serves, in as many slots as `places`."""

    there = True

    def __init__(self) -> None:
        self.places = 0

    def free(self, task: str, *, is_async: bool) -> int:
        return self.places

    def spec(self, task: str) -> TaskSpec | None:
        return FAR if task == "far" else None


class Mesh(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.count = 0
        self.owners: list[Owner] = []
        self.stories: list[Story] = []
        self.by_attempt: dict[tuple[bytes, int], Story] = {}
        self.seen: dict[int, int] = {}
        self.adopted = 0
        self.asked: set[bytes] = set()
        self.answered: set[bytes] = set()
        self.served = SLOW
        self.workers: dict[int, FakeWorker] = {}
        self.dying = 0
        self.forwards: list[Held] = []
        self.elsewhere = FakeElsewhere()
        self.over = False
        self.shut: set[int] = set()

    @initialize(concurrency=st.sampled_from([1, 1, 3]), known=st.booleans())
    def begin(self, concurrency: int, *, known: bool) -> None:
        self.concurrency = concurrency
        self.cores = CORES
        self.scheduler = Scheduler(
            [*TASKS, SLOW],
            slots=SLOTS,
            concurrency=concurrency,
            cores=CORES,
            backlog=BACKLOG,
            elsewhere=self.elsewhere,
            counts=Counts(),
        )
        if known:
            for name in ("quick", "co", "safe", "limited"):
                self.scheduler.tasks[name].runtime.observe(1, 40e-6, 40e-6)
        for most in (2**31, 1, 2):
            self.an_owner_comes(most)
        for _ in range(SLOTS):
            self.a_worker_is_ready(None)

    # owners

    @precondition(lambda self: len(self.owners) < 8)
    @rule(most=st.sampled_from([2**31, 1, 2]))
    def an_owner_comes(self, most: int) -> None:
        self.count += 1
        self.owners.append(Owner(self.count, most=most, windowed=most == 2**31))

    @rule(
        who=NUMBER,
        tasks=st.lists(st.sampled_from(OPEN_FOR_ALL), min_size=1, max_size=12),
        priority=st.sampled_from([None, None, 9]),
        crashes=st.sampled_from([0, 0, 0, 1]),
        remaining=st.sampled_from([None, None, None, 0, 3, 2000]),
        stale=st.sampled_from([False] * 9 + [True]),
    )
    def an_owner_submits(
        self, who: int, tasks: list[str], priority: int | None, crashes: int, remaining: int | None, *, stale: bool
    ) -> None:
        owner = self.owners[who % len(self.owners)]
        options = None if priority is None or owner.ordered else Options(priority=priority)
        if crashes and owner.windowed:
            options = Options(priority=priority or 5, crashes=crashes)
        submits = []
        for task in tasks:
            self.count += 1
            submits.append(Submit(self.count.to_bytes(16), 1, task, 0, remaining, options, b"x"))
        self.submit(owner, submits, stale=stale)

    @precondition(lambda self: any(story.owner.windowed and not story.owner.gone for story in self.stories))
    @rule(which=NUMBER)
    def a_client_submits_the_next_attempt_of_a_job(self, which: int) -> None:
        first = self.pick([s for s in self.stories if s.owner.windowed and not s.owner.gone], which)
        again = Submit(first.submit.id, first.attempt + 1, "quick", 0, None, None, b"x")
        if (again.id, again.attempt) not in self.by_attempt:
            self.submit(first.owner, [again], stale=False)

    def submit(self, owner: Owner, submits: list[Submit], *, stale: bool) -> None:
        self.hand_in(owner, submits)
        alike = not owner.windowed and not stale and all(like(submit, submits[0]) for submit in submits)
        self.tell(Submitted(owner, submits, stale=stale, alike=alike))

    def hand_in(self, owner: Owner, submits: list[Submit]) -> None:
        for submit in submits:
            expires = float("inf") if submit.remaining is None else self.now + submit.remaining / 1000
            story = Story(owner, submit, expires)
            self.stories.append(story)
            self.by_attempt[submit.id, submit.attempt] = story
        self.seen[owner.key] = self.seen.get(owner.key, 0) + len(submits)

    def pick(self, some: list[Story], which: int) -> Story:
        return some[which % len(some)]

    @precondition(lambda self: any(story.open for story in self.stories))
    @rule(which=st.lists(NUMBER, min_size=1, max_size=6), how=st.sampled_from([UNSTARTED, RUNNING, FORCED]))
    def owners_cancel(self, which: list[int], how: int) -> None:
        still = [story for story in self.stories if story.open and not story.owner.gone]
        if not still:
            return
        chosen = [self.pick(still, n) for n in which]
        for story in chosen:
            if story.worker:
                story.how = max(story.how, how)
                story.forced = story.forced or how == FORCED
        self.tell(*(CancelAsked(story.owner, story.submit.id, how) for story in chosen))
        assert not any(story.open and not story.worker and not story.sent_on for story in chosen), "rejected at once"

    @precondition(lambda self: any(story.open and story.owner.windowed for story in self.stories))
    @rule(which=NUMBER)
    def a_client_wants_a_job_kept(self, which: int) -> None:
        story = self.pick([story for story in self.stories if story.open and story.owner.windowed], which)
        story.kept = True
        self.tell(KeepAsked(story.owner, story.submit.id))

    @precondition(lambda self: len(self.owners) > 3)
    @rule(who=NUMBER, last=st.sampled_from([0, 0, 1, 4]))
    def an_owner_leaves(self, who: int, last: int) -> None:
        """It may hand in its last jobs in the very turn in which it leaves."""
        owner = self.owners.pop(who % len(self.owners))
        submits = []
        for _ in range(last):
            self.count += 1
            submits.append(Submit(self.count.to_bytes(16), 1, "quick", 0, None, None, b"x"))
        self.hand_in(owner, submits)
        for story in self.stories:
            if story.owner is owner and story.open and not story.kept:
                story.how = UNSTARTED
                if not story.worker:
                    self.drop(story)
        for story in self.stories[len(self.stories) - last :]:
            story.remembered = None  # it may as well have been refused before it could be dropped
        self.tell(*([Submitted(owner, submits)] if submits else []), Left(owner))

    def drop(self, story: Story) -> None:
        story.dropped = True
        if story.owner.windowed:
            story.remembered = self.now

    # clients that were forgotten

    def of_clients(self) -> list[Story]:
        """Jobs of clients of which the node has at most one attempt, so that it is clear which one is meant."""
        known = [story for story in self.stories if story.owner.windowed]
        holding = [story.submit.id for story in known if story.open or story.orphan]
        left = [story.submit.id for story in known if story.orphan and not self.is_last(story)]
        latest = [story for story in known if self.by_attempt[story.submit.id, story.attempt] is story]
        return [story for story in latest if holding.count(story.submit.id) <= 1 and story.submit.id not in left]

    def is_last(self, story: Story) -> bool:
        """Is it the last attempt of its job? An orphan is looked for only if it is."""
        return (story.submit.id, story.attempt + 1) not in self.by_attempt

    def client(self, who: int) -> Owner:
        clients = [owner for owner in self.owners if owner.windowed]
        if not clients:
            self.an_owner_comes(2**31)
            return self.owners[-1]
        return clients[who % len(clients)]

    def goes_over(self, story: Story, owner: Owner) -> None:
        """A job that is held is somebody else's from now on."""
        self.adopted += story.orphan
        story.owner = owner

    @precondition(lambda self: any(story.owner.windowed for story in self.stories))
    @rule(who=NUMBER, which=st.lists(NUMBER, min_size=1, max_size=6), never=st.booleans())
    def a_client_asks_for_jobs(self, who: int, which: list[int], *, never: bool) -> None:
        owner = self.client(who)
        some = self.of_clients()
        if not some:
            return
        chosen = list(dict.fromkeys(self.pick(some, n).submit.id for n in which))
        never_heard_of = (2**100).to_bytes(16)
        for job_id in chosen:
            for story in some:
                if story.submit.id == job_id and (story.open or story.orphan):
                    self.goes_over(story, owner)
        self.asked, self.answered = set(chosen), set()
        self.tell(Queried(owner, [*chosen, *([never_heard_of] if never else [])]))
        assert self.answered == {*chosen, *([never_heard_of] if never else [])}, "each is answered"
        self.asked = set()

    @precondition(lambda self: any(story.owner.windowed for story in self.stories))
    @rule(who=NUMBER, which=NUMBER)
    def a_client_hands_in_an_attempt_once_more(self, who: int, which: int) -> None:
        owner = self.client(who)
        some = self.of_clients()
        if not some:
            return
        story = self.pick(some, which)
        job_id = story.submit.id
        again = Submit(job_id, story.attempt, story.submit.task, 0, None, Options(resent=True), b"x")
        holder = next((s for s in some if s.submit.id == job_id and (s.open or s.orphan)), None)
        if holder is story:
            self.goes_over(story, owner)
        elif holder is not None and holder.owner is owner:
            return
        elif story.ran:
            if story.remembered is None or story.remembered < self.now - KEPT_S:
                return  # it may run again: nobody knows any more
            self.asked = {job_id}
        else:
            self.hand_in(owner, [again])
            self.tell(Submitted(owner, [again]))
            return
        self.seen[owner.key] = self.seen.get(owner.key, 0) + 1
        self.answered = set()
        self.tell(Submitted(owner, [again]))
        assert self.answered >= self.asked, "what has ended is answered at once"
        self.asked = set()

    # workers

    @precondition(lambda self: sum(not worker.retired for worker in self.workers.values()) < SLOTS)
    @rule(lease=st.sampled_from([None, None, 3]))
    def a_worker_is_ready(self, lease: int | None) -> None:
        self.tell(self.fork(lease))

    def fork(self, lease: int | None) -> WorkerReady:
        self.count += 1
        worker = self.workers[self.count] = FakeWorker(self.count)
        worker.lease = lease
        return WorkerReady(worker.key, lease)

    @precondition(lambda self: any(not worker.retired for worker in self.workers.values()) and len(self.workers) < 6)
    @rule(which=NUMBER, lease=st.sampled_from([None, None, 3]))
    def a_successor_is_ready(self, which: int, lease: int | None) -> None:
        """Whether the node asked for it, or somebody else."""
        active = [worker for worker in self.workers.values() if not worker.retired]
        former = active[which % len(active)]
        former.retired = True
        self.tell(self.fork(lease), Retired(former.key))

    @rule(slots=st.integers(1, SLOTS))
    def the_node_is_to_have_so_many_workers(self, slots: int) -> None:
        active = [worker for worker in self.workers.values() if not worker.retired]
        for worker in active[slots:]:
            worker.retired = True
        self.cores = min(CORES, slots)
        self.tell(Resized(slots), *(Retired(worker.key) for worker in active[slots:]))

    @precondition(lambda self: any(worker.at_work for worker in self.workers.values()))
    @rule(steps=st.lists(st.tuples(STEP, st.integers(0, SLOTS - 1), MICROS), min_size=1, max_size=8))
    def workers_go_on(self, steps: list[tuple[str, int, int]]) -> None:
        for step, which, micros in steps:
            at_work = [worker for worker in self.workers.values() if worker.at_work]
            if not at_work:
                return
            worker = at_work[which % len(at_work)]
            if step == "read" and worker.socket:
                self.read(worker)
            elif step == "end" and worker.running:
                self.finish(worker, worker.running[micros % len(worker.running)], micros)
            elif step == "hear":
                self.send(worker)
                self.hear(worker)

    def read(self, worker: FakeWorker) -> None:
        orders = worker.socket.popleft()
        worker.read += (Order(seq, orders.first, job) for seq, job in enumerate(orders.jobs, orders.first))
        self.take_up(worker)

    def take_up(self, worker: FakeWorker) -> None:
        """Start what may run: coroutines up to their number, anything else alone."""
        while worker.read:
            is_async = worker.read[0].job.task == ASYNC
            if worker.running and (not is_async or len(worker.running) >= self.concurrency):
                return
            order = worker.read.popleft()
            worker.started = order.seq
            worker.running.append(order)
            self.begins(worker, order)
            if not is_async:
                return

    def begins(self, worker: FakeWorker, order: Order) -> None:
        story = self.by_attempt[order.job.id, order.job.attempt]
        assert not story.dropped
        assert not any(type(item) is Reject for item in story.items), "what was rejected never runs"
        assert order.job.attempt not in story.ran, "no attempt runs twice"
        if self.concurrency > 1 and order.job.task != ASYNC:
            assert len(worker.running) == 1, "a sync job has its worker for itself"
        if story.owner.ordered:
            of_it = [s for s in self.stories if s.owner is story.owner]
            assert not any(s.runs or s.sent_on for s in of_it), "one after another"
            later = of_it[of_it.index(story) + 1 :]
            assert not any(s.ran for s in later) or story.ran, "in their order, but for those that run again"
        story.ran.add(order.job.attempt)
        story.runs = True

    def finish(self, worker: FakeWorker, order: Order, micros: int) -> None:
        worker.running.remove(order)
        self.by_attempt[order.job.id, order.job.attempt].runs = False
        end: Result | Failed = Result(order.job.id, order.job.attempt, b"y")
        if micros % 2 == 0:
            end = Failed(order.job.id, order.job.attempt, b"y", 0.005 if micros > 1000 else None)
        self.note(worker, order, micros * 1000, end)
        self.take_up(worker)

    def note(self, worker: FakeWorker, order: Order, spent: int, end: Result | Failed) -> None:
        """Keep an outcome to be sent: with those before it from the same datagram, but a coroutine's alone."""
        last = worker.unsent[-1] if worker.unsent and order.job.task != ASYNC else None
        if last is not None and order.first <= last.first and last.first + len(last.ends) == order.seq:
            last.spent += spent
            last.longest = max(last.longest, spent)
            last.ends.append(end)
        else:
            worker.unsent.append(Ran(order.seq, spent, spent, [end]))

    def send(self, worker: FakeWorker) -> None:
        if worker.unsent:
            worker.sent.append(worker.unsent)
            worker.unsent = []

    def hear(self, worker: FakeWorker) -> None:
        self.tell(*self.words(worker))

    def words(self, worker: FakeWorker) -> list[Event]:
        events: list[Event] = []
        while worker.sent:
            ran = worker.sent.popleft()
            for one in ran:
                for seq, end in enumerate(one.ends, one.first):
                    self.heard(worker.outstanding.pop(seq), end)
                    if worker.lease is not None and not worker.retired and not worker.killed:
                        worker.lease -= 1
            events.append(Ended(worker.key, ran))
        return events

    def heard(self, story: Story, end: Result | Failed) -> None:
        story.worker = 0
        if not story.owner.windowed:
            story.again = isinstance(end, Failed) and end.again is not None
        elif not story.items:
            story.remembered = self.now
            story.dropped = story.owner.gone and not story.kept

    @precondition(lambda self: self.workers)
    @rule(which=NUMBER)
    def a_worker_dies(self, which: int) -> None:
        self.die(list(self.workers.values())[which % len(self.workers)])

    @precondition(lambda self: any(worker.killed for worker in self.workers.values()))
    @rule()
    def a_worker_that_was_killed_dies(self) -> None:
        self.die(next(worker for worker in self.workers.values() if worker.killed))

    def die(self, worker: FakeWorker) -> None:
        words = self.words(worker)
        del self.workers[worker.key]
        ended: list[Story] = []
        for story in worker.outstanding.values():
            story.worker = 0
            story.runs = False
            if story.attempt in story.ran:
                story.again = story.open and not story.owner.windowed
                if story.owner.windowed and not story.items:
                    story.remembered = self.now
                if story.open and story.owner.windowed and not story.owner.gone:
                    ended.append(story)
                story.dropped = story.owner.gone and not story.kept
            elif story.owner.gone and not story.kept and not story.items:
                self.drop(story)
        self.dying = worker.key
        self.tell(*words, WorkerLost(worker.key, worker.started, "killed"))
        assert all([type(item) for item in story.items] == [Lost] for story in ended)

    # the rest of the mesh, and the clock

    @rule(places=st.integers(0, 3))
    def other_nodes_say_what_they_have(self, places: int) -> None:
        self.elsewhere.places = places
        self.tell(Tick())

    @precondition(lambda self: self.forwards)
    @rule(which=NUMBER, taken=st.booleans())
    def a_forwarded_job_ends(self, which: int, *, taken: bool) -> None:
        self.end_forward(self.forwards.pop(which % len(self.forwards)), taken=taken)

    def end_forward(self, held: Held, *, taken: bool) -> None:
        submit = held.submit
        story = self.story(submit.id, submit.attempt)
        story.sent_on = False
        if taken:
            story.ran.add(submit.attempt)
        self.elsewhere.places = max(0, self.elsewhere.places - 1)
        self.tell(ForwardEnded(held, Result(submit.id, submit.attempt, b"z") if taken else None))

    def story(self, job_id: bytes, attempt: int) -> Story:
        """Find the story that an attempt belongs to; the node itself may count a bridge caller's up."""
        story = self.by_attempt.get((job_id, attempt))
        if story is None:
            story = self.by_attempt[job_id, attempt] = self.by_attempt[job_id, attempt - 1]
            assert not story.owner.windowed, "a client counts its attempts itself"
            assert story.again, "it ran, and may run again"
            story.again = False
            story.attempt = attempt
        return story

    @rule(seconds=st.sampled_from([0.0001, 0.001, 0.0025, 0.006, 0.5, 3.0, 61.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.tell(Tick())

    @precondition(lambda self: self.scheduler.next_wake() is not None)
    @rule()
    def the_alarm_rings(self) -> None:
        wake = self.scheduler.next_wake()
        assert wake is not None
        self.now = max(self.now, wake)
        self.tell(Tick())

    @precondition(lambda self: self.count > 60 and not self.scheduler.draining)
    @rule()
    def the_node_drains(self) -> None:
        self.tell(Draining())

    @precondition(lambda self: self.scheduler.draining and not self.over)
    @rule()
    def the_node_takes_work_again(self) -> None:
        self.tell(Undraining())
        shut = self.shut & {owner.key for owner in self.owners}
        assert not shut or not self.workers, "who has no window hears when there is one"

    @precondition(lambda self: self.scheduler.draining and not self.over)
    @rule()
    def the_grace_is_over(self) -> None:
        self.over = True
        self.tell(GraceOver())
        assert not any(story.open for story in self.stories)

    @rule()
    def the_node_stood_still(self) -> None:
        self.tell(Stalled())
        assert not any(story.waits and story.owner.windowed and not story.kept for story in self.stories)

    @rule(spec=st.sampled_from([SLOW, CHANGED, None]))
    def the_node_serves_other_tasks(self, spec: TaskSpec | None) -> None:
        self.tell(Served([*TASKS, spec] if spec else TASKS))
        assert spec or not any(story.waits and story.submit.task == "slow" for story in self.stories)

    # the node

    def tell(self, *events: Event) -> None:
        """Have the scheduler handle events, and do what it orders, as the node's turn does."""
        batch: list[Event] = list(events)
        while batch:
            answers: list[Event] = []
            for effect in self.scheduler.handle(batch, self.now):
                self.perform(effect, answers)
            batch = answers
        self.check()

    def perform(self, effect: Effect, answers: list[Event]) -> None:
        match effect:
            case Dispatch():
                jobs = [Submit(j.id, j.attempt, j.task, j.form, j.remaining, j.options, j.body) for j in effect.jobs]
                self.dispatched(self.workers[effect.worker], Orders(effect.first, jobs))
            case TakeBack():
                self.taken_back(self.workers[effect.worker], answers)
            case Reply():
                self.replied(effect)
            case Forward():
                story = self.story(effect.held.submit.id, effect.held.submit.attempt)
                assert story.waits
                assert not story.owner.windowed
                story.sent_on = True
                self.forwards.append(effect.held)
            case Empty():
                assert self.scheduler.draining
                assert not any(worker.outstanding for worker in self.workers.values())
            case Interrupt():
                worker = self.workers[effect.worker]
                stopped = worker.outstanding.get(effect.seq)  # None if it was taken back in this very turn
                assert stopped is None or stopped.how >= RUNNING
                assert stopped is None or not effect.on_loop or stopped.submit.task == ASYNC
                worker.interrupted.add(effect.seq)
            case Kill():
                worker = self.workers[effect.worker]
                assert not worker.killed
                had = [story for story in self.stories if story.last_worker == worker.key]
                assert any(story.forced or self.overdue(story) for story in had)
                worker.killed = True
            case Replace():
                if effect.worker == self.dying:  # its last word, that its lease is over, came with its death
                    return
                worker = self.workers[effect.worker]
                assert not worker.replaced
                assert not worker.retired
                worker.replaced = True
            case Dismiss():
                done = self.workers.pop(effect.worker, None)  # it may have died in this very turn
                assert done is None or (done.retired and not done.killed and not done.outstanding)
            case Spare():
                pytest.fail("no job has called another")
            case _ as never:
                assert_never(never)

    def dispatched(self, worker: FakeWorker, orders: Orders) -> None:
        assert len({job.task for job in orders.jobs}) == 1, "a datagram holds jobs of one task"
        assert not worker.retired
        assert not worker.killed
        for seq, job in enumerate(orders.jobs, orders.first):
            story = self.story(job.id, job.attempt)
            assert job.attempt not in story.ran, "no attempt is given again that a worker has taken up"
            assert story.waits
            assert story.expires > self.now
            story.worker = story.last_worker = worker.key
            story.given = self.now
            assert seq not in worker.outstanding
            worker.outstanding[seq] = story
        alone = [story for story in worker.outstanding.values() if story.alone or (story.held and story.held.crashes)]
        assert not alone or len(worker.outstanding) == 1, "it has a worker for itself"
        worker.socket.append(orders)
        tasks = {story.submit.task for story in worker.outstanding.values()}
        if self.concurrency > 1 and "co" in tasks:
            of_several = len(worker.outstanding) > 1 and any(not s.owner.ordered for s in worker.outstanding.values())
            assert tasks == {"co"} or not of_several
            assert len(worker.outstanding) <= self.concurrency

    def taken_back(self, worker: FakeWorker, answers: list[Event]) -> None:
        if not worker.killed:
            self.send(worker)
        seqs = [seq for orders in worker.socket for seq in range(orders.first, orders.first + len(orders.jobs))]
        worker.socket.clear()
        for seq in seqs:
            story = worker.outstanding.pop(seq)
            story.worker = 0
            if story.owner.gone and not story.kept and not story.items:
                self.drop(story)
        if seqs:
            answers.append(TakenBack(worker.key, seqs))

    def replied(self, reply: Reply) -> None:
        owner = reply.owner
        assert not owner.gone
        if owner.windowed:
            assert reply.seen == self.seen.get(owner.key, 0)
            assert (reply.window == 0) == (self.scheduler.draining or not self.scheduler.pool.workers)
            (self.shut.discard if reply.window else self.shut.add)(owner.key)
        else:
            assert reply == Reply(owner, reply.items), "a plain socket is told of no window and no load"
        for item in reply.items:
            match item:
                case Accepted() | Started():
                    for job_id in item.ids:
                        assert any(s.open and s.owner is owner for s in self.stories if s.submit.id == job_id)
                    self.answered.update(item.ids)
                case Unknown():
                    forgotten = set(item.ids) - self.answered
                    assert not any(self.known(story) for story in self.stories if story.submit.id in forgotten)
                    assert not any(story.open for story in self.stories if story.submit.id in item.ids)
                    self.answered.update(item.ids)
                case Result() | Failed() | Reject() | Lost():
                    story = self.story(item.id, item.attempt)
                    self.answered.add(item.id)
                    if item.id in self.asked and not story.open:
                        self.told_once_more(story, item)
                    else:
                        assert story.owner is owner
                        self.told_end(story, item)
                case _:
                    pytest.fail(f"{item} was not asked for")

    def known(self, story: Story) -> bool:
        return story.remembered is not None and story.remembered >= self.now - KEPT_S

    def told_once_more(self, story: Story, item: Result | Failed | Reject | Lost) -> None:
        """Of what has ended an owner hears what it or the one before it heard, or would have heard."""
        assert not isinstance(item, Reject) or not story.ran
        given_up = self.over and any(isinstance(told, Lost) and told.reason == GRACE for told in [item, *story.items])
        assert isinstance(item, Reject) or story.ran or given_up
        told_alike = story.items == [item] or isinstance(item, Reject)
        assert not story.items or told_alike or given_up

    def told_end(self, story: Story, item: Result | Failed | Reject | Lost) -> None:
        assert not story.items, "a job ends once"
        assert story.open
        if story.owner.windowed and (story.held is None or story.remembered is None) and self.submitted_before(story):
            story.remembered = self.now
        story.items.append(item)
        match item:
            case Result() | Failed():
                assert item.attempt in story.ran
            case Reject(reason=reason):
                assert not story.ran, "what ran is not rejected"
                assert reason != EXPIRED or story.expires <= self.now
                assert reason != DRAINING or self.scheduler.draining
                assert reason != BUSY or not self.scheduler.draining
            case Lost(reason=reason):
                assert item.started
                assert story.ran or reason in (GRACE, EXPIRED)
                assert reason in (CRASH, WORKER, LIMIT, POISON, CANCELLED, GRACE, EXPIRED) or story.attempt > 1
                assert reason != LIMIT or self.overdue(story)
                assert reason != POISON or (not story.owner.windowed and len(story.ran) >= CRASHES)
                assert reason != CANCELLED or story.forced or story.attempt > 1
                assert reason != EXPIRED or (story.expires <= self.now and not story.owner.windowed)
                assert reason != QUARANTINED or not story.owner.windowed

    def submitted_before(self, story: Story) -> bool:
        """Was it taken in at all? A node does not remember what it refused."""
        return bool(story.given) or story.kept

    def overdue(self, story: Story) -> bool:
        return story.submit.task == "limited" and story.given + LIMIT_S <= self.now + 1e-9

    # what must hold after every turn

    def check(self) -> None:
        self.the_books_agree()
        self.nothing_idles()
        self.what_is_to_stop_is_stopped()

    def what_is_to_stop_is_stopped(self) -> None:
        for worker in self.workers.values():
            assert worker.replaced or worker.lease is None or worker.lease > 0
            if worker.killed:
                continue
            assert not any(self.overdue(story) for story in worker.outstanding.values())
            for seq, story in worker.outstanding.items():
                first = next(iter(worker.outstanding)) == seq or (story.held and story.held.entry.kind == COROUTINE)
                if first and story.open and not story.owner.gone:
                    assert story.how != FORCED, "its worker is killed"
                    assert story.how != RUNNING or seq in worker.interrupted

    def the_books_agree(self) -> None:
        scheduler = self.scheduler
        still = [story for story in self.stories if story.open]
        waiting = [story for story in still if story.waits]
        assert scheduler.held == len(still) <= BACKLOG + self.adopted
        assert scheduler.backlog.count == len(waiting)
        assert scheduler.backlog.bridge == sum(not story.owner.windowed for story in waiting)
        outstanding = [story for worker in self.workers.values() for story in worker.outstanding.values()]
        elsewhere = [self.story(held.submit.id, held.submit.attempt) for held in self.forwards]
        for owner in self.owners:
            of_it = [story for story in waiting if story.owner is owner]
            assert owner.queued == len(of_it)
            assert owner.running == sum(story.owner is owner for story in [*outstanding, *elsewhere])
            assert owner.running <= owner.most or owner.ordered
            costs = [held.cost for held in owner.jobs.values() if held.waits]
            assert owner.queued_cost == pytest.approx(sum(costs), abs=1e-9)
            assert owner.queued_cost == 0 if not of_it else owner.queued_cost > -1e-9
            assert (owner.key in scheduler.word.active) == bool(owner.jobs)
            lying = sum(len(queue) for queue in owner.queues.values())
            assert lying <= 2 * owner.queued + 64, "what is over does not pile up in the queues"
        active = [worker for worker in self.workers.values() if not worker.retired and not worker.killed]
        assert scheduler.pool.free == sum(not worker.outstanding for worker in active)
        assert scheduler.pool.workers.keys() == self.workers.keys()
        orphans = {story.submit.id for story in self.stories if story.orphan}
        last = {story.submit.id for story in self.stories if story.orphan and self.is_last(story)}
        assert last <= scheduler._outcomes.orphans.keys() <= orphans, "only what is at a worker is still looked for"
        for owner in self.owners:
            full = owner.windowed and owner.jobs and len(owner.jobs) >= owner.told
            full = full or owner.key in self.shut
            assert not full or owner.key in scheduler.word.full, "whose window is full hears when it opens"
        for worker in scheduler.pool.workers.values():
            assert list(worker.outstanding) == list(self.workers[worker.key].outstanding)
            assert worker.load >= -1e-9

    def nothing_idles(self) -> None:
        """No job waits in the backlog while a worker is idle that could run it, but for a few short ones."""
        idle = self.scheduler.pool.free
        places = self.scheduler.pool.free_async if self.concurrency > 1 else idle
        for owner in self.owners:
            queue = [story for story in self.stories if story.owner is owner and story.waits]
            if owner.running >= owner.most or not queue:
                continue
            if owner.ordered:  # what runs again may stand behind others
                queue = [] if any(story.ran for story in queue) else queue[:1]
            for story in queue:
                if story.submit.task == "far":
                    assert not self.elsewhere.places or self.forwards
                else:
                    assert not idle or any(map(self.soon_read, queue)), f"{story.submit.task} of {owner.key} waits"
                    assert story.held is None or story.held.entry.kind != COROUTINE or not places

    def soon_read(self, story: Story) -> bool:
        """Is it of the few short jobs for which no worker is woken beyond those that have their sockets full?"""
        held = story.held
        full = [worker for worker in self.scheduler.pool.workers.values() if worker.packed and worker.outstanding]
        few = self.scheduler.backlog.cost <= PACKED_S * self.cores
        return held is not None and held.entry.runtime.short and few and len(full) >= self.cores

    def teardown(self) -> None:
        """Let everything end: then nothing stays."""
        for worker in list(self.workers.values()):
            if worker.killed:
                self.die(worker)
        while sum(not worker.retired for worker in self.workers.values()) < SLOTS:
            self.a_worker_is_ready(None)
        self.other_nodes_say_what_they_have(1_000)
        for _ in range(1_000):
            for worker in list(self.workers.values()):
                self.run_all(worker)
            if any(worker.replaced and not worker.retired for worker in self.workers.values()):
                self.replace_all()
            for held in list(self.forwards):
                self.forwards.remove(held)
                self.end_forward(held, taken=True)
            self.other_nodes_say_what_they_have(1_000)
            self.time_passes(0.01)
            at_work = any(worker.outstanding for worker in self.workers.values())
            if not self.forwards and not at_work and not any(story.open for story in self.stories):
                break
        self.nothing_stays()

    def replace_all(self) -> None:
        for worker in list(self.workers.values()):
            if worker.replaced and not worker.retired:
                worker.retired = True
                self.tell(self.fork(None), Retired(worker.key))

    def run_all(self, worker: FakeWorker) -> None:
        while worker.socket or worker.running:
            while worker.running:
                self.finish(worker, worker.running[0], 51)
            if worker.socket:
                self.read(worker)
        self.send(worker)
        self.hear(worker)

    def the_counts_agree(self) -> None:
        """Every end is counted, once: what an owner was told, or what nobody was there to hear."""
        counts = self.scheduler.counts
        assert counts is not None
        ended = sum(sum(count.ended.values()) for count in counts.tasks.values())
        assert all(how >= 0 for count in counts.tasks.values() for how in count.ended.values())
        told = sum(bool(story.items) for story in self.stories)
        assert told <= ended + counts.forwarded["ok"] + counts.late
        assert ended <= len(self.stories)
        given = sum(bool(story.given) for story in self.stories)
        assert sum(sum(count.wait.counts) for count in counts.tasks.values()) == given

    def nothing_stays(self) -> None:
        for story in self.stories:
            assert len(story.items) == 1 or (story.owner.gone and not story.items), "every job ends"
        self.time_passes(10_000)
        scheduler = self.scheduler
        for owner in [*self.owners, *(story.owner for story in self.stories)]:
            assert not owner.jobs
            assert not owner.replies
            assert not owner.queued
            assert not owner.running
            assert not owner.ringed
        assert not scheduler.word.active
        assert not scheduler._outcomes.orphans
        assert not scheduler._to_stop
        assert scheduler.next_wake() is None
        assert scheduler.held == scheduler.backlog.count == scheduler.backlog.bridge == 0
        self.the_counts_agree()
        assert scheduler.pool.free == SLOTS
        assert all(worker.load == 0.0 for worker in scheduler.pool.workers.values())
        assert Empty() in scheduler.handle([Draining()], self.now)


TestMesh = Mesh.TestCase
TestMesh.settings = settings(
    max_examples=200,
    stateful_step_count=60,
    deadline=None,
    phases=(Phase.reuse, Phase.generate, Phase.shrink),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)


def test_a_worker_may_die_in_the_turn_in_which_its_lease_is_over() -> None:
    mesh = Mesh()
    mesh.begin(concurrency=1, known=True)
    mesh.an_owner_submits(who=0, tasks=["quick"] * 3, priority=None, crashes=0, remaining=None, stale=False)
    mesh.a_worker_dies(0)
    mesh.the_node_is_to_have_so_many_workers(1)
    mesh.a_worker_dies(0)
    mesh.a_worker_is_ready(3)
    mesh.workers_go_on([("read", 0, 5), *[("end", 0, 5)] * 3])
    mesh.a_worker_dies(0)
    mesh.teardown()
