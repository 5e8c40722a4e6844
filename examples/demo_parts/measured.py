"""What the demo measured, and whether that keeps the mesh's promise."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from examples.demo_parts.visitors import Echoes

STALL_LIMIT_MS = 250.0
"""Milliseconds within which the site must always answer: what is slower, people notice."""


@dataclass(frozen=True)
class Counts:
    """What the SMTP server counted."""

    accepted: int = 0
    recipients: int = 0
    duplicates: int = 0

    def since(self, earlier: "Counts") -> "Counts":
        """Return what came after an earlier count."""
        return Counts(
            self.accepted - earlier.accepted,
            self.recipients - earlier.recipients,
            self.duplicates - earlier.duplicates,
        )


@dataclass(frozen=True)
class Run:
    """One way of sending the mails: what the SMTP server, the site's own clock and its visitors say of it."""

    mails: int
    answer: str
    seconds: float
    counts: Counts
    stall_ms: float
    echoes: Echoes
    sent_by: Mapping[str, int]


def rows(mesh: Run, inline: Run, nodes: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """Lay out two runs side by side; an inline run of fewer mails is extrapolated, and says so."""
    factor = mesh.mails / inline.mails
    about = "" if factor == 1 else "≈ "
    yield "accepted by the SMTP server", f"{mesh.counts.accepted:,}", f"{inline.counts.accepted:,}"
    yield "duplicates among them", f"{mesh.counts.duplicates}", f"{inline.counts.duplicates}"
    for node in nodes:
        yield f"jobs at {node}", f"{mesh.sent_by.get(node, 0):,}", "–"
    yield "time for all", f"{mesh.seconds:.2f} s", f"{about}{inline.seconds * factor:.2f} s"
    yield "mails per second", f"{mesh.mails / mesh.seconds:,.0f}", f"{inline.mails / inline.seconds:,.0f}"
    yield "longest stall of the site", _ms(mesh.stall_ms), about + _ms(inline.stall_ms * factor)
    yield "echoes sent meanwhile", f"{len(mesh.echoes.round_trips):,}", f"{len(inline.echoes.round_trips):,}"
    yield "their median round trip", _ms(mesh.echoes.median_ms), _ms(inline.echoes.median_ms)
    yield "their worst round trip", _ms(mesh.echoes.worst_ms), _ms(inline.echoes.worst_ms)


def _ms(value: float) -> str:
    return f"{value:,.1f} ms" if value < 100 else f"{value:,.0f} ms"


def promises(mesh: Run, nodes: Sequence[str], crowd: int) -> Iterator[tuple[bool, str]]:
    """Yield each promise, and whether the run kept it."""
    counts, echoes, sent = mesh.counts, mesh.echoes, sum(mesh.sent_by.values())
    arrived = counts == Counts(mesh.mails, mesh.mails, 0) and mesh.answer == f"task complete: {mesh.mails} mails"
    yield arrived, f"{counts.accepted:,} of {mesh.mails:,} mails arrived, {counts.duplicates} duplicates"
    busy = [node for node in nodes if mesh.sent_by.get(node)]
    shared = len(busy) == len(nodes) and sent == mesh.mails
    yield shared, f"{len(busy)} of {len(nodes)} nodes took jobs, {sent:,} in all"
    awake = mesh.stall_ms < STALL_LIMIT_MS
    yield awake, f"the site never stood still for longer than {_ms(mesh.stall_ms)} (limit {_ms(STALL_LIMIT_MS)})"
    prompt = len(echoes.served) == crowd and not echoes.wrong and echoes.worst_ms < STALL_LIMIT_MS
    yield prompt, f"{len(echoes.served)} of {crowd} visitors had every echo within {_ms(echoes.worst_ms)}"
