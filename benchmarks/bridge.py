"""The Text bridge, called over plain sockets as its callers do, against Workerman and against an echo of JSON lines."""

import statistics
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

from rich.console import Console

from benchmarks.rounds import Figure, Samples, Size, alternate
from benchmarks.server import Server
from benchmarks.text import load, workerman

SECONDS = 0.75
LEAST_S = 0.1
WARMUP_S = 0.15
"""Of each run: what is counted, at the least, and what comes before. Connecting is a part of the warm-up."""

FIRST_S = 0.15
"""Before the first round, per contestant and uncounted: the first job of each of 64 workers costs it page faults."""

BUSY = 0.9
"""Share of one CPU above which the load generator may be what limits a rate; against the C echo it ought to be."""

BRIDGE = "mesh: bridge"
ECHO = "uvloop echo, 1 process"
LEAST = "C echo, 1 process"
PEER = "Workerman"

Ports = Mapping[str, int]
"""Where a contestant is called in each mode."""


class Table:
    """What the contestants reached in each mode, in rounds."""

    def __init__(self, program: Path, size: Size, contestants: Mapping[str, Ports]) -> None:
        self._program = program
        self._seconds = max(LEAST_S, SECONDS * size.scale)
        self._cpu: dict[tuple[str, str], list[float]] = {}
        cells = [(who, mode) for mode in load.MODES for who in contestants]
        runs = {f"{who} {mode}": partial(self._run, who, mode, contestants[who][mode]) for who, mode in cells}
        for who, ports in contestants.items():
            self._ask(who, "persistent", ports["persistent"], FIRST_S)
        taken = alternate(size.rounds, runs)
        self._samples = {cell: Samples(cell[0], of.values) for cell, of in zip(cells, taken, strict=True)}

    def samples(self, who: str, mode: str) -> Samples:
        """Requests per second."""
        return self._samples[who, mode]

    def generator(self, who: str, mode: str) -> str:
        """How busy the load generator was, in words."""
        share = statistics.median(self._cpu[who, mode])
        return f"generator at {share:.0%} of a CPU" + (", which may be the limit" if share > BUSY else "")

    def _run(self, who: str, mode: str, port: int) -> float:
        reached = self._ask(who, mode, port, self._seconds)
        if not reached.rate:
            raise load.VoidError(f"{who}: {load.MODES[mode].name}: nothing was answered in {self._seconds:g} s")
        self._cpu.setdefault((who, mode), []).append(reached.cpu)
        return reached.rate

    def _ask(self, who: str, mode: str, port: int, seconds: float) -> load.Outcome:
        try:
            return load.run(self._program, port, load.MODES[mode], warmup=min(WARMUP_S, seconds), seconds=seconds)
        except load.VoidError as error:
            raise load.VoidError(f"{who}: {error}") from None


def measure(size: Size, console: Console) -> list[Figure]:
    """Requests per second in three ways of calling, each answer compared."""
    if load.compiler() is None:
        console.print("bridge: not measured, there is no C compiler (cc) for its load generator")
        return []
    with tempfile.TemporaryDirectory() as name, console.status("bridge"):
        folder = Path(name)
        program = load.build("textload", folder)
        few = _against_echoes(program, size, folder)
        many = _against_workerman(program, size, folder, workers=64)
    return few + many


def _against_echoes(program: Path, size: Size, folder: Path) -> list[Figure]:
    """Two workers against all that there is: what is compared with the same rates is taken in the same rounds."""
    with ExitStack() as running:
        contestants, peer = _contestants(running, folder, workers=2)
        echo = running.enter_context(Server([sys.executable, "-m", "benchmarks.text.uvloop_echo"]))
        least = running.enter_context(Server([str(load.build("echo", folder)), load.ANSWER]))
        contestants |= {ECHO: _everywhere(echo), LEAST: _everywhere(least)}
        table = Table(program, size, contestants)
    return _workerman_figures(table, peer, workers=2) + [
        Figure(
            f"bridge.{mode}.echo",
            f"bridge beside a uvloop echo, {load.MODES[mode].name}, 2 workers",
            "requests/s",
            table.samples(BRIDGE, mode),
            table.samples(ECHO, mode),
            [table.samples(LEAST, mode)],
            f"bridge: {table.generator(BRIDGE, mode)}; uvloop echo: {table.generator(ECHO, mode)}; "
            f"C echo: {table.generator(LEAST, mode)}",
        )
        for mode in load.MODES
    ]


def _against_workerman(program: Path, size: Size, folder: Path, *, workers: int) -> list[Figure]:
    with ExitStack() as running:
        contestants, peer = _contestants(running, folder, workers=workers)
        table = Table(program, size, contestants)
    return _workerman_figures(table, peer, workers=workers)


def _contestants(running: ExitStack, folder: Path, *, workers: int) -> tuple[dict[str, Ports], str]:
    """Start the bridge, and Workerman where it can be had; return it all, and which Workerman or why there is none."""
    contestants = {BRIDGE: _everywhere(running.enter_context(_node(workers)))}
    why_not = workerman.why_not()
    if why_not is not None:
        return contestants, why_not
    # A socket for each process is the faster way where connections come and go, and the slower one where they stay.
    shared = running.enter_context(workerman.Workerman(workers, folder))
    spread = running.enter_context(workerman.Workerman(workers, folder, reuse_port=True))
    contestants[PEER] = {mode: shared.port if how.kept else spread.port for mode, how in load.MODES.items()}
    return contestants, shared.version


def _workerman_figures(table: Table, peer: str, *, workers: int) -> list[Figure]:
    figures = []
    for mode, how in load.MODES.items():
        reference, note = None, peer
        if workerman.why_not() is None:
            reference = replace(table.samples(PEER, mode), name=f"{PEER}, {workers} processes")
            note = f"{peer}{'' if how.kept else ' with reusePort'}: {table.generator(PEER, mode)}"
        figures.append(
            Figure(
                f"bridge.{mode}.{workers}",
                f"bridge, {how.name}, {workers} workers",
                "requests/s",
                table.samples(BRIDGE, mode),
                reference,
                note=f"{note}; bridge: {table.generator(BRIDGE, mode)}",
            )
        )
    return figures


def _node(workers: int) -> Server:
    command = [sys.executable, "-m", "meshnode", "benchmarks.app", "--workers", str(workers), "--grace", "2"]
    command += ["--bind", "127.0.0.1:0", "--no-mdns", "--bridge", "127.0.0.1:0"]
    return Server(command, pattern=r"bridge: 127\.0\.0\.1:(\d+) \(try")


def _everywhere(server: Server) -> Ports:
    return dict.fromkeys(load.MODES, server.port)
