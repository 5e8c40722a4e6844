"""What was measured, set against the targets: for the terminal, as JSON, and as Markdown."""

import json
import os
import platform
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import zmq
from rich.table import Table

from benchmarks import proxy
from benchmarks.rounds import Figure, Samples, Size, ratio
from benchmarks.targets import SUSPECT, TARGETS, Target, Verdict
from mesh.version import form

HEADLINES = (
    "throughput.submit", "throughput.map", "throughput.submit_64", "latency.p50", "naps.share", "bodies.1m",
    "bridge.persistent.echo", "costs.client", "costs.node", "startup.ready", "startup.pss", "growth.memory",
)  # fmt: skip
"""The targets that the README's short table shows, beside all that miss what they must reach."""

BEGIN, END = "<!-- benchmarks -->", "<!-- /benchmarks -->"

_IN_WORDS = {Verdict.MISSED: "missed", Verdict.NOTHING: "proved nothing", Verdict.UNMEASURED: "not measured"}

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
    ours["meshnode"] += f" ({form()})"
    return {"python": platform.python_version(), "libzmq": zmq.zmq_version(), **ours}


@dataclass(frozen=True)
class Report:
    """One run: its figures by key, and `proxy_rate`, the one-message proxy's jobs/s if anything was set against it.

    Of a `whole` run every target is told, measured or not. `elsewhere` has figures of another run for those that this
    one does not measure; `elsewhere_name` says which that was.
    """

    machine: Machine
    versions: dict[str, str]
    size: Size
    quick: bool
    benchmarks: list[str]
    figures: dict[str, Figure]
    proxy_rate: float | None
    runs: int = 1
    whole: bool = False
    elsewhere: Mapping[str, Figure] = field(default_factory=dict)
    elsewhere_name: str = ""

    @property
    def suspect(self) -> bool:
        """Is the reference too slow to prove anything?"""
        return self.proxy_rate is not None and self.proxy_rate < SUSPECT

    def verdict(self, target: Target) -> Verdict:
        """Judge what was measured for a target."""
        figure = self.figure(target)
        if figure is None or (target.against and figure.reference is None):
            return Verdict.UNMEASURED
        if self.suspect and rests_on_the_proxy(figure):
            return Verdict.NOTHING
        return target.verdict(figure.value)

    def figure(self, target: Target) -> Figure | None:
        """Return what a target judges, if it was measured here or elsewhere."""
        return self.figures.get(target.key) or self.elsewhere.get(target.key)

    def against(self, target: Target) -> str:
        """What a target's figure is set against, and in which run if not in this one."""
        borrowed = target.key not in self.figures and target.key in self.elsewhere
        return f"{target.against} ({self.elsewhere_name})" if borrowed else target.against

    def targets(self) -> list[Target]:
        """Return the targets of the benchmarks that were run; all of them after a whole run."""
        return [target for target in TARGETS if self.whole or target.benchmark in self.benchmarks]

    @property
    def tally(self) -> str:
        """How many targets reach what they must, in one line."""
        verdicts = Counter(self.verdict(target) for target in self.targets())
        held = verdicts[Verdict.HELD] + verdicts[Verdict.WANTED]
        rest = [f"{verdicts[one]} {_IN_WORDS[one]}" for one in _IN_WORDS if verdicts[one]]
        return f"{held} of {verdicts.total()} musts held{''.join(f'; {words}' for words in rest)}."

    @property
    def rounds(self) -> str:
        """Of how many rounds the figures are, benchmark by benchmark where they differ from the usual number."""
        counts: dict[str, set[int]] = {}
        for key, figure in self.figures.items():
            counts.setdefault(key.partition(".")[0], set()).add(len(figure.ours.values))
        others: dict[str, list[str]] = {}
        for benchmark, found in counts.items():
            if found != {self.size.rounds}:
                others.setdefault(" and ".join(map(str, sorted(found))), []).append(benchmark)
        differing = ", ".join(f"of {' and '.join(names)} {number}" for number, names in others.items())
        return f"{self.size.rounds} rounds" + (f" ({differing})" if differing else "")

    @property
    def headline(self) -> str:
        """What this ran on, in one line."""
        machine = self.machine
        names = ", ".join(f"{name} {number}" for name, number in self.versions.items())
        return (
            f"{machine.cpu}, {machine.cpus} CPUs, {machine.memory_gb:g} GB, Linux {machine.kernel}, load "
            f"{machine.load:g} before; {names}; {self.rounds}{', quick' if self.quick else ''}"
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
    figure = report.figure(target)
    if figure is not None:
        reference = "–" if figure.reference is None else _amount(figure, figure.reference)
        value = "–" if verdict is Verdict.UNMEASURED else f"{shown(figure.value)}{unit}"
        measured = [_amount(figure, figure.ours), reference, value]
        if verdict not in (Verdict.UNMEASURED, Verdict.NOTHING):
            bounds = [
                text if bound is None else f"{text} {'reached' if target.reached(bound, figure.value) else 'missed'}"
                for text, bound in zip(bounds, (target.must, target.want), strict=True)
            ]
    against = report.against(target) or "–"
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
            ours = "" if samples is figure.ours else _ratio(figure.ours, samples)
            rows.append([title, samples.name, _amount(figure, samples), f"{shown(low)}–{shown(high)}", ours])
            title = ""
    return rows


def _ratio(ours: Samples, other: Samples) -> str:
    if other.part or len(ours.values) != len(other.values) or not all(other.values):
        return "–"
    return f"{shown(ratio(ours, other))} ×"


_RATIO_OR_VALUE = "ratio (median of the rounds' ratios) or value"
_TARGET_HEADS = ["what", "mesh", "against", "that", _RATIO_OR_VALUE, "must", "want", "verdict"]
_FIGURE_HEADS = ["what", "who", "median", "spread", "mesh / this (median of the rounds' ratios)"]


def target_table(report: Report) -> Table:
    """Return the targets as a table for the terminal."""
    table = Table(*_TARGET_HEADS, title="Targets", box=None, title_justify="left", pad_edge=False)
    for target in report.targets():
        style = _STYLES[report.verdict(target)]
        *row, verdict = _target_row(report, target)
        table.add_row(*row, f"[{style}]{verdict}[/]")
    return table


def figure_table(figures: Iterable[Figure]) -> Table:
    """Return figures as a table for the terminal."""
    table = Table(*_FIGURE_HEADS, box=None, pad_edge=False)
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
        "benchmarks": report.benchmarks,
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
        derived = list(dict.fromkeys(key.partition(".")[0] for key in figures))  # older files do not say it
        return Report(
            Machine(**content["machine"]), content["versions"], Size(content["rounds"], content["scale"]),
            content["quick"], content.get("benchmarks", derived), figures,
            content["proxy_rate"], content["runs"],
        )  # fmt: skip
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} is not a report of a run: {error!r}") from None


