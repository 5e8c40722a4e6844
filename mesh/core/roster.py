"""The nodes that a client knows, and how much room each has as of its last word. Pure."""

import random
from collections.abc import Iterator

from mesh.core.liveness import Health, Liveness
from mesh.core.record import JobRecord
from mesh.signature import Signature
from mesh.wire.messages import About, ClientItem, NodeMessage, TaskSpec


class ServedTask:
    """A task as one node serves it."""

    __slots__ = ("signature", "spec")

    def __init__(self, spec: TaskSpec) -> None:
        self.spec = spec
        self.signature = Signature(spec.parameters)


class NodeView:
    """One node as its last word described it, and what this client has sent there since."""

    __slots__ = (
        "about", "draining", "free", "free_async", "health", "key", "liveness", "outbox", "outstanding", "seen",
        "sent", "stamp", "tasks", "window",
    )  # fmt: skip

    def __init__(self, key: int, about: About, now: float) -> None:
        self.key = key
        self.about = about
        self.tasks = {spec.name: ServedTask(spec) for spec in about.tasks}
        self.liveness = Liveness(now)
        self.health = Health.ALIVE
        self.draining = False
        self.free = self.free_async = self.window = self.seen = self.sent = self.stamp = 0
        self.outstanding: dict[bytes, JobRecord] = {}
        self.outbox: list[ClientItem] = []

    def heard(self, message: NodeMessage, now: float) -> None:
        """Take in the load that every message from a node carries."""
        self.liveness.heard(now)
        self.health = Health.ALIVE
        self.free = message.free
        self.free_async = message.free_async
        self.window = message.window
        self.seen = message.seen
        self.stamp = message.stamp

    @property
    def open(self) -> bool:
        """May new jobs be sent there?"""
        return not self.draining and self.health is Health.ALIVE

    @property
    def room(self) -> int:
        """How many more jobs its window allows this client."""
        return self.window - len(self.outstanding)

    def idle(self, *, is_async: bool) -> int:
        """Free slots as of its last word, less the jobs sent since that it had not seen then."""
        return (self.free_async if is_async else self.free) - (self.sent - self.seen)


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
        return next((view.tasks[task] for view in self._views.values() if task in view.tasks), None)

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

    def choose(self, task: str, *, not_key: int = 0) -> tuple[NodeView, int] | None:
        """Choose the node with most room for a task, and how many jobs until another has more.

        Free slots count first; where none is free, room in the window. Ties are broken at random. `not_key` is
        passed over while there is another.
        """
        best: list[NodeView] = []
        top = second = _NONE
        for view in self._views.values():
            served = view.tasks.get(task)
            if served is None or not view.open or view.room <= 0 or view.key == not_key:
                continue
            score = _score(view, is_async=served.spec.is_async)
            if score > top:
                second, top, best = top, score, [view]
            elif score == top:
                second = score
                best.append(view)
            elif score > second:
                second = score
        if not best:
            return self.choose(task) if not_key else None
        view = best[0] if len(best) == 1 else self._rng.choice(best)
        if second == _NONE:
            return view, view.room
        gap = top[1] - second[1] + 1 if top[0] == second[0] else top[1]
        return view, max(1, min(view.room, gap))


_NONE = (-1, 0)


def _score(view: NodeView, *, is_async: bool) -> tuple[int, int]:
    idle = min(view.idle(is_async=is_async), view.room)
    return (1, idle) if idle > 0 else (0, view.room)
