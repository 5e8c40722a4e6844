"""What may befall a mesh, and the jobs that go on meanwhile: one scenario for each seed."""

import random
from collections.abc import Callable
from functools import partial

from mesh.core.attempts import LATER_MOST
from mesh.core.budget import FLOOR
from mesh.wire.messages import FORCED, RUNNING, UNSTARTED, Result, RetrySpec, TaskSpec
from tests.simulation.ledger import AGAIN, CRASH, CRASHES, FAILED, HANG, IN_A_ROW, RESULT, Plan
from tests.simulation.life import Life, Size
from tests.simulation.network import Link
from tests.simulation.world import World

PLAIN = TaskSpec("plain")
SAFE = TaskSpec("safe", idempotent=True)
ASYNC = TaskSpec("async", is_async=True, idempotent=True)
NAG = TaskSpec("nag", retry=RetrySpec(3, 0.05, 0.5))
NAG_FREELY = TaskSpec("nag-freely")
BRITTLE = TaskSpec("brittle")
FATAL = TaskSpec("fatal", idempotent=True)
LIMITED = TaskSpec("limited", limit=0.3, limit_kill=0.2)
HURRIED = TaskSpec("hurried", timeout=1.5)
HURRIED_SAFE = TaskSpec("hurried-safe", timeout=2.0, idempotent=True)
TASKS = [PLAIN, SAFE, ASYNC, NAG, NAG_FREELY, BRITTLE, FATAL, LIMITED, HURRIED, HURRIED_SAFE]

DRAINED_S = 60.0
"""Seconds after the end of all faults by which every job has ended."""

QUARANTINED_S = 300.0
"""The same where a task was put in quarantine, which takes a minute at each node, and the next crash begins another."""

CALM_S = 11.0
"""Seconds after the last word over a link that was harmed by which every client knows every node again: it is given up
after 6, a greeting after 5, and a back-off takes 3."""

FORGOTTEN_S = 17.0
"""Seconds after which a node has forgotten a client that is gone."""

PROBED_S = 2.0
"""Seconds that a job takes at most when all is well again."""


class Scenario:
    """A mesh, jobs and faults, all from one seed; `told` is what befell it and when."""

    def __init__(self, seed: int) -> None:
        self.rng = rng = random.Random(seed)
        size = Size(rng.randint(1, 4), rng.choice((1, 1, 4)), rng.choice((None, None, rng.randint(3, 12))))
        nodes, clients = rng.randint(1, 4), rng.randint(1, 3)
        self.world = World(rng.getrandbits(64), clients=clients, nodes=nodes, size=size, tasks=TASKS)
        self.told = [f"{nodes} nodes of {size}, {clients} clients"]
        self._horizon = rng.choice((6.0, 6.0, 6.0, 22.0))

    def run(self) -> None:
        """Let it all happen, then end all faults, and look whether all is well."""
        world, rng = self.world, self.rng
        faults = [rng.uniform(0.0, 0.9 * self._horizon) for _ in range(rng.choice((0, 1, 1, 2, 2, 3, 4, 6)))]
        for when in faults:
            fault = rng.choice(FAULTS)
            world.agenda.after(when, partial(self._befall, fault))
        for _ in range(rng.randint(2, 8)):
            before = rng.choice(faults) - rng.uniform(0.0, 0.2) if faults else 0.0
            when = rng.choice((0.0, rng.uniform(0.0, 0.8 * self._horizon), before, before))
            world.agenda.after(max(0.0, when), partial(rng.choice(world.clients).submit, self._plans()))
        world.run(self._horizon)
        world.heal()
        self._tell("all faults end, but for clients that stand still")
        self._settle()

    def _settle(self) -> None:
        world = self.world
        while any(client.stalled for client in world.clients):
            world.run(1.0)
        began = world.agenda.now
        while (world.ledger.open or not world.whole) and world.agenda.now < began + self._patience():
            world.run(1.0)
        world.run(FORGOTTEN_S if any(client.dead for client in world.clients) else CALM_S)
        clients = [client for client in world.clients if not client.dead]
        for client in clients:
            assert len(client.session.roster) == len(world.nodes), f"client {client.number} does not know all nodes"
        probe = Plan(PLAIN, 0.01)
        before = len(world.ledger.jobs)
        for client in clients:
            client.submit([probe])
        world.run(PROBED_S)
        for entry in list(world.ledger.jobs.values())[before:]:
            assert isinstance(entry.outcome, Result), f"all should be well again: {entry.story()}"
        world.check_books()

    def _patience(self) -> float:
        """Seconds by which every job has ended, when all faults have."""
        ledger = self.world.ledger
        quarantined = any(deaths >= IN_A_ROW for deaths in ledger.deaths.values())
        plans = [entry.plan for entry in ledger.jobs.values()]
        work = 3 * sum(plan.seconds for plan in plans)
        again = sum(min(plan.ends.count(AGAIN), LATER_MOST) for plan in plans) / FLOOR
        return (QUARANTINED_S if quarantined else DRAINED_S) + work + again

    def _tell(self, what: str) -> None:
        self.told.append(f"{self.world.agenda.now:.6f} {what}")

    def _befall(self, fault: Callable[[World, random.Random], str]) -> None:
        self._tell(fault(self.world, self.rng))

    # jobs

    def _plans(self) -> list[Plan]:
        rng = self.rng
        kind = rng.choice(MIXES)
        return [kind(rng) for _ in range(rng.randint(1, MOST.get(kind, 12)))]


