"""The peers' own environment: a virtual environment with `requirements.txt`, and Debian's broker packages."""

import hashlib
import subprocess
import sys
from pathlib import Path

from rich.console import Console

CACHE = Path("~/.cache/meshnode-bench").expanduser()
PACKAGES = ("nats-server", "redis-server")

_REQUIREMENTS = Path(__file__).with_name("requirements.txt")
_DEBIAN = Path(__file__).parents[2] / "tests" / "support" / "debian.sh"
_INSTALL_S = 400
"""What installing may take. What is missing then is said to be so by the peer that needs it."""


def prepare(folder: Path, console: Console) -> Path:
    """Install what is missing; the peers' Python. A peer that cannot be installed leaves the others alone."""
    _run(["sh", str(_DEBIAN), *PACKAGES], 180)
    venv = folder / "venv"
    python = venv / "bin" / "python"
    wanted = hashlib.sha256(_REQUIREMENTS.read_bytes() + sys.version.encode()).hexdigest()
    stamp = venv / "installed"
    if stamp.exists() and stamp.read_text() == wanted:
        return python
    console.print(f"installing the peers in {venv} (some minutes the first time)")
    folder.mkdir(parents=True, exist_ok=True)
    if not _run([sys.executable, "-m", "venv", "--clear", str(venv)], 120):
        raise RuntimeError(f"no virtual environment in {venv}: is the package python3-venv there?")
    install = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps"]
    if not _run([*install, "-r", str(_REQUIREMENTS)], _INSTALL_S):
        for line in _REQUIREMENTS.read_text().splitlines():
            if not line.startswith("#"):
                _run([*install, line], 60)
    stamp.write_text(wanted)
    return python


def _run(words: list[str], seconds: float) -> bool:
    """Run to the end and quietly; whether it succeeded."""
    try:
        return subprocess.run(words, timeout=seconds, check=False, capture_output=True).returncode == 0
    except subprocess.TimeoutExpired:
        return False
