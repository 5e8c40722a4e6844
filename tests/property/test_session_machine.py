"""The client's session against nodes that do whatever the protocol lets them, and some of what it does not."""

import random
from collections.abc import Iterable

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from mesh.core.budget import FLOOR, PERIOD_S, SHARE
from mesh.core.effects import Answered, Close, Effect, Greet, Joined, Parted, Progress, Send, Settle
from mesh.core.events import CancelAsked, Event, Heard, KeepAsked, LinkLost, Opening, Submitted, Tick
from mesh.core.liveness import Health
from mesh.core.record import ACCEPTED, PENDING, STARTED, Extras, JobRecord
from mesh.core.roster import NodeView
from mesh.core.session import ASKED, Session
from mesh.core.standing import State
from mesh.errors import JobLost, MeshBusy, MeshError
from mesh.wire.messages import (
    FORCED,
    RUNNING,
    UNSTARTED,
    About,
    Accepted,
    Bye,
    Cancel,
    Drain,
    Failed,
    Keep,
    Lost,
    NodeItem,
    NodeMessage,
    Parameter,
    Ping,
    Pong,
    Query,
    Refuse,
    Reject,
    Result,
    RetrySpec,
    Started,
    Stranger,
    Submit,
    TaskSpec,
    Unknown,
    Welcome,
)

GRACE = 2.0
MAX_BODY = 20
SERVED = {
    "add": TaskSpec("add", [Parameter("a", 1, True)]),
    "mul": TaskSpec("mul", [Parameter("a", 1, True)], timeout=9.0),
    "fetch": TaskSpec("fetch", [Parameter("a", 1, True)], is_async=True, priority=7),
    "safe": TaskSpec("safe", [Parameter("a", 1, True)], idempotent=True),
    "soon": TaskSpec("soon", [Parameter("a", 1, True)], retry=RetrySpec(2, 0.5, 1.0)),
}
REASONS = (
    "busy",
    "draining",
    "epoch",
    "stale",
    "unknown-task",
    "expired",
    "cancelled",
    "too-big",
    "quarantined",
    "no such reason",
)
FINAL = {"expired", "cancelled", "too-big"}


class FakeNode:
    """A node at the far end of one link: what it holds, and what it last told."""

    def __init__(self, key: int, number: int, tasks: list[str]) -> None:
        self.key = key
        self.about = About(
            f"{number:032x}", f"epoch{number:03}".encode(), f"n{number}", "default", 4, 1, MAX_BODY,
            [SERVED[task] for task in tasks],
        )  # fmt: skip
        self.held: dict[bytes, Submit] = {}
        self.forgot = False
        self.asked: set[bytes] = set()
        self.withdrawn: set[str] = set()
        self.window = 3
        self.free = 2
        self.seen = 0
        self.silent = False
        self.welcomed = False


