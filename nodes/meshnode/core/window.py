"""How many jobs a client may have outstanding here. Pure: `docs/protocol.md`, Windows."""

from typing import Final

from meshnode.core.runtime import BUDGET_S

AHEAD_S: Final = 0.002
"""Seconds of work beyond the slots that a node lets clients keep here. It covers a round trip and two turns
of a loop, so that no worker idles while the next job travels, and is the longest that a job waits here for
want of a slot while another node may have one."""

MOST_AHEAD: Final = 2048
"""Jobs ahead at most, however short: enough to keep every hop in large batches."""

_WEIGHT: Final = 1 / 64
"""How much one job counts against those before it."""


class Pace:
    """The mean run time of the node's latest jobs, in seconds, and how many it will finish in `AHEAD_S`.

    Reckoned from run times and not from jobs per second: these follow from the window, so that a small window
    would keep itself small.
    """

    __slots__ = ("mean",)

    def __init__(self) -> None:
        self.mean: float | None = None

    def finished(self, count: int, seconds: float) -> None:
        """So many jobs ran for so many seconds together."""
        latest = seconds / count
        weight = min(1.0, count * _WEIGHT)
        self.mean = latest if self.mean is None else self.mean + (latest - self.mean) * weight

    def reset(self) -> None:
        """Forget: what came was not like what had been measured."""
        self.mean = None

    def ahead(self, workers: int, cores: int) -> int:
        """Jobs that the workers finish in `AHEAD_S`; short ones keep no more workers busy than there are cores."""
        if self.mean is None:
            return 0
        parallel = min(workers, cores) if self.mean <= BUDGET_S / 2 else workers
        return min(MOST_AHEAD, int(parallel * AHEAD_S / max(self.mean, 1e-6)))


def window(slots: int, ahead: int, sharers: int) -> int:
    """One client's fair share of the slots and of the work ahead; at least one job."""
    return max(1, -(-(slots + ahead) // max(1, sharers)))
