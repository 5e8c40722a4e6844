"""One place where a node runs, in one life after another."""

import random

from mesh.wire.messages import About, TaskSpec
from tests.simulation.ledger import Ledger
from tests.simulation.life import Life, Size
from tests.simulation.network import Network


class SimulatedNode:
    """One place where a node runs: its endpoint, its size, and its present life, if any."""

    def __init__(
        self, network: Network, ledger: Ledger, rng: random.Random, *, number: int, size: Size, tasks: list[TaskSpec]
    ) -> None:
        self.number = number
        self.endpoint = f"node {number}"
        self.size = size
        self.life: Life | None = None
        self._network = network
        self._ledger = ledger
        self._rng = rng
        self._tasks = tasks
        self._id = f"{rng.getrandbits(128):032x}"
        self._lives = 0
        self.start()

    def start(self) -> None:
        """Begin a new life, unless one is under way; with a new id, as a node has that nobody gave one."""
        if self.life is not None:
            return
        self._lives += 1
        if self._rng.random() < 0.5:
            self._id = f"{self._rng.getrandbits(128):032x}"
        size = self.size
        about = About(
            self._id, self._rng.randbytes(8), f"n{self.number}.{self._lives}", "default",
            size.workers, size.concurrency, 1 << 20, self._tasks,
        )  # fmt: skip
        self.life = Life(
            self._network, self._ledger, random.Random(self._rng.random()), number=self.number, about=about, size=size
        )
        self._network.listen(self.endpoint, self.life)

    def kill(self, *, silent: bool = False) -> None:
        """kill -9, or (`silent`) the end of its host."""
        life = self.life
        if life is not None:
            self._end()
            life.die(rest_arrives=self._rng.random() < 0.5, silent=silent)

    def stop(self, grace: float, *, back: float) -> None:
        """Let its life end in order, and start the next one `back` seconds later."""
        life = self.life

        def end() -> None:
            if self.life is life:
                self._end()
                self._network.agenda.after(back, self.start)

        if life is not None:
            life.order(lambda: life.stop(grace, then=end))

    def _end(self) -> None:
        self.life = None
        self._network.listen(self.endpoint, None)
