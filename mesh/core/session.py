"""What a client does with its jobs: which node, when, and what came of it. Pure: `docs/protocol.md`.

Events in, effects out, a batch a turn. Jobs that no node has room for wait here, by priority and task, and
leave as room appears. The bridge of a node uses the same core to send on what it cannot run.
"""

import heapq
import random
from collections import deque
from collections.abc import Sequence
from difflib import get_close_matches
from typing import assert_never

from msgspec import Struct

from mesh.core.liveness import Health
from mesh.core.record import ACCEPTED, DONE, PENDING, SENT, STARTED, JobRecord
from mesh.core.roster import NodeView, Roster
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

BEAT_S = 0.5
"""Seconds between two looks at how alive the nodes are."""

STALL_S = 1.0
"""A look that comes this much too late means that this process itself stood still."""

WELCOME_S = 5.0
"""Seconds for a node to answer the greeting."""


class Opening(Struct, frozen=True):
    """A link to a node is being made; HELLO is on its way."""

    key: int


class Heard(Struct, frozen=True):
    """A node spoke."""

    key: int
    message: NodeMessage


class LinkLost(Struct, frozen=True):
    """A link is gone; everything that had arrived over it has been heard before."""

    key: int
    why: str


class Submitted(Struct, frozen=True):
    """The application handed in jobs."""

    records: list[JobRecord]


class CancelAsked(Struct, frozen=True):
    """The application no longer wants a job."""

    record: JobRecord


class Tick(Struct, frozen=True):
    """Time has passed."""


class Send(Struct, frozen=True):
    """Send this over a link."""

    key: int
    message: ClientMessage


class Settle(Struct, frozen=True):
    """These jobs are over: with an item of the node, or an error of the mesh."""

    outcomes: list[tuple[JobRecord, Result | Failed | MeshError]]


class Progress(Struct, frozen=True):
    """A job's state changed without its end."""

    record: JobRecord


class Joined(Struct, frozen=True):
    """A node greeted back."""

    view: NodeView


class Parted(Struct, frozen=True):
    """A node is no longer one of ours."""

    view: NodeView


class Close(Struct, frozen=True):
    """Close a link. `same_as`: the key of another link to the same node; `refused`: the node wants none."""

    key: int
    why: str
    same_as: int = 0
    refused: bool = False


Event = Opening | Heard | LinkLost | Submitted | CancelAsked | Tick
Effect = Send | Settle | Progress | Joined | Parted | Close

