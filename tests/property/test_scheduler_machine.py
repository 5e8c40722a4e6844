"""Whatever owners, workers, other nodes and the clock do: every job ends once, and nothing idles or leaks.

The workers are fakes that read datagrams first in, first out, take orders up one after another (coroutines
together), may die at any point and have unread datagrams taken back, as real ones do. The ledger knows what
truly ran; the scheduler only hears what a node would hear.
"""

from collections import deque
from typing import NamedTuple, assert_never

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from mesh.wire.messages import (
    BUSY,
    CRASH,
    DRAINING,
    EXPIRED,
    GRACE,
    STALE,
    Accepted,
    Failed,
    Lost,
    NodeItem,
    Options,
    Reject,
    Result,
    Started,
    Submit,
    TaskSpec,
)
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
    Left,
    Submitted,
    TakenBack,
    Tick,
    Undraining,
    WorkerLost,
    WorkerReady,
)
from meshnode.core.held import Held, Owner
from meshnode.core.orders import Orders, Ran
from meshnode.core.scheduler import Scheduler

SLOTS = 3
BACKLOG = 30
TASKS = [TaskSpec(name="quick"), TaskSpec(name="slow"), TaskSpec(name="co", is_async=True)]
FAR = TaskSpec(name="far")
ASYNC = "co"

NUMBER = st.integers(0, 10_000)
STEP = st.sampled_from(["read", "end", "end", "hear"])
MICROS = st.sampled_from([5, 5, 5, 60, 401, 20_000])


