"""What a client does with its jobs: which node, when, and what came of it. Pure: `docs/protocol.md`.

Events in, effects out, a batch a turn. Jobs that no node has room for wait here, by priority and task, and
leave as room appears. The bridge of a node uses the same core to send on what it cannot run.
"""

import random
from collections import deque
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import assert_never

from mesh.core.deadlines import Deadlines
from mesh.core.effects import Close, Effect, Joined, Outcome, Parted, Progress, Send, Settle
from mesh.core.events import CancelAsked, Event, Heard, LinkLost, Opening, Submitted, Tick
from mesh.core.liveness import Health
from mesh.core.record import ACCEPTED, DONE, PENDING, SENT, STARTED, JobRecord
from mesh.core.roster import NodeView, Roster
from mesh.core.waiting import Queue, Waiting
from mesh.errors import (
    BadArguments,
    JobCancelled,
    JobLost,
    JobTimeout,
    MeshBusy,
    MeshError,
    NoNodes,
    PayloadTooLarge,
    UnknownTask,
)
from mesh.wire.messages import (
    CANCELLED,
    DRAINING,
    EPOCH,
    EXPIRED,
    TOO_BIG,
    UNKNOWN_TASK,
    Accepted,
    Bye,
    Cancel,
    ClientMessage,
    Drain,
    Failed,
    Lost,
    NodeItem,
    NodeMessage,
    Options,
    Ping,
    Pong,
    Refuse,
    Reject,
    Result,
    ResultLarge,
    Started,
    Submit,
    Welcome,
)

MOST_MS = 2**53
"""Milliseconds that SUBMIT can say (docs/protocol.md, Items)."""

BEAT_S = 0.5
"""Seconds between two looks at how alive the nodes are."""

STALL_S = 1.0
"""A look that comes this much too late means that this process itself stood still."""

WELCOME_S = 5.0
"""Seconds for a node to answer the greeting."""


