"""Whether a task brings down worker after worker, so that none of its jobs is run for a while. Pure."""

from typing import Final

CRASHES: Final = 5
"""Workers that a task may bring down one after another within `WITHIN_S`."""

WITHIN_S: Final = 60.0
CLOSED_S: Final = 60.0
"""Seconds for which none of its jobs is run then."""


class Quarantine:
    """Counts the workers that died of one task since a job of it last left its worker alive.

    In a row, since a few poisonous jobs among many good ones are stopped one by one (`PoisonTask`); to stop the good
    ones with them would do more harm than the poison (docs/decisions/0009).
    """

    __slots__ = ("crashes", "until")

    def __init__(self) -> None:
        self.crashes: list[float] = []
        self.until = 0.0

    def crashed(self, now: float) -> bool:
        """A worker died of the task; True if it is closed by that."""
        self.crashes = [at for at in self.crashes if at > now - WITHIN_S] + [now]
        if len(self.crashes) < CRASHES:
            return False
        self.until = now + CLOSED_S
        del self.crashes[0]  # on trial when the time is over: one more crash closes it again
        return True

    def survived(self) -> None:
        """A job of the task ended, and its worker lives."""
        self.crashes.clear()

    def closed(self, now: float) -> bool:
        """Is none of its jobs to run at `now`?"""
        return now < self.until
