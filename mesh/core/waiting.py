"""The jobs that no node has room for yet. Pure."""

from collections import deque
from collections.abc import Iterator, Sequence

from mesh.core.record import JobRecord

Queue = deque[JobRecord]

SLACK = 1000
"""Jobs that are over and may lie about in the queues until they are swept out: too few to matter in memory, enough
that a sweep costs each of them next to nothing."""


class Waiting:
    """Queues by priority, 9 first, and by task. Tasks of one priority take turns.

    A job that ends while it waits is only counted out; its place is passed over later.
    """

    def __init__(self) -> None:
        self._queues: dict[int, dict[str, Queue]] = {}
        self._count = 0
        self._over = 0

    def __len__(self) -> int:
        """How many jobs wait."""
        return self._count

    def __iter__(self) -> Iterator[JobRecord]:
        """Go through the jobs that wait."""
        return (record for *_, queue in self.queues() for record in queue if not record.over)

    def queues(self) -> list[tuple[int, str, Queue]]:
        """Return priority, task and jobs of each queue, in the order in which they are served."""
        return [
            (priority, task, queue) for priority, by_task in self._queues.items() for task, queue in by_task.items()
        ]

    def add(self, records: Sequence[JobRecord], *, front: bool = False) -> None:
        """Let jobs of one task and priority wait, behind the others of them or before."""
        priority, task = records[0].priority, records[0].task
        by_task = self._queues.get(priority)
        if by_task is None:
            by_task = self._queues[priority] = {}
            self._queues = dict(sorted(self._queues.items(), reverse=True))
        queue = by_task.get(task)
        if queue is None:
            queue = by_task[task] = deque()
        if front:
            queue.extendleft(reversed(records))
        else:
            queue.extend(records)
        self._count += len(records)

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

    def served(self, priority: int, task: str) -> None:
        """A task had its turn: the others of its priority come first next time. An empty queue goes."""
        by_task = self._queues[priority]
        queue = by_task.pop(task)
        if queue:
            by_task[task] = queue
        elif not by_task:
            del self._queues[priority]

    def ended(self) -> None:
        """One of the jobs has ended while it waited."""
        self._count -= 1
        self._over += 1
        if not self._count or self._over > self._count + SLACK:
            self._sweep()

    def _sweep(self) -> None:
        for priority, by_task in list(self._queues.items()):
            for task, queue in list(by_task.items()):
                left = [record for record in queue if not record.over]
                queue.clear()
                queue.extend(left)
                if not left:
                    del by_task[task]
            if not by_task:
                del self._queues[priority]
        self._over = 0
