"""The client's session against nodes that do whatever the protocol lets them, and some of what it does not."""

import random

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from mesh.core.effects import Close, Effect, Joined, Parted, Progress, Send, Settle
from mesh.core.events import CancelAsked, Event, Heard, LinkLost, Opening, Submitted, Tick
from mesh.core.record import ACCEPTED, PENDING, STARTED, JobRecord
from mesh.core.roster import NodeView
from mesh.core.session import Session
from mesh.errors import JobLost, MeshError
from mesh.wire.messages import (
    About,
    Accepted,
    Bye,
    Cancel,
    Drain,
    Failed,
    Lost,
    NodeItem,
    NodeMessage,
    Parameter,
    Ping,
    Pong,
    Refuse,
    Reject,
    Result,
    Started,
    Submit,
    TaskSpec,
    Welcome,
)

GRACE = 2.0
MAX_BODY = 20
SERVED = {
    "add": TaskSpec("add", [Parameter("a", 1, True)]),
    "mul": TaskSpec("mul", [Parameter("a", 1, True)], timeout=9.0),
    "fetch": TaskSpec("fetch", [Parameter("a", 1, True)], is_async=True, priority=7),
}
REASONS = ("busy", "draining", "epoch", "stale", "unknown-task", "expired", "cancelled", "too-big", "no such reason")
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
        self.window = 3
        self.free = 2
        self.seen = 0
        self.silent = False
        self.welcomed = False


