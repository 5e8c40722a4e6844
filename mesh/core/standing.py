"""What a client thinks of one node, as a state machine. Pure: `docs/liveness.md` draws it.

Silence makes a node SUSPECT and then DEAD, its own word DRAINING, five failures in a row EJECTED. One that refuses
us is QUARANTINED, which is no state of these: it has no link, and its endpoint rests (`mesh.core.dialer`).
"""

from enum import Enum
from typing import Final

from mesh.core.liveness import Health, Liveness

FAILURES: Final = 5
"""System failures in a row (a lost worker, a lost connection with jobs under way) after which a node is ejected."""

EJECTED_S: Final = 10.0
"""Seconds out for the first time; n times as long for the nth in a row (as Envoy's outlier detection counts)."""

MOST_TIMES: Final = 30
"""The longest time out is this many times `EJECTED_S`: five minutes."""


class State(Enum):
    """What may be sent to a node: anything (ALIVE), one job (TRIAL), nothing new, or nothing ever again (DEAD)."""

    ALIVE = "alive"
    TRIAL = "trial"
    SUSPECT = "suspect"
    DRAINING = "draining"
    EJECTED = "ejected"
    DEAD = "dead"


class Record:
    """A node's failures, which outlive its link: one that comes back broken is known."""

    __slots__ = ("failures", "out_until", "times", "trial")

    def __init__(self) -> None:
        self.failures = 0
        self.times = 0
        self.out_until = 0.0
        self.trial = False

    @property
    def clean(self) -> bool:
        """Is there nothing to remember?"""
        return not self.failures and not self.times

    def failed(self, now: float, *, may_eject: bool) -> bool:
        """Count a system failure; True if the node is ejected by it, which only happens where it may be."""
        if self.out_until:
            return False
        self.failures += 1
        if not may_eject or self.failures < (1 if self.trial else FAILURES):
            return False
        self.times = min(self.times + 1, MOST_TIMES)
        self.out_until = now + EJECTED_S * self.times
        self.failures = 0
        self.trial = False
        return True

    def succeeded(self) -> None:
        """A job ended there as it should: nothing is held against the node any more."""
        if not self.out_until:
            self.failures = self.times = 0
            self.trial = False

    def let_in(self, now: float) -> bool:
        """Is the time out over? Then one job is tried there."""
        if not self.out_until or now < self.out_until:
            return False
        self.relent()
        return True

    def relent(self) -> None:
        """Its time out ends, over or not."""
        self.out_until = 0.0
        self.trial = True


class Standing:
    """One node's state, as of the last `look`; `heard` is the only thing that changes it in between."""

    __slots__ = ("draining", "liveness", "record", "state")

    def __init__(self, record: Record, now: float) -> None:
        self.liveness = Liveness(now)
        self.record = record
        self.draining = False
        self.state = State.ALIVE
        self.look(now)

    def heard(self, now: float) -> None:
        """Note that anything at all arrived from the node."""
        self.liveness.heard(now)
        if self.state is State.SUSPECT:
            self.look(now)

    def look(self, now: float) -> State:
        """Judge the node at `now`. The first of these that holds: dead, ejected, draining, suspect, trial, alive."""
        health = self.liveness.health(now)
        if health is Health.DEAD:
            self.state = State.DEAD
        elif self.record.out_until:
            self.state = State.EJECTED
        elif self.draining:
            self.state = State.DRAINING
        elif health is Health.SUSPECT:
            self.state = State.SUSPECT
        else:
            self.state = State.TRIAL if self.record.trial else State.ALIVE
        return self.state
