"""What holds for all tests: `figures`, and the table of them at the end of a run; `gate`.

The nodes' locks and sockets are in a folder of this run, beside which others may run.
"""

import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest
from rich.console import Console

from mesh.core.session import Session
from meshnode.worker.loop import ignore_signal
from tests.support.faults import Figures, print_table
from tests.support.gates import Gate
from tests.support.modules import compiled

LINES = pytest.StashKey[list[Figures]]()
PASSED = pytest.StashKey[bool]()

ALARM_AGAIN_S = 60.0
"""Seconds after which the alarm of a test that takes too long rings again; what tidies up has as long."""


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


@pytest.fixture(scope="session", autouse=True)
def hang_ups_reach_what_tests_start() -> Iterator[None]:
    """`nohup make test` ignores SIGHUP, and so would all that tests start; a handler is not handed on."""
    before = signal.getsignal(signal.SIGHUP)
    if before is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, ignore_signal)
    yield
    signal.signal(signal.SIGHUP, before)


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


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    """Open at the end of the test at the latest, so that no job goes on."""
    made = Gate(tmp_path / "gate")
    yield made
    made.open()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out tests that replace parts of our modules, where these are compiled and would not notice."""
    if compiled(Session):
        skip = pytest.mark.skip(reason="replaces a part of a module that is compiled: `make pure`")
        for item in items:
            if item.get_closest_marker("patched") is not None:
                item.add_marker(skip)


@pytest.hookimpl(wrapper=True, optionalhook=True)
def pytest_timeout_set_timer() -> Generator[None, object, object]:
    """Let the alarm of a test that takes too long ring until the test has ended.

    Where it rings in a callback or a task of a loop, asyncio keeps the exception to itself, and the test goes on.
    """
    done = yield
    left, _ = signal.getitimer(signal.ITIMER_REAL)
    if left:
        signal.setitimer(signal.ITIMER_REAL, left, ALARM_AGAIN_S)
    return done


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
