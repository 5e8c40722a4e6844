"""How long to wait before a dead worker is replaced. Pure."""

YOUNG_S = 1.0
"""Seconds below which a worker died young: something is wrong with it, not with a job."""

FIRST_S = 0.1
MOST_S = 30.0


class Respawn:
    """At once, unless workers of that slot keep dying young: then twice as long each time."""

    def __init__(self) -> None:
        self._young: dict[int, int] = {}

    def delay(self, slot: int, lived: float) -> float:
        """Return the seconds to wait for the successor of a worker that lived `lived` seconds."""
        if lived >= YOUNG_S:
            self._young.pop(slot, None)
            return 0.0
        deaths = self._young[slot] = self._young.get(slot, 0) + 1
        return 0.0 if deaths == 1 else min(MOST_S, FIRST_S * 2.0 ** min(deaths - 2, 20))
