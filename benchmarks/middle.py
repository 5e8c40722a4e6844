"""Several whole runs put together: of each figure the middle one. Pure."""

from collections.abc import Sequence
from dataclasses import replace

from benchmarks.report import Report


def middle(reports: Sequence[Report]) -> Report:
    """Put several whole runs together: of each figure that of the run in which it was the middle one.

    One report alone, which may be such a middle itself, is returned as it is. Raises ValueError where the reports have
    no middle, prove nothing or do not belong together.
    """
    _check(reports)
    if len(reports) == 1:
        return reports[0]
    figures = {}
    for key in reports[-1].figures:
        found = sorted((report.figures[key] for report in reports), key=lambda one: one.value)
        figures[key] = found[len(found) // 2]
    rates = sorted(report.proxy_rate for report in reports if report.proxy_rate is not None)
    rate = rates[len(rates) // 2] if rates else None
    return replace(reports[-1], figures=figures, proxy_rate=rate, runs=len(reports))


def _check(reports: Sequence[Report]) -> None:
    if len(reports) % 2 == 0:
        raise ValueError(f"{len(reports)} runs have no middle one: an odd number is wanted")
    for number, report in enumerate(reports, 1):
        if report.quick:
            raise ValueError(f"run {number} is a quick one")
        if report.suspect:
            raise ValueError(f"run {number} proves nothing: {report.suspicion}")
        if len(reports) > 1 and report.runs > 1:
            raise ValueError(f"run {number} is the middle of {report.runs} runs already")
        for what, agreed, own in _must_agree(reports[0], report):
            if own != agreed:
                raise ValueError(f"run {number} differs from run 1 in its {what}: {own} and {agreed}")


def _must_agree(first: Report, other: Report) -> list[tuple[str, object, object]]:
    """What two runs of one thing have in common, each as its name, that of the first and that of the other."""
    return [
        ("machine", replace(first.machine, load=0), replace(other.machine, load=0)),
        ("versions", first.versions, other.versions),
        ("size", first.size, other.size),
        ("figures", sorted(first.figures.keys() - other.figures), sorted(other.figures.keys() - first.figures)),
    ]
