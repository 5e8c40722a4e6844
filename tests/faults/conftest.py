"""The fixtures of every test of a fault: `ledger`, `figures`; and the table at the end of a run."""

import shutil
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest
from rich.console import Console

from tests.support.faults import Figures, print_table
from tests.support.leaks import leak_check
from tests.support.ledger import Ledger

__all__ = ["leak_check"]

LINES = pytest.StashKey[list[Figures]]()
PASSED = pytest.StashKey[bool]()


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """The ledger of this test, open."""
    with Ledger(tmp_path) as made:
        yield made


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> Iterator[Callable[[str, str], Figures]]:
    """`figures("3", "a node stopped for 10 s")` makes this test's line of the table, to be filled in."""
    made: list[Figures] = []

    def make(row: str, fault: str) -> Figures:
        made.append(Figures(row, fault))
        return made[-1]

    yield make
    for line in made:
        line.held = request.node.stash.get(PASSED, False)
        line.write()
    request.config.stash.setdefault(LINES, []).extend(made)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Note whether the test itself has passed, for its line."""
    report = yield
    if call.when == "call":
        item.stash[PASSED] = report.passed
    return report


def pytest_terminal_summary(config: pytest.Config) -> None:
    lines = config.stash.get(LINES, [])
    if lines:
        print_table(lines, Console(width=max(150, shutil.get_terminal_size().columns)))
