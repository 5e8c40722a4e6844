"""A client: the real session and the real dialer, and what `mesh.client` does with their orders."""

import random
from collections.abc import Callable, Sequence
from typing import assert_never

from mesh.core.budget import FLOOR, PERIOD_S, SHARE
from mesh.core.dialer import Dialer
from mesh.core.effects import Answered, Close, Effect, Greet, Joined, Parted, Progress, Send, Settle
from mesh.core.events import CancelAsked, Event, Heard, LinkLost, Opening, Submitted, Tick
from mesh.core.record import JobRecord
from mesh.core.session import Session
from mesh.errors import JobLost, NoNodes
from mesh.wire.messages import CRASH, MAGIC, VERSIONS, WORKER, ClientMessage, Failed, Hello, Lost, NodeMessage
from tests.simulation.agenda import Agenda
from tests.simulation.ledger import Entry, Ledger, Plan
from tests.simulation.network import Link, Network

HELD_S = 0.5
"""Seconds that a task's own back-off takes at most."""

NEVER = float("inf")


class SimulatedClient:
    """One application with one client. `breaks`: how often it lost sight of jobs that a node held.

    While it is `stalled` what happens waits, and is all there when it goes on. `clock`: what its monotonic clock shows
    beyond the agenda's.
    """

    def __init__(self, network: Network, ledger: Ledger, rng: random.Random, number: int) -> None:
        self.number = number
        self.clock = rng.randrange(1000) * 1024.0
        self.stalled = False
        self.dead = False
        self._late = False
        self.breaks = 0
        self.links: dict[int, Link | None] = {}
        self.session = Session(rng)
        self.dialer = Dialer(rng)
        self._network = network
        self._agenda: Agenda = network.agenda
        self._ledger = ledger
        self._rng = rng
        self._last_link = 0
        self._armed = NEVER
        self._posted: list[Event] = []
        self._letters: list[Callable[[], None]] = []
        self._missed: list[Callable[[], None]] = []
        self._resumed = self._joined = 0.0
        self._submitted = 0
        self._again_at: list[float] = []

    @property
    def now(self) -> float:
        """What its clock shows."""
        return self._agenda.now + self.clock

    def find(self, endpoint: str) -> None:
        """Discovery offers an endpoint, from now on and for ever."""
        self.dialer.offer(endpoint, [endpoint], self.now)
        self._post(Tick())

    # what the application does

    def submit(self, plans: Sequence[Plan]) -> None:
        """Hand in jobs, in one turn of the loop."""
        if self.stalled:
            self._missed.append(lambda: self.submit(plans))
        elif not self.dead:
            records = []
            for plan in plans:
                record = JobRecord(self._rng.randbytes(16), plan.task.name, b"args")
                record.priority = plan.priority
                if plan.timeout is not None and plan.timeout != plan.task.timeout:
                    extras = record.own_extras()
                    extras.timeout, extras.deadline = plan.timeout, self.now + plan.timeout
                self._ledger.submitted(plan, self.number, record, self._agenda.now)
                records.append(record)
            self._submitted += len(records)
            self._turn([Submitted(records)])

    def cancel(self, record: JobRecord, how: int) -> None:
        """No longer want a job."""
        if self.stalled:
            self._missed.append(lambda: self.cancel(record, how))
        elif not self.dead and not record.over:
            self._ledger.jobs[record.id].cancelled = True
            self._turn([CancelAsked(record, how)])

    # links

    def hear(self, key: int, message: NodeMessage) -> None:
        """A node has said this."""
        if self.stalled:
            self._letters.append(lambda: self.hear(key, message))
        elif key in self.links:
            wants = [item.id for item in message.items if isinstance(item, Failed | Lost) and _wants_another(item)]
            self._turn([Heard(key, message)])
            for record in [self._ledger.jobs[job_id].record for job_id in wants]:
                if not record.over:
                    self._again_at.append(record.extras.delayed[0] if record.extras.delayed is not None else self.now)

    def lose(self, key: int, why: str) -> None:
        """A link is gone."""
        if self.stalled:
            self._letters.append(lambda: self.lose(key, why))
        elif key in self.links:
            del self.links[key]
            self.dialer.lost(key, self.now)
            self._turn([LinkLost(key, why)])

    def _connect(self, endpoint: str) -> None:
        self._last_link += 1
        key = self._last_link
        self.dialer.opened(endpoint, key)
        self.links[key] = link = self._network.connect(self, key, endpoint)
        self._greet(link)
        self._post(Opening(key))

    def _greet(self, link: Link | None) -> None:
        if link is not None:
            link.to_node(ClientMessage(b"", 0, [Hello(MAGIC, *VERSIONS, "default", f"client {self.number}")]))

    # turns

    def _post(self, event: Event) -> None:
        """Have an event taken in the next turn."""
        self._posted.append(event)
        self._agenda.after(0.0, self._next_turn)

    def _next_turn(self) -> None:
        if self.stalled:
            self._missed.append(self._next_turn)
        elif self._posted:
            posted, self._posted = self._posted, []
            self._turn(posted)

    def _turn(self, happened: Sequence[Event], *, at: float = 0.0) -> None:
        """Tell the session what has happened, and do what it orders."""
        if self.dead:
            return
        now = max(self.now, at)
        for effect in self.session.handle(happened, now):
            self._perform(effect, now)
        for endpoint in self.dialer.due(now):
            self._connect(endpoint)
        wake, other = self.session.next_wake(), self.dialer.next_wake()
        if wake is None or (other is not None and other < wake):
            wake = other
        if wake is not None and wake < self._armed:
            due = self._armed = wake
            self._agenda.at(due - self.clock, lambda: self._wake(due))

    def _wake(self, due: float) -> None:
        if due != self._armed:
            return
        if self.stalled:
            self._missed.append(lambda: self._wake(due))
        else:
            self._armed = NEVER
            self._turn([Tick()], at=due)

    def _perform(self, effect: Effect, now: float) -> None:
        match effect:
            case Send():
                link = self.links[effect.key]
                assert link is not None  # it has greeted back
                link.to_node(effect.message)
            case Settle():
                self._settled(effect)
            case Progress() | Answered():
                pass
            case Joined():
                self.dialer.joined(effect.view.key)
                self._joined = self._agenda.now
            case Parted():
                self.breaks += 1
            case Greet():
                self.breaks += 1
                self._greet(self.links[effect.key])
            case Close():
                link = self.links.pop(effect.key, None)
                if link is not None:
                    link.close()
                self.dialer.lost(
                    effect.key, now, twin_of=effect.same_as, refused=effect.refused, goodbye=effect.goodbye
                )
            case _ as never:
                assert_never(never)

    def _settled(self, effect: Settle) -> None:
        for record, outcome in effect.outcomes:
            entry = self._ledger.jobs[record.id]
            due = max(entry.submitted + (entry.plan.timeout or 0.0), self._resumed)
            if entry.plan.timeout == entry.plan.task.timeout:
                due = max(due, self._joined)  # it is a node that says how much time such jobs have
            self._ledger.settled(record, outcome, self._agenda.now, due=due)
            if isinstance(outcome, JobLost):
                self._check_loss(entry, str(outcome))
            elif isinstance(outcome, NoNodes):
                assert not len(self.session.roster), f"there are nodes: {entry.story()}"

    def _check_loss(self, entry: Entry, why: str) -> None:
        """A job is lost for a reason: its worker died under it, or something befell its node or the way there."""
        node = entry.record.node or ""
        if "the node stopped" in why:
            return  # what lies unread at a worker then counts as run
        if "it died" in why:
            assert any(one.where == node for one in entry.executions), f"lost though it never ran: {entry.story()}"
            return
        harmed = self._network.is_harmed(self.number, int(node.removeprefix("n").partition(".")[0]))
        excused = "goodbye" in why and (self._late or self._network.slowed)
        assert harmed or excused, f"lost for nothing: {entry.story()}"

    # faults

    def stall(self) -> None:
        """Its loop stands still."""
        self.stalled = self._late = True

    def resume(self) -> None:
        """It goes on: what has come meanwhile is there at once, before the timers that are due or after them."""
        self.stalled = False
        self._resumed = self._agenda.now
        letters, self._letters = self._letters, []
        missed, self._missed = self._missed, []
        for act in (*missed, *letters) if self._rng.random() < 0.5 else (*letters, *missed):
            act()

    def die(self) -> None:
        """kill -9: its links end, and nobody asks for its jobs any more."""
        self.dead = True
        self._ledger.abandoned(self.number)
        for link in self.links.values():
            if link is not None:
                link.close()
        self.links.clear()

    # books

    def check_books(self) -> None:
        """Nothing is left of what has ended, and what was tried again is within the budget."""
        name = f"client {self.number}"
        assert self.session.unfinished() == [], f"{name} has unfinished jobs"
        for view in self.session.roster:
            left = [self._ledger.jobs[job_id].story() for job_id in view.outstanding]
            assert not left, f"{name} still waits at {view.about.name} for: {left}"
        self._check_budget(name)

    def _check_budget(self, name: str) -> None:
        """Between any two moments there are no more further attempts than a while saves up, and than come in between.

        What tasks want to wait themselves may bring together what the budget has spread.
        """
        rate = FLOOR + SHARE * self._submitted / PERIOD_S
        most = least = 0.0
        for count, at in enumerate(sorted(self._again_at)):
            ahead = count - rate * at
            least = ahead if not count else min(least, ahead)
            most = max(most, ahead - least)
        assert most <= rate * (PERIOD_S + HELD_S) + 1, f"{name} tried again more often than it may: {most:.0f}"


def _wants_another(item: Failed | Lost) -> bool:
    """May this end of an attempt be followed by another attempt that needs leave?"""
    return item.again is not None if isinstance(item, Failed) else item.reason in (CRASH, WORKER)
