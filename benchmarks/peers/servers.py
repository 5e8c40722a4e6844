"""Brokers of our own, for as long as a block runs: on a free loopback port, in a temporary folder, nothing kept.

Runs under the peers' Python: standard library alone.
"""

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

READY_S = 20.0
"""What a server or a worker may take to come up on a busy machine."""


@contextmanager
def program(words: Sequence[str], **settings: Any) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program, its output going to our standard error; it is told to end, and then made to."""
    process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=sys.stderr, **settings)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def redis() -> Iterator[str]:
    """A Redis that writes nothing to disk; its URL."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        [port] = free_ports(1)
        words = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--dir", folder]
        words += ["--save", "", "--appendonly", "no", "--loglevel", "warning"]
        _await_port(stack.enter_context(program(words)), port)
        yield f"redis://127.0.0.1:{port}/0"


@contextmanager
def nats() -> Iterator[str]:
    """A NATS server as it comes, without persistence; its URL."""
    with ExitStack() as stack:
        [port] = free_ports(1)
        _await_port(stack.enter_context(program(["nats-server", "-a", "127.0.0.1", "-p", str(port)])), port)
        yield f"nats://127.0.0.1:{port}"


def environment(**settings: str) -> dict[str, str]:
    """Our environment and more, for a worker program."""
    return {**os.environ, **settings}


def free_ports(count: int) -> list[int]:
    """Ports of loopback that are free now, all different."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]


def _await_port(process: subprocess.Popen[bytes], port: int) -> None:
    until = time.monotonic() + READY_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError as error:
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"{process.args!r} did not start") from error
            time.sleep(0.02)
        else:
            return