class SessionMachine(RuleBasedStateMachine):
    """Every step is one turn of the client's loop."""

    @initialize(seed=st.integers(0, 2**32))
    def begin(self, seed: int) -> None:
        self.session = Session(random.Random(seed), grace=GRACE, not_node=f"{999:032x}")
        self.now = 100.0
        self.nodes: dict[int, FakeNode] = {}
        self.jobs: dict[bytes, JobRecord] = {}
        self.outcomes: dict[bytes, Result | Failed | MeshError] = {}
        self.last_key = 0
        self.bad: set[bytes] = set()

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
                        assert record.id not in self.outcomes, "it ends once"
                        self.outcomes[record.id] = outcome
                case Close():
                    self.nodes.pop(effect.key, None)
                case Joined():
                    assert effect.view.key in self.nodes
                case Progress() | Parted():
                    pass
        return effects

    def deliver(self, node: FakeNode, send: Send) -> None:
        assert node.welcomed, "only WELCOME means alive"
        assert send.message.epoch == node.about.epoch
        for item in send.message.items:
            match item:
                case Submit():
                    assert not any(item.id in other.held for other in self.nodes.values()), "one node at a time"
                    assert item.id not in self.bad, "what cannot run is not sent"
                    assert item.id not in self.outcomes
                    node.held[item.id] = item
                    node.seen += 1
                    assert len(node.held) <= node.window
                case Ping():
                    assert item.token > 0
                case Cancel():
                    assert item.id in self.jobs
                case _:
                    raise AssertionError(item)

    def speak(self, node: FakeNode, *items: NodeItem) -> list[Effect]:
        message = NodeMessage(node.free, node.free, node.window, node.seen, int(self.now * 1000), list(items))
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
        tasks=st.lists(st.sampled_from(sorted(SERVED)), min_size=1, max_size=3, unique=True),
        window=st.integers(0, 4),
        welcomes=st.integers(0, 9),
        anew=st.booleans(),
    )
    def a_node_appears(self, number: int, tasks: list[str], window: int, welcomes: int, anew: bool) -> None:
        self.last_key += 1
        node = self.nodes[self.last_key] = FakeNode(self.last_key, number, tasks)
        node.window = window
        if anew:
            node.about.epoch = self.last_key.to_bytes(8, "big")
        self.tell(Opening(node.key))
        if welcomes == 0:
            return
        if welcomes == 1:
            self.speak(node, Refuse("mesh", "this node belongs to another mesh"))
            assert node.key not in self.nodes
            return
        if welcomes == 2:
            node.about.node = f"{999:032x}"
        node.welcomed = True
        self.speak(node, Welcome(1, node.about))

    # the application hands in jobs, and changes its mind

    @rule(
        data=st.data(),
        count=st.integers(1, 6),
        task=st.sampled_from([*SERVED, "nosuch"]),
        priority=st.sampled_from([0, 5, 9]),
        timeout=st.none() | st.floats(0.0, 12.0),
        size=st.sampled_from([1, 1, 1, MAX_BODY, MAX_BODY + 1]),
        arguments=st.sampled_from([None, 1, 1, 2]),
        bounce=st.integers(0, 9),
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
        bounce: int,
    ) -> None:
        records = []
        for _ in range(count):
            record = JobRecord(len(self.jobs).to_bytes(16, "big"), task, b"x" * size)
            record.priority = priority
            record.timeout = timeout
            record.deadline = None if timeout is None else self.now + timeout
            record.shape = None if arguments is None else (arguments, ())
            record.bounce = bounce == 0
            if size > MAX_BODY or arguments == 2:
                self.bad.add(record.id)
            self.jobs[record.id] = record
            records.append(record)
        cancelled = data.draw(st.sets(st.sampled_from(records), max_size=2))
        self.tell(Submitted(records), *(CancelAsked(record) for record in cancelled))

    @rule(data=st.data())
    def a_job_is_cancelled(self, data: st.DataObject) -> None:
        unfinished = [record for record in self.jobs.values() if not record.over]
        if unfinished:
            record = data.draw(st.sampled_from(unfinished))
            pending = record.state == PENDING and not record.over
            self.tell(CancelAsked(record))
            assert record.over or not pending

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

    @rule(data=st.data(), kinds=st.lists(st.sampled_from(["result", "failure", "lost"]), min_size=1, max_size=4))
    def a_node_answers(self, data: st.DataObject, kinds: list[str]) -> None:
        node = self.some_node(data, holding=True)
        if node is None:
            return
        items: list[NodeItem] = []
        asked = []
        for kind in kinds:
            if node.held:
                submit = node.held.pop(data.draw(st.sampled_from(sorted(node.held))))
                asked.append(self.jobs[submit.id])
                if kind == "lost":
                    items.append(Lost(submit.id, 1, "crash", data.draw(st.booleans()), "killed"))
                else:
                    items.append((Result if kind == "result" else Failed)(submit.id, 1, b""))
        self.speak(node, *items)
        for record, item in zip(asked, items, strict=True):
            assert record.over
            if isinstance(item, Lost) and isinstance(self.outcomes[record.id], JobLost):
                assert self.outcomes[record.id].started is item.started  # type: ignore[union-attr]

    @rule(data=st.data(), reason=st.sampled_from(REASONS))
    def a_node_rejects(self, data: st.DataObject, reason: str) -> None:
        node = self.some_node(data, holding=True)
        if node is None:
            return
        submit = node.held.pop(data.draw(st.sampled_from(sorted(node.held))))
        record = self.jobs[submit.id]
        was_over = record.over
        others = [
            view for view in self.session.roster
            if view.key != node.key and view.open and view.room > 0 and record.task in view.tasks
        ]  # fmt: skip
        self.speak(node, Reject(submit.id, submit.attempt, reason, "no"))
        if was_over:
            return
        if reason in FINAL or record.cancelled or record.bounce:
            assert record.over
        elif not record.over:
            assert record.state == PENDING or record.link != node.key or not others
            outcome = self.outcomes.get(record.id)
            assert not isinstance(outcome, JobLost)

    @rule(data=st.data(), window=st.integers(0, 5), free=st.integers(0, 4))
    def a_node_changes_its_window(self, data: st.DataObject, window: int, free: int) -> None:
        node = self.some_node(data)
        if node is not None:
            node.window, node.free = window, free
            self.speak(node)

    @rule(data=st.data(), word=st.sampled_from(["drain", "bye", "welcome", "refuse", "nonsense"]))
    def a_node_says_something_else(self, data: st.DataObject, word: str) -> None:
        node = self.some_node(data)
        if node is None:
            return
        match word:
            case "drain":
                node.window = 0
                self.speak(node, Drain())
            case "bye":
                self.speak(node, Bye(), Result(b"?" * 16, 1, b""))
                assert node.key not in self.nodes
            case "welcome":
                self.speak(node, Welcome(1, node.about))
            case "refuse":
                self.speak(node, Refuse("busy", "no"), Welcome(1, node.about))
                assert node.key not in self.nodes
            case _:
                self.speak(
                    node, Pong(3), Result(b"?" * 16, 1, b""), Reject(b"?" * 16, 1, "busy", ""), Accepted([b"?" * 16])
                )

    # nodes go

    @rule(data=st.data())
    def a_link_is_lost(self, data: st.DataObject) -> None:
        if not self.nodes:
            return
        node = self.nodes.pop(data.draw(st.sampled_from(sorted(self.nodes))))
        sent = [self.jobs[job_id] for job_id in node.held if not self.jobs[job_id].over]
        waiting = [record for record in self.jobs.values() if record.state == PENDING and not record.over]
        cancelled = data.draw(st.sets(st.sampled_from(sent), max_size=2)) if sent else set()
        self.tell(*(CancelAsked(record) for record in cancelled), LinkLost(node.key, "it disconnected"))
        for record in sent:
            outcome = self.outcomes[record.id]
            assert isinstance(outcome, JobLost)
            assert outcome.started is True
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
        alive = {view.key for view in self.session.roster if view.liveness.health(self.now).value == "alive"}
        self.now += seconds
        self.tell(Tick())
        assert alive <= {view.key for view in self.session.roster}

    # what always holds

    @invariant()
    def the_books_agree(self) -> None:
        unfinished = [record for record in self.jobs.values() if not record.over]
        waiting = [record for record in unfinished if record.state == PENDING]
        assert len(self.session._waiting) == len(waiting)
        assert len(self.session.unfinished()) == len(unfinished)
        assert {record.id for record in self.session.unfinished()} == {record.id for record in unfinished}
        assert self.outcomes.keys() == {record.id for record in self.jobs.values() if record.over}
        assert len(self.session._deadlines) == sum(record.deadline is not None for record in unfinished)

    @invariant()
    def no_job_outlives_its_deadline(self) -> None:
        late = [r for r in self.jobs.values() if not r.over and r.deadline is not None and r.deadline <= self.now]
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
                able = [v for v in self.session.roster if v.open and record.task in v.tasks and v.room > 0]
                assert able == []

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
            node.silent = False
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
        assert not session._homeless
        assert not session._opening
        assert not session._talk
        assert len(session.roster) == 0
        assert session.next_wake() is None


TestSession = SessionMachine.TestCase
TestSession.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
