"""A node of the mesh as a process of its own, for as long as a block runs."""

import os
import sys
import time
from typing import Self

from benchmarks.processes import Places, cpu_by_thread, descendants
from benchmarks.server import Server


class MeshNode(Server):
    """Runs `meshnode benchmarks.app` on a free port of this host, without mDNS and without a bridge.

    `seed` is where clients connect. `ready_s` is how long the log took to say that the node is ready, from the start
    of the process; `began` is that start, on the clock that all processes of a host share. `places`: where it
    and its workers stay. `keys`: its folder of keys.
    """

    start_s = 30.0
    """64 workers take less than one."""

    def __init__(self, workers: int, *, places: Places | None = None, keys: str = "none") -> None:
        command = [sys.executable, "-m", "meshnode", "benchmarks.app", "--workers", str(workers), "--grace", "2"]
        command += ["--bind", "127.0.0.1:0", "--no-mdns", "--no-bridge", "--keys", keys]
        super().__init__(command, pattern=r"clients: tcp://127\.0\.0\.1:(\d+)")
        self._places = places
        self.began = 0.0
        self.ready_s = 0.0

    def __enter__(self) -> Self:
        self.began = time.monotonic()
        super().__enter__()
        try:
            if self._places is not None:
                self._settle(self._places)
        except BaseException:
            self.__exit__()
            raise
        return self

    def _settle(self, places: Places) -> None:
        for thread in cpu_by_thread(self.pid):
            os.sched_setaffinity(thread, places.middle)
        for worker in self.workers:
            os.sched_setaffinity(worker, places.ends)

    def _hear(self, line: str) -> None:
        if " is ready after " in line:
            self.ready_s = time.monotonic() - self.began
        super()._hear(line)

    @property
    def seed(self) -> str:
        """Where clients connect."""
        return f"127.0.0.1:{self.port}"

    @property
    def workers(self) -> list[int]:
        """The ids of its worker processes: the children of its one child, the zygote."""
        return descendants(self.pid)[1:]
