"""The tasks and the application of the README, as they stand there: a real node serves them, and they run."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.documents import blocks
from tests.support.leaks import leak_check
from tests.support.nodes import NodeProcess, run_meshnode

__all__ = ["leak_check"]


@pytest.mark.parametrize(
    ("number", "tasks"),
    [
        (0, ["send_mail(to: str, contents: str = '') -> str  [bridge]"]),
        (2, ["greet(name: str) -> str", "crunch(n: int) -> int  [bridge]", "charge(order: str) -> None"]),
    ],
)
def test_a_node_serves_the_tasks_of_the_readme(tmp_path: Path, number: int, tasks: list[str]) -> None:
    (tmp_path / "tasks.py").write_text(blocks("README.md", "python")[number])
    done = run_meshnode(tmp_path, "check", "tasks")
    assert (done.returncode, done.stdout.splitlines()) == (0, tasks), done.stderr


def test_the_application_of_the_readme_runs(tmp_path: Path) -> None:
    tasks, application, _ = blocks("README.md", "python")
    (tmp_path / "tasks.py").write_text(tasks)
    with NodeProcess(tmp_path) as node:
        assert "Client()" in application
        aimed = application.replace("Client()", f"Client(seeds=[{node.seed!r}], mdns=False)")
        done = subprocess.run(
            [sys.executable, "-c", aimed], cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False
        )
    assert (done.stdout, done.stderr) == ("sent to ada@example.org\n", "")
