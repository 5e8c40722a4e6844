"""Sizes and figures of the tests of faults: how much of each is done, and the table that a run ends with.

`FAULTS=full` in the environment asks for the full sizes; `FAULTS_REPORT` names a file that gets a line of JSON a test.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import pytest
from rich.console import Console
from rich.table import Table

from tests.support.ledger import Audit

T = TypeVar("T")

FULL = os.environ.get("FAULTS") == "full"

REPORT = "FAULTS_REPORT"


def sized(pr: T, full: T) -> T:
    """Return `pr`, or `full` where the full sizes are asked for."""
    return full if FULL else pr


def within(pr: float, full: float | None = None) -> pytest.MarkDecorator:
    """Give a test so many seconds in place of the default, by size."""
    return pytest.mark.timeout(pr if full is None else sized(pr, full))


@dataclass
class Figures:
    """What one test of a fault has measured: one line of the table, None where it has nothing to say.

    `notice`, `recover`: seconds from the fault until it was noticed, and until all was as before; `more`: whatever
    else is worth a figure, by name.
    """

    row: str
    fault: str
    jobs: int | None = None
    lost: int | None = None
    second: int | None = None
    twice: int | None = None
    notice: float | None = None
    recover: float | None = None
    more: dict[str, float | int] = field(default_factory=dict)
    held: bool | None = None

    def audited(self, audit: Audit) -> Audit:
        """Take over what the ledger says; returns it."""
        self.jobs, self.lost = audit.submitted, audit.lost
        self.second, self.twice = len(audit.second), len(audit.twice)
        self.more.update(dict(sorted(audit.errors.items())))
        return audit

    def write(self) -> None:
        """Append the line of JSON, where a file is named."""
        if name := os.environ.get(REPORT):
            line = {name: value for name, value in vars(self).items() if value is not None}
            with Path(name).open("a") as file:
                file.write(json.dumps({**line, "size": sized("PR", "full")}) + "\n")


def print_table(lines: list[Figures], console: Console) -> None:
    """Print all lines, by row."""
    table = Table("#", "fault", "jobs", "lost", "2nd", "twice", "notice s", "recover s", "more", "")
    for line in sorted(lines, key=lambda line: (int("".join(filter(str.isdigit, line.row))), line.row)):
        more = " · ".join(f"{name} {_shown(value)}" for name, value in line.more.items())
        counts = map(_shown, (line.jobs, line.lost, line.second, line.twice, line.notice, line.recover))
        table.add_row(line.row, line.fault, *counts, more, {True: "held", False: "MISSED", None: "?"}[line.held])
    console.print(table)


def _shown(value: float | int | None) -> str:
    match value:
        case None:
            return ""
        case float():
            return f"{value:.3g}"
        case int():
            return f"{value:,}"
