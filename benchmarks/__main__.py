"""`python -m benchmarks`: run benchmarks, set what they measure against the targets, and write it down."""

import importlib
import math
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import cast

import click
from rich.console import Console

from benchmarks import peers, proxy, report
from benchmarks.report import Machine, Report
from benchmarks.rounds import Figure, Samples, Size
from benchmarks.targets import TARGETS

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs/benchmarks"
README = ROOT / "README.md"

USUAL = {
    "throughput": "no-op jobs/s, window full, 2 and 64 workers",
    "latency": "one job at a time, p50 and p99",
    "bodies": "bytes/s with bodies of 1 KiB, 64 KiB, 1 MiB",
    "naps": "10 ms jobs on 64 workers, and on two nodes",
    "costs": "CPU a no-op job: client, node, workers",
    "startup": "64 workers: seconds, memory, idle CPU",
    "growth": "10⁴ to 10⁶ jobs, 1 to 64 workers, 1 to 8 clients",
    "flood": "single calls beside another client's flood",
    "bridge": "the Text protocol, against Workerman where WORKERMAN=… names its checkout",
}
ONLY_NAMED = {"peers": "other systems side by side; up to 20 minutes, and an environment of its own"}
AGAINST_PROXY = {"throughput", "latency", "bodies"}

FULL_S, QUICK_S = 590.0, 59.0
"""Seconds for all benchmarks of a run together, whatever hangs; not where --rounds or peers ask for more."""

_NAMES = "\n".join(f"  {name:11} {what}" for name, what in (USUAL | ONLY_NAMED).items())

EPILOG = f"""\b
NAMEs (all but peers if none is given):
{_NAMES}

\b
Examples:
  python -m benchmarks                       everything, under 10 minutes; writes docs/benchmarks
  python -m benchmarks --quick               a look in under a minute; writes nothing
  python -m benchmarks throughput latency    only these
  python -m benchmarks costs --out /tmp/x    the report of these, in a folder of its own
  python -m benchmarks --of a/results.json --of b/results.json --of c/results.json --readme
                                             the middle of three whole runs, into the documents

\b
Figures are ratios to a reference in the same run wherever there is one: on a busy machine both suffer.
Leave the machine alone meanwhile all the same. Exit code 1: a benchmark failed."""

Measure = Callable[[Size, Console], list[Figure]]


@click.command(epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.argument("names", nargs=-1, type=click.Choice([*USUAL, *ONLY_NAMED]), metavar="[NAME …]")
@click.option("--quick", is_flag=True, help="Two rounds of a tenth of the work; proves little.")
@click.option(
    "--rounds", type=click.IntRange(1, 100), help="Rounds, of which the median counts.  [default: 5; 2 quick]"
)
@click.option("--plots/--no-plots", default=True, help="Draw SVGs beside the report, where one is written.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="Where the report goes.  [default: docs/benchmarks after a full run, else nowhere]",
)
@click.option("--readme", is_flag=True, help="Put the short table into README.md; wants a full run.")
@click.option(
    "--of",
    "runs",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="RESULTS.JSON",
    help="Measure nothing: report the middle of these whole runs. Once for each.",
)
def main(
    *,
    names: tuple[str, ...],
    quick: bool,
    rounds: int | None,
    plots: bool,
    out: Path | None,
    readme: bool,
    runs: tuple[Path, ...],
) -> None:
    """Measure the mesh on this machine, against references in the same run."""
    full = not names and not quick
    alone = names == ("peers",)
    if readme and not (full or alone or runs):
        raise click.UsageError("--readme wants a full run, or peers alone: no other NAME, no --quick")
    if runs and (names or quick or rounds):
        raise click.UsageError("--of measures nothing: no NAME, --quick or --rounds beside it")
    signal.signal(signal.SIGTERM, _end)
    console = Console()
    if runs:
        try:
            result = report.middle([report.read_json(run) for run in runs])
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint="--of") from None
        _report(result, console, out or DOCS, plots=plots, readme=readme)
        return
    size = Size(rounds or (2 if quick else 5), 0.1 if quick else 1.0)
    chosen = list(dict.fromkeys(names or USUAL))
    machine = Machine.here()
    if alone:
        beside = peers.measure(size, console, out=out, readme=README if readme else None)
        by_key = {figure.key: figure for figure in beside}
        _show(Report(machine, report.versions(), size, quick, chosen, by_key, proxy_rate=None), console)
        return
    began = time.monotonic()
    bounded = rounds is None and not ONLY_NAMED.keys() & set(chosen)
    figures, failed = _measure_all(chosen, size, console, limit=(QUICK_S if quick else FULL_S) if bounded else math.inf)
    result = Report(
        machine, report.versions(), size, quick, chosen, {figure.key: figure for figure in figures},
        proxy_rate=_proxy_rate(figures, chosen, size),
    )  # fmt: skip
    console.print(f"{time.monotonic() - began:.0f} s")
    _report(result, console, out or (DOCS if full else None), plots=plots, readme=readme)
    if failed:
        console.print(f"[red]failed: {', '.join(failed)}[/]")
        sys.exit(1)


