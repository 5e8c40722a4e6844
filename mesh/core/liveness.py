"""How alive one node looks, judged from when it was last heard. Pure: `docs/liveness.md`."""

from enum import Enum
from typing import Final

PING_S: Final = 1.0
"""Seconds without a word from a node, or without one to it, after which it is asked: a node forgets whoever says
nothing, however much it has to say itself."""

SUSPECT_S: Final = 2.5
"""Seconds of silence after which no new job is sent there: two pings are unanswered."""

DEAD_S: Final = 6.0
"""Seconds of silence after which a node is given up."""


class Health(Enum):
    """What may be sent to a node: anything, nothing new, nothing ever again."""

    ALIVE = "alive"
    SUSPECT = "suspect"
    DEAD = "dead"


class Liveness:
    """How alive one node looks. It is told the time and never asks it."""

    __slots__ = ("_asked", "_heard", "_said")

    def __init__(self, now: float) -> None:
        self._heard = now
        self._said = now
        self._asked = now

    def heard(self, now: float) -> None:
        """Note that anything at all arrived from the node."""
        self._heard = now

    def said(self, now: float) -> None:
        """Note that something was sent to the node."""
        self._said = now

    def excuse(self, seconds: float, now: float) -> None:
        """Do not count the last `seconds`: the observer itself stood still and could not have heard."""
        self._heard = min(now, self._heard + seconds)

    def wants_ping(self, now: float) -> bool:
        """Is it time to ask? True once in each `PING_S` of silence on either side; the caller then asks."""
        if now - self._asked < PING_S or now - min(self._heard, self._said) < PING_S:
            return False
        self._asked = now
        return True

    def health(self, now: float) -> Health:
        """Judge the node at `now`."""
        if now >= self._heard + DEAD_S:  # the very sums of `next_change`, which then never names a moment too early
            return Health.DEAD
        return Health.SUSPECT if now >= self._heard + SUSPECT_S else Health.ALIVE

    def next_change(self, now: float) -> float:
        """When `health` will next differ if the node stays silent; it is not dead yet."""
        suspect = self._heard + SUSPECT_S
        return suspect if now < suspect else self._heard + DEAD_S
