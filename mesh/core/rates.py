"""How many jobs a second end at nodes, from two looks at their counts. Pure."""

from msgspec import Struct

from mesh.wire.reports import Status


class Rate(Struct, frozen=True):
    """Jobs that ended a second, and those of them that failed."""

    ended: float
    failed: float


class Rates:
    """Remembers the last look at each node, by its id and the start of its process."""

    def __init__(self) -> None:
        self._before: dict[tuple[str, int], tuple[float, Status]] = {}

    def of(self, status: Status, now: float) -> Rate | None:
        """Return the rates since the last look, and remember this one; None at the first look at a node."""
        key = status.id, status.pid
        before = self._before.get(key)
        self._before[key] = now, status
        if before is None or now <= before[0]:
            return None
        seconds = now - before[0]
        failed = status.failed + status.lost - before[1].failed - before[1].lost
        ended = status.done - before[1].done + failed
        return Rate(round(ended / seconds, 1), round(failed / seconds, 1))
