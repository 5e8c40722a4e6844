"""Real nodes as processes of their own, for as long as a test runs."""

from __future__ import annotations

import itertools
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from tests.support.processes import family_of, kill

START_S = 30.0
"""Seconds that a node may take to be ready; a busy machine needs a few."""

STOP_S = 20.0

LOG_S = 20.0
"""Seconds for the last lines of a node that has ended; whoever else holds its standard error need not be waited for."""

PORTS = range(20_000, 32_000)
"""Below those that the kernel gives to whoever connects or names none: these nobody gets by chance."""

_ports = itertools.count(secrets.randbelow(len(PORTS)))
"""Goes up from somewhere, so that test runs side by side do not look at the same one in the same moment."""


class NodeError(Exception):
    """A node did not do what a test asked of it; its log stands in the text."""


class NodeProcess:
    """`meshnode` in a folder, on a free port of loopback, seen by nobody but who is told its endpoint.

    `arguments` come behind the module; `bridge` opens the Text protocol on a free port too; an empty `module` or
    `bind` is left to the node. `program` is what Python runs in place of `-m meshnode`. The log is read all the
    time, so that the node never waits for its reader; what it has just said may not be there yet: `wait_for_log`.
    Leaving the block ends the node and whatever it started.
    """

    def __init__(
        self,
        folder: Path,
        *arguments: str,
        module: str = "tasks",
        workers: int = 1,
        bridge: bool = False,
        bind: str = "127.0.0.1:0",
        environment: Mapping[str, str] | None = None,
        program: Sequence[str] = ("-m", "meshnode"),
    ) -> None:
        network = ["--no-mdns", *(["--bridge", "127.0.0.1:0"] if bridge else ["--no-bridge"])]
        network += ["--bind", bind] if bind else []
        self.log = ""
        self.endpoint = ""
        self.bridge = ""
        self._folder = folder
        modules = [module] if module else []
        self._command = [sys.executable, *program, *modules, "-w", str(workers), *network, *arguments]
        self._environment = {**os.environ, **(environment or {})}
        self._changed = threading.Condition()
        self._ended = False
        self._wants_bridge = bridge
        self._workers: list[psutil.Process] = []

    @property
    def seed(self) -> str:
        """Its address as a client's seed names it."""
        return self.endpoint.removeprefix("tcp://")

    @property
    def pid(self) -> int:
        return self._process.pid

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._command, cwd=self._folder, env=self._environment, stderr=subprocess.PIPE, text=True
        )
        self._reader = threading.Thread(target=self._read, name="node log", daemon=True)
        self._reader.start()
        try:
            self.endpoint = self.wait_for_log(r"clients: (tcp://\S+)", timeout=START_S)[1]
            if self._wants_bridge:
                self.bridge = self.wait_for_log(r"bridge: (\S+)", timeout=START_S)[1]
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _read(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            with self._changed:
                self.log += line
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def wait_for_log(self, pattern: str, *, timeout: float = 20.0) -> re.Match[str]:
        """Return the first match in what the node has logged, waiting for it. Raises NodeError."""
        deadline = time.monotonic() + timeout
        with self._changed:
            while (found := re.search(pattern, self.log)) is None:
                left = deadline - time.monotonic()
                if self._ended or left <= 0:
                    state = "the node ended" if self._ended else f"not within {timeout:g} s"
                    raise NodeError(f"no {pattern!r} in its log ({state}):\n{self.log}")
                self._changed.wait(left)
            return found

    def signal(self, number: signal.Signals) -> None:
        """Send the node itself a signal."""
        self._process.send_signal(number)

    def wait(self, timeout: float = STOP_S) -> int:
        """Wait for its end; return the exit code. All that it has said is in the log then. Raises NodeError."""
        try:
            code = self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise NodeError(f"it is still there after {timeout:g} s:\n{self.log}") from None
        self._reader.join(LOG_S)
        return code

    def stop(self, timeout: float = STOP_S) -> int:
        """Ask it to stop, and return its exit code."""
        self.signal(signal.SIGTERM)
        return self.wait(timeout)

    def kill(self) -> None:
        """End it as a power cut does; its workers are on their own."""
        self.signal(signal.SIGSTOP)  # so that no job ends, and no worker comes, while its family is listed
        self._workers += self.family()
        self._process.kill()
        self._process.wait()

    def family(self) -> list[psutil.Process]:
        """Return the processes that it started: the zygote and the workers."""
        return family_of(self._process.pid)

    def _end(self) -> None:
        family = self._workers + self.family()
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        left = psutil.wait_procs(family, timeout=2.0)[1]
        for process in left:
            kill(process)
        self._reader.join()
        assert self._process.stderr is not None
        self._process.stderr.close()


def run_meshnode(
    folder: Path, *arguments: str, environment: Mapping[str, str] | None = None, timeout: float = 30.0
) -> subprocess.CompletedProcess[str]:
    """Run `meshnode` until it ends by itself."""
    return subprocess.run(
        [sys.executable, "-m", "meshnode", *arguments],
        cwd=folder,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def write_tasks(folder: Path, source: str, *, name: str = "tasks") -> None:
    """Write a module of tasks, all at once: a zygote may be about to import it."""
    written = folder / f"{name}.new"
    written.write_text("import mesh\n\n" + source)
    written.replace(folder / f"{name}.py")


def write_with_and_without_coroutines(folder: Path, tasks: str, coroutines: str) -> Path:
    """Write two modules: `tasks`, and `mixed`, which has coroutines beside the same tasks. Returns the folder."""
    write_tasks(folder, tasks)
    write_tasks(folder, tasks + coroutines, name="mixed")
    return folder


def free_port() -> int:
    """Return a port that nobody listened on a moment ago, and that nobody gets who does not ask for this very one."""
    while True:
        port = PORTS[next(_ports) % len(PORTS)]
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("", port))
            return port


def lasting_address() -> str:
    """Return an address of loopback to bind a node to that is to come back to it after it was away."""
    return f"127.0.0.1:{free_port()}"
