"""Which nodes of one mesh are there, merged from several sources. Pure: told the time.

Sources (mDNS, seeds, peers) report sightings and let go of them; the directory turns that into
changes. All of it is hints, not truth: only a node's own WELCOME says that it lives.
"""

from dataclasses import dataclass

from meshdiscovery.record import Record


@dataclass(frozen=True, slots=True)
class Found:
    """A node that no source had reported before."""

    record: Record


@dataclass(frozen=True, slots=True)
class Changed:
    """A known node of which something differs now: its epoch, port, addresses, name or versions."""

    record: Record


@dataclass(frozen=True, slots=True)
class Lost:
    """A node that every source which had reported it has let go."""

    node_id: str


Change = Found | Changed | Lost


class Directory:
    """The nodes of mesh `mesh`: at most `max_nodes`, at most `max_new_per_minute` new ones.

    Where sources disagree, the newest word holds: a source that only repeats itself changes
    nothing, so that two sources with different opinions do not alternate. What was ignored is
    counted in `other_mesh` (records of other meshes), `over_capacity` and `over_rate`.
    """

    def __init__(self, mesh: str, *, max_nodes: int = 1024, max_new_per_minute: int = 600) -> None:
        self.mesh = mesh
        self.other_mesh = 0
        self.over_capacity = 0
        self.over_rate = 0
        self._max_nodes = max_nodes
        self._newcomers = _Allowance(max_new_per_minute)
        # For each node the last word of each source, the newest last.
        self._words: dict[str, dict[str, Record]] = {}

    def __len__(self) -> int:
        return len(self._words)

    def __contains__(self, node_id: str) -> bool:
        return node_id in self._words

    def records(self) -> tuple[Record, ...]:
        """The current record of every node, in the order they were found."""
        return tuple(_newest(words) for words in self._words.values())

    def seen(self, source: str, record: Record, now: float) -> list[Change]:
        """Note that `source` reports a node, at `now` in monotonic seconds."""
        if record.mesh != self.mesh:
            self.other_mesh += 1
            return self.gone(source, record.node_id)
        words = self._words.get(record.node_id)
        if words is None:
            return self._admit(source, record, now)
        if words.get(source) == record:
            return []
        before = _newest(words)
        words.pop(source, None)
        words[source] = record
        return _difference(before, record)

    def gone(self, source: str, node_id: str) -> list[Change]:
        """Note that `source` no longer reports a node."""
        words = self._words.get(node_id)
        if words is None or source not in words:
            return []
        before = _newest(words)
        del words[source]
        if words:
            return _difference(before, _newest(words))
        del self._words[node_id]
        return [Lost(node_id)]

    def _admit(self, source: str, record: Record, now: float) -> list[Change]:
        if len(self._words) >= self._max_nodes:
            self.over_capacity += 1
            return []
        if not self._newcomers.take(now):
            self.over_rate += 1
            return []
        self._words[record.node_id] = {source: record}
        return [Found(record)]


class _Allowance:
    """So many a minute: a bucket of that size which fills up evenly."""

    def __init__(self, per_minute: int) -> None:
        self._size = float(per_minute)
        self._left = float(per_minute)
        self._at: float | None = None

    def take(self, now: float) -> bool:
        if self._at is not None:
            refill = max(0.0, now - self._at) * self._size / 60.0
            self._left = min(self._size, self._left + refill)
        self._at = now
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True


def _newest(words: dict[str, Record]) -> Record:
    return next(reversed(words.values()))


def _difference(before: Record, after: Record) -> list[Change]:
    return [] if before == after else [Changed(after)]
