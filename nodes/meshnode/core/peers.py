"""Who speaks to the node's front, and what their messages mean to the scheduler. Pure: `docs/protocol.md`.

A peer is known by its routing id from its HELLO on; one that has not greeted, or was forgotten, is told that it is a
STRANGER, so that it greets anew.
"""

from collections import OrderedDict
from collections.abc import Callable, Collection
from typing import Final, assert_never, cast

from mesh.core.grants import ANYBODY, Grant
from mesh.errors import NotAllowed
from mesh.wire.messages import (
    BUSY,
    EPOCH,
    NOT_ALLOWED,
    VERSIONS,
    WRONG_KEY,
    WRONG_MESH,
    WRONG_VERSION,
    About,
    Answer,
    Bye,
    Cancel,
    ClientMessage,
    Drain,
    Hello,
    Keep,
    NodeItem,
    Operate,
    Ping,
    Pong,
    Query,
    Refuse,
    Reject,
    Stranger,
    Submit,
    SubmitLarge,
    Welcome,
)
from mesh.wire.reports import Wrong, packed
from meshnode.core.events import CancelAsked, Event, KeepAsked, Left, Queried, Spoken, Submitted
from meshnode.core.held import Owner

SILENCE_S: Final = 15.0
"""Seconds after which a client that has said nothing is forgotten; it pings each second (docs/protocol.md)."""

STALE_MS: Final = 5000
"""Milliseconds after which word from this node is too old to send jobs on: what comes on such word lay in a
buffer while its client may have given it up."""

MOST_PEERS: Final = 16_384
"""Clients of one node at most; one more is refused rather than slowing all."""

CUT_OFF: Final = Refuse(WRONG_KEY, "the key of this client is not allowed there")
"""Said to whom the list of keys does not name, or not any more."""


class Peer:
    """One client of the front: its routing id, its owner for the scheduler, when it was last heard.

    `stamp`: the newest stamp of this node's clock that it had heard when it last spoke. `grant`: what its key may do.
    """

    __slots__ = ("grant", "heard", "name", "owner", "routing_id", "stamp")

    def __init__(self, routing_id: bytes, name: str, owner: Owner, heard: float, grant: Grant) -> None:
        self.grant = grant
        self.routing_id = routing_id
        self.name = name
        self.owner = owner
        self.heard = heard
        self.stamp = 0


def may_operate(peer: Peer) -> bool:
    """May this peer ask the node of itself, and tell it what to do? Without keys whoever reaches the port may."""
    return peer.grant.operates


