"""The workers of a node: started, replaced, buried as its supervisor does it."""

import random
from collections.abc import Callable, Sequence

from mesh.wire.messages import NodeItem, Submit
from meshnode.core import events
from meshnode.core.respawn import Respawn
from meshnode.staff import PLACES, SPARE_AGAIN_S
from tests.simulation.agenda import Agenda
from tests.simulation.ledger import Ledger
from tests.simulation.worker import SimulatedWorker

SETUP_S = 0.01
"""Seconds from a worker's start until it is ready."""

BURIED_S = 100e-6, 3e-3
"""Seconds from a worker's death until its node knows, at least and at most."""


class Staff:
    """Keeps `slots` workers at work. `say` tells the node what happened; `in_time` does something once it is awake."""

    def __init__(
        self,
        agenda: Agenda,
        ledger: Ledger,
        rng: random.Random,
        *,
        where: str,
        slots: int,
        concurrency: int,
        lease: int | None,
        say: Callable[[list[events.Event]], None],
        in_time: Callable[[Callable[[], None]], None],
    ) -> None:
        self.workers: dict[int, SimulatedWorker] = {}
        self._agenda = agenda
        self._ledger = ledger
        self._rng = rng
        self._where = where
        self._slots = slots
        self._concurrency = concurrency
        self._lease = lease
        self._say = say
        self._in_time = in_time
        self._respawn = Respawn()
        self._closed = False
        self._slot_of: dict[int, int] = {}
        self._last = 0

    def begin(self) -> list[events.Event]:
        """Start all workers, and return the word that they are ready."""
        return [self._ready(self._fork(slot)) for slot in range(self._slots)]

    def taken_up(self, key: int) -> int:
        """Return the number of the last order that a worker has taken up."""
        worker = self.workers.get(key)
        return 0 if worker is None else worker.started

    # orders

    def dispatch(self, key: int, first: int, jobs: list[Submit]) -> None:
        """Send orders to a worker."""
        if key in self.workers:
            self.workers[key].give(first, jobs)

    def take_back(self, key: int) -> list[events.Event]:
        """Take out what a worker has not read."""
        seqs = self.workers[key].take_back() if key in self.workers else []
        return [events.TakenBack(key, seqs)] if seqs else []

    def interrupt(self, key: int, seq: int) -> None:
        """Have a worker stop a job."""
        if key in self.workers:
            self.workers[key].interrupt(seq)

    def kill_one(self, key: int) -> None:
        """Kill a worker."""
        if key in self.workers:
            self.workers[key].kill()

    def end_one(self, key: int) -> None:
        """Have a worker end when it has done what it has."""
        if key in self.workers:
            self.workers[key].end()

    def answer(self, key: int, items: Sequence[NodeItem]) -> None:
        """Tell a worker what came of calls that its jobs have made."""
        if key in self.workers:
            self.workers[key].answer(items)

    def replace(self, key: int) -> None:
        """Start a worker's successor; it goes when that is ready."""
        worker = self.workers.get(key)
        if worker is not None and not (worker.replaced or worker.ending or worker.dead):
            worker.replaced = True
            self._succeed(worker)

    def spare(self) -> None:
        """Start one worker more."""
        slot = next(slot for slot in range(self._slots, 2**31) if slot not in self._slot_of.values())
        if self._closed or len(self.workers) >= PLACES * self._slots:
            self._agenda.after(SPARE_AGAIN_S, lambda: self._say([events.SpareLost()]))
            return
        worker = self._fork(slot)
        self._agenda.after(SETUP_S, lambda: self._come(worker, None))

    # lives and deaths

    def _fork(self, slot: int) -> SimulatedWorker:
        self._last += 1
        worker = self.workers[self._last] = SimulatedWorker(
            self._agenda, self._ledger, self._last,
            where=self._where, concurrency=self._concurrency, say=self._hear, gone=self._lose,
        )  # fmt: skip
        self._slot_of[self._last] = slot
        return worker

    def _hear(self, event: events.Event) -> None:
        self._say([event])

    def _ready(self, worker: SimulatedWorker) -> events.WorkerReady:
        worker.ready = True
        lease = self._lease and self._rng.randint(-(-self._lease // 2), self._lease)
        return events.WorkerReady(worker.key, lease, spare=self._slot_of[worker.key] >= self._slots)

    def _come(self, worker: SimulatedWorker, former: SimulatedWorker | None) -> None:
        if not worker.dead and not self._closed:
            said: list[events.Event] = [self._ready(worker)]
            if former is not None and former.key in self.workers:
                said.append(events.Retired(former.key))
            self._say(said)

    def _lose(self, worker: SimulatedWorker) -> None:
        self._agenda.after(self._rng.uniform(*BURIED_S), lambda: self._bury(worker))

    def _bury(self, worker: SimulatedWorker) -> None:
        del self.workers[worker.key]
        slot = self._slot_of.pop(worker.key)
        if worker.ready:
            self._say([events.WorkerLost(worker.key, worker.started, "it died")])
        elif slot >= self._slots:
            self._say([events.SpareLost()])
        if slot < self._slots and not (worker.ending or worker.replaced):
            self._slot_of[worker.key] = slot
            delay = self._respawn.delay(slot, self._agenda.now - worker.born)
            self._agenda.after(delay, lambda: self._in_time(lambda: self._succeed(worker)))

    def _succeed(self, former: SimulatedWorker) -> None:
        """Start a worker in the place of one that has died, or is to go when the new one is ready."""
        if not self._closed:
            slot = self._slot_of[former.key] if former.key in self.workers else self._slot_of.pop(former.key)
            worker = self._fork(slot)
            self._agenda.after(SETUP_S, lambda: self._come(worker, former))

    def stop(self, *, at_once: bool) -> None:
        """Start no more workers, and end those that there are."""
        self._closed = True
        for worker in self.workers.values():
            if at_once:
                worker.kill()
            else:
                worker.end()

    def die(self, within: float) -> None:
        """The node is gone, and so are its workers in a moment."""
        self._closed = True
        for worker in self.workers.values():
            self._agenda.after(self._rng.uniform(0.0, within), worker.die)