def _seconds(rng: random.Random) -> float:
    return rng.choice((0.0002, 0.005, 0.02, rng.uniform(0.0, 0.3), rng.uniform(0.0, 1.5)))


def _short(rng: random.Random) -> Plan:
    return Plan(rng.choice((PLAIN, SAFE)), rng.uniform(50e-6, 140e-6))


def _healthy(rng: random.Random) -> Plan:
    timeout = rng.choice((None, None, None, rng.uniform(0.05, 4.0)))
    return Plan(rng.choice((PLAIN, SAFE, ASYNC)), _seconds(rng), timeout=timeout, priority=rng.choice((5, 5, 9, 1)))


def _any(rng: random.Random) -> Plan:
    task = rng.choice(TASKS)
    seconds = _seconds(rng)
    timeout = task.timeout if task.timeout is not None else rng.choice((None, None, None, rng.uniform(0.05, 4.0)))
    ends: tuple[str, ...] = (RESULT,)
    if task is NAG or task is NAG_FREELY:
        ends = (*[AGAIN] * rng.choice((0, 1, 2, 5)), rng.choice((RESULT, RESULT, FAILED, AGAIN)))
        seconds = min(seconds, 0.02)
    elif task is BRITTLE:
        ends = (rng.choice((RESULT, RESULT, FAILED, CRASH)),)
    elif task is FATAL:
        ends = (CRASH,)
    elif task is LIMITED:
        ends = (rng.choice((RESULT, RESULT, HANG)),)
    elif rng.random() < 0.05:
        ends = (FAILED,)
    elif task is SAFE and rng.random() < 0.2:
        ends = (*[CRASH] * rng.choice((1, 2)), RESULT)
    return Plan(task, seconds, ends, timeout, rng.choice((5, 5, 5, 9, 1)))


def _nagging(rng: random.Random) -> Plan:
    return Plan(NAG_FREELY, 0.001, (*[AGAIN] * 9, rng.choice((RESULT, AGAIN))))


def _long(rng: random.Random) -> Plan:
    return Plan(rng.choice((PLAIN, SAFE, ASYNC)), rng.uniform(2.0, 18.0))


def _beside_poison(rng: random.Random) -> Plan:
    return Plan(ASYNC, rng.uniform(0.0, 0.3), (CRASH,) if rng.random() < 0.1 else (RESULT,))


def _calling(rng: random.Random) -> Plan:
    return Plan(PLAIN, _seconds(rng), calls=rng.choice((_healthy, _healthy, _any, _calling))(rng))


MIXES = (_short, _healthy, _healthy, _any, _any, _any, _nagging, _long, _beside_poison, _calling)
MOST: dict[Callable[[random.Random], Plan], int] = {_short: 60, _nagging: 20, _long: 3}
"""Jobs of a kind that are handed in at once, at most; of the others 12."""


# faults: each begins now, sees to its own end, and tells what it is


def _kill_node(world: World, rng: random.Random) -> str:
    node, down, silent = rng.choice(world.nodes), _while(rng), rng.random() < 0.2
    node.kill(silent=silent)
    world.agenda.after(down, node.start)
    return f"node {node.number} is killed for {down:.3f} s{', its host too' if silent else ''}"


def _stop_node(world: World, rng: random.Random) -> str:
    node, grace, down = rng.choice(world.nodes), rng.choice((0.0, 0.1, 1.0, 3.0)), _while(rng)
    node.stop(grace, back=down)
    return f"node {node.number} stops within {grace} s, and comes back {down:.3f} s later"


def _all_down(world: World, rng: random.Random) -> str:
    down = _while(rng)
    for node in world.nodes:
        node.kill()
        world.agenda.after(down, node.start)
    return f"all nodes are killed for {down:.3f} s"


def _stall_node(world: World, rng: random.Random) -> str:
    node = rng.choice(world.nodes)
    life = node.life
    if life is None or life.stalled:
        return f"node {node.number} cannot be stalled"
    seconds, threads = rng.choice((0.3, 1.2, 3.0, 6.5, 9.0, 17.0)) * rng.uniform(0.8, 1.2), rng.random() < 0.5
    life.stall(threads=threads)
    world.agenda.after(seconds, lambda: life.resume() if life.stalled else None)
    return f"node {node.number} stands still for {seconds:.3f} s, {'with' if threads else 'without'} its threads"


def _stall_client(world: World, rng: random.Random) -> str:
    client = rng.choice(world.clients)
    if client.stalled or client.dead:
        return f"client {client.number} cannot be stalled"
    seconds = rng.choice((0.3, 1.2, 4.0, 7.0, 17.0, 17.0)) * rng.uniform(0.9, 1.1)
    client.submit([_long(rng) for _ in range(rng.randint(0, 3))])
    client.stall()
    world.agenda.after(seconds, lambda: client.resume() if client.stalled else None)
    return f"client {client.number} stands still for {seconds:.3f} s"


