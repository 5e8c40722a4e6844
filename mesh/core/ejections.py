"""Which nodes are sent nothing for a while since jobs fail there. Pure: `docs/liveness.md`, Ejection."""

from typing import Final

from mesh.core.roster import NodeView, Roster
from mesh.core.standing import Record

MOST_AWAY: Final = 256
"""Nodes that are away and whose failures are remembered: those that left last. Most never return."""


class Ejections:
    """Counts each node's failures, and never puts out more than half of the nodes."""

    def __init__(self) -> None:
        self._away: dict[str, Record] = {}

    def record_of(self, node: str) -> Record:
        """Return what is held against a node that comes; its view keeps it as long as it is here."""
        return self._away.pop(node, None) or Record()

    def failed(self, view: NodeView, roster: Roster, now: float) -> None:
        """Count a failure of the node's own; out with it after several in a row, unless half of all are out."""
        if view.standing.record.failed(now, may_eject=2 * (len(_out(roster)) + 1) <= len(roster)):
            view.standing.look(now)

    def succeeded(self, view: NodeView, now: float) -> None:
        """A job ended there as it should."""
        view.standing.record.succeeded()
        view.standing.look(now)

    def left(self, view: NodeView) -> None:
        """A node is gone: what is held against it is remembered."""
        if not view.standing.record.clean:
            self._away[view.about.node] = view.standing.record
            if len(self._away) > MOST_AWAY:
                del self._away[next(iter(self._away))]

    def relent(self, roster: Roster, now: float) -> None:
        """The nodes have become others: where more than half are out now, let in those that have served most."""
        out = sorted(_out(roster), key=lambda view: view.standing.record.out_until)
        for view in out[: len(out) - len(roster) // 2] if 2 * len(out) > len(roster) else ():
            view.standing.record.relent()
            view.standing.look(now)


def _out(roster: Roster) -> list[NodeView]:
    return [view for view in roster if view.standing.record.out_until]
