"""A node's process: the real scheduler and the real peers, and what `meshnode.node` does with their orders."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import assert_never

from mesh.wire.messages import VERSIONS, About, ClientMessage, Drain, NodeMessage, Welcome
from meshnode.core import events
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
from meshnode.core.peers import Peers
from meshnode.core.scheduler import Scheduler
from meshnode.node import KNOWN_S
from meshnode.turns import GIVEN_UP_S, STALL_S, SWEEP_S
from tests.simulation.agenda import Agenda
from tests.simulation.ledger import Ledger
from tests.simulation.network import Link, Network
from tests.simulation.staff import SETUP_S, Staff

BURST = 64
"""Messages that a node takes in one turn (`meshnode.front`)."""

DYING_S = 0.02
"""Seconds by which a node's workers follow it."""

NEVER = float("inf")


@dataclass(frozen=True, slots=True)
class Size:
    """What a node has: workers, coroutines in each, and jobs after which a worker is replaced (None: never)."""

    workers: int
    concurrency: int = 1
    lease: int | None = None


class Life:
    """One process of a node, from its start to its end.

    `stopped`: by SIGSTOP, with all its threads. Then, and while its loop alone stands still (`stalled`), what happens
    waits, and is all there when it goes on. `clock`: what its monotonic clock shows beyond the agenda's.
    """

    def __init__(
        self, network: Network, ledger: Ledger, rng: random.Random, *, number: int, about: About, size: Size
    ) -> None:
        self.number = number
        self.about = about
        self.size = size
        self.dead = False
        self.stalled = False
        self.stopped = False
        self.leaving = False
        self.clock = rng.randrange(1000) * 1024.0
        self.peers = Peers(about)
        self.staff = Staff(
            network.agenda, ledger, rng,
            where=about.name, slots=size.workers, concurrency=size.concurrency, lease=size.lease,
            say=self._hear, in_time=self.in_time,
        )  # fmt: skip
        self.scheduler = Scheduler(
            about.tasks, slots=size.workers, concurrency=size.concurrency, taken_up=self.staff.taken_up, rng=rng
        )
        self._network = network
        self._on_empty: Callable[[], None] | None = None
        self._on_known: Callable[[], None] | None = None
        self._drained_at = 0
        self._agenda: Agenda = network.agenda
        self._ledger = ledger
        self._rng = rng
        self._links: dict[bytes, Link] = {}
        self._last_owner = 0
        self._armed = NEVER
        self._posted: list[events.Event] = []
        self._letters: list[tuple[Link, ClientMessage]] = []
        self._reports: list[events.Event] = []
        self._missed: list[Callable[[], None]] = []
        self._sweep_at = self.now
        self._sweep()
        self.take(self.staff.begin())

    @property
    def now(self) -> float:
        """What its clock shows."""
        return self._agenda.now + self.clock

    # messages

    def accept(self, link: Link) -> None:
        """A client has connected."""
        self._links[link.routing_id] = link

    def receive(self, link: Link, message: ClientMessage) -> None:
        """A client has said this."""
        if self.stalled:
            self._letters.append((link, message))
        elif not self.dead:
            self._read([(link, message)])

    def _read(self, letters: Sequence[tuple[Link, ClientMessage]]) -> None:
        happened: list[events.Event] = []
        for link, message in letters:
            if link.void:
                continue
            self._last_owner += 1
            self._ledger.arrived(message)
            some, answers = self.peers.take(link.routing_id, message, self.now, self._last_owner)
            happened += some
            if answers:
                self._send(link.routing_id, NodeMessage(0, 0, 0, 0, self._stamp(), answers))
        if happened:
            self.take(happened)
        self._look_who_knows()

    def _stamp(self) -> int:
        return int(self.now * 1000)

    def _send(self, routing_id: bytes, message: NodeMessage) -> None:
        link = self._links[routing_id]
        if link.gone:
            self._post(*self.peers.lost(routing_id))
        else:
            link.to_client(message)

    def _post(self, *happened: events.Event) -> None:
        """Have events taken in the next turn."""
        if happened:
            self._posted += happened
            self._agenda.after(0.0, self._turn)

    def _turn(self) -> None:
        if self.stalled:
            self._missed.append(self._turn)
            return
        posted, self._posted = self._posted, []
        self.take(posted)

    # turns

    def take(self, happened: list[events.Event], *, at: float = 0.0) -> None:
        """Tell the scheduler what happened and do what it orders, until there is nothing to do."""
        if self.dead:
            return
        now = max(self.now, at)
        while happened:
            answers: list[events.Event] = []
            for effect in self.scheduler.handle(happened, now):
                self._perform(effect, answers)
            happened = answers
        wake = self.scheduler.next_wake()
        if wake is not None and wake < self._armed:
            self._armed = wake
            self._agenda.at(wake - self.clock, lambda: self._wake(wake))

    def _wake(self, due: float) -> None:
        if due != self._armed or self.dead:
            return
        if self.stalled:
            self._missed.append(lambda: self._wake(due))
            return
        self._armed = NEVER
        self.take([events.Tick()], at=due)

    def _perform(self, effect: Effect, answers: list[events.Event]) -> None:  # noqa: C901  # one flat match
        match effect:
            case Dispatch():
                self.staff.dispatch(effect.worker, effect.first, effect.jobs)
            case Reply():
                if effect.owner.windowed:
                    self._reply(effect)
                else:
                    self.staff.answer(-effect.owner.key, effect.items)
            case TakeBack():
                answers += self.staff.take_back(effect.worker)
            case Interrupt():
                self.staff.interrupt(effect.worker, effect.seq)
            case Kill():
                self.staff.kill_one(effect.worker)
            case Replace():
                self.staff.replace(effect.worker)
            case Spare():
                self.staff.spare()
            case Dismiss():
                self.staff.end_one(effect.worker)
            case Empty():
                if self._on_empty is not None:
                    self._on_empty()
            case Forward():
                raise AssertionError(f"nobody asked for that: {effect}")
            case _ as never:
                assert_never(never)

    def _reply(self, reply: Reply) -> None:
        peer = self.peers.of(reply.owner)
        if peer is not None:
            load = reply.free, reply.free_async, reply.window, reply.seen
            self._send(peer.routing_id, NodeMessage(*load, max(self._stamp(), self._drained_at), reply.items))

    def _hear(self, reports: list[events.Event]) -> None:
        """A worker, or the zygote, says this."""
        if self.stalled:
            self._reports += reports
        elif not self.dead:
            self.take(reports)

    # time

    def in_time(self, act: Callable[[], None]) -> None:
        """Have its loop do this, once it can, if it is there then."""
        if self.stalled:
            self._missed.append(lambda: self.in_time(act))
        elif not self.dead:
            act()

    def _sweep(self) -> None:
        """Look for silent clients, as `meshnode.node` does."""
        if self.dead:
            return
        if self.stalled:
            self._missed.append(self._sweep)
            return
        late = self.now - self._sweep_at
        if late > STALL_S:
            self.peers.excuse(late, self.now)
        if late > GIVEN_UP_S:
            self.take([events.Stalled()])
        self._post(*self.peers.forget_silent(self.now))
        self._sweep_at = self.now + SWEEP_S
        self._agenda.after(SWEEP_S, self._sweep)

    def order(self, act: Callable[[], None]) -> None:
        """Have it do this, unless it leaves."""
        self.in_time(lambda: None if self.leaving else act())

    def stall(self, *, threads: bool) -> None:
        """Its loop stands still; with `threads` the whole process does."""
        self.stalled, self.stopped = True, threads
        self._network.harm(0, self.number)

    def resume(self) -> None:
        """It goes on: what has come meanwhile is there at once, before the timers that are due or after them."""
        self.stalled = self.stopped = False
        if self.dead:
            return
        letters, self._letters = self._letters, []
        reports, self._reports = self._reports, []
        missed, self._missed = self._missed, []
        timers_first = self._rng.random() < 0.5
        if timers_first:
            self._catch_up(missed)
        if reports:
            self.take(reports)
        for n in range(0, len(letters), BURST):
            self._read(letters[n : n + BURST])
        if not timers_first:
            self._catch_up(missed)

    def _catch_up(self, missed: Sequence[Callable[[], None]]) -> None:
        for act in missed:
            act()

    # its end

    def turn_away(self) -> None:
        """Take nothing new, and say so."""
        self.peers.draining = True
        self._drained_at = self._stamp() + 1
        self.take([events.Draining(), *(events.Spoken(peer.owner, [Drain()]) for peer in self.peers.everyone())])

    def welcome_again(self) -> None:
        """Take back `turn_away`."""
        self._drained_at = 0
        self.peers.draining = False
        greeting = Welcome(VERSIONS[1], self.about)
        self.take([events.Undraining(), *(events.Spoken(peer.owner, [greeting]) for peer in self.peers.everyone())])

    def stop(self, grace: float, *, then: Callable[[], None]) -> None:
        """Finish what is held within the grace, end the workers, say goodbye once all clients know."""
        self.leaving = True
        agenda, over = self._agenda, False

        def goodbye() -> None:
            self.in_time(lambda: self._say_goodbye(then))

        def empty() -> None:
            nonlocal over
            if not over:
                over = True
                self.staff.stop(at_once=False)
                agenda.after(SETUP_S, await_all)

        def await_all() -> None:
            self._on_known = lambda: agenda.after(0.0, goodbye)
            agenda.after(KNOWN_S, goodbye)
            self._look_who_knows()

        def grace_over() -> None:
            nonlocal over
            if not over:
                over = True
                self.take([events.GraceOver()])
                self.staff.stop(at_once=True)
                agenda.after(SETUP_S, goodbye)

        self._on_empty = lambda: agenda.after(0.0, lambda: self.in_time(empty))
        agenda.after(grace, lambda: self.in_time(grace_over))
        self.turn_away()

    def _look_who_knows(self) -> None:
        if self._on_known is not None and self.peers.have_heard(self._drained_at):
            self._on_known()

    def _say_goodbye(self, then: Callable[[], None]) -> None:
        self.take(self.peers.leave())
        self.die(rest_arrives=True)
        then()

    def die(self, *, rest_arrives: bool, silent: bool = False) -> None:
        """The process ends, and its workers with it within moments. `silent`: the whole host does."""
        self.dead = True
        self.staff.die(0.0 if silent else DYING_S)
        for link in self._links.values():
            if silent:
                link.silence()
            elif not link.gone:
                link.end("it disconnected", rest_arrives=rest_arrives)

    # books

    def check_books(self) -> None:
        """Nothing is left of what has ended."""
        scheduler, name = self.scheduler, self.about.name
        assert scheduler.held == 0, f"{name} holds {scheduler.held} jobs"
        assert scheduler.backlog.count == 0, f"{name} has a backlog of {scheduler.backlog.count}"
        assert not scheduler.word.active, f"{name} has active owners"
        assert not scheduler._outcomes.orphans, f"{name} runs jobs of clients that are gone"
        assert len(scheduler.pool.workers) == self.size.workers, f"{name} has {len(scheduler.pool.workers)} workers"
        assert scheduler.pool.free == self.size.workers, f"{name} has {scheduler.pool.free} idle workers"
        for peer in self.peers.everyone():
            owner = peer.owner
            owed = [*owner.jobs, *owner.replies], owner.queued, owner.running
            assert owed == ([], 0, 0), f"{name} owes {peer.name}: {owed}"
