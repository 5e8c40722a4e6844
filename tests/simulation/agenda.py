"""What happens when: the only clock of a simulation."""

import heapq
import itertools
from collections.abc import Callable


class Agenda:
    """Acts and their moments, in seconds; those of one moment happen in the order in which they were entered."""

    def __init__(self) -> None:
        self.now = 0.0
        self._entries: list[tuple[float, int, Callable[[], None]]] = []
        self._count = itertools.count()

    def at(self, when: float, act: Callable[[], None]) -> None:
        """Have this happen then, or now if that is past."""
        heapq.heappush(self._entries, (max(when, self.now), next(self._count), act))

    def after(self, seconds: float, act: Callable[[], None]) -> None:
        """Have this happen in so many seconds."""
        heapq.heappush(self._entries, (self.now + seconds, next(self._count), act))

    def run(self, until: float) -> None:
        """Let everything happen up to a moment."""
        entries = self._entries
        while entries and entries[0][0] <= until:
            self.now, _, act = heapq.heappop(entries)
            act()
        self.now = until
