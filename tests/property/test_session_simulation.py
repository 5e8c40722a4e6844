"""Several clients and several nodes in one process: real sessions, real schedulers, links with random delays.

No socket, no clock: an agenda of what happens when. Workers are modelled: each takes up its orders one by one.
"""

import heapq
import itertools
import random
from collections import Counter
from collections.abc import Callable

import pytest

from mesh.core.effects import Close, Greet, Joined, Parted, Progress, Send, Settle
from mesh.core.events import Event, Heard, LinkLost, Opening, Submitted, Tick
from mesh.core.record import JobRecord
from mesh.core.session import Session
from mesh.errors import JobLost, MeshError
from mesh.wire.messages import (
    MAGIC,
    VERSIONS,
    About,
    ClientMessage,
    Failed,
    Hello,
    NodeItem,
    NodeMessage,
    Result,
    Submit,
    TaskSpec,
)
from meshnode.core import events as node_events
from meshnode.core.effects import Dismiss, Dispatch, Empty, Forward, Interrupt, Kill, Replace, Reply, Spare, TakeBack
from meshnode.core.orders import Ran
from meshnode.core.peers import Peers
from meshnode.core.scheduler import Scheduler

TASKS = [TaskSpec("short"), TaskSpec("long")]
RUN_S = {"short": 0.0002, "long": 0.02}


class Agenda:
    """What happens when."""

    def __init__(self) -> None:
        self.now = 0.0
        self._entries: list[tuple[float, int, Callable[[], None]]] = []
        self._count = itertools.count()

    def at(self, when: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._entries, (max(when, self.now), next(self._count), act))

    def run(self, until: float) -> None:
        while self._entries and self._entries[0][0] <= until:
            self.now, _, act = heapq.heappop(self._entries)
            act()
        self.now = until


class Wire:
    """One direction of a link: messages arrive in their order, each after a delay of its own."""

    def __init__(self, agenda: Agenda, rng: random.Random) -> None:
        self._agenda = agenda
        self._rng = rng
        self._last = 0.0
        self.cut = False

    def carry(self, act: Callable[[], None]) -> None:
        self._last = max(self._last, self._agenda.now + self._rng.uniform(50e-6, 500e-6))
        self._agenda.at(self._last, lambda: None if self.cut else act())


class SimulatedWorker:
    """Takes up its orders one by one."""

    def __init__(self, node: "SimulatedNode", key: int) -> None:
        self.node = node
        self.key = key
        self.orders: list[tuple[int, Submit]] = []
        self.busy = False

    def give(self, first: int, jobs: list[Submit]) -> None:
        self.orders += enumerate(jobs, first)
        if not self.busy:
            self.take_up()

    def take_up(self) -> None:
        if not self.orders or self.node.dead:
            return
        seq, job = self.orders.pop(0)
        self.busy = True
        seconds = RUN_S[job.task]
        self.node.started.append(job.id)
        spent = round(seconds * 1e9)
        ran = Ran(seq, spent, spent, [Result(job.id, job.attempt, b"")])
        self.node.agenda.at(self.node.agenda.now + seconds, lambda: self.end(ran))

    def end(self, ran: Ran) -> None:
        self.busy = False
        self.node.take([node_events.Ended(self.key, [ran])])
        self.take_up()

    def take_back(self) -> list[int]:
        seqs = [seq for seq, _ in self.orders]
        self.orders.clear()
        return seqs


