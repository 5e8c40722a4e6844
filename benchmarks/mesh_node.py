"""A node of the mesh as a process of its own, for as long as a block runs."""

import os
import re
import subprocess
import sys
import threading
import time
from typing import IO, Self

from benchmarks.processes import TETHER, Places, cpu_by_thread, descendants

START_S = 30.0
"""Seconds that a node may take to be ready: 64 workers take less than one."""

STOP_S = 10.0
"""Seconds from TERM until the node is killed."""


class MeshNode:
    """Runs `meshnode benchmarks.app` on free ports of this host, by default without mDNS and without a bridge.

    `seed` is where clients connect. `ready_s` is how long the log took to say that the node is ready, from the start
    of the process; `began` is that start, on the clock that all processes of a host share. `places`: where it
    and its workers stay.
    """

    def __init__(self, workers: int, *, places: Places | None = None) -> None:
        self._places = places
        self._command = [
            *TETHER, sys.executable, "-m", "meshnode", "benchmarks.app", "--workers", str(workers),
            "--bind", "127.0.0.1:0", "--no-mdns", "--no-bridge", "--grace", "2",
        ]  # fmt: skip
        self.seed = ""
        self.began = 0.0
        self.ready_s = 0.0
        self._log: list[str] = []
        self._up = threading.Event()

    def __enter__(self) -> Self:
        self.began = time.monotonic()
        self._process = subprocess.Popen(self._command, stderr=subprocess.PIPE, text=True)
        assert self._process.stderr is not None
        self._reader = threading.Thread(target=self._read, args=(self._process.stderr,), daemon=True)
        self._reader.start()
        try:
            if not self._up.wait(START_S) or not self.seed:
                raise RuntimeError("the node did not start:\n" + "".join(self._log))
            if self._places is not None:
                self._settle(self._places)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()  # its workers end with it
            self._process.wait()
        self._reader.join()
        assert self._process.stderr is not None
        self._process.stderr.close()

    def _settle(self, places: Places) -> None:
        for thread in cpu_by_thread(self._process.pid):
            os.sched_setaffinity(thread, places.middle)
        for worker in self.workers:
            os.sched_setaffinity(worker, places.ends)

    @property
    def pid(self) -> int:
        """The id of the node's own process."""
        return self._process.pid

    @property
    def workers(self) -> list[int]:
        """The ids of its worker processes: the children of its one child, the zygote."""
        return descendants(self._process.pid)[1:]

    def _read(self, log: IO[str]) -> None:
        """Read to the end, so that the node never waits for somebody to read its log."""
        for line in log:
            if not self._up.is_set():
                self._log.append(line)
            if " is ready after " in line:
                self.ready_s = time.monotonic() - self.began
            elif found := re.search(r"clients: tcp://(\S+)", line):
                self.seed = found[1]
                self._up.set()
        self._up.set()