def _report(result: Report, console: Console, folder: Path | None, *, plots: bool, readme: bool) -> None:
    _show(result, console)
    if folder is not None:
        _write(result, folder, plots=plots)
        console.print(f"written: {folder}")
    if readme:
        report.write_readme(result, README)


def _end(_number: int, _frame: FrameType | None) -> None:
    """End in order, so that everything that was started ends too."""
    sys.exit(128 + signal.SIGTERM)


def _out_of_time(_number: int, _frame: FrameType | None) -> None:
    raise TimeoutError("the time for all benchmarks is up")


def _measure_all(names: list[str], size: Size, console: Console, *, limit: float) -> tuple[list[Figure], list[str]]:
    """Run the benchmarks within `limit` seconds; return their figures, and the names of those that failed."""
    figures: list[Figure] = []
    failed: list[str] = []
    until = time.monotonic() + limit
    if limit < math.inf:
        signal.signal(signal.SIGALRM, _out_of_time)
        signal.setitimer(signal.ITIMER_REAL, limit)
    for place, name in enumerate(names, 1):
        console.rule(f"{place}/{len(names)} {name}", align="left")
        began = time.monotonic()
        if began >= until:
            failed.append(name)
            continue
        try:
            measured = _load(name)(size, console)
        except Exception:  # noqa: BLE001  # the others are worth running all the same
            console.print_exception(width=110, max_frames=6)
            failed.append(name)
            continue
        figures += measured
        console.print(report.figure_table(measured, ""))
        console.print(f"[dim]{time.monotonic() - began:.1f} s[/]")
    signal.setitimer(signal.ITIMER_REAL, 0)
    return figures, failed


def _load(name: str) -> Measure:
    """Import a benchmark when it is its turn: the bridge brings much with it."""
    return cast("Measure", importlib.import_module(f"benchmarks.{name}").measure)


def _proxy_rate(figures: list[Figure], names: list[str], size: Size) -> float | None:
    """Return the one-message proxy's jobs/s with 2 workers, measured for itself if throughput was not."""
    for figure in figures:
        if figure.key == "throughput.submit" and figure.reference is not None:
            return figure.reference.median
    if not AGAINST_PROXY & set(names):
        return None
    with tempfile.TemporaryDirectory() as folder, proxy.Proxy(folder, 2, proxy.SINGLE) as single:
        return Samples("", [single.rate(size.of(200_000, least=50_000)) for _ in range(3)]).median


def _show(result: Report, console: Console) -> None:
    console.print()
    if any(target.benchmark in result.benchmarks for target in TARGETS):
        console.print(report.target_table(result))
    console.print(result.headline, style="dim")
    if result.suspect:
        console.print(result.suspicion, style="yellow")


def _write(result: Report, folder: Path, *, plots: bool) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    drawn: list[Path] = []
    if plots:
        from benchmarks.plots import draw

        drawn = draw(result, folder)
    report.write_json(result, folder / "results.json")
    report.write_markdown(result, folder / "README.md", drawn)


if __name__ == "__main__":
    main()
