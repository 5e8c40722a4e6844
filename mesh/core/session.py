"""What a client does with its jobs: which node, when, and what came of it. Pure: `docs/protocol.md`.

Events in, effects out, a batch a turn. Jobs that no node has room for wait here, by priority and task, and
leave as room appears. The bridge of a node uses the same core to send on what it cannot run.
"""

import random
from collections.abc import Iterable, Sequence
from typing import Final, assert_never

from mesh.core.attempts import CANCELLED_HERE, Attempts, options
from mesh.core.deadlines import Deadlines
from mesh.core.effects import Answered, Close, Effect, Greet, Joined, Outcome, Parted, Progress, Send, Settle
from mesh.core.ejections import Ejections
from mesh.core.events import (
    CancelAsked,
    Event,
    Heard,
    KeepAsked,
    KeyDenied,
    LinkLost,
    Opening,
    OperateAsked,
    Submitted,
    Tick,
)
from mesh.core.record import ACCEPTED, DONE, PENDING, SENT, STARTED, JobRecord
from mesh.core.roster import NodeView, Roster, ServedTask
from mesh.core.standing import State
from mesh.core.unserved import Unserved
from mesh.core.waiting import Key, Queue, Waiting
from mesh.errors import JobCancelled, JobTimeout, MeshBusy, MeshError
from mesh.wire.messages import (
    CRASH,
    DRAINING,
    EPOCH,
    QUARANTINED,
    UNKNOWN_TASK,
    UNSTARTED,
    WRONG_KEY,
    Accepted,
    Answer,
    Bye,
    Cancel,
    ClientItem,
    ClientMessage,
    Drain,
    Failed,
    Keep,
    Lost,
    NodeItem,
    NodeMessage,
    Operate,
    Options,
    Ping,
    Pong,
    Query,
    Refuse,
    Reject,
    Result,
    ResultLarge,
    Started,
    Stranger,
    Submit,
    Unknown,
    Welcome,
)

MOST_MS: Final = 2**53
"""Milliseconds that SUBMIT can say (docs/protocol.md, Items)."""

BEAT_S: Final = 0.5
"""Seconds between two looks at how alive the nodes are."""

STALL_S: Final = 1.0
"""A look that comes this much too late means that this process itself stood still."""

WELCOME_S: Final = 5.0
"""Seconds for a node to answer the greeting."""

QUARANTINE_S: Final = 10.0
"""Seconds for which a node that has a task in quarantine is sent none of its jobs."""

ASKED: Final = 200
"""Ids in one QUERY at most: an item is no larger than 4 KiB (docs/protocol.md, Items)."""


