"""How long a task's jobs run, judged from those that ended. Pure."""

BUDGET_S = 300e-6
"""Seconds of expected work that may lie in one worker's socket (measured: with jobs enough for 300 µs a
no-op reaches 0.97 of what any depth reaches, and 10 ms jobs behave as with one at a time)."""

_UP = 0.5
_DOWN = 0.01


class RunTime:
    """A high estimate of one task's run time in seconds.

    It rises fast and falls slowly, which holds it near the 98th percentile: a task of whose jobs one in a
    hundred is slow counts as slow, so that nothing waits behind such a job. Per task, not per worker: a
    mixed load would blur it (measured).
    """

    __slots__ = ("estimate",)

    def __init__(self) -> None:
        self.estimate: float | None = None

    def observe(self, seconds: float) -> None:
        """Take one job's run time into account."""
        known = self.estimate
        if known is None:
            self.estimate = seconds
        else:
            self.estimate = known + (seconds - known) * (_UP if seconds > known else _DOWN)

    @property
    def cost(self) -> float:
        """Seconds of a worker's budget that one job takes; all of it while nothing is known."""
        known = self.estimate
        return BUDGET_S if known is None or known > BUDGET_S else known

    @property
    def short(self) -> bool:
        """Are its jobs short enough for two to lie in one worker's socket?"""
        known = self.estimate
        return known is not None and known <= BUDGET_S / 2