class Session:
    """One client's jobs and nodes.

    `grace`: seconds that a job waits for the first node that serves its task. `not_node`: the id of a node that is
    not to be used, for a node that looks for the others.
    """

    def __init__(self, rng: random.Random, *, grace: float = 2.0, not_node: str = "") -> None:
        self.roster = Roster(rng)
        self.met_any = False
        self._grace = grace
        self._not_node = not_node
        self._opening: dict[int, float] = {}
        self._refusal = ""
        self._waiting = Waiting()
        self._homeless: deque[tuple[float, JobRecord]] = deque()
        self._deadlines = Deadlines()
        self._beat_at: float | None = None
        self._token = 0
        self._progressed: list[JobRecord] = []
        self._outcomes: list[Outcome] = []
        self._talk: dict[int, NodeView] = {}
        self._effects: list[Effect] = []

    def handle(self, events: Sequence[Event], now: float) -> list[Effect]:
        """Take what happened in one turn, and return what is to be done. `now` is monotonic seconds."""
        for event in events:
            self._take(event, now)
        self._act_on_time(now)
        if self._waiting:
            self._give_out(now)
        for view in self._talk.values():
            view.liveness.said(now)
            items, view.outbox = view.outbox, []
            self._effects.append(Send(view.key, ClientMessage(view.about.epoch, view.stamp, items)))
        self._talk.clear()
        if self._progressed:
            self._effects.append(Progress(self._progressed))
            self._progressed = []
        if self._outcomes:
            self._effects.append(Settle(self._outcomes))
            self._outcomes = []
        effects, self._effects = self._effects, []
        return effects

    def next_wake(self) -> float | None:
        """When to call `handle` with a Tick, if nothing else happens before; None for never."""
        wake = self._beat_at
        deadline = self._deadlines.next()
        if deadline is not None and (wake is None or deadline < wake):
            wake = deadline
        if self._homeless and (wake is None or self._homeless[0][0] < wake):
            wake = self._homeless[0][0]
        return wake

    def unfinished(self) -> list[JobRecord]:
        """Return every job that is not over."""
        held = [record for view in self.roster for record in view.outstanding.values() if not record.over]
        return [*self._waiting, *held]

    # what happened

    def _take(self, event: Event, now: float) -> None:
        match event:
            case Heard():
                self._heard(event.key, event.message, now)
            case Submitted():
                self._submitted(event.records, now)
            case CancelAsked():
                self._cancel(event.record)
            case Opening():
                self._opening[event.key] = now + WELCOME_S
                self._start_beat(now)
            case LinkLost():
                self._part(event.key, f"the connection to its node was lost ({event.why})", now)
            case Tick():
                pass
            case _ as never:
                assert_never(never)

    def _submitted(self, records: Sequence[JobRecord], now: float) -> None:
        """Let jobs wait, by runs of one task and priority: what is the same for all of a run is asked once."""
        start = 0
        count = len(records)
        while start < count:
            task, priority = records[start].task, records[start].priority
            stop = start
            home = self.roster.serves(task)
            timeout = home.timeout if home is not None else None
            while stop < count:
                record = records[stop]
                if record.task != task or record.priority != priority:
                    break
                stop += 1
                record.submitted = now
                if record.deadline is not None:
                    self._deadlines.set(record, record.deadline)
                elif timeout is not None:
                    self._limit(record, timeout)
            run = records[start:stop]
            self._waiting.add(run)
            if home is None:
                self._homeless.extend((now + self._grace, record) for record in run)
            start = stop

    def _limit(self, record: JobRecord, timeout: float) -> None:
        """Give a job the time that its task has where the caller does not say."""
        record.timeout = timeout
        self._deadlines.set(record, record.submitted + timeout)

    def _lose_home(self, tasks: Iterable[str], now: float) -> None:
        """Nodes have stopped serving these tasks: what waits for one that nobody serves now has the grace."""
        lost = {task for task in tasks if self.roster.serves(task) is None}
        for _, task, queue in self._waiting.queues():
            if task in lost:
                self._homeless.extend((now + self._grace, record) for record in queue)

    def _heard(self, key: int, message: NodeMessage, now: float) -> None:
        view = self.roster.get(key)
        if view is not None:
            view.heard(message, now)
        outcomes = self._outcomes
        for item in message.items:
            if view is not None and type(item) is Result:
                record = view.outstanding.pop(item.id, None)
                if record is not None and not record.over:
                    record.over = True
                    record.state = DONE
                    if record.alarm is not None:
                        self._deadlines.clear(record)
                    outcomes.append((record, item))
            else:
                view = self._heard_item(key, view, item, message, now)

    def _heard_item(
        self, key: int, view: NodeView | None, item: NodeItem, message: NodeMessage, now: float
    ) -> NodeView | None:
        match item:
            case Welcome():
                return self._welcomed(key, view, item, message, now)
            case Refuse():
                self._refusal = item.text
                self._part(key, "its node refused", now)
                self._effects.append(Close(key, item.text, refused=True))
                return None
            case Bye():
                self._part(key, "its node said goodbye", now)
                self._effects.append(Close(key, "it said goodbye"))
                return None
            case _ if view is None:
                pass  # nothing is owed to us by a node that has not greeted
            case Drain():
                view.draining = True
            case Result() | Failed() | Reject() | Lost():
                self._ended(view, item, now)
            case Accepted() | Started():
                self._progress(view, item)
            case Pong() | ResultLarge():
                pass  # a pong has told all by arriving; a large result without its frame is nobody's
            case _ as never:
                assert_never(never)
        return view

    def _welcomed(
        self, key: int, view: NodeView | None, item: Welcome, message: NodeMessage, now: float
    ) -> NodeView | None:
        if self._opening.pop(key, None) is None:
            return view  # it greets once, and not over a link that is being closed
        if item.about.node == self._not_node:
            self._effects.append(Close(key, "this leads to ourselves", same_as=key))
            return None
        other = self.roster.by_id(item.about.node)
        if other is not None:
            if other.about.epoch == item.about.epoch:
                self._effects.append(Close(key, "another link leads to the same node", same_as=other.key))
                return None
            self._part(other.key, "its node was started anew", now)
            self._effects.append(Close(other.key, "its node was started anew"))
        view = NodeView(key, item.about, now)
        view.heard(message, now)
        self.roster.add(view)
        self.met_any = True
        self._effects.append(Joined(view))
        for _, task, queue in self._waiting.queues():
            served = view.tasks.get(task)
            if served is not None and served.timeout is not None:
                for record in queue:
                    if record.deadline is None and not record.over:
                        self._limit(record, served.timeout)
        return view

    def _ended(self, view: NodeView, item: Result | Failed | Reject | Lost, now: float) -> None:
        record = view.outstanding.pop(item.id, None)
        if record is None or record.over:
            return
        match item:
            case Result() | Failed():
                self._settle(record, item)
            case Lost(reason=reason):
                if reason == EXPIRED:
                    self._settle(record, JobTimeout(item.text, started=item.started))
                else:
                    self._settle(record, JobLost(f"the job's end is not known: {item.text}", started=item.started))
            case Reject():
                self._rejected(view, record, item, now)
            case _ as never:
                assert_never(never)

    def _rejected(self, view: NodeView, record: JobRecord, item: Reject, now: float) -> None:
        """Surely not run: it goes elsewhere, or back to wait, unless it is over for good."""
        match item.reason:
            case r if r == CANCELLED:
                self._settle(record, JobCancelled("cancelled before it started"))
                return
            case r if r == EXPIRED:
                self._settle(record, JobTimeout("its time was up before a slot was free", started=False))
                return
            case r if r == TOO_BIG:
                self._settle(record, PayloadTooLarge(item.text))
                return
            case r if r == UNKNOWN_TASK:
                view.tasks.pop(record.task, None)
            case r if r in (DRAINING, EPOCH):
                view.draining = True
            case _:
                pass
        if record.bounce:
            self._settle(record, MeshBusy(item.text))
        elif record.cancelled:
            self._settle(record, JobCancelled("cancelled before it started"))
        else:
            record.refused_by = view.key
            record.state = PENDING
            self._waiting.add([record], front=True)
        if item.reason == UNKNOWN_TASK:
            self._lose_home([record.task], now)

    def _progress(self, view: NodeView, item: Accepted | Started) -> None:
        state = STARTED if type(item) is Started else ACCEPTED
        for job_id in item.ids:
            record = view.outstanding.get(job_id)
            if record is not None and not record.over and record.state != STARTED:
                record.state = state
                self._progressed.append(record)

    def _cancel(self, record: JobRecord) -> None:
        if record.over or record.cancelled:
            return
        record.cancelled = True
        view = self.roster.get(record.link) if record.state != PENDING else None
        if view is None:
            self._drop(record, JobCancelled("cancelled before it started"))
        else:
            self._say(view, Cancel(record.id))

    def _part(self, key: int, why: str, now: float) -> None:
        """A node is gone. What it held counts as started: it was handed over and not rejected."""
        self._opening.pop(key, None)
        view = self.roster.remove(key)
        if view is None:
            return
        self._talk.pop(key, None)
        for record in view.outstanding.values():
            if not record.over:
                self._settle(record, JobLost(f"the job's end is not known: {why}"))
        self._lose_home(view.tasks, now)
        self._effects.append(Parted(view))

    def _drop(self, record: JobRecord, error: MeshError) -> None:
        """End a job that waits here."""
        self._settle(record, error)
        self._waiting.ended()

    def _settle(self, record: JobRecord, outcome: Result | Failed | MeshError) -> None:
        record.over = True
        record.state = DONE
        if record.alarm is not None:
            self._deadlines.clear(record)
        self._outcomes.append((record, outcome))

    def _say(self, view: NodeView, *items: Cancel | Ping) -> None:
        view.outbox.extend(items)
        self._talk[view.key] = view

    # giving jobs to nodes

    def _give_out(self, now: float) -> None:
        for priority, task, queue in self._waiting.queues():
            gave = False
            while self._give_some(task, queue, now):
                gave = True
            if gave or not queue:
                self._waiting.served(priority, task)

    def _give_some(self, task: str, queue: Queue, now: float) -> bool:
        """Share a task's next jobs out among the nodes that have room; False if there is none."""
        first = self._waiting.first(queue)
        if first is None:
            return False
        wanted = 1 if first.refused_by else len(queue)
        shares = self.roster.share(task, wanted, not_key=first.refused_by)
        if not shares and first.bounce:
            for record in self._waiting.take(queue, len(queue)):
                self._settle(record, MeshBusy("no node has room"))
        for view, count in shares:
            left = count
            while left and (records := self._waiting.take(queue, left)):
                left -= self._give(view, task, records, now)
        return bool(shares)

    def _give(self, view: NodeView, task: str, records: list[JobRecord], now: float) -> int:
        """Send jobs of one task to a node but for those that plainly cannot run there; return how many were sent."""
        key, name, most = view.key, view.about.name, view.about.max_body
        outbox, outstanding = view.outbox, view.outstanding
        sent = 0
        for record in records:
            if record.shape is not None or len(record.body) > most:
                wrong = self._wrong(view, record)
                if wrong is not None:
                    self._settle(record, wrong)
                    continue
            remaining = None
            if record.deadline is not None:
                remaining = min(max(0, int((record.deadline - now) * 1000)), MOST_MS)
            options = None
            if record.priority != 5 or record.forwarded:
                options = Options(priority=record.priority, forwarded=record.forwarded)
            record.state = SENT
            record.link = key
            record.node = name
            outstanding[record.id] = record
            outbox.append(Submit(record.id, record.attempt, task, record.form, remaining, options, record.body))
            sent += 1
        if sent:
            view.sent += sent
            self._talk[key] = view
        return sent

    def _wrong(self, view: NodeView, record: JobRecord) -> MeshError | None:
        """Say why a job cannot run at a node; None if it can."""
        shape, record.shape = record.shape, None
        wrong = view.tasks[record.task].signature.misfit(*shape) if shape is not None else None
        if wrong:
            return BadArguments(f"{record.task} {wrong}")
        if len(record.body) > view.about.max_body:
            text = f"{len(record.body)} bytes of arguments, and node {view.about.name} takes {view.about.max_body}"
            return PayloadTooLarge(f"{text} (its --max-message)")
        return None

    # time

    def _act_on_time(self, now: float) -> None:
        for record in self._deadlines.due(now):
            self._expire(record)
        while self._homeless and self._homeless[0][0] <= now:
            self._judge_homeless(self._homeless.popleft()[1])
        if self._beat_at is not None and now >= self._beat_at:
            self._beat(now, late=now - self._beat_at)

    def _expire(self, record: JobRecord) -> None:
        seconds = f"{record.timeout:g} s" if record.timeout is not None else "its time"
        if record.state == PENDING:
            self._drop(record, JobTimeout(f"{seconds} passed before any node had room", started=False))
            return
        view = self.roster.get(record.link)
        assert view is not None  # its end would have been the job's
        self._say(view, Cancel(record.id))
        self._settle(record, JobTimeout(f"no outcome within {seconds}; it may have run", started=True))

    def _judge_homeless(self, record: JobRecord) -> None:
        """The grace is over for a job whose task nobody served when it began."""
        if record.over or record.state != PENDING or self.roster.serves(record.task) is not None:
            return
        if len(self.roster):
            names = self.roster.task_names()
            near = get_close_matches(record.task, names, n=3)
            hint = f"did you mean {' or '.join(near)}?" if near else f"served are {_listed(names)}"
            self._drop(record, UnknownTask(f"no node serves {record.task!r}; {hint}"))
        elif not self.met_any or record.deadline is None:
            self._drop(record, NoNodes(self._no_nodes()))

    def _no_nodes(self) -> str:
        refusal = f" One refused: {self._refusal}." if self._refusal else ""
        return (
            f"no node of this mesh was found within {self._grace:g} s: is one running (meshnode), in the same mesh "
            f"(--mesh), within reach of mDNS or named as a seed?{refusal}"
        )

    def _start_beat(self, now: float) -> None:
        if self._beat_at is None:
            self._beat_at = now + BEAT_S

    def _beat(self, now: float, *, late: float) -> None:
        late = late if late > STALL_S else 0.0
        for key, until in list(self._opening.items()):
            self._opening[key] = until + late
            if now >= until + late:
                del self._opening[key]
                self._effects.append(Close(key, f"no answer to the greeting within {WELCOME_S:g} s"))
        for view in list(self.roster):
            view.liveness.excuse(late, now)
            view.health = view.liveness.health(now)
            if view.health is Health.DEAD:
                self._part(view.key, "its node has been silent for 6 s", now)
                self._effects.append(Close(view.key, "it has been silent for 6 s"))
            elif view.liveness.wants_ping(now):
                self._token += 1
                self._say(view, Ping(self._token))
        self._beat_at = now + BEAT_S if self._opening or len(self.roster) else None


def _listed(names: set[str]) -> str:
    shown = sorted(names)[:8]
    return ", ".join(shown) + (" …" if len(names) > len(shown) else "") if shown else "no tasks at all"
