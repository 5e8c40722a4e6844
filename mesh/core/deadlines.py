"""Whose time is up next. Pure."""

import heapq
from collections.abc import Iterator
from typing import Final, Generic, Protocol, TypeVar

from mesh.core.record import Alarm, JobRecord

SLACK: Final = 1000
"""Alarms of what is over and may lie about until they are swept out."""


class Timed(Protocol):
    """What may have a deadline. `alarm`: its entry in the heap while it has one."""

    alarm: Alarm | None


T = TypeVar("T", bound=Timed)


class Alarms(Generic[T]):
    """The records that have a deadline. One that is over is let go of at once, not when its time would have been up."""

    def __init__(self) -> None:
        self._alarms: list[Alarm] = []
        self._count = 0
        self._live = 0

    def __len__(self) -> int:
        """How many have a deadline and are not over."""
        return self._live

    def set(self, record: T, deadline: float) -> None:
        """Give a record a deadline, in monotonic seconds; it has none yet."""
        self._count += 1
        record.alarm = alarm = [deadline, self._count, record]
        heapq.heappush(self._alarms, alarm)
        self._live += 1

    def clear(self, record: T) -> None:
        """A record that has a deadline is over."""
        assert record.alarm is not None
        record.alarm[2] = None
        record.alarm = None
        self._live -= 1
        if len(self._alarms) > 2 * self._live + SLACK:
            self._alarms = [alarm for alarm in self._alarms if alarm[2] is not None]
            heapq.heapify(self._alarms)

    def forget(self) -> None:
        """Let go of all records; those that are kept have no deadline any more."""
        for alarm in self._alarms:
            record = alarm[2]
            if record is not None:
                alarm[2] = record.alarm = None
        self._alarms.clear()
        self._live = 0

    def next(self) -> float | None:
        """When the next alarm is due; None for never."""
        return self._alarms[0][0] if self._alarms else None

    def due(self, now: float) -> Iterator[T]:
        """Take out those whose time is up."""
        while self._alarms and self._alarms[0][0] <= now:
            record = heapq.heappop(self._alarms)[2]
            if record is not None:
                record.alarm = None
                self._live -= 1
                yield record


class Deadlines(Alarms[JobRecord]):
    """The client's jobs that have a deadline; each bears its own."""

    def set(self, record: JobRecord, deadline: float) -> None:
        """Give a job a deadline, in monotonic seconds; it has none yet."""
        record.own_extras().deadline = deadline
        super().set(record, deadline)
