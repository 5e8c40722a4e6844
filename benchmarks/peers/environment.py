"""The peers' own environment: a virtual environment with `requirements.txt`, and Debian's broker packages."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from rich.console import Console

CACHE = Path("~/.cache/meshnode-bench").expanduser()
PACKAGES = ("nats-server", "redis-server")

_REQUIREMENTS = Path(__file__).with_name("requirements.txt")
_DEBIAN = Path(__file__).parents[2] / "tests" / "support" / "debian.sh"
INSTALL_S = 600.0
"""Seconds that all installing may take together. What is missing then is said to be so by the peer that needs it."""

_AT_ONCE_S = 400.0
"""Of them for all requirements in one go, before they are tried one by one."""

_LAST_S = 5.0
"""Seconds from TERM until an installation that takes too long is killed."""


def prepare(folder: Path, console: Console, *, until: float) -> Path:
    """Install what is missing; the peers' Python. A peer that cannot be installed leaves the others alone.

    `until` is a moment of `time.monotonic`. Raises RuntimeError where there can be no virtual environment.
    """
    _run(["sh", str(_DEBIAN), *PACKAGES], until, 180)
    venv = folder / "venv"
    python = venv / "bin" / "python"
    wanted = hashlib.sha256(_REQUIREMENTS.read_bytes() + sys.version.encode()).hexdigest()
    stamp = venv / "installed"
    if stamp.exists() and stamp.read_text() == wanted:
        return python
    console.print(f"installing the peers in {venv} (some minutes the first time)")
    folder.mkdir(parents=True, exist_ok=True)
    if not _run([sys.executable, "-m", "venv", "--clear", str(venv)], until, 120):
        raise RuntimeError(f"no virtual environment in {venv}: is the package python3-venv there?")
    if _install(python, until):
        stamp.write_text(wanted)
    else:
        console.print("not everything could be installed; the next run tries again")
    return python


def _install(python: Path, until: float) -> bool:
    """Install all requirements, or as many as there can be; whether it was all."""
    install = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps"]
    if _run([*install, "-r", str(_REQUIREMENTS)], until, _AT_ONCE_S):
        return True
    lines = [line for line in _REQUIREMENTS.read_text().splitlines() if not line.startswith("#")]
    installed = [_run([*install, line], until, 60) for line in lines]  # each is tried, whatever becomes of the others
    return all(installed)


def _run(words: list[str], until: float, seconds: float) -> bool:
    """Run to the end and quietly, for so long and until then at most; whether it succeeded."""
    limit = min(seconds, until - time.monotonic())
    if limit <= 0:
        return False
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(words, stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True)
    try:
        return process.wait(limit) == 0
    except subprocess.TimeoutExpired:
        return False
    finally:
        _end(process)


def _end(process: "subprocess.Popen[bytes]") -> None:
    """See to it that a process and all that it started end, however it was left."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_LAST_S)
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
