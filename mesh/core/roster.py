"""The nodes that a client knows, and how much room each has as of its last word. Pure."""

import math
import random
from collections.abc import Iterator, Sequence
from typing import Final

from mesh.core.record import JobRecord
from mesh.core.standing import Record, Standing, State
from mesh.errors import BadArguments, MeshError, PayloadTooLarge
from mesh.signature import Signature
from mesh.wire.messages import About, ClientItem, NodeMessage, TaskSpec


class ServedTask:
    """A task as one node serves it. `timeout`: seconds that its jobs have where their caller does not say."""

    __slots__ = ("signature", "spec", "timeout")

    def __init__(self, spec: TaskSpec) -> None:
        self.spec = spec
        sane = spec.timeout is not None and 0 < spec.timeout < math.inf
        self.timeout = spec.timeout if sane else None
        self.signature = Signature(spec.parameters)


class NodeView:
    """One node as its last word described it, and what this client has sent there since."""

    __slots__ = (
        "about", "free", "free_async", "key", "outbox", "outstanding", "quarantined", "seen", "sent", "stamp",
        "standing", "tasks", "window",
    )  # fmt: skip

    def __init__(self, key: int, about: About, now: float, record: Record | None = None) -> None:
        self.key = key
        self.standing = Standing(record or Record(), now)
        self.describe(about)
        self.free = self.free_async = self.window = self.seen = self.sent = self.stamp = 0
        self.outstanding: dict[bytes, JobRecord] = {}
        self.outbox: list[ClientItem] = []

    def describe(self, about: About) -> None:
        """Take in what the node says of itself."""
        self.about = about
        self.tasks = {spec.name: ServedTask(spec) for spec in about.tasks}
        self.quarantined: dict[str, tuple[float, ServedTask]] = {}

    def served(self, task: str) -> ServedTask | None:
        """Return a task as the node serves it, be it in quarantine there."""
        served = self.tasks.get(task)
        return self.quarantined[task][1] if served is None and task in self.quarantined else served

    def misfit(self, record: JobRecord) -> MeshError | None:
        """Say why a job plainly cannot run here; None if it can. Its arguments are looked at once."""
        shape, record.shape = record.shape, None
        wrong = self.tasks[record.task].signature.misfit(*shape) if shape is not None else None
        if wrong:
            return BadArguments(f"{record.task} {wrong}")
        if len(record.body) > self.about.max_body:
            text = f"{len(record.body)} bytes of arguments, and node {self.about.name} takes {self.about.max_body}"
            return PayloadTooLarge(f"{text} (its --max-message)")
        return None

    def quarantine(self, task: str, until: float) -> bool:
        """Give the node no jobs of a task until then; False if it gets none already."""
        served = self.tasks.pop(task, None)
        if served is None:
            return False
        self.quarantined[task] = until, served
        return True

    def release(self, now: float) -> bool:
        """Give it jobs again of the tasks whose quarantine is over, if there are any."""
        over = [task for task, (until, _) in self.quarantined.items() if now >= until]
        for task in over:
            self.tasks[task] = self.quarantined.pop(task)[1]
        return bool(over)

    def heard(self, message: NodeMessage, now: float) -> None:
        """Take in the load that every message from a node carries."""
        self.standing.heard(now)
        self.free = message.free
        self.free_async = message.free_async
        self.window = message.window
        self.seen = message.seen
        self.stamp = message.stamp

    @property
    def open(self) -> bool:
        """May new jobs be sent there?"""
        return self.standing.state in _OPEN

    @property
    def room(self) -> int:
        """How many more jobs its window allows this client; one in all while it is on trial."""
        most = 1 if self.standing.state is State.TRIAL else self.window
        return min(most, self.window) - len(self.outstanding)

    def idle(self, *, is_async: bool) -> int:
        """Free slots as of its last word, less the jobs sent since that it had not seen then."""
        return (self.free_async if is_async else self.free) - (self.sent - self.seen)


_OPEN: Final = (State.ALIVE, State.TRIAL)


class Roster:
    """The nodes by the key of the link that leads to each."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._views: dict[int, NodeView] = {}
        self._by_id: dict[str, NodeView] = {}

    def __iter__(self) -> Iterator[NodeView]:
        """Go through the nodes."""
        return iter(self._views.values())

    def __len__(self) -> int:
        """How many there are."""
        return len(self._views)

    def get(self, key: int) -> NodeView | None:
        """Return the node behind a link."""
        return self._views.get(key)

    def by_id(self, node_id: str) -> NodeView | None:
        """Return the node with this id."""
        return self._by_id.get(node_id)

    def add(self, view: NodeView) -> None:
        """Take a node in."""
        self._views[view.key] = self._by_id[view.about.node] = view

    def remove(self, key: int) -> NodeView | None:
        """Let a node go."""
        view = self._views.pop(key, None)
        if view is not None and self._by_id.get(view.about.node) is view:
            del self._by_id[view.about.node]
        return view

    def serves(self, task: str) -> ServedTask | None:
        """Return the task as some node serves it."""
        for view in self._views.values():
            served = view.tasks.get(task)
            if served is not None:
                return served
        return None

    def task_names(self) -> set[str]:
        """Return the names of all tasks that some node serves."""
        return {name for view in self._views.values() for name in view.tasks}

    def free(self, task: str, *, is_async: bool) -> int:
        """Return the slots free for a task at all nodes, as far as their windows let this client use them."""
        return sum(
            max(0, min(view.idle(is_async=is_async), view.room))
            for view in self._views.values()
            if view.open and task in view.tasks
        )

    def share(
        self, task: str, wanted: int, *, not_key: int = 0, tried: Sequence[str] = ()
    ) -> list[tuple[NodeView, int]]:
        """Share out `wanted` jobs of a task: the nodes that get some now, and how many each.

        Each job goes where most slots are free; where none is free any more, where most room is left in the window.
        Ties are broken at random. `not_key` is passed over while another has room, those `tried` while another is
        alive.
        """
        serving = [view for view in self._views.values() if task in view.tasks and view.open]
        if tried:
            serving = [view for view in serving if view.about.node not in tried] or serving
        able = [view for view in serving if view.room > 0 and view.key != not_key]
        if not able:
            return self.share(task, wanted, tried=tried) if not_key else []
        if len(able) == 1:
            return [(able[0], min(wanted, able[0].room))]
        self._rng.shuffle(able)
        rooms = [view.room for view in able]
        idle = [
            max(0, min(view.idle(is_async=view.tasks[task].spec.is_async), room))
            for view, room in zip(able, rooms, strict=True)
        ]
        counts = level(idle, wanted)
        left = wanted - sum(counts)
        if left:
            more = level([room - count for room, count in zip(rooms, counts, strict=True)], left)
            counts = [count + extra for count, extra in zip(counts, more, strict=True)]
        return [(view, count) for view, count in zip(able, counts, strict=True) if count]


def level(heights: Sequence[int], amount: int) -> list[int]:
    """Say how much to take from each of some heaps, `amount` in all, so that the highest left is as low as can be.

    Where one more must come from some of equal height, the first ones give it.
    """
    falling = sorted(heights, reverse=True)
    top = falling[0]
    taken = 0
    for count, lower in enumerate([*falling[1:], 0], 1):
        layer = count * (top - lower)
        if taken + layer >= amount:
            top -= (amount - taken) // count
            break
        taken += layer
        top = lower
    takes = [max(0, height - top) for height in heights]
    rest = min(amount, sum(heights)) - sum(takes)
    for index in [index for index, height in enumerate(heights) if height >= top][:rest]:
        takes[index] += 1
    return takes
