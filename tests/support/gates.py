"""Jobs that run until a test lets them go, in place of naps that a busy machine outlasts."""

from __future__ import annotations

from pathlib import Path

HELD = '''
import os
import time


@mesh.task
def held(path: str) -> str:
    """Run until a file is there, 30 s at most, and return its path."""
    deadline = time.monotonic() + 30
    while not os.path.exists(path):
        if time.monotonic() > deadline:
            raise TimeoutError(path)
        time.sleep(0.005)
    return path
'''
"""For a module of tasks."""


class Gate:
    """The file that jobs of `held` wait for."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def open(self) -> None:
        Path(self.path).touch()
