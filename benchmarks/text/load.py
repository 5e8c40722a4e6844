"""The load generator: compiles `textload.c`, and runs it against a port. Shell."""

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

SOURCES = Path(__file__).parent

REQUEST = '{"function": "noop", "args": []}'
"""As a caller in PHP writes it, whose empty array is a list."""

ANSWER = "null"
"""What a task that returns nothing answers, there as here."""

SPARE_S = 20.0
"""Seconds that a run may take beyond its own length; `textload.c` itself gives up earlier."""


@dataclass(frozen=True)
class Mode:
    """One way to call: how many connections, and how many requests are outstanding on each."""

    name: str
    connections: int
    window: int = 1
    kept: bool = True


MODES = {
    "persistent": Mode("persistent ×50", 50),
    "pipelined": Mode("pipelined 50×16", 50, 16),
    "connection": Mode("connection per job ×100", 100, kept=False),
}


@dataclass(frozen=True)
class Outcome:
    """Requests answered a second, and the share of one CPU that the generator took for them."""

    rate: float
    cpu: float


class VoidError(RuntimeError):
    """A run that proves nothing: an answer was wrong or missing, or a connection failed."""


def compiler() -> str | None:
    """The path of the C compiler, if there is one."""
    return shutil.which("cc")


def build(name: str, folder: Path) -> Path:
    """Compile a program of this folder into another one."""
    program = folder / name
    subprocess.run(
        ["cc", "-O2", "-o", str(program), str(SOURCES / f"{name}.c")], check=True, timeout=60, stdin=subprocess.DEVNULL
    )
    return program


def run(program: Path, port: int, mode: Mode, *, warmup: float, seconds: float) -> Outcome:
    """Ask for `seconds` after a `warmup`. Raises VoidError if anything was not as it ought to be."""
    command = [str(program), str(port), "keep" if mode.kept else "each", str(mode.connections), str(mode.window)]
    command += [str(warmup), str(seconds), REQUEST, ANSWER]
    ended = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=warmup + seconds + SPARE_S,
        check=False,
    )
    if ended.returncode:
        raise VoidError(f"{mode.name}: the load generator ended with {ended.returncode}: {ended.stderr.strip()}")
    return outcome(mode, ended.stdout)


def outcome(mode: Mode, printed: str) -> Outcome:
    """Read what the generator printed. Pure."""
    counts = json.loads(printed)
    faults = [f"{counts[what]} {what}" for what in ("mismatches", "errors", "refused", "missing") if counts[what]]
    if faults:
        why = f" (first: {counts['fault']})" if counts["fault"] else ""
        raise VoidError(f"{mode.name}: {', '.join(faults)}{why}")
    return Outcome(counts["requests"] / counts["seconds"], counts["cpu"] / counts["seconds"])
