"""How long a task's jobs run, judged from those that ended. Pure."""

from typing import Final

BUDGET_S: Final = 300e-6
"""Seconds of expected work that may lie in one worker's socket (measured: with jobs enough for 300 µs a
no-op reaches 0.97 of what any depth reaches, and 10 ms jobs behave as with one at a time)."""

STEADY_S: Final = 0.02
"""Seconds that the jobs of a task may run whose next job waits at a worker for the one before it to end."""

_STEADY: Final = 2.0
"""How much longer than the mean one in 200 of such jobs may run."""

_UP: Final = 2.0
_DOWN: Final = 0.9965
"""Factors for a job above and below the high estimate: they balance where one job in 200 is above it."""

_WEIGHT: Final = 1 / 64
_LEAST_S: Final = 1e-6


class RunTime:
    """How long one task's jobs run, in seconds; None while none has ended.

    `high` says whether a job may wait behind another at all: it climbs to what one job in 200 exceeds, by a
    factor and not to the sample, since a worker that the kernel set aside for a moment is not a slow task.
    `mean` says how many make up the budget. Per task, not per worker: a mixed load would blur it (measured).
    `alone`: a job of the task is to have a worker to itself, however short it is.
    """

    __slots__ = ("_alone", "high", "mean")

    def __init__(self, *, alone: bool = False) -> None:
        self._alone = alone
        self.high: float | None = None
        self.mean: float | None = None

    def observe(self, count: int, total: float, longest: float) -> None:
        """Take jobs into account that ended together: how many, their run times' sum and the longest."""
        longest = max(longest, _LEAST_S)
        if self.high is None or self.mean is None:
            self.high, self.mean = longest, max(total / count, _LEAST_S)
            return
        if longest > self.high:
            self.high = min(longest, self.high * _UP)
        else:
            self.high = max(self.high * _DOWN**count, _LEAST_S)
        latest = min(total / count, self.high)
        self.mean = max(self.mean + (latest - self.mean) * min(1.0, count * _WEIGHT), _LEAST_S)

    @property
    def cost(self) -> float:
        """Seconds of a worker's budget that one job takes; all of it unless its task is known to be short."""
        return self.mean if self.short and self.mean is not None else BUDGET_S

    @property
    def steady(self) -> bool:
        """Is it so sure when one of its jobs ends, and so soon, that the next may lie in its worker's socket?"""
        if self.high is None or self.mean is None or self.short or self._alone:
            return False
        return self.mean <= STEADY_S and self.high <= _STEADY * self.mean

    @property
    def short(self) -> bool:
        """Are its jobs short enough for two to lie in one worker's socket?"""
        return self.high is not None and self.high <= BUDGET_S / 2 and not self._alone