class SimulatedNode:
    """A real scheduler with its peers, and workers that are modelled."""

    def __init__(self, agenda: Agenda, number: int, workers: int) -> None:
        self.agenda = agenda
        self.dead = False
        self.started: list[bytes] = []
        self.about = About(f"{number:032x}", b"epoch---", f"n{number}", "default", workers, 1, 1 << 20, TASKS)
        self.peers = Peers(self.about)
        self.scheduler = Scheduler(TASKS, slots=workers)
        self.workers = {key: SimulatedWorker(self, key) for key in range(workers)}
        self.wires: dict[bytes, tuple[Wire, Callable[[NodeMessage], None]]] = {}
        self.armed = float("inf")
        self.take([node_events.WorkerReady(key) for key in self.workers])

    def receive(self, routing_id: bytes, message: ClientMessage) -> None:
        events, answers = self.peers.take(routing_id, message, self.agenda.now, int.from_bytes(routing_id, "big"))
        if answers:
            self.send(routing_id, NodeMessage(0, 0, 0, 0, self.stamp(), answers))
        self.take(events)

    def stamp(self) -> int:
        return int(self.agenda.now * 1000)

    def send(self, routing_id: bytes, message: NodeMessage) -> None:
        wire, arrive = self.wires[routing_id]
        wire.carry(lambda: arrive(message))

    def take(self, events: list[node_events.Event]) -> None:
        while events and not self.dead:
            answers: list[node_events.Event] = []
            for effect in self.scheduler.handle(events, self.agenda.now):
                match effect:
                    case Dispatch():
                        self.workers[effect.worker].give(effect.first, effect.jobs)
                    case Reply():
                        peer = self.peers.of(effect.owner)
                        assert peer is not None
                        items: list[NodeItem] = effect.items
                        load = (effect.free, effect.free_async, effect.window, effect.seen)
                        self.send(peer.routing_id, NodeMessage(*load, self.stamp(), items))
                    case TakeBack():
                        seqs = self.workers[effect.worker].take_back()
                        answers += [node_events.TakenBack(effect.worker, seqs)] if seqs else []
                    case Forward() | Empty() | Interrupt() | Kill() | Replace() | Spare() | Dismiss():
                        raise AssertionError(effect)
            events = answers
        wake = None if self.dead else self.scheduler.next_wake()
        if wake is not None and wake < self.armed:
            self.armed = wake
            self.agenda.at(wake, self.wake)

    def wake(self) -> None:
        self.armed = float("inf")
        self.take([node_events.Tick()])


class SimulatedClient:
    """A real session, and what came of its jobs."""

    def __init__(self, agenda: Agenda, number: int, rng: random.Random) -> None:
        self.agenda = agenda
        self.number = number
        self.rng = rng
        self.session = Session(rng)
        self.wires: dict[int, tuple[Wire, SimulatedNode]] = {}
        self.outcomes: dict[bytes, Result | Failed | MeshError] = {}
        self.by_node: Counter[str | None] = Counter()
        self.armed = float("inf")
        self.most_held = 0

    def connect(self, key: int, node: SimulatedNode) -> None:
        routing_id = (self.number * 1000 + key).to_bytes(5, "big")
        there, back = Wire(self.agenda, self.rng), Wire(self.agenda, self.rng)
        self.wires[key] = (there, node)
        node.wires[routing_id] = (back, lambda message: self.tell(Heard(key, message)))
        self.tell(Opening(key))
        hello = ClientMessage(b"", 0, [Hello(MAGIC, *VERSIONS, "default", f"client {self.number}")])
        there.carry(lambda: node.receive(routing_id, hello))

    def lose(self, key: int) -> None:
        there, node = self.wires[key]
        there.cut = True
        node.wires[(self.number * 1000 + key).to_bytes(5, "big")][0].cut = True
        self.tell(LinkLost(key, "it disconnected"))

    def submit(self, *tasks: str) -> None:
        records = []
        for task in tasks:
            record = JobRecord(self.rng.randbytes(16), task, b"args")
            records.append(record)
        self.tell(Submitted(records))

    def tell(self, *events: Event) -> None:
        for effect in self.session.handle(events, self.agenda.now):
            match effect:
                case Send():
                    self.send(effect)
                case Settle():
                    for record, outcome in effect.outcomes:
                        assert record.id not in self.outcomes
                        self.outcomes[record.id] = outcome
                        self.by_node[record.node] += 1
                case Joined() | Parted() | Progress():
                    pass
                case Close() | Greet():
                    raise AssertionError(effect)
        wake = self.session.next_wake()
        if wake is not None and wake < self.armed:
            self.armed = wake
            self.agenda.at(wake, self.wake)

    def send(self, effect: Send) -> None:
        there, node = self.wires[effect.key]
        routing_id = (self.number * 1000 + effect.key).to_bytes(5, "big")
        there.carry(lambda: node.receive(routing_id, effect.message))

    def wake(self) -> None:
        self.armed = float("inf")
        self.tell(Tick())