class Peers:
    """The clients of the front. `asked`: what those who may operate this node have asked, until it is taken."""

    def __init__(self, about: About) -> None:
        self.draining = False
        self.asked: list[tuple[Peer, Operate]] = []
        self._about = about
        self._peers: OrderedDict[bytes, Peer] = OrderedDict()
        self._by_owner: dict[int, Peer] = {}
        self._leaving = False
        self.malformed = 0

    def __len__(self) -> int:
        """How many there are."""
        return len(self._peers)

    @property
    def routing_ids(self) -> Collection[bytes]:
        """The routing ids of all."""
        return self._peers.keys()

    def describe(self, about: About) -> None:
        """Greet with this from now on."""
        self._about = about

    def of(self, owner: Owner) -> Peer | None:
        """Return the peer behind an owner."""
        return self._by_owner.get(owner.key)

    def owner(self, routing_id: bytes) -> Owner | None:
        """Return the owner behind a routing id."""
        peer = self._peers.get(routing_id)
        return None if peer is None else peer.owner

    def take(
        self, routing_id: bytes, message: ClientMessage, now: float, key: int, *, grant: Grant | None = ANYBODY
    ) -> tuple[list[Event], list[NodeItem]]:
        """Read one message: events for the scheduler, and items for a peer that is not (or no longer) known.

        `key` is given to the owner of a new peer. `grant`: what the sender's key may do; None if it may nothing more.
        """
        peer = self._peers.get(routing_id)
        if grant is None:
            return ([] if peer is None else self.forget(peer.owner, revoked=True)), [CUT_OFF]
        if peer is not None and peer.grant is not grant:
            if (peer.grant.kind, peer.grant.name) != (grant.kind, grant.name):  # another's connection, by this name
                return self.forget(peer.owner), _turn_away(message)
            peer.grant = grant
        if peer is None:
            greeting = next((item for item in message.items if type(item) is Hello), None)
            if greeting is None:
                return [], _turn_away(message)
            obstacle = self._obstacle(greeting)
            if obstacle is not None:
                return [], [obstacle]
            peer = Peer(routing_id, greeting.name, Owner(key, member=grant.member), now, grant)
            self._peers[routing_id] = self._by_owner[key] = peer
        peer.heard = now
        peer.stamp = message.stamp
        self._peers.move_to_end(routing_id)
        return self._events(peer, message, now), []

    def _obstacle(self, greeting: Hello) -> Refuse | Bye | None:
        """What keeps a greeting from being welcomed; None for nothing."""
        about = self._about
        if greeting.mesh != about.mesh:
            return Refuse(WRONG_MESH, f"this node belongs to the mesh {about.mesh!r}")
        if greeting.lowest > VERSIONS[1] or greeting.highest < VERSIONS[0]:
            spoken = f"{VERSIONS[0]} to {VERSIONS[1]}"
            return Refuse(WRONG_VERSION, f"this node speaks protocol versions {spoken}")
        if self._leaving:
            return Bye()
        if len(self._peers) >= MOST_PEERS:
            return Refuse(BUSY, f"this node has {MOST_PEERS} clients")
        return None

    def _events(self, peer: Peer, message: ClientMessage, now: float) -> list[Event]:  # noqa: C901  # one flat match
        if set(map(type, message.items)) == {Submit}:  # nearly always, and the cheapest way to know
            return self._submitted(peer, message, cast("list[Submit]", message.items), now)
        submits: list[Submit] = []
        asked: list[bytes] = []
        events: list[Event] = []
        hello: Hello | None = None
        ping: Ping | None = None
        for item in message.items:
            match item:
                case Submit():
                    submits.append(item)
                case Ping():
                    ping = item  # one answer for all: thousands in a message would cost their sender next to nothing
                case Cancel():
                    events.append(CancelAsked(peer.owner, item.id, item.how))
                case Keep():
                    events.append(KeepAsked(peer.owner, item.id))
                case Query():
                    asked += item.ids
                case Hello():
                    hello = item
                case Operate() if may_operate(peer):
                    self.asked.append((peer, item))
                case Operate():
                    refusal = Wrong(NotAllowed.__name__, "this key does not allow to operate nodes")
                    events.append(Spoken(peer.owner, [Answer(item.token, False, packed(refusal))]))
                case Bye():
                    events += self.forget(peer.owner)
                case SubmitLarge():
                    self.malformed += 1  # its frame was not there
                case _ as never:
                    assert_never(never)
        if ping is not None:
            events.insert(0, Spoken(peer.owner, [Pong(ping.token)]))
        if hello is not None:
            events.insert(0, Spoken(peer.owner, self._greeting(hello)))
        if submits:
            events[:0] = self._submitted(peer, message, submits, now)
        if asked and message.epoch == self._about.epoch:
            events.append(Queried(peer.owner, asked))  # all at once: what is asked for is looked for in one go
        return events

    def _greeting(self, hello: Hello) -> list[NodeItem]:
        welcome = Welcome(min(hello.highest, VERSIONS[1]), self._about)
        return [welcome, Drain()] if self.draining else [welcome]

    def _submitted(self, peer: Peer, message: ClientMessage, submits: list[Submit], now: float) -> list[Event]:
        if message.epoch != self._about.epoch:
            text = "meant for an earlier life of this node"
            peer.owner.seen += len(submits)
            return [Spoken(peer.owner, [Reject(s.id, s.attempt, EPOCH, text) for s in submits])]
        events: list[Event] = []
        if not peer.grant.any_task:
            wrong = [submit for submit in submits if not peer.grant.may(submit.task)]
            if wrong:
                submits = [submit for submit in submits if peer.grant.may(submit.task)]
                peer.owner.seen += len(wrong)
                text = f"the key {peer.grant.name} may not run this task"
                events.append(Spoken(peer.owner, [Reject(s.id, s.attempt, NOT_ALLOWED, text) for s in wrong]))
        if submits:
            events.append(Submitted(peer.owner, submits, stale=now * 1000 - message.stamp > STALE_MS))
        return events

    def leave(self) -> list[Event]:
        """Say goodbye to all, and to whoever greets while this node goes: they find it again when it has returned."""
        self._leaving = True
        return [Spoken(peer.owner, [Bye()]) for peer in self._peers.values()]

    def forget(self, owner: Owner, *, revoked: bool = False) -> list[Event]:
        """A peer has left, cannot be reached, or may nothing more."""
        peer = self._by_owner.pop(owner.key, None)
        if peer is None:
            return []
        del self._peers[peer.routing_id]
        return [Left(owner, revoked)]

    def lost(self, routing_id: bytes) -> list[Event]:
        """The peer behind a routing id cannot be reached."""
        peer = self._peers.get(routing_id)
        return [] if peer is None else self.forget(peer.owner)

    def cut_off(self, grant_of: Callable[[str], Grant | None]) -> tuple[list[Event], list[bytes]]:
        """Another list of keys is in force: forget whom it no longer names; return their routing ids too."""
        gone = [peer for peer in self._peers.values() if grant_of(peer.grant.public) is None]
        events = [event for peer in gone for event in self.forget(peer.owner, revoked=True)]
        return events, [peer.routing_id for peer in gone]

    def have_heard(self, stamp: int) -> bool:
        """Has every peer spoken since it heard what this node said at `stamp`?"""
        return all(peer.stamp >= stamp for peer in self._peers.values())

    def excuse(self, seconds: float, now: float) -> None:
        """Do not count the last `seconds`: this process itself stood still, and what was said then is not read yet."""
        for peer in self._peers.values():
            peer.heard = min(now, peer.heard + seconds)

    def forget_silent(self, now: float) -> list[Event]:
        """Forget those that have said nothing for `SILENCE_S`."""
        events: list[Event] = []
        while self._peers:
            peer = next(iter(self._peers.values()))
            if now - peer.heard < SILENCE_S:
                break
            events += self.forget(peer.owner)
        return events

    def everyone(self) -> list[Peer]:
        """All peers, for a word to all."""
        return list(self._peers.values())


def _turn_away(message: ClientMessage) -> list[NodeItem]:
    text = "this node does not know you; greet again"
    rejects: list[NodeItem] = [
        Reject(item.id, item.attempt, BUSY, text) for item in message.items if isinstance(item, (Submit, SubmitLarge))
    ]
    return [*rejects, Stranger()]
