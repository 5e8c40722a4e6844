"""HAProxy before two bridges, as docs/operations.md sets it up."""

import json
import re
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.documents import blocks
from tests.support.leaks import leak_check
from tests.support.nodes import NodeProcess, free_port
from tests.support.tools import need
from tests.support.waiting import until

__all__ = ["leak_check"]


class Balancer:
    """A running haproxy, with what it says."""

    def __init__(self, folder: Path, nodes: list[NodeProcess]) -> None:
        self.port = free_port()
        (config,) = blocks("docs/operations.md", "haproxy")
        config = config.replace("bind :12345", f"bind 127.0.0.1:{self.port}").replace("inter 2s", "inter 200ms")
        # A look may take no longer than the pause before it, unless another length is set: nodes may wait for the CPU.
        config = config.replace("timeout connect 3s", "timeout connect 3s\n  timeout check 9s")
        assert "timeout check 9s" in config
        servers = re.findall(r"^  server .*\n", config, re.MULTILINE)
        assert len(servers) == 3
        for number, line in enumerate(servers):
            mine = f"  server h{number} {nodes[number].bridge}\n" if number < len(nodes) else ""
            config = config.replace(line, mine)
        (folder / "haproxy.cfg").write_text(config)
        self._process = subprocess.Popen(
            ["haproxy", "-f", str(folder / "haproxy.cfg")], stderr=subprocess.PIPE, text=True
        )
        self.said = ""
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as lines:
            for line in lines:
                self.said += line

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(10)
        self._reader.join()

    def ask(self) -> object:
        """A job by a connection of its own: which node it ran on, None where nobody answers."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), 10) as caller, caller.makefile() as lines:
                caller.sendall(b'{"function": "name"}\n')
                return json.loads(lines.readline() or "null")
        except (ConnectionError, TimeoutError):
            return None


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[list[NodeProcess]]:
    (tmp_path / "tasks.py").write_text(
        "import os\nimport mesh\n\n\n@mesh.task(bridge=True)\ndef name() -> str:\n    return os.environ['HERE']\n"
    )
    with ExitStack() as stack:
        yield [
            stack.enter_context(
                NodeProcess(tmp_path, "--bridge-proxy", "127.0.0.1/32", bridge=True, environment={"HERE": here})
            )
            for here in ("first", "second")
        ]


async def test_a_balancer_gives_a_draining_node_no_callers(tmp_path: Path, nodes: list[NodeProcess]) -> None:
    need("haproxy")
    balancer = Balancer(tmp_path, nodes)
    try:
        await until(lambda: {balancer.ask() for _ in range(8)} == {"first", "second"})
        before = len(balancer.said)
        nodes[0].signal(signal.SIGTSTP)
        await until(lambda: "h0 is DOWN" in balancer.said[before:])
        assert {balancer.ask() for _ in range(8)} == {"second"}
        before = len(balancer.said)
        nodes[0].signal(signal.SIGCONT)
        await until(lambda: "h0 is UP" in balancer.said[before:])
        await until(lambda: {balancer.ask() for _ in range(8)} == {"first", "second"})
    finally:
        balancer.close()
