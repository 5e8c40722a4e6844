"""What the survey found: as a table for the terminal, as Markdown, and as JSON."""

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.table import Column, Table

from benchmarks.peers import PEERS
from benchmarks.peers.survey import Row, Survey, figures
from benchmarks.report import Machine, put_between, versions
from benchmarks.rounds import Figure, Samples, ratio

HEADS = (
    "system", "no-op/s", "mesh / this (median of the rounds' ratios)", "p50 / p99 µs", "share of ideal",
    "64 idle, PSS MB",
)  # fmt: skip

_ABOUT = """\
One client process and the workers on the cores of one host, loopback, in one run of `python -m benchmarks peers --out
docs/benchmarks`. No-op jobs/s with up to 2,048 outstanding, on two workers (median, lowest to highest), and the median
of the ratios to the mesh in the same rounds; one job at a time, all processes where the kernel puts them and not pinned
to CPUs; jobs of 10 ms on 64 workers as a share of the ideal 6,400/s; memory of 64 workers that are idle after work,
with broker and helpers, without a client. Each system's configuration, and why it is the best reasonable one, stands in
its module under `benchmarks/peers/`; the versions in its `requirements.txt`. Those on "one host" have no network
between client and workers; with Dramatiq and arq the 64 are threads, eight in each of eight processes.
"""


def table(survey: Survey) -> Table:
    """For the terminal."""
    shown = Table(*(Column(head, no_wrap=head == "system") for head in HEADS), box=None)
    for cells in _cells(survey):
        shown.add_row(*cells)
    return shown


def write(survey: Survey, folder: Path) -> None:
    """Write peers.md and peers.json."""
    folder.mkdir(parents=True, exist_ok=True)
    machine = Machine.here()
    lines = [_line(HEADS), _line(["---"] * len(HEADS)), *map(_line, _cells(survey))]
    host = f"{machine.cpu}, {machine.cpus} CPUs, Linux {machine.kernel}, Python {versions()['python']}."
    Path(folder, "peers.md").write_text("\n".join(["# The peers, side by side", "", _ABOUT, host, "", *lines, ""]))
    found = {"machine": asdict(machine), "versions": versions(), "requirements": requirements(), **asdict(survey)}
    Path(folder, "peers.json").write_text(json.dumps(found, indent=1) + "\n")


def read(path: Path) -> tuple[Machine, dict[str, Figure]]:
    """Read the machine and the figures by key from what `write` wrote. Raises ValueError where it is something else."""
    try:
        found = json.loads(path.read_text())
        survey = Survey(Row(**found["mesh"]), [Row(**row) for row in found["peers"]], found["beside"])
        return Machine(**found["machine"]), {figure.key: figure for figure in figures(survey)}
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is not a report of the peers: {error!r}") from None


def write_readme(survey: Survey, path: Path) -> None:
    """Put the table of the peers into the README."""
    lines = [_line(HEADS), _line(["---"] * len(HEADS)), *map(_line, _cells(survey))]
    put_between(path, "<!-- peers -->", "\n".join(lines), "<!-- /peers -->")


def requirements() -> dict[str, str]:
    """The peers' versions."""
    lines = Path(__file__).with_name("requirements.txt").read_text().splitlines()
    return dict(line.split("==", 1) for line in lines if "==" in line)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', ' ') for cell in cells)} |"


def _cells(survey: Survey) -> list[list[str]]:
    best_first = sorted(survey.peers, key=lambda row: -statistics.median(row.noop or [0]))
    return [
        _row("the mesh", survey.mesh, "1"),
        *(_row(PEERS[row.name], row, _ratio(survey, row)) for row in best_first),
    ]


def _ratio(survey: Survey, row: Row) -> str:
    if not row.noop:
        return ""
    return f"{ratio(Samples('mesh', survey.beside[row.name]), Samples(row.name, row.noop)):.3g}"


def _row(title: str, row: Row, ratio_to_mesh: str) -> list[str]:
    if row.reason and not row.noop:
        return [title, f"not measured: {row.reason}", "", "", "", ""]
    noop = f"{statistics.median(row.noop):,.0f} ({min(row.noop):,.0f}–{max(row.noop):,.0f})" if row.noop else ""
    single = f"{statistics.median(row.p50):,.0f} / {statistics.median(row.p99):,.0f}" if row.p50 else ""
    missing = f"not measured: {row.reason}" if row.reason else ""
    share = f"{statistics.median(row.share):.2f}" if row.share else missing
    memory = f"{statistics.median(row.memory):,.0f}" if row.memory else ""
    return [title, noop, ratio_to_mesh, single, share, memory]