Queue = deque[JobRecord]


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
        self._pending: dict[int, dict[str, Queue]] = {}
        self._waiting = 0
        self._homeless: deque[tuple[float, JobRecord]] = deque()
        self._deadlines: list[tuple[float, int, JobRecord]] = []
        self._count = 0
        self._beat_at: float | None = None
        self._token = 0
        self._outcomes: list[tuple[JobRecord, Result | Failed | MeshError]] = []
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
            items, view.outbox = view.outbox, []
            self._effects.append(Send(view.key, ClientMessage(view.about.epoch, view.stamp, items)))
        self._talk.clear()
        if self._outcomes:
            self._effects.append(Settle(self._outcomes))
            self._outcomes = []
        effects, self._effects = self._effects, []
        return effects

    def next_wake(self) -> float | None:
        """When to call `handle` with a Tick, if nothing else happens before; None for never."""
        times = [self._beat_at] if self._beat_at is not None else []
        if self._deadlines:
            times.append(self._deadlines[0][0])
        if self._homeless:
            times.append(self._homeless[0][0])
        return min(times, default=None)

    def unfinished(self) -> list[JobRecord]:
        """Return every job that is not over."""
        queues = [queue for by_task in self._pending.values() for queue in by_task.values()]
        held = [view.outstanding.values() for view in self.roster]
        return [record for group in (*queues, *held) for record in group if not record.over]

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
                self._opening.pop(event.key, None)
                self._part(event.key, f"the connection to its node was lost ({event.why})", now)
            case Tick():
                pass
            case _ as never:
                assert_never(never)

    def _submitted(self, records: list[JobRecord], now: float) -> None:
        for record in records:
            if record.over:
                continue  # cancelled in the turn in which it was submitted
            if record.deadline is not None:
                self._push_deadline(record)
            self._wait(record)
            if self.roster.serves(record.task) is None:
                self._homeless.append((now + self._grace, record))

    def _push_deadline(self, record: JobRecord) -> None:
        assert record.deadline is not None
        self._count += 1
        heapq.heappush(self._deadlines, (record.deadline, self._count, record))

    def _wait(self, record: JobRecord, *, front: bool = False) -> None:
        by_task = self._pending.get(record.priority)
        if by_task is None:
            by_task = self._pending[record.priority] = {}
            self._pending = dict(sorted(self._pending.items(), reverse=True))
        queue = by_task.get(record.task)
        if queue is None:
            queue = by_task[record.task] = deque()
        if front:
            queue.appendleft(record)
        else:
            queue.append(record)
        record.state = PENDING
        self._waiting += 1

    def _heard(self, key: int, message: NodeMessage, now: float) -> None:
        view = self.roster.get(key)
        if view is not None:
            view.heard(message, now)
        for item in message.items:
            if view is not None and type(item) is Result:
                record = view.outstanding.pop(item.id, None)
                if record is not None and not record.over:
                    self._settle(record, item)
            else:
                view = self._heard_item(key, view, item, message, now)

    def _heard_item(
        self, key: int, view: NodeView | None, item: NodeItem, message: NodeMessage, now: float
    ) -> NodeView | None:
        match item:
            case Welcome():
                return self._welcomed(key, item, message, now)
            case Refuse():
                self._opening.pop(key, None)
                self._effects.append(Close(key, item.text, refused=True))
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

    def _welcomed(self, key: int, item: Welcome, message: NodeMessage, now: float) -> NodeView | None:
        self._opening.pop(key, None)
        if item.about.node == self._not_node:
            self._effects.append(Close(key, "this leads to ourselves", same_as=key))
            return None
        other = self.roster.by_id(item.about.node)
        if other is not None and other.key != key:
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
                self._homeless.append((now + self._grace, record))
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
            self._wait(record, front=True)

    def _progress(self, view: NodeView, item: Accepted | Started) -> None:
        state = STARTED if type(item) is Started else ACCEPTED
        for job_id in item.ids:
            record = view.outstanding.get(job_id)
            if record is not None and not record.over and record.state != STARTED:
                record.state = state
                self._effects.append(Progress(record))

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
        view = self.roster.remove(key)
        if view is None:
            return
        self._talk.pop(key, None)
        for record in view.outstanding.values():
            if not record.over:
                self._settle(record, JobLost(f"the job's end is not known: {why}"))
        for by_task in self._pending.values():
            for task, queue in by_task.items():
                if task in view.tasks and self.roster.serves(task) is None:
                    self._homeless.extend((now + self._grace, record) for record in queue)
        self._effects.append(Parted(view))

    def _drop(self, record: JobRecord, error: MeshError) -> None:
        """End a job that waits here; its place in the queue is passed over when its turn comes."""
        if record.state == PENDING:
            self._waiting -= 1
        self._settle(record, error)

    def _settle(self, record: JobRecord, outcome: Result | Failed | MeshError) -> None:
        record.over = True
        record.state = DONE
        self._outcomes.append((record, outcome))

    def _say(self, view: NodeView, *items: Cancel | Ping) -> None:
        view.outbox.extend(items)
        self._talk[view.key] = view

    # giving jobs to nodes

    def _give_out(self, now: float) -> None:
        for by_task in self._pending.values():
            for task in list(by_task):
                queue = by_task[task]
                while queue and self._give_some(task, queue, now):
                    pass
                if not queue:
                    del by_task[task]

    def _give_some(self, task: str, queue: Queue, now: float) -> bool:
        """Give a task's next jobs to the node with most room; False if there is none."""
        while queue and queue[0].over:
            queue.popleft()
        if not queue:
            return False
        choice = self.roster.choose(task, not_key=queue[0].refused_by)
        if choice is None:
            self._bounce(queue)
            return False
        view, count = choice
        if queue[0].refused_by:
            count = 1
        while queue and count > 0:
            record = queue.popleft()
            if record.over:
                continue
            self._waiting -= 1
            count -= self._give(view, record, now)
        return True

    def _bounce(self, queue: Queue) -> None:
        """Hand back at once what does not want to wait."""
        if queue[0].bounce:
            for record in queue:
                if not record.over:
                    self._drop(record, MeshBusy("no node has room"))
            queue.clear()

    def _give(self, view: NodeView, record: JobRecord, now: float) -> int:
        """Send one job to a node, unless it is plain here that it cannot run; return how many were sent."""
        served = view.tasks[record.task]
        if record.shape is not None:
            wrong = served.signature.misfit(*record.shape)
            record.shape = None
            if wrong:
                self._settle(record, BadArguments(f"{record.task} {wrong}"))
                return 0
        if len(record.body) > view.about.max_body:
            text = f"{len(record.body)} bytes of arguments, and node {view.about.name} takes {view.about.max_body}"
            self._settle(record, PayloadTooLarge(f"{text} (its --max-message)"))
            return 0
        if record.timeout is None and served.spec.timeout is not None:
            record.timeout = served.spec.timeout
            record.deadline = record.submitted + record.timeout
            self._push_deadline(record)
        remaining = None if record.deadline is None else max(0, int((record.deadline - now) * 1000))
        options = None
        if record.priority != 5 or record.forwarded:
            options = Options(priority=record.priority, forwarded=record.forwarded)
        record.state = SENT
        record.link = view.key
        record.node = view.about.name
        view.sent += 1
        view.outstanding[record.id] = record
        view.outbox.append(Submit(record.id, record.attempt, record.task, record.form, remaining, options, record.body))
        self._talk[view.key] = view
        return 1

    # time

    def _act_on_time(self, now: float) -> None:
        while self._deadlines and self._deadlines[0][0] <= now:
            record = heapq.heappop(self._deadlines)[2]
            if not record.over:
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
        if view is not None:
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
            self._drop(
                record,
                NoNodes(
                    f"no node of this mesh was found within {self._grace:g} s: is one running (meshnode), in the same "
                    "mesh (--mesh), within reach of mDNS or named as a seed?"
                ),
            )

    def _start_beat(self, now: float) -> None:
        if self._beat_at is None:
            self._beat_at = now + BEAT_S

    def _beat(self, now: float, *, late: float) -> None:
        for key, until in list(self._opening.items()):
            if now >= until + (late if late > STALL_S else 0.0):
                del self._opening[key]
                self._effects.append(Close(key, f"no answer to the greeting within {WELCOME_S:g} s"))
        for view in list(self.roster):
            if late > STALL_S:
                view.liveness.excuse(late)
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
