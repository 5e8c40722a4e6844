"""Wheels that a roll-out carries along: versions of the product and of an application, and what both need."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]

PYTHONS = ("3.11", "3.13")
"""Those of Debian 12 and 13."""

LIBRARIES = ("manylinux2014", "manylinux_2_17", "manylinux_2_28")

APPLICATION = """
import os
import socket
import time
from importlib.metadata import version

import mesh


def executed(name: str) -> None:
    about = mesh.context()
    line = f"{about.id} {about.attempt} {os.getpid()} {socket.gethostname()} {time.monotonic():.6f}\\n"
    descriptor = os.open(f"/var/lib/meshnode/{name}", os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)


@mesh.task
def once(seconds: float) -> float:
    executed("once")
    time.sleep(seconds)
    return seconds


@mesh.task(idempotent=True)
def again(seconds: float) -> float:
    executed("again")
    time.sleep(seconds)
    return seconds


@mesh.task(bridge=True)
def versions() -> list[str]:
    return [version("meshnode"), version("shop"), socket.gethostname(), os.environ.get("SHOP", "")]
"""

PROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "shop"
version = "{version}"

[tool.hatch.build.targets.wheel]
packages = ["shop"]
"""


class Wheelhouse:
    """A folder of wheels."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "wheels"
        self._work = folder / "work"
        self.folder.mkdir(parents=True)
        self._work.mkdir()

    def add_product(self, version: str, *, change: tuple[str, str, str] | None = None, compiled: bool = False) -> None:
        """Build this tree under another version; `change`: in which file, what is to stand in place of what.

        `compiled`: for this machine's kind and Python, its hot modules compiled.
        """
        tree = self._work / f"meshnode-{version}"
        for name in ("mesh", "nodes", "discovery"):
            shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
        for name in ("README.md", "LICENSE", "hatch_build.py"):
            shutil.copy(ROOT / name, tree / name)
        project = (ROOT / "pyproject.toml").read_text()
        (tree / "pyproject.toml").write_text(
            re.sub(r'(?m)^version = ".*"$', f'version = "{version}"', project, count=1)
        )
        if change is not None:
            file, old, new = change
            before = (tree / file).read_text()
            assert old in before
            (tree / file).write_text(before.replace(old, new, 1))
        self._build(tree, compiled=compiled)

    def add_application(self, version: str, *, ahead: str = "") -> None:
        """Build the application `shop`; `ahead` stands before everything else in it."""
        tree = self._work / f"shop-{version}"
        (tree / "shop").mkdir(parents=True)
        (tree / "shop" / "__init__.py").touch()
        (tree / "shop" / "tasks.py").write_text(ahead + APPLICATION)
        (tree / "pyproject.toml").write_text(PROJECT.format(version=version))
        self._build(tree)

    def add_dependencies(self) -> None:
        """Fetch what the product needs, at the locked versions, for every Python of the hosts."""
        lock = (ROOT / "requirements.lock").read_text()
        locked = re.findall(r"^([a-z0-9-]+)==([^ ]+)(?: ;.*)? \\$", lock, re.MULTILINE)
        constraints = self._work / "constraints.txt"
        constraints.write_text("".join(f"{name}=={version}\n" for name, version in dict(locked).items()))
        project = (ROOT / "pyproject.toml").read_text()
        needed = re.findall(
            r'^    "([a-z]+)[^"]*",$', project.partition("\ndependencies = [")[2].partition("]")[0], re.M
        )
        platforms = [f"--platform={library}_{platform.machine()}" for library in LIBRARIES]
        for python in PYTHONS:
            self._run(
                [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--only-binary=:all:",
                 f"--python-version={python}", *platforms, "-d", self.folder, "-c", constraints, *needed],
            )  # fmt: skip

    def _build(self, tree: Path, *, compiled: bool = False) -> None:
        environment = {**os.environ, **({"HATCH_BUILD_HOOK_ENABLE_CUSTOM": "1"} if compiled else {})}
        build: list[str | Path] = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", self.folder]
        self._run(build, folder=tree, environment=environment)

    def _run(
        self, command: list[str | Path], *, folder: Path | None = None, environment: dict[str, str] | None = None
    ) -> None:
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
