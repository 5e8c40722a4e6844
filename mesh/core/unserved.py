"""Jobs whose task no node serves, and what they are told when their grace is over. Pure."""

from collections import deque
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from typing import Final

from mesh.core.record import PENDING, JobRecord
from mesh.core.roster import Roster
from mesh.errors import KeyRefused, MeshError, NoNodes, PoisonTask, UnknownTask

MOST_NAMED: Final = 16
"""Nodes that an error names at most."""


class Unserved:
    """Gives each of them `grace` seconds. `refusal`: why a node wanted nothing of us, for who then finds no other.

    `denied`: why nodes do not let us in for want of the right key, by name.
    """

    def __init__(self, grace: float) -> None:
        self.refusal = ""
        self.denied: dict[str, str] = {}
        self.met_any = False
        self._grace = grace
        self._jobs: deque[tuple[float, JobRecord]] = deque()

    def deny(self, node: str, why: str) -> None:
        """A node does not let us in."""
        if len(self.denied) < MOST_NAMED or node in self.denied:
            self.denied[node] = why

    def welcome(self) -> None:
        """A node lets us in, or would if it were not leaving."""
        self.met_any = True
        self.denied.clear()

    def add(self, records: Iterable[JobRecord], now: float) -> None:
        """Nobody serves the task of these, or not any more."""
        self._jobs.extend((now + self._grace, record) for record in records)

    def clear(self) -> None:
        """Let go of all."""
        self._jobs.clear()

    def next(self) -> float | None:
        """When the next one's grace is over; None for never."""
        return self._jobs[0][0] if self._jobs else None

    def due(self, roster: Roster, now: float) -> Iterator[tuple[JobRecord, MeshError]]:
        """Take out those whose grace is over; of these give the ones that have to end, and how."""
        while self._jobs and self._jobs[0][0] <= now:
            record = self._jobs.popleft()[1]
            if not record.over and record.state == PENDING and roster.serves(record.task) is None:
                error = self._verdict(record, roster)
                if error is not None:
                    yield record, error

    def _verdict(self, record: JobRecord, roster: Roster) -> MeshError | None:
        if any(record.task in view.quarantined for view in roster):
            text = f"{record.task!r} is in quarantine at every node that serves it: worker after worker died of it"
            return PoisonTask(text, started=record.began)
        if len(roster):
            names = roster.task_names()
            near = get_close_matches(record.task, names, n=3)
            hint = f"did you mean {' or '.join(near)}?" if near else f"served are {_listed(names)}"
            return UnknownTask(f"no node serves {record.task!r}; {hint}")
        if self.met_any and record.extras.deadline is not None:
            return None  # a node may return in time
        if self.denied and not self.met_any:
            told = "; ".join(f"{node}: {why}" for node, why in sorted(self.denied.items()))
            return KeyRefused(f"no node of the mesh lets this client in ({told})")
        refusal = f" One refused: {self.refusal}." if self.refusal else ""
        return NoNodes(
            f"no node of this mesh was found within {self._grace:g} s: is one running (meshnode), in the same mesh "
            f"(--mesh), within reach of mDNS or named as a seed?{refusal}"
        )


def _listed(names: set[str]) -> str:
    shown = sorted(names)[:8]
    return ", ".join(shown) + (" …" if len(names) > len(shown) else "") if shown else "no tasks at all"
