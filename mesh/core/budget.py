"""How many further attempts a client may make: retries must not multiply an overload. Pure."""

from collections import deque
from typing import Final

PERIOD_S: Final = 10.0
"""Seconds over which jobs and further attempts are counted."""

SHARE: Final = 0.2
"""Further attempts for each job handed in: at most a fifth more load, whatever fails."""

FLOOR: Final = 10.0
"""Further attempts a second that are always allowed, so that a client with few jobs may try again at all."""


class Budget:
    """Spreads further attempts so that they are no more than `SHARE` of the jobs and `FLOOR` a second.

    After some rest as many as belong to `PERIOD_S` may be made at once. None is refused: it waits for its turn, as long
    as its job has time. (The generic cell rate algorithm, ITU-T I.371, with a rate that follows the jobs.)
    """

    def __init__(self) -> None:
        self._handed_in: deque[tuple[float, int]] = deque()
        self._count = 0
        self._next = -PERIOD_S

    def handed_in(self, count: int, now: float) -> None:
        """So many jobs were handed in."""
        self._count += count
        if self._handed_in and now - self._handed_in[-1][0] < PERIOD_S / 10:
            at, before = self._handed_in[-1]
            self._handed_in[-1] = (at, before + count)
        else:
            self._handed_in.append((now, count))
        self._forget(now)

    def _forget(self, now: float) -> None:
        while self._handed_in and self._handed_in[0][0] <= now - PERIOD_S:
            self._count -= self._handed_in.popleft()[1]

    def wait(self, now: float) -> float:
        """Return the seconds after which the next further attempt may be made, 0 for now."""
        return max(0.0, self._after_next(now) - now)

    def take(self, now: float) -> None:
        """The attempt that `wait` spoke of is made."""
        self._next = self._after_next(now)

    def _after_next(self, now: float) -> float:
        self._forget(now)
        rate = FLOOR + SHARE * self._count / PERIOD_S
        return max(self._next, now - PERIOD_S) + 1 / rate
