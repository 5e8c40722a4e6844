"""A whole mesh in one process: clients, nodes and the network between them, all of it from one seed."""

import random

from mesh.wire.messages import TaskSpec
from tests.simulation.agenda import Agenda
from tests.simulation.client import SimulatedClient
from tests.simulation.ledger import Ledger, Outcome
from tests.simulation.life import Life, Size
from tests.simulation.network import Network
from tests.simulation.node import SimulatedNode


class World:
    """Every client finds every node. What one seed makes happen it makes happen each time."""

    def __init__(self, seed: int, *, clients: int, nodes: int, size: Size, tasks: list[TaskSpec]) -> None:
        self.rng = random.Random(seed)
        self.agenda = Agenda()
        self.ledger = Ledger()
        self.network = Network(self.agenda, self._rng())
        self.nodes = [
            SimulatedNode(self.network, self.ledger, self._rng(), number=number, size=size, tasks=tasks)
            for number in range(1, nodes + 1)
        ]
        self.clients = [
            SimulatedClient(self.network, self.ledger, self._rng(), number) for number in range(1, clients + 1)
        ]
        for client in self.clients:
            for node in self.nodes:
                client.find(node.endpoint)
        self.run(0.01)

    def _rng(self) -> random.Random:
        return random.Random(self.rng.random())

    def run(self, seconds: float) -> None:
        """Let so much time pass."""
        self.agenda.run(self.agenda.now + seconds)

    @property
    def lives(self) -> list[Life]:
        """The nodes that are up."""
        return [node.life for node in self.nodes if node.life is not None]

    @property
    def whole(self) -> bool:
        """Are all nodes up, with all their workers and nothing to do?"""
        pools = [(life.scheduler.pool.free, life.size.workers) for life in self.lives]
        return len(pools) == len(self.nodes) and all(free == workers for free, workers in pools)

    @property
    def outcomes(self) -> list[Outcome]:
        """How jobs have ended."""
        return [entry.outcome for entry in self.ledger.jobs.values() if entry.outcome is not None]

    def heal(self) -> None:
        """End every fault of nodes and network: all are up and go on, and links that are made from now on work."""
        self.network.heal()
        for node in self.nodes:
            if node.life is not None and node.life.stalled:
                node.life.resume()
            if node.life is not None and node.life.peers.draining and not node.life.leaving:
                node.life.welcome_again()
            node.start()

    def check_books(self) -> None:
        """Nothing is left of what has ended, anywhere."""
        for client in self.clients:
            if not client.dead:
                client.check_books()
        for life in self.lives:
            life.check_books()
        self.ledger.check_all({client.number: client.breaks for client in self.clients})
