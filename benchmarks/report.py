"""What was measured, set against the targets: for the terminal, as JSON, and as Markdown."""

import dataclasses
import json
import os
import platform
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import zmq
from rich.table import Table

from benchmarks import proxy
from benchmarks.rounds import Figure, Samples, Size, ratio
from benchmarks.targets import SUSPECT, TARGETS, Target, Verdict

HEADLINES = (
    "throughput.submit", "throughput.map", "throughput.submit_64", "latency.p50", "naps.share", "bodies.1m",
    "bridge.persistent.echo", "costs.client", "costs.node", "startup.ready", "startup.pss", "growth.memory",
)  # fmt: skip
"""The targets that the README's short table shows."""

BEGIN, END = "<!-- benchmarks -->", "<!-- /benchmarks -->"

_STYLES = {
    Verdict.WANTED: "green",
    Verdict.HELD: "green",
    Verdict.MISSED: "red",
    Verdict.NOTHING: "yellow",
    Verdict.UNMEASURED: "dim",
}


@dataclass(frozen=True)
class Machine:
    """What the figures were taken on."""

    cpu: str
    cpus: int
    memory_gb: float
    kernel: str
    load: float

    @classmethod
    def here(cls) -> "Machine":
        """Describe this one, and how busy it is now."""
        found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        kernel = re.match(r"[\d.]+", platform.release())
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        return cls(
            cpu=found[1] if found else platform.machine(),
            cpus=len(os.sched_getaffinity(0)),
            memory_gb=round(memory / 2**30, 1),
            kernel=kernel[0] if kernel else "",
            load=round(os.getloadavg()[0], 2),
        )


def versions() -> dict[str, str]:
    """Return the versions of what was measured."""
    ours = {name: version(name) for name in ("meshnode", "pyzmq", "msgspec", "msgpack", "uvloop")}
    return {"python": platform.python_version(), "libzmq": zmq.zmq_version(), **ours}


@dataclass(frozen=True)
class Report:
    """One run: its figures by key, and `proxy_rate`, the one-message proxy's jobs/s if anything was set against it."""

    machine: Machine
    versions: dict[str, str]
    size: Size
    quick: bool
    benchmarks: list[str]
    figures: dict[str, Figure]
    proxy_rate: float | None
    runs: int = 1

    @property
    def suspect(self) -> bool:
        """Is the reference too slow to prove anything?"""
        return self.proxy_rate is not None and self.proxy_rate < SUSPECT

    def verdict(self, target: Target) -> Verdict:
        """Judge what was measured for a target."""
        figure = self.figures.get(target.key)
        if figure is None or (target.against and figure.reference is None):
            return Verdict.UNMEASURED
        if self.suspect and rests_on_the_proxy(figure):
            return Verdict.NOTHING
        return target.verdict(figure.value)

    def targets(self) -> list[Target]:
        """Return the targets of the benchmarks that were run."""
        return [target for target in TARGETS if target.benchmark in self.benchmarks]

    def untargeted(self) -> list[Figure]:
        """Return the figures that no target is set for."""
        keys = {target.key for target in TARGETS}
        return [figure for key, figure in self.figures.items() if key not in keys]

    @property
    def headline(self) -> str:
        """What this ran on, in one line."""
        machine = self.machine
        names = ", ".join(f"{name} {number}" for name, number in self.versions.items())
        return (
            f"{machine.cpu}, {machine.cpus} CPUs, {machine.memory_gb:g} GB, Linux {machine.kernel}, load "
            f"{machine.load:g} before; {names}; {self.size.rounds} rounds{', quick' if self.quick else ''}"
            f"{f'; of {self.runs} whole runs the middle one in each row' if self.runs > 1 else ''}"
        )

    @property
    def suspicion(self) -> str:
        """What to say where the reference is too slow."""
        return (
            f"reference suspect: {proxy.NAME} reaches {shown(self.proxy_rate or 0)} jobs/s here, and two idle cores "
            f"give more than {SUSPECT:,}; what is set against it proves nothing"
        )


