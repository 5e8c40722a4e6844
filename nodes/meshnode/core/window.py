"""How many jobs a client may have outstanding here. Pure: `docs/protocol.md`, Windows."""

AHEAD_S = 0.002
"""Seconds of work beyond the slots that a node lets clients keep here. It covers a round trip and two turns
of a loop, so that no worker idles while the next job travels, and is the longest that a job waits here for
want of a slot while another node may have one."""

_BUCKET_S = 0.005
_FADE = 0.8
MOST_AHEAD = 4096
"""Jobs ahead at most, whatever the rate."""


class Rate:
    """Jobs per second that the node finishes while it is at work: rises at once, falls slowly."""

    __slots__ = ("_count", "_since", "per_second")

    def __init__(self) -> None:
        self.per_second = 0.0
        self._count = 0
        self._since = 0.0

    def finished(self, count: int, now: float) -> None:
        """Count jobs that ended."""
        self._count += count
        elapsed = now - self._since
        if elapsed < _BUCKET_S:
            return
        latest = self._count / elapsed
        if latest < self.per_second:
            latest = self.per_second * _FADE + latest * (1 - _FADE)
        self.per_second = latest
        self._count = 0
        self._since = now

    def reset(self) -> None:
        """Forget: what came was not like what had been measured."""
        self.per_second = 0.0

    @property
    def ahead(self) -> int:
        """Jobs that the node finishes in `AHEAD_S`."""
        return min(int(self.per_second * AHEAD_S), MOST_AHEAD)


def window(slots: int, ahead: int, sharers: int) -> int:
    """One client's fair share of the slots and of the work ahead; at least one job."""
    return max(1, -(-(slots + ahead) // max(1, sharers)))