class Session:
    """One client's jobs and nodes.

    `grace`: seconds that a job waits for the first node that serves its task. `not_node`: the id of a node that is
    not to be used, for a node that looks for the others. `late` counts the ends of jobs that had ended before.
    """

    def __init__(self, rng: random.Random, *, grace: float = 2.0, not_node: str = "") -> None:
        self.roster = Roster(rng)
        self.late = 0
        self._attempts = Attempts(rng)
        self._ejections = Ejections()
        self._not_node = not_node
        self._opening: dict[int, float] = {}
        self._waiting = Waiting()
        self._unserved = Unserved(grace)
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
            view.standing.liveness.said(now)
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
        due = (self._beat_at, self._deadlines.next(), self._unserved.next(), self._waiting.next_time())
        return min((moment for moment in due if moment is not None), default=None)

    def unfinished(self) -> list[JobRecord]:
        """Return every job that is not over."""
        held = [record for view in self.roster for record in view.outstanding.values() if not record.over]
        return [*self._waiting, *held]

    def forget_jobs(self) -> None:
        """Let go of every job: each leads back to its client, and where it is compiled nobody collects that circle."""
        self._waiting.forget()
        self._deadlines.forget()
        self._unserved.clear()
        for view in self.roster:
            view.outstanding.clear()

    # what happened

    def _take(self, event: Event, now: float) -> None:
        match event:
            case Heard():
                self._heard(event.key, event.message, now)
            case Submitted():
                self._submitted(event.records, now)
            case CancelAsked():
                self._cancel(event.record, event.how)
            case KeepAsked():
                self._keep(event.record)
            case OperateAsked():
                view = self.roster.get(event.key)
                if view is not None:  # else it has parted, and whoever asked is told of that
                    self._say(view, Operate(event.token, event.verb, event.args))
            case KeyDenied():
                self._unserved.deny(event.node, event.why)
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
        self._attempts.handed_in(count, now)
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
                deadline = record.extras.deadline
                if deadline is not None:
                    self._deadlines.set(record, deadline)
                elif timeout is not None:
                    self._limit(record, timeout)
            run = records[start:stop]
            self._waiting.add(run)
            if home is None:
                self._unserved.add(run, now)
            start = stop

    def _limit(self, record: JobRecord, timeout: float) -> None:
        """Give a job the time that its task has where the caller does not say."""
        record.own_extras().timeout = timeout
        self._deadlines.set(record, record.submitted + timeout)

    def _not_served(self, tasks: Iterable[str], now: float) -> None:
        """Nodes have stopped serving these tasks: what waits for one that nobody serves now has the grace."""
        lost = {task for task in tasks if self.roster.serves(task) is None}
        for _, (task, _), queue in self._waiting.queues():
            if task in lost:
                self._unserved.add(queue, now)

    def _heard(self, key: int, message: NodeMessage, now: float) -> None:
        view = self.roster.get(key)
        if view is not None:
            view.heard(message, now)
        outcomes = self._outcomes
        result = Result  # a struct's name is looked up anew each time where this is compiled
        for item in message.items:
            if view is not None and type(item) is result:
                record = view.outstanding.pop(item.id, None)
                if record is not None and not record.over:
                    record.over = True
                    record.state = DONE
                    if record.extras.alarm is not None:
                        self._deadlines.clear(record)
                    outcomes.append((record, item))
                else:
                    self.late += 1
            else:
                view = self._heard_item(key, view, item, message, now)
        if view is not None and not view.standing.record.clean and any(type(i) in _ENDED_WELL for i in message.items):
            self._ejections.succeeded(view, now)

    def _heard_item(  # noqa: C901  # one flat match
        self, key: int, view: NodeView | None, item: NodeItem, message: NodeMessage, now: float
    ) -> NodeView | None:
        match item:
            case Welcome():
                return self._welcomed(key, view, item, message, now)
            case Refuse():
                self._unserved.refusal = item.text
                self._part(key, "its node refused", now, failed=False)
                if item.reason == WRONG_KEY and view is not None:
                    self._cut_off(view, item.text)
                self._effects.append(Close(key, item.text, refused=True))
                return None
            case Bye():
                if key in self._opening:  # in place of WELCOME
                    self._unserved.welcome()
                self._part(key, "its node said goodbye", now, failed=False)
                self._effects.append(Close(key, "it said goodbye", goodbye=True))
                return None
            case _ if view is None:
                pass  # nothing is owed to us by a node that has not greeted
            case Drain():
                view.standing.draining = True
                view.standing.look(now)
                self._token += 1
                self._say(view, Ping(self._token))  # so that the node knows: no job of ours is on its way any more
            case Result() | Failed() | Reject() | Lost():
                self._ended(view, item, now)
            case Accepted() | Started():
                self._progress(view, item)
            case Stranger():
                self._forgotten(view, now)
            case Answer():
                self._effects.append(Answered(key, item.token, item.ok, item.body))
            case Unknown():
                self._unknown(view, item.ids, now)
            case Pong() | ResultLarge():
                pass  # a pong has told all by arriving; a large result without its frame is nobody's
            case _ as never:
                assert_never(never)
        return view

    def _welcomed(
        self, key: int, view: NodeView | None, item: Welcome, message: NodeMessage, now: float
    ) -> NodeView | None:
        opened = self._opening.pop(key, None) is not None
        if view is not None and (view.about.node, view.about.epoch) == (item.about.node, item.about.epoch):
            self._described_anew(view, item, now, forgotten=opened)
            return view
        if not opened:
            return view  # over a link that is being closed, or from a node that has become another
        self._part(key, "its node was started anew", now)
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
        view = NodeView(key, item.about, now, self._ejections.record_of(item.about.node))
        view.heard(message, now)
        self.roster.add(view)
        self._ejections.relent(self.roster, now)
        self._unserved.welcome()
        self._effects.append(Joined(view))
        self._limit_waiting(view)
        return view

    def _cut_off(self, view: NodeView, why: str) -> None:
        """A node that had let us in does so no longer: where no other is left, nobody waits for one to return."""
        self._unserved.deny(view.about.name, why)
        if not len(self.roster):
            self._unserved.met_any = False

    def _limit_waiting(self, view: NodeView) -> None:
        """Give what waits the time that its tasks have, as this node says."""
        for _, (task, _), queue in self._waiting.queues():
            served = view.tasks.get(task)
            if served is not None and served.timeout is not None:
                for record in queue:
                    if record.extras.deadline is None and not record.over:
                        self._limit(record, served.timeout)

    def _described_anew(self, view: NodeView, item: Welcome, now: float, *, forgotten: bool) -> None:
        """A node that we know says what it serves now: it has new code, takes jobs again, or had forgotten us."""
        before = set(view.tasks)
        view.describe(item.about)
        view.standing.draining = False
        view.standing.look(now)
        self._not_served(before - set(view.tasks), now)
        self._limit_waiting(view)
        if forgotten:
            ids = [record.id for record in view.outstanding.values()]
            self._say(view, *(Query(ids[n : n + ASKED]) for n in range(0, len(ids), ASKED)))

    def _forgotten(self, view: NodeView, now: float) -> None:
        """The node does not know us any more: we were silent for too long. It is asked about our jobs once it does."""
        if view.key not in self._opening:
            self._opening[view.key] = now + WELCOME_S
            view.window = 0
            view.sent = 0
            self._effects.append(Greet(view.key))

    def _unknown(self, view: NodeView, ids: Sequence[bytes], now: float) -> None:
        for job_id in ids:
            record = view.outstanding.pop(job_id, None)
            if record is not None and not record.over:
                self._silent_about(view, record, "its node forgot it while this process was silent", now, ended=True)

    def _ended(self, view: NodeView, item: Result | Failed | Reject | Lost, now: float) -> None:
        record = view.outstanding.get(item.id)
        if record is None or item.attempt < record.attempt:
            self.late += 1
            return
        del view.outstanding[item.id]
        if record.over:
            self.late += 1
            return
        match item:
            case Result():
                self._settle(record, item)
            case Failed():
                served = self._served(view, record)
                self._go_on(record, self._attempts.after_failure(view, record, served, item, now), now)
            case Lost():
                if item.reason == CRASH:
                    self._ejections.failed(view, self.roster, now)
                served = self._served(view, record)
                self._go_on(record, self._attempts.after_loss(view, record, served, item, now), now)
            case Reject():
                self._rejected(view, record, item, now)
            case _ as never:
                assert_never(never)

    def _rejected(self, view: NodeView, record: JobRecord, item: Reject, now: float) -> None:
        """Surely not run: it goes elsewhere, or back to wait, unless it is over for good."""
        withdrawn = False
        match item.reason:
            case r if r == UNKNOWN_TASK:
                withdrawn = view.tasks.pop(record.task, None) is not None
            case r if r == QUARANTINED:
                withdrawn = view.quarantine(record.task, now + QUARANTINE_S)
            case r if r in (DRAINING, EPOCH):
                view.standing.draining = True
                view.standing.look(now)
            case _:
                pass
        if withdrawn:
            self._not_served([record.task], now)
        record.refused_by = view.key
        self._go_on(record, self._attempts.after_rejection(record, item), now)

    def _progress(self, view: NodeView, item: Accepted | Started) -> None:
        state = STARTED if type(item) is Started else ACCEPTED
        for job_id in item.ids:
            record = view.outstanding.get(job_id)
            if record is not None and not record.over and record.state != STARTED:
                record.state = state
                self._progressed.append(record)

    # trying again

    def _served(self, view: NodeView, record: JobRecord) -> ServedTask | None:
        """Return a job's task as its node serves it, or has served it until now and others still do."""
        return view.served(record.task) or self.roster.serves(record.task)

    def _silent_about(self, view: NodeView, record: JobRecord, why: str, now: float, *, ended: bool) -> None:
        served = self._served(view, record)
        self._go_on(record, self._attempts.after_silence(view, record, served, why, ended=ended), now)

    def _go_on(self, record: JobRecord, verdict: float | Failed | MeshError, now: float) -> None:
        """A job is over, or is tried again after so many seconds."""
        if isinstance(verdict, float):
            self._wait(record, now, verdict)
        else:
            self._settle(record, verdict)

    def _wait(self, record: JobRecord, now: float, seconds: float = 0.0) -> None:
        """A job that was at a node waits here again, before the others."""
        record.state = PENDING
        if seconds > 0:
            self._waiting.add_later(record, now + seconds)
        else:
            self._waiting.add([record], front=True)
            self._come(record, now)

    def _come(self, record: JobRecord, now: float) -> None:
        if self.roster.serves(record.task) is None:
            self._unserved.add([record], now)

    # told by the application

    def _cancel(self, record: JobRecord, how: int) -> None:
        if record.over:
            return
        record.cancelled = True
        view = self.roster.get(record.link) if record.state != PENDING else None
        if view is None:
            self._drop(record, JobCancelled(_NOT_AGAIN if record.began else CANCELLED_HERE))
        else:
            self._say(view, Cancel(record.id, how))

    def _keep(self, record: JobRecord) -> None:
        if record.over:
            return
        record.kept = True
        view = self.roster.get(record.link) if record.state != PENDING else None
        if view is not None:
            self._say(view, Keep(record.id))

    # nodes that go

    def _part(self, key: int, why: str, now: float, *, failed: bool = True) -> None:
        """A node is gone. What it held counts as started: it was handed over and not rejected."""
        self._opening.pop(key, None)
        view = self.roster.get(key)
        if view is None:
            return
        self._talk.pop(key, None)
        held = [record for record in view.outstanding.values() if not record.over]
        view.outstanding.clear()
        if failed and held:
            self._ejections.failed(view, self.roster, now)
        self.roster.remove(key)
        self._ejections.left(view)
        self._ejections.relent(self.roster, now)
        for record in reversed(held):
            self._silent_about(view, record, why, now, ended=False)
        self._not_served(view.tasks, now)
        self._effects.append(Parted(view))

    # the end of a job

    def _drop(self, record: JobRecord, error: MeshError) -> None:
        """End a job that waits here."""
        self._settle(record, error)
        self._waiting.ended(record)

    def _settle(self, record: JobRecord, outcome: Result | Failed | MeshError) -> None:
        if record.began and isinstance(outcome, MeshError):
            outcome.started = True  # this attempt may not have, but one before
        record.over = True
        record.state = DONE
        if record.extras.alarm is not None:
            self._deadlines.clear(record)
        self._outcomes.append((record, outcome))

    def _say(self, view: NodeView, *items: ClientItem) -> None:
        view.outbox.extend(items)
        self._talk[view.key] = view

    # giving jobs to nodes

    def _give_out(self, now: float) -> None:
        for priority, key, queue in self._waiting.queues():
            gave = False
            while self._give_some(key, queue, now):
                gave = True
            if gave or not queue:
                self._waiting.served(priority, key)

    def _give_some(self, key: Key, queue: Queue, now: float) -> bool:
        """Share a task's next jobs out among the nodes that have room; False if there is none."""
        first = self._waiting.first(queue)
        if first is None:
            return False
        task, tried = key
        wanted = 1 if first.refused_by else len(queue)
        shares = self.roster.share(task, wanted, not_key=first.refused_by, tried=tried)
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
        submit = Submit
        sent = 0
        for record in records:
            if record.shape is not None or len(record.body) > most:
                wrong = view.misfit(record)
                if wrong is not None:
                    self._settle(record, wrong)
                    continue
            extras = record.extras
            remaining = None
            if extras.deadline is not None:
                remaining = min(max(0, int((extras.deadline - now) * 1000)), MOST_MS)
            asked = None
            if extras.tried:
                asked = options(view, record)
            elif record.priority != 5 or record.forwarded or extras.trace is not None:
                trace, state = extras.trace or (None, None)
                crashes = extras.crashes  # of a job that is forwarded: where it was until now
                asked = Options(record.priority, record.forwarded, crashes, trace=trace, state=state)
            record.state = SENT
            record.link = key
            record.node = name
            job_id = record.id
            outstanding[job_id] = record
            outbox.append(submit(job_id, record.attempt, task, record.form, remaining, asked, record.body))
            if record.kept:
                outbox.append(Keep(job_id))
            sent += 1
        if sent:
            view.sent += sent
            self._talk[key] = view
        return sent

    # time

    def _act_on_time(self, now: float) -> None:
        for record in self._deadlines.due(now):
            self._expire(record)
        for record in self._waiting.come_of_time(now):
            self._come(record, now)
        for record, error in self._unserved.due(self.roster, now):
            self._drop(record, error)
        if self._beat_at is not None and now >= self._beat_at:
            self._beat(now, late=now - self._beat_at)

    def _expire(self, record: JobRecord) -> None:
        timeout = record.extras.timeout
        seconds = f"{timeout:g} s" if timeout is not None else "its time"
        if record.state == PENDING:
            what = "it could be tried again" if record.began else "any node had room"
            self._drop(record, JobTimeout(f"{seconds} passed before {what}", started=False))
            return
        view = self.roster.get(record.link)
        assert view is not None  # its end would have been the job's
        self._say(view, Cancel(record.id, UNSTARTED))
        self._settle(record, JobTimeout(f"no outcome within {seconds}; it may have run", started=True))

    def _start_beat(self, now: float) -> None:
        if self._beat_at is None:
            self._beat_at = now + BEAT_S

    def _beat(self, now: float, *, late: float) -> None:
        late = late if late > STALL_S else 0.0
        wake = now + BEAT_S
        for key, until in list(self._opening.items()):
            self._opening[key] = until + late
            if now >= until + late:
                del self._opening[key]
                why = f"no answer to the greeting within {WELCOME_S:g} s"
                self._part(key, why, now)
                self._effects.append(Close(key, why))
        for view in list(self.roster):
            standing = view.standing
            standing.liveness.excuse(late, now)
            standing.record.let_in(now)
            if view.quarantined and view.release(now):
                self._limit_waiting(view)
            if standing.look(now) is State.DEAD:
                self._part(view.key, "its node has been silent for 6 s", now)
                self._effects.append(Close(view.key, "it has been silent for 6 s"))
                continue
            if standing.liveness.wants_ping(now):
                self._token += 1
                self._say(view, Ping(self._token))
            wake = min(wake, standing.liveness.next_change(now))
        self._beat_at = wake if self._opening or len(self.roster) else None


_ENDED_WELL: Final = (Result, Failed)
"""Words after which a node is not to blame for anything."""

_NOT_AGAIN: Final = "cancelled before it was tried again"
