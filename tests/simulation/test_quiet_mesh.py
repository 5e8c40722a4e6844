"""Several clients and several nodes at work, without a fault or with a single one: who gets how much, and how soon."""

import random
from collections import Counter

import pytest

from mesh.core.record import PENDING
from mesh.errors import JobLost
from mesh.wire.messages import Result, TaskSpec
from tests.simulation.client import SimulatedClient
from tests.simulation.ledger import Outcome, Plan
from tests.simulation.life import Size
from tests.simulation.world import World

SHORT = Plan(TaskSpec("short"), 0.0002)
LONG = Plan(TaskSpec("long"), 0.02)


def quiet(seed: int, *, clients: int, nodes: int, workers: int) -> World:
    tasks = [SHORT.task, LONG.task]
    return World(seed, clients=clients, nodes=nodes, size=Size(workers), tasks=tasks)


def ended(world: World, client: SimulatedClient) -> int:
    entries = world.ledger.jobs.values()
    return sum(1 for entry in entries if entry.client == client.number and entry.outcome is not None)


def ran_by_node(world: World) -> Counter[str]:
    return Counter(one.where for entry in world.ledger.jobs.values() for one in entry.executions)


def kinds(world: World) -> Counter[type[Outcome]]:
    return Counter(type(outcome) for outcome in world.outcomes)


@pytest.mark.parametrize("seed", range(5))
def test_all_jobs_of_all_clients_end_and_the_nodes_share_them_alike(seed: int) -> None:
    world = quiet(seed, clients=3, nodes=4, workers=4)
    for client in world.clients:
        client.submit([LONG] * 400)
    world.run(60.0)
    assert kinds(world) == {Result: 1200}
    world.check_books()
    ran = ran_by_node(world)
    assert sum(ran.values()) == 1200
    assert max(ran.values()) - min(ran.values()) <= 0.1 * 300, ran


@pytest.mark.parametrize("seed", range(5))
def test_slots_do_not_idle_while_jobs_wait(seed: int) -> None:
    world = quiet(seed, clients=3, nodes=4, workers=4)
    began = world.agenda.now
    for client in world.clients:
        client.submit([LONG] * 400)
    while len(world.outcomes) < 1200:
        world.run(0.01)
    ideal = 1200 * LONG.seconds / 16
    assert world.agenda.now - began < 1.15 * ideal


@pytest.mark.parametrize("seed", range(5))
def test_mixed_jobs_end_whatever_their_lengths(seed: int) -> None:
    world = quiet(seed, clients=4, nodes=3, workers=2)
    rng = random.Random(seed)
    for _ in range(20):
        for client in world.clients:
            client.submit(rng.choices([SHORT, LONG], weights=[20, 1], k=rng.randrange(1, 60)))
        world.run(rng.uniform(0.0, 0.05))
    world.run(60.0)
    assert set(kinds(world)) == {Result}
    world.check_books()


@pytest.mark.parametrize("seed", range(5))
def test_a_node_that_dies_costs_only_what_was_sent_there(seed: int) -> None:
    world = quiet(seed, clients=3, nodes=3, workers=4)
    for client in world.clients:
        client.submit([LONG] * 200)
    world.run(0.1)
    dying = world.nodes[1]
    name = dying.life.about.name if dying.life else ""
    records = [entry.record for entry in world.ledger.jobs.values()]
    held = sum(1 for record in records if record.state != PENDING and not record.over and record.node == name)
    dying.kill()
    world.run(60.0)
    outcomes = kinds(world)
    assert outcomes[JobLost] <= held  # what had ended may have been on its way
    assert outcomes[Result] == 600 - outcomes[JobLost]
    assert 0 < held <= 12
    assert all(outcome.started for outcome in world.outcomes if isinstance(outcome, JobLost))


@pytest.mark.parametrize("seed", range(3))
def test_a_second_client_gets_its_share_while_the_first_has_many_jobs(seed: int) -> None:
    world = quiet(seed, clients=2, nodes=2, workers=4)
    greedy, modest = world.clients
    greedy.submit([LONG] * 2000)
    world.run(0.2)
    began = world.agenda.now
    modest.submit([LONG] * 40)
    while ended(world, modest) < 40:
        world.run(0.01)
    alone = 40 * LONG.seconds / 8
    assert world.agenda.now - began < 3.5 * alone
