"""What holds for all tests: `figures`, and the table of them at the end of a run.

The nodes' locks and sockets are in a folder of this run, beside which others may run.
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Generator, Iterator

import pytest
from rich.console import Console

from mesh.core.session import Session
from tests.support.faults import Figures, print_table
from tests.support.modules import compiled

LINES = pytest.StashKey[list[Figures]]()
PASSED = pytest.StashKey[bool]()


@pytest.fixture(scope="session", autouse=True)
def runtime_folder_of_this_run() -> Iterator[None]:
    before = os.environ.get("XDG_RUNTIME_DIR")
    with tempfile.TemporaryDirectory(prefix="mesh-") as folder:
        os.environ["XDG_RUNTIME_DIR"] = folder
        yield
        if before is None:
            del os.environ["XDG_RUNTIME_DIR"]
        else:
            os.environ["XDG_RUNTIME_DIR"] = before


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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out tests that replace parts of our modules, where these are compiled and would not notice."""
    if compiled(Session):
        skip = pytest.mark.skip(reason="replaces a part of a module that is compiled: `make pure`")
        for item in items:
            if item.get_closest_marker("patched") is not None:
                item.add_marker(skip)


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