class Story:
    """What the ledger knows of one job."""

    def __init__(self, owner: Owner, submit: Submit, expires: float) -> None:
        self.owner = owner
        self.submit = submit
        self.expires = expires
        self.waits = True
        self.ran = 0
        self.runs = False
        self.sent_on = False
        self.items: list[NodeItem] = []

    @property
    def open(self) -> bool:
        return not self.items and not self.owner.gone


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

    @property
    def at_work(self) -> bool:
        return bool(self.socket or self.read or self.running or self.unsent or self.sent)


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
        self.stories: dict[tuple[bytes, int], Story] = {}
        self.workers: dict[int, FakeWorker] = {}
        self.forwards: list[Held] = []
        self.elsewhere = FakeElsewhere()
        self.over = False
        self.shut: set[int] = set()

    @initialize(concurrency=st.sampled_from([1, 1, 3]), known=st.booleans())
    def begin(self, concurrency: int, *, known: bool) -> None:
        self.concurrency = concurrency
        self.scheduler = Scheduler(
            TASKS, slots=SLOTS, concurrency=concurrency, cores=2, backlog=BACKLOG, elsewhere=self.elsewhere
        )
        if known:
            for name in ("quick", "co"):
                self.scheduler.tasks[name].runtime.observe(1, 40e-6, 40e-6)
        for most in (2**31, 1, 2):
            self.an_owner_comes(most)
        for _ in range(SLOTS):
            self.a_worker_is_ready()

    # owners

    @precondition(lambda self: len(self.owners) < 8)
    @rule(most=st.sampled_from([2**31, 1, 2]))
    def an_owner_comes(self, most: int) -> None:
        self.count += 1
        self.owners.append(Owner(self.count, most=most, windowed=most == 2**31))

    @rule(
        who=NUMBER,
        tasks=st.lists(st.sampled_from(["quick", "quick", "slow", "co", "far"]), min_size=1, max_size=12),
        priority=st.sampled_from([None, None, 9]),
        remaining=st.sampled_from([None, None, None, 0, 3, 2000]),
        stale=st.sampled_from([False] * 9 + [True]),
    )
    def an_owner_submits(
        self, who: int, tasks: list[str], priority: int | None, remaining: int | None, *, stale: bool
    ) -> None:
        owner = self.owners[who % len(self.owners)]
        options = None if priority is None or owner.ordered else Options(priority=priority)
        submits = []
        for task in tasks:
            self.count += 1
            submits.append(Submit(self.count.to_bytes(16), 1, task, 0, remaining, options, b"x"))
        self.submit(owner, submits, stale=stale)

    @precondition(lambda self: self.stories)
    @rule(which=NUMBER)
    def an_owner_submits_a_job_again(self, which: int) -> None:
        first = list(self.stories.values())[which % len(self.stories)]
        again = Submit(first.submit.id, first.submit.attempt + 1, "quick", 0, None, None, b"x")
        if not first.owner.gone and (again.id, again.attempt) not in self.stories:
            self.submit(first.owner, [again], stale=False)

    def submit(self, owner: Owner, submits: list[Submit], *, stale: bool) -> None:
        for submit in submits:
            expires = float("inf") if submit.remaining is None else self.now + submit.remaining / 1000
            self.stories[submit.id, submit.attempt] = Story(owner, submit, expires)
        self.tell(Submitted(owner, submits, stale=stale))

    @precondition(lambda self: any(story.open for story in self.stories.values()))
    @rule(which=st.lists(NUMBER, min_size=1, max_size=6))
    def owners_cancel(self, which: list[int]) -> None:
        still = [story for story in self.stories.values() if story.open]
        chosen = [still[n % len(still)] for n in which]
        self.tell(*(CancelAsked(story.owner, story.submit.id) for story in chosen))
        assert not any(story.open and story.waits for story in chosen), "what waits is rejected at once"

    @precondition(lambda self: len(self.owners) > 3)
    @rule(who=NUMBER, last=st.sampled_from([0, 0, 1, 4]))
    def an_owner_leaves(self, who: int, last: int) -> None:
        """It may hand in its last jobs in the very turn in which it leaves."""
        owner = self.owners.pop(who % len(self.owners))
        submits = []
        for _ in range(last):
            self.count += 1
            submits.append(Submit(self.count.to_bytes(16), 1, "quick", 0, None, None, b"x"))
            self.stories[submits[-1].id, 1] = Story(owner, submits[-1], float("inf"))
        self.tell(*([Submitted(owner, submits)] if submits else []), Left(owner))

    # workers

    @precondition(lambda self: len(self.workers) < SLOTS)
    @rule()
    def a_worker_is_ready(self) -> None:
        self.count += 1
        self.workers[self.count] = FakeWorker(self.count)
        self.tell(WorkerReady(self.count))

    @precondition(lambda self: any(worker.at_work for worker in self.workers.values()))
    @rule(steps=st.lists(st.tuples(STEP, st.integers(0, SLOTS - 1), MICROS), min_size=1, max_size=8))
    def workers_go_on(self, steps: list[tuple[str, int, int]]) -> None:
        for step, which, micros in steps:
            worker = list(self.workers.values())[which % len(self.workers)]
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
        story = self.stories[order.job.id, order.job.attempt]
        assert not any(type(item) is Reject for item in story.items), "what was rejected never runs"
        assert story.ran == 0, "no job runs twice"
        if self.concurrency > 1 and order.job.task != ASYNC:
            assert len(worker.running) == 1, "a sync job has its worker for itself"
        if story.owner.ordered:
            of_it = [s for s in self.stories.values() if s.owner is story.owner]
            assert not any(s.runs or s.sent_on for s in of_it), "one after another"
            later = of_it[of_it.index(story) + 1 :]
            assert not any(s.ran for s in later), "in their order"
        story.ran += 1
        story.runs = True

    def finish(self, worker: FakeWorker, order: Order, micros: int) -> None:
        worker.running.remove(order)
        self.stories[order.job.id, order.job.attempt].runs = False
        end = (Result if micros % 2 else Failed)(order.job.id, order.job.attempt, b"y")
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
                for seq in range(one.first, one.first + len(one.ends)):
                    del worker.outstanding[seq]
            events.append(Ended(worker.key, ran))
        return events

    @precondition(lambda self: self.workers)
    @rule(which=NUMBER)
    def a_worker_dies(self, which: int) -> None:
        worker = list(self.workers.values())[which % len(self.workers)]
        words = self.words(worker)
        del self.workers[worker.key]
        for story in worker.outstanding.values():
            story.runs = False
            story.waits = story.open and not story.ran
        dead = [story for story in worker.outstanding.values() if story.ran and story.open]
        self.tell(*words, WorkerLost(worker.key, worker.started, "killed"))
        assert all([type(item) for item in story.items] == [Lost] for story in dead)

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
        story = self.stories[submit.id, submit.attempt]
        story.sent_on = False
        if taken:
            story.ran += 1
        else:
            story.waits = story.open
        self.elsewhere.places = max(0, self.elsewhere.places - 1)
        self.tell(ForwardEnded(held, Result(submit.id, submit.attempt, b"z") if taken else None))

    @rule(seconds=st.sampled_from([0.0001, 0.001, 0.0025, 0.006, 3.0]))
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
        assert not self.shut & {owner.key for owner in self.owners}, "who has no window hears when there is one"

    @precondition(lambda self: self.scheduler.draining and not self.over)
    @rule()
    def the_grace_is_over(self) -> None:
        self.over = True
        self.tell(GraceOver())
        assert not any(story.open for story in self.stories.values())

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
                self.dispatched(self.workers[effect.worker], Orders(effect.first, effect.jobs))
            case TakeBack():
                self.taken_back(self.workers[effect.worker], answers)
            case Reply():
                self.replied(effect)
            case Forward():
                story = self.stories[effect.held.submit.id, effect.held.submit.attempt]
                assert story.open
                assert story.waits
                assert not story.owner.windowed
                story.waits = False
                story.sent_on = True
                self.forwards.append(effect.held)
            case Empty():
                assert self.scheduler.draining
                assert not any(worker.outstanding for worker in self.workers.values())
            case Interrupt() | Kill() | Replace() | Spare() | Dismiss():
                raise AssertionError(effect)
            case _ as never:
                assert_never(never)

    def dispatched(self, worker: FakeWorker, orders: Orders) -> None:
        assert len({job.task for job in orders.jobs}) == 1, "a datagram holds jobs of one task"
        for seq, job in enumerate(orders.jobs, orders.first):
            story = self.stories[job.id, job.attempt]
            assert story.open
            assert story.waits
            assert story.expires > self.now
            story.waits = False
            assert seq not in worker.outstanding
            worker.outstanding[seq] = story
        worker.socket.append(orders)
        tasks = {story.submit.task for story in worker.outstanding.values()}
        if self.concurrency > 1 and "co" in tasks:
            assert tasks == {"co"} or all(story.owner.ordered for story in worker.outstanding.values())
            assert len(worker.outstanding) <= self.concurrency

    def taken_back(self, worker: FakeWorker, answers: list[Event]) -> None:
        self.send(worker)
        seqs = [seq for orders in worker.socket for seq in range(orders.first, orders.first + len(orders.jobs))]
        worker.socket.clear()
        for seq in seqs:
            story = worker.outstanding.pop(seq)
            story.waits = story.open
        if seqs:
            answers.append(TakenBack(worker.key, seqs))

    def replied(self, reply: Reply) -> None:
        owner = reply.owner
        assert not owner.gone
        if owner.windowed:
            assert reply.seen == sum(1 for story in self.stories.values() if story.owner is owner)
            assert (reply.window == 0) == self.scheduler.draining
            (self.shut.discard if reply.window else self.shut.add)(owner.key)
        else:
            assert reply == Reply(owner, reply.items), "a plain socket is told of no window and no load"
        for item in reply.items:
            match item:
                case Accepted() | Started():
                    for job_id in item.ids:
                        assert any(s.open for (other, _), s in self.stories.items() if other == job_id)
                case Result() | Failed() | Reject() | Lost():
                    self.told_end(self.stories[item.id, item.attempt], item)
                case _:
                    pytest.fail(f"{item} was not asked for")

    def told_end(self, story: Story, item: Result | Failed | Reject | Lost) -> None:
        assert not story.items, "a job ends once"
        story.items.append(item)
        story.waits = False
        match item:
            case Result() | Failed():
                assert story.ran == 1
            case Reject(reason=reason):
                assert not story.ran, "what ran is not rejected"
                assert reason != EXPIRED or story.expires <= self.now
                assert reason != DRAINING or self.scheduler.draining
                assert reason not in (BUSY, STALE) or not self.scheduler.draining
            case Lost(reason=reason):
                assert item.started
                assert reason in (CRASH, GRACE, EXPIRED)
                assert reason != CRASH or story.ran
                assert reason != EXPIRED or (story.expires <= self.now and not story.owner.windowed)

    # what must hold after every turn

    def check(self) -> None:
        self.the_books_agree()
        self.nothing_idles()

    def the_books_agree(self) -> None:
        scheduler = self.scheduler
        still = [story for story in self.stories.values() if story.open]
        waiting = [story for story in still if story.waits]
        assert scheduler.held == len(still) <= BACKLOG
        assert scheduler.backlog.count == len(waiting)
        assert scheduler.backlog.bridge == sum(not story.owner.windowed for story in waiting)
        outstanding = [story for worker in self.workers.values() for story in worker.outstanding.values()]
        elsewhere = [self.stories[held.submit.id, held.submit.attempt] for held in self.forwards]
        for owner in self.owners:
            of_it = [story for story in waiting if story.owner is owner]
            assert owner.queued == len(of_it)
            assert owner.running == sum(story.owner is owner for story in [*outstanding, *elsewhere])
            assert owner.running <= owner.most or owner.ordered
            costs = [held.cost for held in owner.jobs.values() if not held.seq and not held.forwarded]
            assert owner.queued_cost == pytest.approx(sum(costs), abs=1e-9)
            assert owner.queued_cost == 0 if not of_it else owner.queued_cost > -1e-9
            assert (owner.key in scheduler.word.active) == bool(owner.jobs)
            lying = sum(len(queue) for queue in owner.queues.values())
            assert lying <= 2 * owner.queued + 64, "what is over does not pile up in the queues"
        assert scheduler.pool.free == sum(not worker.outstanding for worker in self.workers.values())
        assert not any(owner.replies for owner in self.owners)
        assert not any(owner.gone for owner in scheduler.word.full.values())
        for owner in self.owners:
            full = owner.windowed and owner.jobs and len(owner.jobs) >= owner.told
            assert not full or owner.key in scheduler.word.full, "whose window is full hears when it opens"
        for worker in scheduler.pool.workers.values():
            assert list(worker.outstanding) == list(self.workers[worker.key].outstanding)
            assert worker.load >= -1e-9

    def nothing_idles(self) -> None:
        """No job waits in the backlog while a worker is idle that could run it."""
        idle = self.scheduler.pool.free
        places = self.scheduler.pool.free_async if self.concurrency > 1 else idle
        for owner in self.owners:
            queue = [story for story in self.stories.values() if story.owner is owner and story.waits]
            if owner.running >= owner.most or not queue:
                continue
            for story in queue[:1] if owner.ordered else queue:
                if story.submit.task == "far":
                    assert not self.elsewhere.places or self.forwards
                else:
                    assert not idle, f"{story.submit.task} of owner {owner.key} waits"
                    assert story.submit.task != "co" or not places

    def teardown(self) -> None:
        """Let everything end: then nothing stays."""
        while len(self.workers) < SLOTS:
            self.a_worker_is_ready()
        self.other_nodes_say_what_they_have(1_000)
        for _ in range(1_000):
            for worker in list(self.workers.values()):
                self.run_all(worker)
            for held in list(self.forwards):
                self.forwards.remove(held)
                self.end_forward(held, taken=True)
            self.other_nodes_say_what_they_have(1_000)
            self.time_passes(0.01)
            at_work = any(worker.outstanding for worker in self.workers.values())
            if not self.forwards and not at_work and not any(story.open for story in self.stories.values()):
                break
        self.nothing_stays()

    def run_all(self, worker: FakeWorker) -> None:
        while worker.socket or worker.running:
            while worker.running:
                self.finish(worker, worker.running[0], 51)
            if worker.socket:
                self.read(worker)
        self.send(worker)
        self.hear(worker)

    def nothing_stays(self) -> None:
        for story in self.stories.values():
            assert len(story.items) == 1 or (story.owner.gone and not story.items), "every job ends"
        self.time_passes(10_000)
        scheduler = self.scheduler
        for owner in [*self.owners, *(story.owner for story in self.stories.values())]:
            assert not owner.jobs
            assert not owner.replies
            assert not owner.queued
            assert not owner.running
            assert not owner.ringed
        assert not scheduler.word.active
        assert scheduler.next_wake() is None
        assert scheduler.held == scheduler.backlog.count == scheduler.backlog.bridge == 0
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
