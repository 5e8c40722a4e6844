"""The demo holds what it promises, shows it, and leaves nothing behind, however it ends."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.support.leaks import leak_check
from tests.support.processes import is_alive, kill

__all__ = ["leak_check"]

ROOT = Path(__file__).parents[2]
PATIENCE_S = 10.0


class Demo:
    """The demo, started in a session of its own, and all processes that belong to it."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-u", "-m", "examples.demo"],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.output = ""

    def read_until(self, words: str) -> None:
        """Read its output up to a line that holds these words."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.output += line
            if words in line:
                return
        pytest.fail(self.output)

    def read_all(self) -> int:
        """Read the rest of its output, and return its exit code."""
        rest, _ = self.process.communicate(timeout=60)
        self.output += rest
        return self.process.returncode

    def processes(self) -> list[psutil.Process]:
        """Whatever is alive of its session, orphans included, or bears its mesh's name, as workers do."""
        mesh = re.search(r"mesh demo(-\w+)", self.output)
        return [process for process in psutil.process_iter() if self._owns(process, mesh[1] if mesh else "\0")]

    def _owns(self, process: psutil.Process, title: str) -> bool:
        try:
            if not is_alive(process):
                return False
            return os.getsid(process.pid) == self.process.pid or title in " ".join(process.cmdline())
        except (ProcessLookupError, psutil.NoSuchProcess):
            return False

    def wait_for_nobody(self) -> None:
        """Wait until no process of it is left."""
        deadline = time.monotonic() + PATIENCE_S
        while left := self.processes():
            assert time.monotonic() < deadline, left
            time.sleep(0.05)


@contextmanager
def playing() -> Iterator[Demo]:
    """The demo, just started; whatever is left of it afterwards is killed."""
    demo = Demo()
    try:
        yield demo
    finally:
        for process in demo.processes():
            kill(process)
        demo.process.communicate()


@pytest.fixture
def demo() -> Iterator[Demo]:
    with playing() as started:
        yield started


def number(output: str, pattern: str) -> float:
    """The figure that a pattern finds in the output."""
    match = re.search(pattern, output)
    assert match, output
    return float(match[1].replace(",", ""))


def was_late(output: str) -> bool:
    """Is nothing wrong but that something took longer than it may, as where other programs have the CPU?"""
    broken = [line for line in output.splitlines() if "✗" in line]
    promises = [line for line in broken if "not everything held" not in line]
    return bool(promises) and all(re.search(r"never stood still for|had every echo within", line) for line in promises)


@pytest.mark.timeout(200)
def test_it_holds_and_shows_what_it_measured() -> None:
    for _ in range(3):
        with playing() as demo:
            code = demo.read_all()
            demo.wait_for_nobody()
        if code == 0 or not was_late(demo.output):
            break
    assert code == 0, demo.output

    assert "← task complete: 1000 mails" in demo.output
    assert number(demo.output, r"accepted by the SMTP server +([\d,]+)") == 1000
    assert number(demo.output, r"duplicates among them +([\d,]+)") == 0
    shares = [int(share) for share in re.findall(r"jobs at \S+ +(\d+)", demo.output)]
    assert len(shares) == 3
    assert all(shares)
    assert sum(shares) == 1000
    assert number(demo.output, r"longest stall of the site +([\d,.]+) ms") < 250
    inline = number(demo.output, r"longest stall of the site .* ([\d,.]+) ms")
    assert inline > 4000  # a thousand mails, over each of which the SMTP server takes 4 ms
    assert number(demo.output, r"their worst round trip +([\d,.]+) ms") < 250
    assert re.search(
        r'→ \{"function": "send_mail", .*\n +← \{"to":"plain@example.org","message_id":"\w+"\}', demo.output
    )
    assert "everything held" in demo.output
    assert "✗" not in demo.output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_a_signal_in_the_middle_leaves_no_process(demo: Demo, number: signal.Signals) -> None:
    demo.read_until("→ mail 1000")
    assert len(demo.processes()) > 3 * 8
    demo.process.send_signal(number)
    assert demo.read_all() == 130, demo.output
    assert "stopped; nothing is left running" in demo.output
    assert "Traceback" not in demo.output
    demo.wait_for_nobody()


def test_its_processes_end_even_if_it_is_killed_outright(demo: Demo) -> None:
    demo.read_until("→ mail 1000")
    assert len(demo.processes()) > 3 * 8
    demo.process.kill()
    demo.wait_for_nobody()
