"""What holds for all modules alike: what importing them loads, how they are named, how long they are."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("mesh", "nodes/meshnode", "discovery/meshdiscovery")
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))

HEAVY = ("zmq", "zeroconf", "asyncio", "ssl", "click", "rich")
"""What a worker process must not load: 64 workers pay for every import 64 times."""

LIGHT = [
    "mesh",
    "mesh.errors",
    "mesh.inner",
    "mesh.signature",
    "mesh.tasks",
    "mesh.wire.codec",
    "mesh.wire.messages",
    "mesh.wire.payload",
    "meshnode.worker.journal",
]
"""Modules that a worker process may load."""

MEANINGLESS_NAMES = {"utils", "helpers", "common", "base", "types"}

LONG_DOCSTRINGS = {
    "mesh/errors.py": "draws the tree of errors",
}
"""Modules whose docstring has more than 15 lines, each with its reason."""

LONG_MODULES: dict[str, str] = {
    "mesh/turns.py": "one client's books, and the overloads of submit for type checkers",
    "mesh/core/session.py": "one state machine whose steps share the same books",
    "nodes/meshnode/core/conversation.py": "one state machine whose steps share the same books",
    "nodes/meshnode/core/scheduler.py": "one state machine whose steps share the same books",
    "nodes/meshnode/staff.py": "zygote and workers have one life: a report of one is the death of the other",
    "nodes/meshnode/cli.py": "one declaration for each flag, with the help that teaches it",
    "nodes/meshnode/worker/loop.py": "what signals may interrupt stands beside what they do",
    "nodes/meshnode/node.py": "the one place that joins all shells; each part of it is short",
}
"""Modules of more than 400 lines, each with its reason."""


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def lines(path: Path) -> int:
    return len(path.read_text().splitlines())


def docstring_lines(path: Path) -> int:
    docstring = ast.get_docstring(ast.parse(path.read_text()))
    return len(docstring.splitlines()) if docstring else 0


@pytest.mark.parametrize("module", LIGHT)
def test_a_module_that_workers_load_is_light(module: str) -> None:
    program = f"import sys, {module}; print(*sorted({set(HEAVY)} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    assert found.stdout.split() == []


def test_the_packages_are_where_these_tests_look() -> None:
    assert {path.parents[0] for path in MODULES} >= {ROOT / package for package in PACKAGES}


@pytest.mark.parametrize("path", MODULES, ids=named)
def test_a_module_is_named_after_what_is_in_it(path: Path) -> None:
    assert not MEANINGLESS_NAMES & set(path.relative_to(ROOT).with_suffix("").parts)


@pytest.mark.parametrize("path", [path for path in MODULES if path.read_text().strip()], ids=named)
def test_a_module_says_at_its_top_what_it_is(path: Path) -> None:
    assert docstring_lines(path) >= 1
    assert docstring_lines(path) <= 15 or named(path) in LONG_DOCSTRINGS


@pytest.mark.parametrize("path", MODULES, ids=named)
def test_a_module_is_short_or_has_a_reason(path: Path) -> None:
    assert lines(path) <= 400 or named(path) in LONG_MODULES


def test_every_exception_is_still_needed() -> None:
    assert all(docstring_lines(ROOT / name) > 15 for name in LONG_DOCSTRINGS)
    assert all(lines(ROOT / name) > 400 for name in LONG_MODULES)