def rests_on_the_proxy(figure: Figure) -> bool:
    """Is the proxy what this figure is compared with?"""
    return figure.reference is not None and figure.reference.name.startswith(proxy.NAME)


def shown(value: float) -> str:
    """Write a figure with three digits that matter."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


# rows that the terminal and Markdown share


def _target_row(report: Report, target: Target) -> list[str]:
    verdict = report.verdict(target)
    sign = "≤" if target.lower else "≥"
    bounds = ["–" if bound is None else f"{sign} {bound:g}" for bound in (target.must, target.want)]
    unit = "" if target.unit == "share" else f" {target.unit}"
    measured = ["–", "–", "–"]
    figure = report.figures.get(target.key)
    if figure is not None:
        reference = "–" if figure.reference is None else _amount(figure, figure.reference)
        value = "–" if verdict is Verdict.UNMEASURED else f"{shown(figure.value)}{unit}"
        measured = [_amount(figure, figure.ours), reference, value]
        if verdict not in (Verdict.UNMEASURED, Verdict.NOTHING):
            bounds = [
                text if bound is None else f"{text} {'reached' if target.reached(bound, figure.value) else 'missed'}"
                for text, bound in zip(bounds, (target.must, target.want), strict=True)
            ]
    against = target.against or "–"
    return [target.what, measured[0], against, measured[1], measured[2], *bounds, verdict.value]


def _amount(figure: Figure, samples: Samples) -> str:
    return f"{shown(samples.median)} {figure.unit}"


def _figure_rows(figures: Iterable[Figure]) -> list[list[str]]:
    """Everything measured, contestant by contestant, with its spread and what ours is to it."""
    rows = []
    for figure in figures:
        title = figure.title
        for samples in (figure.ours, *([figure.reference] if figure.reference else []), *figure.others):
            low, high = samples.spread
            ours = "" if samples is figure.ours else f"{_ratio(figure.ours, samples)} ×"
            rows.append([title, samples.name, _amount(figure, samples), f"{shown(low)}–{shown(high)}", ours])
            title = ""
    return rows


def _ratio(ours: Samples, other: Samples) -> str:
    if len(ours.values) != len(other.values) or not all(other.values):
        return "–"
    return shown(ratio(ours, other))


_TARGET_HEADS = ["what", "mesh", "against", "that", "ratio or value", "must", "want", "verdict"]
_FIGURE_HEADS = ["what", "who", "median", "spread", "mesh / this"]


def target_table(report: Report) -> Table:
    """Return the targets as a table for the terminal."""
    table = Table(*_TARGET_HEADS, title="Targets", box=None, title_justify="left", pad_edge=False)
    for target in report.targets():
        style = _STYLES[report.verdict(target)]
        *row, verdict = _target_row(report, target)
        table.add_row(*row, f"[{style}]{verdict}[/]")
    return table


def figure_table(figures: Iterable[Figure], title: str) -> Table:
    """Return figures as a table for the terminal."""
    table = Table(*_FIGURE_HEADS, title=title, box=None, title_justify="left", pad_edge=False)
    for row in _figure_rows(figures):
        table.add_row(*row)
    return table


def _markdown(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (heads, ["---"] * len(heads), *rows))


# files


def write_json(report: Report, path: Path) -> None:
    """Write everything that was measured."""
    content = {
        "machine": asdict(report.machine),
        "versions": report.versions,
        "runs": report.runs,
        "rounds": report.size.rounds,
        "scale": report.size.scale,
        "quick": report.quick,
        "proxy_rate": report.proxy_rate,
        "reference_suspect": report.suspect,
        "targets": [asdict(target) | {"verdict": report.verdict(target).value} for target in report.targets()],
        "figures": [asdict(figure) | {"value": figure.value} for figure in report.figures.values()],
    }
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Report:
    """Read what `write_json` wrote. Raises ValueError where the file is something else."""
    try:
        content = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is no JSON: {error}") from None
    try:
        figures = {fields["key"]: _figure(fields) for fields in content["figures"]}
        return Report(
            Machine(**content["machine"]), content["versions"], Size(content["rounds"], content["scale"]),
            content["quick"], list(dict.fromkeys(key.partition(".")[0] for key in figures)), figures,
            content["proxy_rate"],
        )  # fmt: skip
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} is not a report of a run: {error!r}") from None


def _figure(fields: dict[str, Any]) -> Figure:
    del fields["value"]
    samples = {name: Samples(**fields[name]) if fields[name] else None for name in ("ours", "reference")}
    others = [Samples(**other) for other in fields["others"]]
    series = {name: [(x, y) for x, y in points] for name, points in fields["series"].items()}
    return Figure(**(fields | samples | {"others": others, "series": series}))


def middle(reports: Sequence[Report]) -> Report:
    """Put several whole runs together: of each figure that of the run in which it was the middle one."""
    figures = {}
    for key in reports[-1].figures:
        found = sorted((report.figures[key] for report in reports if key in report.figures), key=lambda one: one.value)
        figures[key] = found[len(found) // 2]
    rates = sorted(report.proxy_rate for report in reports if report.proxy_rate is not None)
    rate = rates[len(rates) // 2] if rates else None
    return dataclasses.replace(reports[-1], figures=figures, proxy_rate=rate, runs=len(reports))


def write_markdown(report: Report, path: Path, plots: Sequence[Path]) -> None:
    """Write the tables, with the plots that lie beside them."""
    pictures = [f"![{plot.stem}]({plot.name})" for plot in plots]
    notes = [f"* **{figure.title}**: {figure.note}" for figure in report.figures.values() if figure.note]
    peers = (
        ["Other systems, measured side by side: [peers](peers.md).", ""] if (path.parent / "peers.md").exists() else []
    )
    lines = [
        "# What was measured",
        "",
        "Written by `python -m benchmarks`; do not edit. `make bench` measures your machine.",
        "",
        f"On {report.headline}.",
        *(["", f"**{report.suspicion[0].upper()}{report.suspicion[1:]}.**"] if report.suspect else []),
        "",
        "Everything runs on one host, clients, node and workers on the same CPUs, so read ratios: each round measures",
        "ours and its reference one after the other, and the median of the rounds' ratios counts.",
        "",
        *(["Other systems, measured side by side: [peers](peers.md).", ""] if peers else []),
        "## Targets",
        "",
        _markdown(_TARGET_HEADS, (_target_row(report, target) for target in report.targets())),
        "",
        *[line for picture in pictures for line in (picture, "")],
        "## Everything",
        "",
        _markdown(_FIGURE_HEADS, _figure_rows(report.figures.values())),
        "",
        *([*notes, ""] if notes else []),
    ]  # fmt: skip
    path.write_text("\n".join(lines).rstrip("\n") + "\n")


def write_readme(report: Report, path: Path) -> None:
    """Put the short table into the README."""
    put_between(path, BEGIN, short_table(report), END)


def put_between(path: Path, begin: str, text: str, end: str) -> None:
    """Replace what stands between two markers. Raises ValueError where they are missing."""
    before, found, rest = path.read_text().partition(begin)
    _, found_end, after = rest.partition(end)
    if not found or not found_end:
        raise ValueError(f"{path.name} has no {begin} … {end}")
    path.write_text(f"{before}{begin}\n{text}\n{end}{after}")


def short_table(report: Report) -> str:
    """Return the headlines as Markdown."""
    rows = []
    for target in TARGETS:
        figure = report.figures.get(target.key)
        if target.key in HEADLINES and figure is not None:
            what, ours, against, reference, value, must, _, verdict = _target_row(report, target)
            rows.append([what, ours, f"{against}: {reference}" if target.against else "–", value, must, verdict])
    table = _markdown(["what", "mesh", "against", "ratio or value", "must", "verdict"], rows)
    return f"{table}\n\nOn {report.headline}. [Everything that was measured](docs/benchmarks/README.md)."