def _figure(fields: dict[str, Any]) -> Figure:
    del fields["value"]
    samples = {name: Samples(**fields[name]) if fields[name] else None for name in ("ours", "reference")}
    others = [Samples(**other) for other in fields["others"]]
    series = {name: [(x, y) for x, y in points] for name, points in fields["series"].items()}
    return Figure(**(fields | samples | {"others": others, "series": series}))


def write_markdown(report: Report, path: Path, plots: Sequence[Path]) -> None:
    """Write the tables, with the plots that lie beside them."""
    pictures = [f"![{plot.stem}]({plot.name})" for plot in plots]
    notes = [f"* **{figure.title}**: {figure.note}" for figure in report.figures.values() if figure.note]
    peers = (path.parent / "peers.md").exists()
    lines = [
        "# What was measured",
        "",
        "Written by `python -m benchmarks`; do not edit. `make bench` measures your machine.",
        "",
        f"On {report.headline}.",
        *(["", f"**{report.suspicion[0].upper()}{report.suspicion[1:]}.**"] if report.suspect else []),
        "",
        "Everything runs on one host, clients, node and workers on the same CPUs; except for latency, whose ends",
        "(caller and workers) stay on one CPU and whose middle (node or proxy) stays on another. So read ratios: each",
        "round measures ours and its reference one after the other, and the median of the rounds' ratios counts, which",
        "is not the ratio of the medians.",
        "",
        *(["Other systems, measured side by side: [peers](peers.md).", ""] if peers else []),
        "## Targets",
        "",
        _markdown(_TARGET_HEADS, (_target_row(report, target) for target in report.targets())),
        "",
        report.tally,
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
    """Return the headlines, and whatever misses what it must reach, as Markdown."""
    rows = []
    for target in report.targets():
        figure = report.figure(target)
        wanted = target.key in HEADLINES or report.verdict(target) is Verdict.MISSED
        if wanted and figure is not None:
            what, ours, against, reference, value, must, _, verdict = _target_row(report, target)
            rows.append([what, ours, f"{against}: {reference}" if target.against else "–", value, must, verdict])
    table = _markdown(["what", "mesh", "against", _RATIO_OR_VALUE, "must", "verdict"], rows)
    link = "[Everything that was measured](docs/benchmarks/README.md)."
    missed = any(report.verdict(target) is Verdict.MISSED for target in report.targets())
    tally = f"{report.tally} All that are missed stand above." if missed else report.tally
    return f"{table}\n\n{tally}\n\nOn {report.headline}. {link}"