class Mesh:
    """Every client connected to every node."""

    def __init__(self, seed: int, *, clients: int, nodes: int, workers: int) -> None:
        self.agenda = Agenda()
        rng = random.Random(seed)
        self.nodes = [SimulatedNode(self.agenda, number, workers) for number in range(1, nodes + 1)]
        self.clients = [SimulatedClient(self.agenda, n, random.Random(rng.random())) for n in range(1, clients + 1)]
        for client in self.clients:
            for key, node in enumerate(self.nodes, 1):
                client.connect(key, node)
        self.agenda.run(0.01)

    def kill(self, number: int) -> None:
        self.nodes[number].dead = True
        for client in self.clients:
            client.lose(number + 1)

    def outcomes(self) -> list[Result | Failed | MeshError]:
        return [outcome for client in self.clients for outcome in client.outcomes.values()]


@pytest.mark.parametrize("seed", range(5))
def test_all_jobs_of_all_clients_end_and_the_nodes_share_them_alike(seed: int) -> None:
    mesh = Mesh(seed, clients=3, nodes=4, workers=4)
    for client in mesh.clients:
        client.submit(*["long"] * 400)
    mesh.agenda.run(60.0)
    assert Counter(map(type, mesh.outcomes())) == {Result: 1200}
    assert all(client.session.unfinished() == [] for client in mesh.clients)
    ran = [len(node.started) for node in mesh.nodes]
    assert sum(ran) == 1200
    assert max(ran) - min(ran) <= 0.1 * 300, ran


@pytest.mark.parametrize("seed", range(5))
def test_slots_do_not_idle_while_jobs_wait(seed: int) -> None:
    mesh = Mesh(seed, clients=3, nodes=4, workers=4)
    began = mesh.agenda.now
    for client in mesh.clients:
        client.submit(*["long"] * 400)
    while len(mesh.outcomes()) < 1200:
        mesh.agenda.run(mesh.agenda.now + 0.001)
    ideal = 1200 * RUN_S["long"] / 16
    assert mesh.agenda.now - began < 1.15 * ideal


@pytest.mark.parametrize("seed", range(5))
def test_mixed_jobs_end_whatever_their_lengths(seed: int) -> None:
    mesh = Mesh(seed, clients=4, nodes=3, workers=2)
    rng = random.Random(seed)
    for _ in range(20):
        for client in mesh.clients:
            client.submit(*rng.choices(["short", "long"], weights=[20, 1], k=rng.randrange(60)))
        mesh.agenda.run(mesh.agenda.now + rng.uniform(0.0, 0.05))
    mesh.agenda.run(mesh.agenda.now + 60.0)
    assert set(map(type, mesh.outcomes())) == {Result}
    assert all(client.session.unfinished() == [] for client in mesh.clients)


@pytest.mark.parametrize("seed", range(5))
def test_a_node_that_dies_costs_only_what_was_sent_there(seed: int) -> None:
    mesh = Mesh(seed, clients=3, nodes=3, workers=4)
    for client in mesh.clients:
        client.submit(*["long"] * 200)
    mesh.agenda.run(mesh.agenda.now + 0.1)
    held = sum(len(view.outstanding) for client in mesh.clients for view in client.session.roster if view.key == 2)
    mesh.kill(1)
    mesh.agenda.run(60.0)
    outcomes = Counter(map(type, mesh.outcomes()))
    assert outcomes[JobLost] == held
    assert outcomes[Result] == 600 - held
    assert held <= 12
    assert all(outcome.started for outcome in mesh.outcomes() if isinstance(outcome, JobLost))


@pytest.mark.parametrize("seed", range(3))
def test_a_second_client_gets_its_share_while_the_first_has_many_jobs(seed: int) -> None:
    mesh = Mesh(seed, clients=2, nodes=2, workers=4)
    greedy, modest = mesh.clients
    greedy.submit(*["long"] * 2000)
    mesh.agenda.run(mesh.agenda.now + 0.2)
    began = mesh.agenda.now
    modest.submit(*["long"] * 40)
    while len(modest.outcomes) < 40:
        mesh.agenda.run(mesh.agenda.now + 0.001)
    alone = 40 * RUN_S["long"] / 8
    assert mesh.agenda.now - began < 3.5 * alone
