"""The jobs that no node has room for yet. Pure."""

import heapq
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Final

from mesh.core.record import Alarm, JobRecord

Queue = deque[JobRecord]
Key = tuple[str, tuple[str, ...]]
"""What the jobs of a queue have in common beside their priority: their task, and the nodes they are not to go to."""

SLACK: Final = 1000
"""Jobs that are over and may lie about in the queues until they are swept out: too few to matter in memory, enough
that a sweep costs each of them next to nothing."""


class Waiting:
    """Queues by priority, 9 first, and by task. Tasks of one priority take turns.

    A job that ends while it waits is only counted out; its place is passed over later. Those that are to be tried
    again later wait for their time first.
    """

    def __init__(self) -> None:
        self._queues: dict[int, dict[Key, Queue]] = {}
        self._count = 0
        self._over = 0
        self._later: list[Alarm] = []
        self._last_later = 0
        self._delayed = 0

    def __len__(self) -> int:
        """How many jobs wait for room."""
        return self._count

    def __iter__(self) -> Iterator[JobRecord]:
        """Go through the jobs that wait, for room or for their time."""
        yield from (record for *_, queue in self.queues() for record in queue if not record.over)
        yield from (record for *_, record in self._later if record is not None)

    def queues(self) -> list[tuple[int, Key, Queue]]:
        """Return priority, key and jobs of each queue, in the order in which they are served."""
        return [(priority, key, queue) for priority, by_key in self._queues.items() for key, queue in by_key.items()]

    def add(self, records: Sequence[JobRecord], *, front: bool = False) -> None:
        """Let jobs of one task and priority wait, behind the others of them or before."""
        first = records[0]
        priority, key = first.priority, (first.task, first.extras.tried)
        by_key = self._queues.get(priority)
        if by_key is None:
            by_key = self._queues[priority] = {}
            self._queues = dict(sorted(self._queues.items(), reverse=True))
        queue = by_key.get(key)
        if queue is None:
            queue = by_key[key] = deque()
        if front:
            queue.extendleft(reversed(records))
        else:
            queue.extend(records)
        self._count += len(records)

    def add_later(self, record: JobRecord, at: float) -> None:
        """Let a job wait for its time, in monotonic seconds, before it waits for room."""
        self._last_later += 1
        self._delayed += 1
        record.own_extras().delayed = entry = [at, self._last_later, record]
        heapq.heappush(self._later, entry)

    def next_time(self) -> float | None:
        """When the next job's time comes; None for never."""
        return self._later[0][0] if self._later else None

    def come_of_time(self, now: float) -> list[JobRecord]:
        """Let those wait for room, before others, whose time has come; return them."""
        come = []
        while self._later and self._later[0][0] <= now:
            record = heapq.heappop(self._later)[2]
            if record is not None:
                record.own_extras().delayed = None
                self._delayed -= 1
                self.add([record], front=True)
                come.append(record)
        return come

    def first(self, queue: Queue) -> JobRecord | None:
        """Return the job whose turn it is in a queue; None if there is none."""
        while queue and queue[0].over:
            queue.popleft()
            self._over -= 1
        return queue[0] if queue else None

    def take(self, queue: Queue, most: int) -> list[JobRecord]:
        """Take the jobs whose turn it is out of a queue, `most` of them if there are as many."""
        if not self._over and most >= len(queue):
            taken = list(queue)
            queue.clear()
            self._count -= len(taken)
            return taken
        taken = []
        while queue and len(taken) < most:
            record = queue.popleft()
            if record.over:
                self._over -= 1
            else:
                taken.append(record)
        self._count -= len(taken)
        return taken

    def served(self, priority: int, key: Key) -> None:
        """A queue had its turn: the others of its priority come first next time. An empty one goes."""
        by_key = self._queues[priority]
        queue = by_key.pop(key)
        if queue:
            by_key[key] = queue
        elif not by_key:
            del self._queues[priority]

    def ended(self, record: JobRecord) -> None:
        """One of the jobs has ended while it waited."""
        extras = record.extras
        if extras.delayed is not None:
            extras.delayed[2] = None
            extras.delayed = None
            self._delayed -= 1
            if not self._delayed or len(self._later) > 2 * self._delayed + SLACK:
                self._later = [entry for entry in self._later if entry[2] is not None]
                heapq.heapify(self._later)
            return
        self._count -= 1
        self._over += 1
        if not self._count or self._over > self._count + SLACK:
            self._sweep()

    def forget(self) -> None:
        """Let go of all jobs; those that are kept lead to their entries, and these no longer back."""
        for entry in self._later:
            entry[2] = None
        self._later.clear()
        self._queues.clear()
        self._count = self._over = self._delayed = 0

    def _sweep(self) -> None:
        for priority, by_key in list(self._queues.items()):
            for key, queue in list(by_key.items()):
                left = [record for record in queue if not record.over]
                queue.clear()
                queue.extend(left)
                if not left:
                    del by_key[key]
            if not by_key:
                del self._queues[priority]
        self._over = 0
