"""Connections between clients and nodes: messages keep their order, take their time, and may vanish."""

import random
from collections.abc import Callable
from typing import Protocol

from mesh.wire.messages import ClientMessage, NodeMessage
from tests.simulation.agenda import Agenda

HANDSHAKE_S = 3.0
"""Seconds after which a connection is given up whose other end is accepted by a kernel and answered by nobody."""

LEAST_S, MOST_S = 50e-6, 500e-6
"""Seconds that a message travels on a quiet network."""


class Caller(Protocol):
    """The client's end of a link."""

    number: int

    def hear(self, key: int, message: NodeMessage) -> None:
        """A node has said this."""

    def lose(self, key: int, why: str) -> None:
        """A link is gone."""


class Listener(Protocol):
    """The node's end of its links: one life of it. `stopped`: it is not even able to greet (SIGSTOP)."""

    number: int
    stopped: bool

    def accept(self, link: "Link") -> None:
        """A client has connected."""

    def receive(self, link: "Link", message: ClientMessage) -> None:
        """A client has said this."""


class Wire:
    """One direction of a link. `cut`: what is under way and what is sent from now on never arrives."""

    def __init__(self, network: "Network", pair: tuple[int, int]) -> None:
        self._network = network
        self._pair = pair
        self._last = 0.0
        self.cut = False

    def carry(self, act: Callable[[], None]) -> None:
        """Have something happen at the other end, after what was sent before."""
        if not self.cut:
            self._last = max(self._last, self._network.arrival(self._pair))
            self._network.agenda.at(self._last, lambda: None if self.cut else act())


class Link:
    """One connection. `gone`: the node's kernel knows that nobody is there any more; `void`: it never came about."""

    def __init__(self, network: "Network", caller: Caller, key: int, listener: Listener) -> None:
        pair = caller.number, listener.number
        self.caller = caller
        self.key = key
        self.listener = listener
        self.routing_id = network.next_routing_id()
        self.there = Wire(network, pair)
        self.back = Wire(network, pair)
        self.gone = False
        self.void = False
        self._network = network

    def to_node(self, message: ClientMessage) -> None:
        """Send a message from the client."""
        self.there.carry(lambda: self.listener.receive(self, message))

    def to_client(self, message: NodeMessage) -> None:
        """Send a message from the node."""
        self.back.carry(lambda: self.caller.hear(self.key, message))

    def close(self) -> None:
        """The client closes its end; what has left arrives, and then the node's kernel knows."""
        self.back.cut = True
        self.there.carry(self._node_knows)

    def _node_knows(self) -> None:
        self.gone = True

    def end(self, why: str, *, rest_arrives: bool) -> None:
        """It breaks, and both ends come to know; what was said to the client may arrive before that."""
        self._harm()
        self.there.cut = True
        self.gone = True
        if rest_arrives:
            self.back.carry(lambda: self.caller.lose(self.key, why))
        else:
            silent, self.back.cut = self.back.cut, True
            if not silent:
                self._network.agenda.after(MOST_S, lambda: self.caller.lose(self.key, why))

    def _harm(self) -> None:
        self._network.harm(self.caller.number, self.listener.number)

    def silence(self, *, there: bool = True, back: bool = True) -> None:
        """From now on nothing arrives any more, and nobody is told: TCP would go on trying for minutes."""
        self._harm()
        self.there.cut = self.there.cut or there
        self.back.cut = self.back.cut or back


class Network:
    """Who listens where, how slow it is or was (`slowed`), who cannot reach whom (`parted`: client and node)."""

    def __init__(self, agenda: Agenda, rng: random.Random) -> None:
        self.agenda = agenda
        self.slower = 0.0
        self.parted: set[tuple[int, int]] = set()
        self.links: list[Link] = []
        self.slowed = False
        self._harmed: set[tuple[int, int]] = set()
        self._listeners: dict[str, Listener] = {}
        self._rng = rng
        self._last_routing_id = 0

    def harm(self, client: int, node: int) -> None:
        """Something befalls a node (client 0), or what a client says to it or hears from it."""
        self._harmed.add((client, node))

    def is_harmed(self, client: int, node: int) -> bool:
        """Has anything befallen a node, or its links with a client?"""
        return (0, node) in self._harmed or (client, node) in self._harmed

    def arrival(self, pair: tuple[int, int]) -> float:
        """When a message arrives that is sent now between these two."""
        return self.agenda.now + self.slower + self._rng.uniform(LEAST_S, MOST_S)

    def next_routing_id(self) -> bytes:
        """Return an id that no link has had."""
        self._last_routing_id += 1
        return self._last_routing_id.to_bytes(5, "big")

    def listen(self, endpoint: str, listener: Listener | None) -> None:
        """From now on this one listens there, or nobody."""
        if listener is None:
            self._listeners.pop(endpoint, None)
        else:
            self._listeners[endpoint] = listener

    def connect(self, caller: Caller, key: int, endpoint: str) -> Link | None:
        """Make a link; None where nobody listens, which the client is told a moment later."""
        listener = self._listeners.get(endpoint)
        if listener is None:
            self.agenda.after(2 * MOST_S + self.slower, lambda: caller.lose(key, "no connection"))
            return None
        link = Link(self, caller, key, listener)
        self.links = [other for other in self.links if not (other.gone or (other.there.cut and other.back.cut))]
        self.links.append(link)
        if (caller.number, listener.number) in self.parted:
            link.silence()
        elif listener.stopped:
            self.agenda.after(HANDSHAKE_S, lambda: self._not_greeted(link))
        listener.accept(link)
        return link

    def _not_greeted(self, link: Link) -> None:
        if link.listener.stopped and not link.there.cut:
            link.void = True
            link.end("the handshake failed", rest_arrives=False)

    def part(self, client: int, node: int) -> None:
        """These two reach each other no more, and no new link between them comes about."""
        self.parted.add((client, node))
        for link in self.links:
            if (link.caller.number, link.listener.number) == (client, node):
                link.silence()

    def slow_down(self, seconds: float) -> None:
        """From now on every message takes so much longer."""
        self.slower = seconds
        self.slowed = self.slowed or seconds > 0

    def heal(self) -> None:
        """Everybody reaches everybody, at the usual speed; links that were silenced stay so."""
        self.parted.clear()
        self.slower = 0.0
