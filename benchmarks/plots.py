"""Pictures of a report, as SVG: how far from its bound each target is, who reaches what, and what growth does."""

from collections.abc import Sequence
from pathlib import Path
from textwrap import fill

import matplotlib as mpl
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import LogLocator, NullFormatter, NullLocator

from benchmarks.report import Report
from benchmarks.rounds import Figure
from benchmarks.targets import Target, Verdict

_COLOURS = {Verdict.WANTED: "#2a7f4f", Verdict.HELD: "#7fb58f", Verdict.MISSED: "#c0504d", Verdict.NOTHING: "#bbbbbb"}

_INCHES_A_BAR = 0.3
_TITLE_CHARACTERS = 34
"""A line of a title above one of several plots side by side."""


def draw(report: Report, folder: Path) -> list[Path]:
    """Draw what the report has figures for; return the files."""
    # Text stays text, and equal figures give equal files: pictures that git can compare.
    mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "benchmarks", "font.size": 9})
    drawn: list[Path] = []
    judged = [
        (target, figure.value)
        for target in report.targets()
        if (figure := report.figure(target)) is not None and report.verdict(target) is not Verdict.UNMEASURED
    ]
    if judged:
        drawn.append(_save(_targets(report, judged), folder / "targets.svg"))
    for benchmark in report.benchmarks:
        figures = [figure for key, figure in report.figures.items() if key.partition(".")[0] == benchmark]
        compared = [figure for figure in figures if figure.reference is not None and not figure.series]
        if compared:
            drawn.append(_save(_bars(compared), folder / f"{benchmark}.svg"))
        curves = [figure for figure in figures if figure.series]
        if curves:
            drawn.append(_save(_lines(curves), folder / f"{benchmark}-lines.svg"))
    return drawn


def _save(canvas: Canvas, path: Path) -> Path:
    canvas.savefig(path, metadata={"Date": None}, bbox_inches="tight")
    return path


def _targets(report: Report, judged: Sequence[tuple[Target, float]]) -> Canvas:
    """Each figure as a multiple of what it must reach, the better the further right; a mark where it is wanted."""
    canvas = Canvas(figsize=(9, 1 + _INCHES_A_BAR * len(judged)))
    axes = canvas.subplots()
    for row, (target, value) in enumerate(judged):
        colour = _COLOURS[report.verdict(target)]
        axes.barh(row, _goodness(target, value) - 1, left=1, color=colour, height=0.6)
        if target.want is not None:
            axes.plot(_goodness(target, target.want), row, marker="|", color="black", markersize=10)
    axes.axvline(1, color="black", linewidth=1)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_yticks(range(len(judged)), [target.what for target, _ in judged])
    axes.invert_yaxis()
    axes.set_xlabel("times as good as it must be; a mark: as wanted")
    return canvas


def _goodness(target: Target, value: float) -> float:
    """How many times as good as it must be."""
    value = max(value, 1e-9)
    return target.must / value if target.lower else value / target.must


def _bars(figures: Sequence[Figure]) -> Canvas:
    """Everybody's median, with the spread of the rounds."""
    counts = [2 + len(figure.others) for figure in figures]
    canvas = Canvas(figsize=(8, sum(counts) * _INCHES_A_BAR + 0.8 * len(figures)), layout="constrained")
    every = canvas.subplots(len(figures), 1, squeeze=False, height_ratios=counts)[:, 0]
    for axes, figure in zip(every, figures, strict=True):
        reference = [figure.reference] if figure.reference else []
        contestants = [figure.ours, *reference, *figure.others]
        medians = [samples.median for samples in contestants]
        low = [samples.median - samples.spread[0] for samples in contestants]
        high = [samples.spread[1] - samples.median for samples in contestants]
        colours = ["#2a6f97"] + ["#b5b5b5"] * (len(contestants) - 1)
        axes.barh(range(len(contestants)), medians, xerr=[low, high], color=colours, height=0.6, capsize=2)
        axes.set_yticks(range(len(contestants)), [samples.name for samples in contestants])
        axes.invert_yaxis()
        axes.xaxis.set_major_formatter("{x:,g}")
        axes.set_title(f"{figure.title}, {figure.unit}", loc="left", fontsize=9)
    return canvas


def _lines(figures: Sequence[Figure]) -> Canvas:
    """What becomes of a rate as work grows."""
    canvas = Canvas(figsize=(3.2 * len(figures), 2.8), layout="constrained")
    for axes, figure in zip(canvas.subplots(1, len(figures), squeeze=False)[0], figures, strict=True):
        for name, points in figure.series.items():
            axes.plot(*zip(*points, strict=True), marker="o", color="#2a6f97")
            axes.set_xlabel(name)
        amounts = sorted({x for points in figure.series.values() for x, _ in points})
        axes.set_xscale("log")
        axes.set_xticks(amounts, [f"{amount:,.0f}" for amount in amounts])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter("{x:,.0f}")
        axes.set_ylim(bottom=0)
        axes.set_title(fill(f"{figure.title}, {figure.unit}", _TITLE_CHARACTERS), loc="left", fontsize=9)
    return canvas
