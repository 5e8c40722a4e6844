"""The turns of a node's loop. Shell: the only place beside `meshnode.node` that knows all the others.

It stands apart from that one, which starts and stops them all, since this is compiled (docs/decisions/0011).
"""

import asyncio
import logging
from typing import Final, assert_never

from mypy_extensions import mypyc_attr

from mesh.core.grants import ANYBODY
from mesh.errors import ProtocolError
from mesh.wire.codec import Oddities, decode_client, node_messages
from mesh.wire.messages import Answer, NodeMessage
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
from meshnode.core.events import Event, Paused, Resumed, Spoken, Stalled, Tick
from meshnode.core.peers import CUT_OFF, Peer, Peers
from meshnode.core.scheduler import Scheduler
from meshnode.forwarder import Forwarder
from meshnode.front import Front, Received
from meshnode.guard import Guard
from meshnode.operations import Operations
from meshnode.plain_sockets import PlainSockets
from meshnode.staff import Staff

log = logging.getLogger("meshnode")

SWEEP_S: Final = 1.0
"""Seconds between two looks for clients that have fallen silent."""

STALL_S: Final = 1.0
"""A look that comes this much too late means that this process itself stood still."""

GIVEN_UP_S: Final = 5.0
"""Seconds of standing still after which clients may have given this node up (they do after 6 s)."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Turns:
    """A node as far as it does not wait: each turn is told to the scheduler, whose orders are carried out."""

    _supervisor: Staff
    _front: Front
    _peers: Peers
    _operations: Operations

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._events: list[Event] = []
        self._turn_due = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._sweeper: asyncio.TimerHandle | None = None
        self._sweep_at = self._loop.time()
        self._last_owner = 0
        self._oddities = Oddities()
        self._empty = asyncio.Event()
        self._known = asyncio.Event()
        self._drained_at = 0
        self._scheduler: Scheduler | None = None
        self._guard: Guard | None = None
        self._bridge: PlainSockets | None = None
        self._forwarder: Forwarder | None = None

    def post(self, event: Event) -> None:
        """Have an event taken in this loop's next turn, together with whatever else comes until then."""
        self._events.append(event)
        if not self._turn_due:
            self._turn_due = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._turn_due = False
        events, self._events = self._events, []
        if events:
            Turns._take(self, events)

    def _take(self, events: list[Event], *, at: float = 0.0) -> None:
        """Tell the scheduler what happened, not before `at`, and do what it orders, until there is nothing to do."""
        scheduler = self._scheduler
        if scheduler is None:
            return
        now = max(self._loop.time(), at)
        while events:
            answers: list[Event] = []
            for effect in scheduler.handle(events, now):
                Turns._perform(self, effect, answers)
            events = answers
        if self._bridge is not None:
            PlainSockets.speak(self._bridge)
        self._front.recheck()
        Turns._arm(self, scheduler.next_wake(), now)

    def _perform(self, effect: Effect, answers: list[Event]) -> None:  # noqa: C901  # one flat match
        match effect:
            case Dispatch():
                Staff.dispatch(self._supervisor, effect.worker, effect.first, effect.jobs)
            case Reply():
                if effect.owner.windowed:
                    Turns._reply(self, effect)
                elif effect.owner.key < 0:
                    self._supervisor.answer(-effect.owner.key, effect.items)
                elif self._bridge is not None:
                    PlainSockets.reply(self._bridge, effect.owner, effect.items)
            case TakeBack():
                answers += self._supervisor.take_back(effect.worker)
            case Interrupt():
                self._supervisor.interrupt(effect.worker, effect.seq, on_loop=effect.on_loop)
            case Kill():
                self._supervisor.kill_one(effect.worker)
            case Replace():
                self._supervisor.replace(effect.worker)
            case Spare():
                self._supervisor.spare()
            case Dismiss():
                self._supervisor.end_one(effect.worker)
            case Forward():
                assert self._forwarder is not None
                self._forwarder.forward(effect.held)
            case Empty():
                self._empty.set()
            case _ as never:
                assert_never(never)

    def _arm(self, wake: float | None, now: float) -> None:
        """Keep one timer, for the first thing that is due; one that fires early looks and goes on."""
        if wake is None or (self._timer is not None and self._timer_at <= wake):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = max(wake, now)
        self._timer = self._loop.call_at(self._timer_at, self._time_passed)

    def _time_passed(self) -> None:
        self._timer = None
        # uvloop's clock has milliseconds, and says now and then that a timer's moment is a hair away when it fires.
        Turns._take(self, [Tick()], at=self._timer_at)

    def _new_key(self) -> int:
        self._last_owner += 1
        return self._last_owner

    def _received(self, burst: list[Received]) -> None:
        now = self._loop.time()
        events: list[Event] = []
        guard = self._guard
        for routing_id, key, frames in burst:
            try:
                message = decode_client(frames, self._oddities)
            except ProtocolError:
                self._oddities.malformed += 1
                continue
            grant = ANYBODY if guard is None else guard.grant(key)
            happened, answers = self._peers.take(routing_id, message, now, Turns._new_key(self), grant=grant)
            events += happened
            if answers:
                Turns._send(self, routing_id, NodeMessage(0, 0, 0, 0, stamp_of(now), answers))
        if events:
            Turns._take(self, events)
        else:
            self._front.recheck()
        if self._peers.asked:
            asked, self._peers.asked = self._peers.asked, []
            for peer, item in asked:
                self._operations.take(peer, item)
        if self._drained_at:
            self._look_who_knows()

    def _say(self, peer: Peer, answer: Answer) -> None:
        Turns._take(self, [Spoken(peer.owner, [answer])])

    def _look_who_knows(self) -> None:
        """Once every client has spoken after it heard that this node drains, none has a job on its way here."""
        if self._peers.have_heard(self._drained_at):
            self._known.set()

    def _reply(self, reply: Reply) -> None:
        peer = self._peers.of(reply.owner)
        if peer is None:
            return
        stamp = max(stamp_of(self._loop.time()), self._drained_at)
        Turns._send(
            self,
            peer.routing_id,
            NodeMessage(reply.free, reply.free_async, reply.window, reply.seen, stamp, reply.items),
        )

    def _send(self, routing_id: bytes, message: NodeMessage) -> None:
        for frames in node_messages(message):
            self._front.send(routing_id, frames)

    def _unreachable(self, routing_id: bytes) -> None:
        for event in self._peers.lost(routing_id):
            self.post(event)

    def _flows(self, routing_id: bytes, flows: bool) -> None:
        """A client does not read what it is told, or does so again."""
        owner = self._peers.owner(routing_id)
        if owner is not None:
            self.post(Resumed(owner) if flows else Paused(owner))

    def _sweep(self) -> None:
        """Look for clients that have fallen silent, unless it was this process that stood still."""
        now = self._loop.time()
        late = now - self._sweep_at
        self._sweep_at = now + SWEEP_S
        self._sweeper = self._loop.call_at(self._sweep_at, self._sweep)  # first: whatever fails below, the next comes
        if self._guard is not None and self._guard.refresh():
            self._cut_off(self._guard)
        if late > STALL_S:
            self._peers.excuse(late, now)
        if late > GIVEN_UP_S:
            log.warning("this process stood still for %.1f s", late)
            Turns._take(self, [Stalled()])
        for event in self._peers.forget_silent(now):
            self.post(event)
        self._front.keep_addresses(self._peers.routing_ids)

    def _cut_off(self, guard: Guard) -> None:
        """Another list of keys is in force: nothing more goes to whom it does not name, whether they speak or not."""
        events, gone = self._peers.cut_off(guard.grant)
        for routing_id in gone:
            self._front.forget(routing_id)
            Turns._send(self, routing_id, NodeMessage(0, 0, 0, 0, stamp_of(self._loop.time()), [CUT_OFF]))
        if events:
            Turns._take(self, events)


def stamp_of(now: float) -> int:
    """Return a moment of the loop's clock as messages carry it."""
    return int(now * 1000)
