"""`python -m benchmarks`: run benchmarks, set what they measure against the targets, and write it down."""

import importlib
import math
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TypeVar, cast

import click
from rich.console import Console

from benchmarks import peers, proxy, report
from benchmarks.middle import middle
from benchmarks.peers import report as peers_report
from benchmarks.report import Machine, Report
from benchmarks.rounds import Figure, Size

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs/benchmarks"
README = ROOT / "README.md"

USUAL = {
    "throughput": "no-op jobs/s, window full, 2 and 64 workers",
    "latency": "one job at a time, p50 and p99",
    "bodies": "bytes/s with bodies of 1 KiB, 64 KiB, 1 MiB",
    "keys": "jobs/s with keys, against the same without",
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
Leave the machine alone meanwhile all the same.

\b
Exit code 1: a benchmark failed, and a full run has left docs/benchmarks and README.md as they were; or it was
peers alone, and no peer has a rate."""

Measure = Callable[[Size, Console], list[Figure]]
T = TypeVar("T")

REFERENCE = "the rate of zmq.proxy"
"""What has failed where it is not known whether the reference is as fast as it ought to be."""


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
    help="Where the report goes.  [default: docs/benchmarks after a full run and with --of, else nowhere]",
)
@click.option("--readme", is_flag=True, help="Put the short table into README.md; wants a full run, peers or --of.")
@click.option(
    "--of",
    "runs",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="RESULTS.JSON",
    help="Measure nothing: report the middle of these whole runs, an odd number of them. Once for each.",
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
            result = middle([report.read_json(run) for run in runs])
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint="--of") from None
        _report(_whole(result, console), console, out or DOCS, plots=plots, readme=readme)
        return
    size = Size(rounds or (2 if quick else 5), 0.1 if quick else 1.0)
    chosen = list(dict.fromkeys(names or USUAL))
    machine = Machine.here()
    if alone:
        beside = peers.measure(size, console, out=out, readme=README if readme else None)
        by_key = {figure.key: figure for figure in beside}
        _show(Report(machine, report.versions(), size, quick, chosen, by_key, proxy_rate=None), console)
        sys.exit(0 if beside else 1)
    began = time.monotonic()
    bounded = rounds is None and not ONLY_NAMED.keys() & set(chosen)
    figures, proxy_rate, failed = _measure_all(
        chosen, size, console, limit=(QUICK_S if quick else FULL_S) if bounded else math.inf
    )
    by_key = {figure.key: figure for figure in figures}
    result = Report(machine, report.versions(), size, quick, chosen, by_key, proxy_rate)
    console.print(f"{time.monotonic() - began:.0f} s")
    folder = out or (DOCS if full else None)
    if failed and full and folder is not None and folder.resolve() == DOCS:
        console.print("[red]not everything was measured: the documents stay as they were[/]")
        folder = None
    whole = _whole(result, console) if full else result
    _report(whole, console, folder, plots=plots, readme=readme and not failed)
    if failed:
        console.print(f"[red]failed: {', '.join(failed)}[/]")
        sys.exit(1)


def _whole(result: Report, console: Console) -> Report:
    """A report of every target: those of the peers from the peers' own run, where there was one."""
    path = DOCS / "peers.json"
    if not path.exists():
        return replace(result, whole=True)
    try:
        machine, figures = peers_report.read(path)
    except ValueError as error:
        console.print(str(error), style="yellow", markup=False)
        return replace(result, whole=True)
    here = replace(machine, load=0) == replace(result.machine, load=0)
    name = f"own run{'' if here else ' on another machine'}, peers.md"
    return replace(result, whole=True, elsewhere=figures, elsewhere_name=name)


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


class OutOfTimeError(Exception):
    """The time for all benchmarks is up. No OSError as TimeoutError is one: those are passed over in places."""


def _out_of_time(_number: int, _frame: FrameType | None) -> None:
    raise OutOfTimeError("the time for all benchmarks is up")


@contextmanager
def _alarm(limit: float) -> Iterator[None]:
    """Raise OutOfTimeError in the block after so many seconds."""
    if limit < math.inf:
        signal.signal(signal.SIGALRM, _out_of_time)
        signal.setitimer(signal.ITIMER_REAL, limit)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _measure_all(
    names: list[str], size: Size, console: Console, *, limit: float
) -> tuple[list[Figure], float | None, list[str]]:
    """Run the benchmarks within `limit` seconds; return their figures, the proxy's rate, and the names that failed.

    Wherever the time runs out, what there is by then is returned, and all that is not done has failed.
    """
    figures: list[Figure] = []
    rates: list[float] = []
    left = [*names, *([REFERENCE] if AGAINST_PROXY & set(names) else [])]
    try:
        with _alarm(limit):
            for place, name in enumerate(names, 1):
                console.rule(f"{place}/{len(names)} {name}", align="left")
                began = time.monotonic()
                measured = _attempt(partial(_run, name, size, console), console)
                if measured is None:
                    continue
                figures += measured
                left.remove(name)
                console.print(report.figure_table(measured))
                console.print(f"[dim]{time.monotonic() - began:.1f} s[/]")
            if REFERENCE in left and not _rates_in(figures):
                rates += _attempt(partial(_proxy_rates, size), console) or []
    except OutOfTimeError as error:
        console.print(f"[red]{error}[/]")
    rates = _rates_in(figures) or rates
    if rates and REFERENCE in left:
        left.remove(REFERENCE)
    return figures, statistics.median(rates) if rates else None, left


def _attempt(measure: Callable[[], list[T]], console: Console) -> list[T] | None:
    """Measure, or say why it failed: the others are worth running all the same, as long as there is time."""
    try:
        return measure()
    except OutOfTimeError:
        console.print_exception(width=110, max_frames=6)
        raise
    except Exception:  # noqa: BLE001  # see above
        console.print_exception(width=110, max_frames=6)
        return None


def _run(name: str, size: Size, console: Console) -> list[Figure]:
    """Run one benchmark, which is imported when it is its turn: the bridge brings much with it."""
    return cast("Measure", importlib.import_module(f"benchmarks.{name}").measure)(size, console)


def _rates_in(figures: list[Figure]) -> list[float]:
    """Return the one-message proxy's jobs/s with 2 workers, if throughput was measured."""
    references = [figure.reference for figure in figures if figure.key == "throughput.submit"]
    return [rate for reference in references if reference is not None for rate in reference.values]


def _proxy_rates(size: Size) -> list[float]:
    """Measure them for themselves, where throughput was not."""
    with tempfile.TemporaryDirectory() as folder, proxy.Proxy(folder, 2, proxy.SINGLE) as single:
        return [single.rate(size.of(200_000, least=50_000)) for _ in range(3)]


def _show(result: Report, console: Console) -> None:
    console.print()
    if result.targets():
        console.print(report.target_table(result))
        console.print(result.tally)
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
