"""Which workers drag on, so that what lies behind a job in their sockets is taken back. Pure."""

from collections import deque
from collections.abc import Callable
from typing import Final

from meshnode.core.held import FOREVER
from meshnode.core.pool import Pool, Worker

DRAG_S: Final = 0.002
"""Seconds between two looks at a worker with prefetched jobs: if it runs the same one at both, those behind it are
taken back."""

SURE_S: Final = 0.05
"""The same for a job that waits behind one that was sure to end soon."""

Mark = tuple[int, int]
"""How far a worker is: its first order that has not ended as far as it has told, the last that it has taken up."""


class Watch:
    """Looks again and again at the workers with jobs behind others.

    `taken_up` says which order a worker has taken up last. `at`: when a worker is to be looked at; FOREVER for never.
    """

    def __init__(self, pool: Pool, taken_up: Callable[[int], int]) -> None:
        self.at = FOREVER
        self._pool = pool
        self._taken_up = taken_up
        self._looks: dict[float, deque[tuple[float, Worker, Mark]]] = {DRAG_S: deque(), SURE_S: deque()}

    def begin(self, worker: Worker, now: float) -> None:
        """Look at a worker that is not watched yet after a while."""
        worker.watched = True
        patience = DRAG_S if worker.packed else SURE_S
        self._looks[patience].append((now + patience, worker, self._mark(worker)))
        self.at = min(self.at, now + patience)

    def dragging(self, now: float) -> list[Worker]:
        """Look at those whose time has come, and return those that have gone no further and have jobs behind.

        One that drags on with nothing behind its job is stuck from now on.
        """
        dragging: list[Worker] = []
        for looks in self._looks.values():
            while looks and looks[0][0] <= now:
                _, worker, mark = looks.popleft()
                if self._drags(worker, mark, now):
                    dragging.append(worker)
        self.at = min(looks[0][0] if looks else FOREVER for looks in self._looks.values())
        return dragging

    def _drags(self, worker: Worker, mark: Mark, now: float) -> bool:
        worker.watched = False
        behind = len(worker.outstanding) - 1
        if behind < 0 or worker.stuck or worker.key not in self._pool.workers:
            return False
        if self._mark(worker) == mark:
            worker.stuck = not behind
            return behind > 0
        if behind:
            self.begin(worker, now)
        return False

    def _mark(self, worker: Worker) -> Mark:
        return next(iter(worker.outstanding), 0), self._taken_up(worker.key)