class SessionMachine(RuleBasedStateMachine):
    """Every step is one turn of the client's loop."""

    @initialize(seed=st.integers(0, 2**32), nodes=st.integers(0, 3), window=st.sampled_from([3, 1, 2]))
    def begin(self, seed: int, nodes: int, window: int) -> None:
        self.session = Session(random.Random(seed), grace=GRACE, not_node=f"{999:032x}")
        self.now = 100.0
        self.nodes: dict[int, FakeNode] = {}
        self.jobs: dict[bytes, JobRecord] = {}
        self.outcomes: dict[bytes, Result | Failed | MeshError] = {}
        self.last_key = 0
        self.bad: set[bytes] = set()
        self.began: set[bytes] = set()
        self.free_again: set[bytes] = set()
        self.charged: dict[bytes, bool] = {}
        self.further = 0
        self.handed: dict[tuple[bytes, int], tuple[str, bytes]] = {}
        for number in range(1, nodes + 1):
            self.a_node_appears(number=number, tasks=sorted(SERVED), window=window, answer="welcome", anew=False)
        for task in SERVED:
            self.tell(Submitted([self.job(task, b"x", deadline=None)]))

    # the client's shell, without sockets

    def tell(self, *events: Event) -> list[Effect]:
        effects = self.session.handle(events, self.now)
        for effect in effects:
            match effect:
                case Send():
                    self.deliver(self.nodes[effect.key], effect)
                case Settle():
                    for record, outcome in effect.outcomes:
                        assert record.over
                        assert record.state == "done"
                        assert record.id not in self.outcomes, "it ends once"
                        self.outcomes[record.id] = outcome
                case Close():
                    closed = self.nodes.pop(effect.key, None)
                    if closed is not None:
                        self.may_have_run(closed.held)
                case Greet():
                    assert self.nodes[effect.key].forgot
                case Joined():
                    assert effect.view.key in self.nodes
                case Progress() | Parted() | Answered():
                    pass
        return effects

    def may_have_run(self, job_ids: Iterable[bytes]) -> None:
        self.began |= {job_id for job_id in job_ids if job_id not in self.outcomes}

    def deliver(self, node: FakeNode, send: Send) -> None:
        assert node.welcomed, "only WELCOME means alive"
        assert send.message.epoch == node.about.epoch
        for item in send.message.items:
            match item:
                case Submit():
                    self.deliver_job(node, item)
                case Ping():
                    assert item.token > 0
                case Cancel():
                    assert item.id in self.jobs
                case Keep():
                    assert item.id in node.held
                    assert self.jobs[item.id].kept
                case Query():
                    assert 0 < len(item.ids) <= ASKED
                    assert not node.asked & set(item.ids)
                    node.asked |= set(item.ids)
                case _:
                    raise AssertionError(item)

    def deliver_job(self, node: FakeNode, item: Submit) -> None:
        record = self.jobs[item.id]
        assert not any(item.id in other.held for other in self.nodes.values()), "one node at a time"
        assert item.id not in self.bad, "what cannot run is not sent"
        assert item.id not in self.outcomes
        assert not node.forgot, "nothing new before it knows us again"
        assert not record.cancelled or item.id not in self.began, "what is cancelled is not tried again"
        resent = item.options is not None and item.options.resent
        here = node.about.node, node.about.epoch
        if item.id in self.began and item.id not in self.free_again:
            assert SERVED[item.task].idempotent, "at most once"
        earlier = self.handed.get((item.id, item.attempt))
        assert resent == (earlier is not None), "an attempt is handed in once, or is said to have been"
        assert not resent or earlier == here
        assert (item.options.crashes if item.options else 0) == record.extras.crashes < 3
        self.free_again.discard(item.id)
        self.handed[item.id, item.attempt] = here
        if self.charged.pop(item.id, False):
            self.further += 1
        node.held[item.id] = item
        node.seen += 1
        assert len(node.held) <= node.window

    def speak(self, node: FakeNode, *items: NodeItem) -> list[Effect]:
        window = 0 if node.forgot else node.window
        message = NodeMessage(node.free, node.free, window, node.seen, int(self.now * 1000), list(items))
        return self.tell(Heard(node.key, message))

    def some_node(self, data: st.DataObject, *, holding: bool = False) -> FakeNode | None:
        able = [node for node in self.nodes.values() if node.welcomed and (node.held or not holding)]
        return data.draw(st.sampled_from(able)) if able else None

    def view(self, node: FakeNode) -> NodeView | None:
        return self.session.roster.get(node.key)

    # nodes come

    @precondition(lambda self: len(self.nodes) < 5)
    @rule(
        number=st.integers(1, 6),
        tasks=st.lists(st.sampled_from(sorted(SERVED)), min_size=1, unique=True),
        window=st.sampled_from([3, 1, 2, 4, 0]),
        answer=st.sampled_from(["welcome", "welcome", "welcome", "welcome", "none", "refuse", "ourselves"]),
        anew=st.booleans(),
    )
    def a_node_appears(self, *, number: int, tasks: list[str], window: int, answer: str, anew: bool) -> None:
        self.last_key += 1
        node = self.nodes[self.last_key] = FakeNode(self.last_key, number, tasks)
        node.window = window
        if anew:
            node.about.epoch = self.last_key.to_bytes(8, "big")
        self.tell(Opening(node.key))
        if answer == "none":
            return
        if answer == "refuse":
            self.speak(node, Refuse("mesh", "this node belongs to another mesh"))
            assert node.key not in self.nodes
            return
        if answer == "ourselves":
            node.about.node = f"{999:032x}"
        node.welcomed = True
        self.speak(node, Welcome(1, node.about))

    # the application hands in jobs, and changes its mind

    @rule(
        data=st.data(),
        count=st.integers(1, 6),
        task=st.sampled_from(["safe", "soon", *SERVED, "nosuch"]),
        priority=st.sampled_from([0, 5, 9]),
        timeout=st.none() | st.floats(0.0, 12.0),
        size=st.sampled_from([1, 1, 1, MAX_BODY, MAX_BODY + 1]),
        arguments=st.sampled_from([1, None, 1, 2]),
        bounce=st.sampled_from([False] * 5 + [True]),
    )
    def jobs_are_submitted(
        self,
        *,
        data: st.DataObject,
        count: int,
        task: str,
        priority: int,
        timeout: float | None,
        size: int,
        arguments: int | None,
        bounce: bool,
    ) -> None:
        records = []
        for _ in range(count):
            record = self.job(task, b"x" * size, deadline=None if timeout is None else self.now + timeout)
            record.priority = priority
            if timeout is not None:
                record.own_extras().timeout = timeout
            record.shape = None if arguments is None else (arguments, ())
            record.bounce = bounce
            if size > MAX_BODY or arguments == 2:
                self.bad.add(record.id)
            records.append(record)
        cancelled = data.draw(st.sets(st.sampled_from(records), max_size=2))
        self.tell(Submitted(records), *(CancelAsked(record) for record in cancelled))

    def job(self, task: str, body: bytes, *, deadline: float | None) -> JobRecord:
        record = JobRecord(len(self.jobs).to_bytes(16, "big"), task, body)
        if deadline is not None:
            record.own_extras().deadline = deadline
        self.jobs[record.id] = record
        return record

    @rule(data=st.data(), how=st.sampled_from([UNSTARTED, RUNNING, FORCED]))
    def a_job_is_cancelled(self, data: st.DataObject, how: int) -> None:
        unfinished = [record for record in self.jobs.values() if not record.over]
        if unfinished:
            record = data.draw(st.sampled_from(unfinished))
            pending = record.state == PENDING and not record.over
            self.tell(CancelAsked(record, how))
            assert record.over or not pending

    @rule(data=st.data())
    def a_job_is_detached(self, data: st.DataObject) -> None:
        unfinished = [record for record in self.jobs.values() if not record.over]
        if unfinished:
            self.tell(KeepAsked(data.draw(st.sampled_from(unfinished))))

    # nodes speak

    @rule(data=st.data(), started=st.booleans())
    def a_node_tells_how_far_it_is(self, data: st.DataObject, started: bool) -> None:
        node = self.some_node(data, holding=True)
        if node is not None:
            ids = data.draw(st.lists(st.sampled_from(sorted(node.held)), min_size=1, max_size=3))
            self.speak(node, Started(ids) if started else Accepted(ids))
            for job_id in ids:
                record = self.jobs[job_id]
                assert record.over or record.state in (STARTED, ACCEPTED)

    @rule(
        data=st.data(),
        kinds=st.lists(
            st.sampled_from(["result", "failure", "again", "crash", "crash", "grace", "limit", "cancelled"]),
            min_size=1,
            max_size=4,
        ),
        started=st.sampled_from([True, True, False]),
        wait=st.floats(0.0, 5.0),
    )
    def a_node_answers(self, data: st.DataObject, kinds: list[str], started: bool, wait: float) -> None:
        node = self.some_node(data, holding=True)
        if node is None:
            return
        items: list[NodeItem] = []
        asked = []
        for kind in kinds:
            if node.held:
                submit = node.held.pop(data.draw(st.sampled_from(sorted(node.held))))
                asked.append((self.jobs[submit.id], kind))
                items.append(self.answer(submit, kind, started=started, wait=wait))
        self.speak(node, *items)
        for record, kind in asked:
            may_go_on = kind == "again" or (
                kind in ("crash", "grace") and (SERVED[record.task].idempotent or not started)
            )
            assert record.over or may_go_on
            outcome = self.outcomes.get(record.id)
            if isinstance(outcome, JobLost) and record.id not in self.began:
                assert outcome.started is started

    def answer(self, submit: Submit, kind: str, *, started: bool, wait: float) -> NodeItem:
        record = self.jobs[submit.id]
        if kind == "result":
            return Result(submit.id, submit.attempt, b"")
        self.charged[submit.id] = not record.over
        if kind in ("failure", "again"):
            self.may_have_run([submit.id])
            self.free_again.add(submit.id)
            return Failed(submit.id, submit.attempt, b"", wait if kind == "again" else None)
        if started:
            self.may_have_run([submit.id])
        else:
            self.free_again.add(submit.id)
        return Lost(submit.id, submit.attempt, kind, started, "killed")

    @rule(data=st.data(), reason=st.sampled_from(REASONS))
    def a_node_rejects(self, data: st.DataObject, reason: str) -> None:
        node = self.some_node(data, holding=True)
        if node is None:
            return
        submit = node.held.pop(data.draw(st.sampled_from(sorted(node.held))))
        record = self.jobs[submit.id]
        was_over = record.over
        if not (submit.options and submit.options.resent):
            del self.handed[submit.id, submit.attempt]
            self.free_again.add(submit.id)
        others = [
            view for view in self.session.roster
            if view.key != node.key and view.open and view.room > 0 and record.task in view.tasks
            and (view.about.node not in record.extras.tried or node.about.node in record.extras.tried)
        ]  # fmt: skip
        if reason == "unknown-task":
            node.withdrawn.add(submit.task)
        self.speak(node, Reject(submit.id, submit.attempt, reason, "no"))
        if was_over:
            return
        if reason in FINAL or record.cancelled or record.bounce:
            assert record.over
        elif not record.over:
            assert record.state == PENDING or record.link != node.key or not others
        assert not isinstance(self.outcomes.get(record.id), JobLost)

    @rule(data=st.data(), greets=st.booleans())
    def a_node_forgets_who_we_are(self, data: st.DataObject, greets: bool) -> None:
        node = self.some_node(data)
        if node is None:
            return
        node.forgot = True
        node.seen = 0
        self.speak(node, Stranger())
        if greets:
            self.a_forgetful_node_greets_us_again(data)

    @precondition(lambda self: any(node.forgot for node in self.nodes.values()))
    @rule(data=st.data())
    def a_forgetful_node_greets_us_again(self, data: st.DataObject) -> None:
        node = data.draw(st.sampled_from([node for node in self.nodes.values() if node.forgot]))
        node.forgot = False
        held = set(node.held)
        node.asked.clear()
        self.speak(node, Welcome(1, node.about))
        assert node.asked == held, "it is asked for every job that it may hold"
        unknown = sorted(data.draw(st.sets(st.sampled_from(sorted(held)), max_size=3))) if held else []
        for job_id in unknown:
            del node.held[job_id]
        self.may_have_run(unknown)
        unfinished = [self.jobs[job_id] for job_id in unknown if not self.jobs[job_id].over]
        self.speak(node, Unknown(unknown))
        for record in unfinished:
            self.moves_on_or_is_lost(record, node)

    def moves_on_or_is_lost(self, record: JobRecord, node: FakeNode) -> None:
        outcome = self.outcomes.get(record.id)
        forgotten = record.task in node.withdrawn and isinstance(outcome, JobLost)
        if not SERVED[record.task].idempotent or record.cancelled or forgotten:
            assert isinstance(outcome, JobLost)
            assert outcome.started is True
        elif record.bounce:
            assert isinstance(outcome, MeshBusy)
            assert outcome.started is True
        else:
            assert outcome is None, outcome

    @rule(data=st.data(), window=st.integers(0, 5), free=st.integers(0, 4))
    def a_node_changes_its_window(self, data: st.DataObject, window: int, free: int) -> None:
        node = self.some_node(data)
        if node is not None:
            node.window, node.free = window, free
            self.speak(node)

    @rule(data=st.data(), word=st.sampled_from(["drain", "bye", "welcome", "stranger", "refuse", "nonsense"]))
    def a_node_says_something_else(self, data: st.DataObject, word: str) -> None:
        node = self.some_node(data)
        if node is None:
            return
        match word:
            case "drain":
                node.window = 0
                self.speak(node, Drain())
            case "bye":
                self.may_have_run(node.held)
                self.speak(node, Bye(), Result(b"?" * 16, 1, b""))
                assert node.key not in self.nodes
            case "welcome":
                node.forgot = False
                node.asked.clear()
                self.speak(node, Welcome(1, node.about))
            case "stranger":
                node.forgot = True
                node.seen = 0
                self.speak(node, Stranger(), Drain())
            case "refuse":
                self.may_have_run(node.held)
                self.speak(node, Refuse("busy", "no"), Welcome(1, node.about))
                assert node.key not in self.nodes
            case _:
                self.speak(
                    node, Pong(3), Result(b"?" * 16, 1, b""), Reject(b"?" * 16, 1, "busy", ""), Accepted([b"?" * 16])
                )

    # nodes go

    @rule(data=st.data())
    def a_link_is_lost(self, data: st.DataObject) -> None:
        if self.nodes:
            self.lose(data, self.nodes[data.draw(st.sampled_from(sorted(self.nodes)))])

    @rule(data=st.data(), anew=st.sampled_from([False, False, True]))
    def a_link_is_lost_and_made_again(self, data: st.DataObject, anew: bool) -> None:
        node = self.some_node(data, holding=True)
        if node is not None:
            self.lose(data, node)
            self.a_node_appears(
                number=int(node.about.node, 16),
                tasks=[task.name for task in node.about.tasks],
                window=node.window,
                answer="welcome",
                anew=anew,
            )

    def lose(self, data: st.DataObject, node: FakeNode) -> None:
        del self.nodes[node.key]
        sent = [self.jobs[job_id] for job_id in node.held if not self.jobs[job_id].over]
        self.may_have_run(node.held)
        waiting = [record for record in self.jobs.values() if record.state == PENDING and not record.over]
        cancelled = data.draw(st.sets(st.sampled_from(sent), max_size=2)) if sent else set()
        self.tell(*(CancelAsked(record) for record in cancelled), LinkLost(node.key, "it disconnected"))
        for record in sent:
            self.moves_on_or_is_lost(record, node)
        for record in waiting:
            assert not isinstance(self.outcomes.get(record.id), JobLost)

    @rule(data=st.data(), silent=st.booleans())
    def a_node_falls_silent_or_speaks_again(self, data: st.DataObject, silent: bool) -> None:
        node = self.some_node(data)
        if node is not None:
            node.silent = silent

    # time

    @rule(seconds=st.floats(0.0, 8.0))
    def time_passes(self, seconds: float) -> None:
        until = self.now + seconds
        while (wake := self.session.next_wake()) is not None and wake <= until:
            self.now = max(self.now, wake)
            self.tell(Tick())
            for node in list(self.nodes.values()):
                if node.welcomed and not node.silent and node.key in self.nodes:
                    self.speak(node)
        self.now = until
        self.tell(Tick())

    @rule(seconds=st.floats(2.0, 60.0))
    def this_process_stands_still(self, seconds: float) -> None:
        alive = {
            view.key for view in self.session.roster
            if view.standing.liveness.health(self.now) is Health.ALIVE and not self.nodes[view.key].forgot
        }  # fmt: skip
        self.now += seconds
        self.tell(Tick())
        assert alive <= {view.key for view in self.session.roster}

    # what always holds

    @invariant()
    def what_jobs_share_while_they_have_nothing_of_their_own_stays_as_it_is(self) -> None:
        shared, fresh = JobRecord(bytes(16), "", b"").extras, Extras()
        for name in [name for name in dir(Extras) if not name.startswith("_")]:
            assert getattr(shared, name) == getattr(fresh, name)

    @invariant()
    def the_books_agree(self) -> None:
        unfinished = [record for record in self.jobs.values() if not record.over]
        waiting = [record for record in unfinished if record.state == PENDING]
        delayed = [record for record in waiting if record.extras.delayed is not None]
        assert len(self.session._waiting) == len(waiting) - len(delayed)
        assert self.session._waiting._delayed == len(delayed)
        assert sorted(record.id for record in self.session._waiting) == sorted(record.id for record in waiting)
        assert len(self.session.unfinished()) == len(unfinished)
        assert {record.id for record in self.session.unfinished()} == {record.id for record in unfinished}
        assert self.outcomes.keys() == {record.id for record in self.jobs.values() if record.over}
        assert len(self.session._deadlines) == sum(record.extras.deadline is not None for record in unfinished)

    @invariant()
    def no_job_outlives_its_deadline(self) -> None:
        timed = [(r, r.extras.deadline) for r in self.jobs.values() if not r.over]
        late = [r for r, deadline in timed if deadline is not None and deadline <= self.now]
        assert late == []

    @invariant()
    def every_sent_job_is_at_one_node_and_that_node_holds_it(self) -> None:
        for view in self.session.roster:
            node = self.nodes[view.key]
            assert view.outstanding.keys() == node.held.keys()

    @invariant()
    def no_job_waits_while_a_node_has_room(self) -> None:
        for record in self.jobs.values():
            if not record.over and record.state == PENDING:
                serving = [view for view in self.session.roster if view.open and record.task in view.tasks]
                others = [view for view in serving if view.about.node not in record.extras.tried]
                assert record.extras.delayed is not None or not any(view.room > 0 for view in others or serving)

    @invariant()
    def what_may_have_run_never_ends_as_if_it_had_not(self) -> None:
        for job_id in self.began:
            outcome = self.outcomes.get(job_id)
            assert not isinstance(outcome, MeshError) or outcome.started is True

    @invariant()
    def further_attempts_keep_to_their_budget(self) -> None:
        rate = FLOOR + SHARE * len(self.jobs) / PERIOD_S
        assert self.further <= rate * (self.now - 100.0 + PERIOD_S)

    @invariant()
    def no_more_than_half_of_the_nodes_are_ejected(self) -> None:
        out = [view for view in self.session.roster if view.standing.state is State.EJECTED]
        assert 2 * len(out) <= len(self.session.roster)

    @invariant()
    def what_cannot_run_ends_as_such(self) -> None:
        for job_id in self.bad:
            outcome = self.outcomes.get(job_id)
            if isinstance(outcome, MeshError):
                assert outcome.started is False
            assert not isinstance(outcome, Result | Failed)

    def teardown(self) -> None:
        if not hasattr(self, "session"):
            return
        for node in list(self.nodes.values()):
            node.silent = node.forgot = False
            while node.welcomed and node.held and node.key in self.nodes:
                job_id, submit = node.held.popitem()
                self.speak(node, Result(job_id, submit.attempt, b""))
        for key in list(self.nodes):
            self.nodes.pop(key, None)
            self.tell(LinkLost(key, "the end"))
        self.time_passes(30.0)
        assert all(record.over for record in self.jobs.values())
        self.nothing_is_left()

    def nothing_is_left(self) -> None:
        session = self.session
        assert session.unfinished() == []
        assert session._waiting.queues() == []
        assert len(session._deadlines) == 0
        assert session._unserved.next() is None
        assert session._waiting.next_time() is None
        assert not session._opening
        assert not session._talk
        assert len(session.roster) == 0
        assert session.next_wake() is None


TestSession = SessionMachine.TestCase
TestSession.settings = settings(max_examples=250, stateful_step_count=50, deadline=None)