def _kill_client(world: World, rng: random.Random) -> str:
    client = rng.choice(world.clients)
    if rng.random() < 0.5 or client.stalled or sum(1 for other in world.clients if not other.dead) < 2:
        return "nothing"
    client.die()
    return f"client {client.number} is killed"


def _link(world: World, rng: random.Random) -> Link | None:
    client = rng.choice(world.clients)
    links = [link for link in client.links.values() if link is not None]
    return rng.choice(links) if links else None


def _cut(world: World, rng: random.Random) -> str:
    link = _link(world, rng)
    if link is None:
        return "nothing"
    link.end("it broke", rest_arrives=rng.random() < 0.5)
    return f"the link of client {link.caller.number} to node {link.listener.number} breaks"


def _silence(world: World, rng: random.Random) -> str:
    link = _link(world, rng)
    if link is None:
        return "nothing"
    there, back = rng.choice(((True, True), (True, False), (False, True)))
    link.silence(there=there, back=back)
    ways = [way for way, lost in (("there", there), ("back", back)) if lost]
    names = f"client {link.caller.number} and node {link.listener.number}"
    return f"nothing arrives any more between {names}, {' and '.join(ways)}"


def _part(world: World, rng: random.Random) -> str:
    node, seconds = rng.choice(world.nodes), rng.choice((0.5, 3.0, 7.0, 12.0))
    clients = rng.choice((world.clients, [rng.choice(world.clients)]))
    pairs = [(client.number, node.number) for client in clients]
    for pair in pairs:
        world.network.part(*pair)
    world.agenda.after(seconds, lambda: world.network.parted.difference_update(pairs))
    return f"clients {[client.number for client in clients]} and node {node.number} are parted for {seconds} s"


def _slow(world: World, rng: random.Random) -> str:
    seconds = rng.uniform(0.5, 3.0)
    world.network.slow_down(0.2)
    world.agenda.after(seconds, lambda: world.network.slow_down(0.0))
    return f"every message takes 200 ms longer, for {seconds:.3f} s"


def _kill_workers(world: World, rng: random.Random) -> str:
    count = rng.randint(1, 10)
    for _ in range(count):
        world.agenda.after(rng.uniform(0.0, 1.0), lambda: _kill_worker(world, rng))
    return f"{count} workers are killed within a second"


def _kill_worker(world: World, rng: random.Random) -> None:
    """Kill a worker, if that makes no job and no task look like poison which is none."""
    life = rng.choice(world.nodes).life
    if life is None:
        return
    workers = life.staff.workers
    worker = workers[rng.choice(list(workers))] if workers else None
    if worker is not None and worker.key in life.scheduler.pool.workers:
        suspects = [world.ledger.jobs[job_id] for job_id in worker.suspects()]
        deaths = world.ledger.deaths
        if all(
            entry.deaths + len(entry.plan.ends) < CRASHES
            and deaths.get((life.about.name, entry.plan.task.name), 0) + len(suspects) < IN_A_ROW
            for entry in suspects
        ):
            worker.die()


def _drain(world: World, rng: random.Random) -> str:
    node, seconds = rng.choice(world.nodes), _while(rng)
    life = node.life
    if life is None:
        return f"node {node.number} cannot be drained"
    life.order(life.turn_away)
    world.agenda.after(seconds, lambda: life.order(lambda: _undrain(life)))
    return f"node {node.number} drains for {seconds:.3f} s"


def _undrain(life: Life) -> None:
    if life.peers.draining:
        life.welcome_again()


def _replace(world: World, rng: random.Random) -> str:
    node = rng.choice(world.nodes)
    life = node.life
    if life is None:
        return f"node {node.number} has no workers"
    for key in list(life.staff.workers):
        world.agenda.after(rng.uniform(0.0, 0.1), partial(life.order, partial(life.staff.replace, key)))
    return f"all workers of node {node.number} are replaced"


def _cancel(world: World, rng: random.Random) -> str:
    client = rng.choice(world.clients)
    count, how = rng.randint(1, 12), rng.choice((UNSTARTED, RUNNING, FORCED))
    open_ones = [entry.record for entry in world.ledger.jobs.values() if entry.outcome is None]
    mine = [record for record in open_ones if world.ledger.jobs[record.id].client == client.number]
    for record in rng.sample(mine, min(count, len(mine))):
        client.cancel(record, how)
    return f"client {client.number} cancels {min(count, len(mine))} jobs, as far as {how}"


def _while(rng: random.Random) -> float:
    return rng.choice((0.01, 0.3, 1.0, 4.0)) * rng.uniform(0.5, 1.5)


FAULTS: tuple[Callable[[World, random.Random], str], ...] = (
    _kill_node, _kill_node, _stop_node, _all_down, _stall_node, _stall_node, _stall_client, _stall_client,
    _kill_client, _cut, _cut, _silence, _silence, _part, _slow, _kill_workers, _kill_workers, _drain, _replace, _cancel,
    _cancel,
)  # fmt: skip
