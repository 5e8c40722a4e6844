"""What became of the latest jobs. Pure: `docs/protocol.md`, Finding a job again.

For clients that were forgotten for a while, and for attempts that are handed in once more.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Final

from mesh.wire.messages import Failed, Lost, NodeItem, Reject, Result
from meshnode.core.held import Held

MOST: Final = 1024
"""Outcomes that are kept: few enough to stay in a CPU's cache, since each passes through here."""

MOST_BYTES: Final = 8 * 1024 * 1024
HEAVY: Final = 128 * 1024
"""Bytes from which a single outcome is not kept but for an orphan: it may hold a memory file (`meshnode.worker.link`),
and sixty like it would drive out all others."""

KEPT_S: Final = 60.0
"""Seconds: a client that was silent for longer has long been taken for dead by everybody."""

Outcome = Result | Failed | Lost | Reject


class Outcomes:
    """The latest outcomes, in the lists in which they came. A job is looked for only when somebody asks.

    `whose`: the member (`Owner.member`) that handed the jobs in. Only the same one finds them: an id is no secret.

    `orphans`: jobs that run though their owner is gone, by id; of several attempts of a job the last.
    """

    def __init__(self) -> None:
        self.orphans: dict[bytes, Held] = {}
        self._batches: deque[tuple[float, int, int, str, Sequence[Sequence[NodeItem]]]] = deque()
        self._count = 0
        self._bytes = 0

    def __len__(self) -> int:
        """How many are kept."""
        return self._count

    def orphaned(self, held: Held) -> None:
        """The owner of a job that runs is gone."""
        other = self.orphans.get(held.id)
        if other is None or (other.submit.attempt < held.submit.attempt and other.owner.member == held.owner.member):
            self.orphans[held.id] = held

    def ended(self, held: Held) -> bool:
        """A job ends; True if it was an orphan and nobody has heard of its end."""
        if self.orphans.get(held.id) is not held:
            return False
        del self.orphans[held.id]
        return True

    def keep(self, outcomes: Sequence[Sequence[NodeItem]], size: int, now: float, *, whose: str = "") -> None:
        """Keep some, of so many bytes together."""
        count = sum(map(len, outcomes))
        if size >= HEAVY and count == 1:
            return
        self._keep(outcomes, count, size, now, whose)

    def keep_orphaned(self, item: Result | Failed | Lost, now: float, *, whose: str = "") -> None:
        """Keep the outcome of a job whose owner is gone, however large it is."""
        if isinstance(item, Result):
            item = Result(item.id, item.attempt, bytes(item.body))  # which may lie in a memory file of its own
        self._keep([[item]], 1, 0 if isinstance(item, Lost) else len(item.body), now, whose)

    def _keep(self, outcomes: Sequence[Sequence[NodeItem]], count: int, size: int, now: float, whose: str) -> None:
        self._batches.append((now, count, size, whose, outcomes))
        self._count += count
        self._bytes += size
        while self._batches and (self._count > MOST or self._bytes > MOST_BYTES or self._batches[0][0] < now - KEPT_S):
            _, count, size, *_ = self._batches.popleft()
            self._count -= count
            self._bytes -= size

    def find(self, wanted: Mapping[bytes, int | None], now: float, *, whose: str = "") -> dict[bytes, Outcome]:
        """Return what is known of a member's jobs, by id; where an attempt is wanted, only the outcome of that one."""
        found: dict[bytes, Outcome] = {}
        if not wanted:
            return found
        for at, _, _, member, lists in self._batches:
            if at < now - KEPT_S or member != whose:
                continue
            for item in chain.from_iterable(lists):
                if isinstance(item, Outcome) and item.id in wanted and wanted[item.id] in (None, item.attempt):
                    found[item.id] = item
        return found
