"""A node of the mesh as a process of its own, for as long as a block runs."""

import re
import subprocess
import sys
import threading


class MeshNode:
    """Runs `meshnode benchmarks.app` on free ports of this host."""

    def __init__(self, workers: int) -> None:
        self._command = [
            sys.executable, "-m", "meshnode", "benchmarks.app", "--workers", str(workers),
            "--bind", "127.0.0.1:0", "--no-mdns", "--no-bridge",
        ]  # fmt: skip
        self.seed = ""

    def __enter__(self) -> "MeshNode":
        self._process = subprocess.Popen(self._command, stderr=subprocess.PIPE, text=True)
        assert self._process.stderr is not None
        lines = []
        for line in self._process.stderr:
            lines.append(line)
            found = re.search(r"clients: tcp://(\S+)", line)
            if found:
                self.seed = found[1]
                break
        else:
            raise RuntimeError("the node did not start:\n" + "".join(lines))
        # Read on, so that the node never waits for somebody to read its log.
        self._reader = threading.Thread(target=self._process.stderr.read, daemon=True)
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(30)
        self._reader.join()
        assert self._process.stderr is not None
        self._process.stderr.close()
