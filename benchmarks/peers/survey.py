"""Runs one peer after another, ours in between, and makes rows and figures of what they reached."""

import statistics
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

import mesh
from benchmarks.latency import calls
from benchmarks.mesh_client import WARM_UP, rate, with_client
from benchmarks.mesh_node import MeshNode
from benchmarks.naps import IDEAL, WORKERS, nap_rate
from benchmarks.peers import PEERS
from benchmarks.peers.process import PeerFailed, PeerProcess, pss_mb
from benchmarks.processes import descendants, in_child
from benchmarks.rounds import Figure, Samples, Size, alternate

NOOPS = 100_000
CALLS = 4_000
NAPS = 12_800
WINDOW = 2048
"""Jobs under way at most, here as with the peers (`driver.WINDOW`)."""

PEER_S = 90.0
"""Seconds that a peer may take for each of its two halves."""

ALL_S = 1_080.0
"""Seconds, from before the installation, after which no peer runs any more.

What can follow is one measurement of ours that hangs (`processes.LIMIT_S`), a node's start and end (`mesh_node`), and
the end of a cage: less than two minutes, so that it is 20 in all at worst.
"""

_SAMPLE_S = 2.0
_SETTLE_S = 1.0
"""Idle seconds before memory is read."""

OUT_OF_TIME = "no time was left"


@dataclass
class Row:
    """What one system reached, a value a sample. `reason` says why there is nothing more."""

    name: str
    noop: list[float] = field(default_factory=list)
    p50: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)
    share: list[float] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)
    reason: str = ""


@dataclass
class Survey:
    """All rows. `beside` is what the mesh's no-op rate was in the rounds of each peer."""

    mesh: Row = field(default_factory=lambda: Row("mesh"))
    peers: list[Row] = field(default_factory=list)
    beside: dict[str, list[float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Measure:
    """One column besides the no-op rate."""

    name: str
    title: str
    unit: str


MEASURES = (
    Measure("p50", "one job at a time, p50", "µs"),
    Measure("p99", "one job at a time, p99", "µs"),
    Measure("share", f"10 ms jobs on {WORKERS} workers", f"of {IDEAL:,.0f} jobs/s"),
    Measure("memory", f"{WORKERS} idle workers, broker included, PSS", "MB"),
)


def run(names: Sequence[str], size: Size, *, python: Path, console: Console, until: float) -> Survey:
    """Measure these peers until then, a moment of `time.monotonic`; those that are left get no row of figures."""
    survey = Survey()
    for name in names:
        row = Row(name)
        survey.peers.append(row)
        if time.monotonic() >= until:
            row.reason = OUT_OF_TIME
            continue
        began = time.monotonic()
        console.print(f"{PEERS[name]} …", end=" ", highlight=False)
        try:
            _few(row, survey, size, python, until)
            _many(row, survey, size, python, until)
        except PeerFailed as error:
            row.reason = OUT_OF_TIME if time.monotonic() >= until else str(error)
        except (RuntimeError, TimeoutError) as error:  # our own node or client: it costs this peer, not all
            row.reason = f"the mesh beside it failed: {_in_a_line(error)}"
        said = f"not measured: {row.reason}; " if row.reason else ""
        console.print(f"{said}{time.monotonic() - began:.0f} s", highlight=False, markup=False)
    return survey


def _in_a_line(error: Exception) -> str:
    """What went wrong without the traceback of a child: its first line and its last, for a cell of a table."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [repr(error)]
    return " ".join(dict.fromkeys((lines[0], lines[-1])))[:200]


def _left(until: float) -> float:
    """For how long a peer may run now. Raises PeerFailed where no time is left."""
    left = until - time.monotonic()
    if left <= 0:
        raise PeerFailed(OUT_OF_TIME)
    return min(PEER_S, left)


def window_rate(seed: str, jobs: int) -> float:
    """Submit with the window full and await the oldest, as the peers' drivers do; jobs/s."""

    async def run(client: mesh.Client, jobs: int) -> None:
        pending: deque[mesh.Job[object]] = deque()
        for _ in range(jobs):
            if len(pending) >= WINDOW:
                await pending.popleft()
            pending.append(client.submit("noop"))
        for job in pending:
            await job

    async def work(client: mesh.Client) -> float:
        await run(client, WARM_UP)
        return await rate(jobs, run(client, jobs))

    return with_client([seed], work)


def _few(row: Row, survey: Survey, size: Size, python: Path, until: float) -> None:
    """No-op jobs on two workers, with the window full and one at a time."""
    seconds = max(0.25, _SAMPLE_S * size.scale)
    with MeshNode(2) as node, PeerProcess(row.name, python, seconds=_left(until)) as peer:
        peer.ask("open", workers=2, naps=False)
        contestants = {
            "mesh": lambda: in_child(window_rate, node.seed, size.of(NOOPS, least=20_000)),
            row.name: lambda: peer.ask("noop", seconds=seconds)["rate"],
        }
        beside, theirs = alternate(size.rounds, contestants)
        alone = peer.ask("singly", seconds=seconds)
        ours = in_child(calls, node.seed, size.of(CALLS, least=1000))
        peer.ask("close")
    row.noop += theirs.values
    row.p50.append(alone["p50"])
    row.p99.append(alone["p99"])
    survey.mesh.noop += beside.values
    survey.mesh.p50.append(ours["p50"])
    survey.mesh.p99.append(ours["p99"])
    survey.beside[row.name] = beside.values


def _many(row: Row, survey: Survey, size: Size, python: Path, until: float) -> None:
    """64 workers: what they weigh when idle, and 10 ms jobs on them."""
    _left(until)  # ours is not begun either where there is no time for the peer
    with MeshNode(WORKERS) as node:
        share = in_child(nap_rate, [node.seed], size.of(NAPS, least=2560)) / IDEAL
        time.sleep(_SETTLE_S)
        memory = pss_mb([node.pid, *descendants(node.pid)])
    survey.mesh.share.append(share)
    survey.mesh.memory.append(memory)
    with PeerProcess(row.name, python, seconds=_left(until)) as peer:
        driver = int(peer.ask("open", workers=WORKERS, naps=True)["pid"])
        time.sleep(_SETTLE_S)
        row.memory.append(peer.memory(driver))
        row.share.append(peer.ask("naps", seconds=max(0.5, _SAMPLE_S * size.scale))["rate"] / IDEAL)
        peer.ask("close")


def figures(survey: Survey) -> list[Figure]:
    """The ratio to each peer, and the mesh beside all of them for the rest."""
    found = [
        Figure(
            key=f"peers.{row.name}",
            title=f"no-op, 2 workers, against {PEERS[row.name]}",
            unit="jobs/s",
            ours=Samples("mesh", survey.beside[row.name]),
            reference=Samples(PEERS[row.name], row.noop),
        )
        for row in survey.peers
        if row.noop
    ]
    return found + [_beside(survey, measure) for measure in MEASURES if getattr(survey.mesh, measure.name)]


def _beside(survey: Survey, measure: Measure) -> Figure:
    """The mesh and all peers, a value each: they were sampled in their own turns and not in rounds."""

    def middle(row: Row, name: str) -> Samples:
        return Samples(name, [statistics.median(getattr(row, measure.name))])

    return Figure(
        key=f"peers.{measure.name}",
        title=measure.title,
        unit=measure.unit,
        ours=middle(survey.mesh, "mesh"),
        others=[middle(row, PEERS[row.name]) for row in survey.peers if getattr(row, measure.name)],
        note="; ".join(f"{PEERS[row.name]} not measured: {row.reason}" for row in survey.peers if row.reason),
    )
