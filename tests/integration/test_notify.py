"""What a node tells the service manager that has started it, and what it keeps from its workers."""

import asyncio
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from statistics import median

import pytest

import mesh
from meshnode.notify import Notifier
from tests.support.leaks import leak_check  # noqa: F401  # pytest finds it by its name
from tests.support.nodes import NodeProcess, write_tasks

TASKS = """
import os

@mesh.task
def told() -> list[str]:
    return [name for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID") if name in os.environ]
"""


class Manager:
    """The receiving end, as a service manager has it."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address.replace("@", "\0", 1))
        self.socket.settimeout(20)
        self.heard: list[str] = []

    def hear(self, beginning: str) -> str:
        """Return the next line that begins so."""
        while True:
            lines = self.socket.recv(4096).decode().split("\n")
            self.heard += lines
            for line in lines:
                if line.startswith(beginning):
                    return line

    def pass_over(self) -> None:
        """Forget what has come so far."""
        patience = self.socket.gettimeout()
        self.socket.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                self.socket.recv(4096)
        self.socket.settimeout(patience)


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    made = Manager(str(tmp_path / "notify") if request.param == "path" else f"@meshnode-{tmp_path.name}-{id(request)}")
    yield made
    made.socket.close()


def test_a_node_says_when_it_is_ready_reloads_drains_and_stops(tmp_path: Path, manager: Manager) -> None:
    write_tasks(tmp_path, TASKS)
    environment = {"NOTIFY_SOCKET": manager.address, "XDG_RUNTIME_DIR": str(tmp_path)}
    with NodeProcess(tmp_path, "--name", "told", workers=2, environment=environment) as node:
        manager.hear("READY=1")
        assert "STATUS=running: 0 jobs running, 0 waiting, 2 of 2 workers ready, 0 clients" in manager.heard
        before = time.monotonic_ns() // 1000
        node.signal(signal.SIGHUP)
        manager.hear("RELOADING=1")
        since = next(line for line in manager.heard if line.startswith("MONOTONIC_USEC="))
        assert before <= int(since.partition("=")[2]) <= time.monotonic_ns() // 1000
        manager.hear("READY=1")
        node.signal(signal.SIGTSTP)
        manager.hear("STATUS=draining")
        assert node.stop() == 0
        manager.hear("STOPPING=1")
        assert manager.hear("STATUS=stopping")
    assert "WATCHDOG=1" not in manager.heard


async def test_a_watched_node_gives_signs_of_life_and_its_workers_know_nothing_of_it(
    tmp_path: Path, manager: Manager
) -> None:
    write_tasks(tmp_path, TASKS)
    environment = {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "600000", "XDG_RUNTIME_DIR": str(tmp_path)}
    with NodeProcess(tmp_path, environment=environment) as node:
        manager.hear("READY=1")
        began = time.monotonic()  # before that: what comes while this process has to wait is heard all at once
        manager.pass_over()
        signs = []
        for _ in range(8):
            manager.hear("WATCHDOG=1")
            signs.append(time.monotonic())
        lengths = [later - sign for sign, later in pairwise([began, *signs])]
        assert sum(lengths) >= 1.2  # seven whole ones of 0.2 s, less what the first was late
        assert median(lengths) < 0.5  # a busy machine is not late every time
        async with mesh.Client(seeds=[node.seed], mdns=False) as client:
            assert await client.call("told") == []


async def test_a_loop_that_stands_still_gives_no_sign_of_life(manager: Manager) -> None:
    notifier = Notifier.from_environment({"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "300000"})
    notifier.ready(lambda: "well")
    await asyncio.to_thread(manager.hear, "WATCHDOG=1")
    manager.pass_over()  # from here on this loop is blocked
    manager.socket.settimeout(0.4)
    with pytest.raises(TimeoutError):
        manager.hear("WATCHDOG=1")  # blocks this loop, which would have to feed it
    notifier.close()


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"NOTIFY_SOCKET": "", "WATCHDOG_USEC": "1000"},
        {"NOTIFY_SOCKET": "vsock:2:1234"},
    ],
)
async def test_where_no_manager_listens_nothing_is_told(environment: dict[str, str]) -> None:
    notifier = Notifier.from_environment(environment)
    assert environment == {}
    notifier.ready(lambda: pytest.fail("nobody asked"))
    notifier.reloading()
    notifier.reloaded()
    notifier.stopping()
    notifier.close()


async def test_a_watchdog_of_another_process_is_not_fed(manager: Manager) -> None:
    environment = {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "300000", "WATCHDOG_PID": "1"}
    notifier = Notifier.from_environment(environment)
    notifier.ready(lambda: "well")
    notifier.close()
    assert manager.socket.recv(100) == b"READY=1\nSTATUS=well"


async def test_a_manager_that_is_gone_is_complained_of_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    notifier = Notifier(str(tmp_path / "gone"))
    notifier.stopping()
    notifier.reloading()
    assert [entry.message for entry in caplog.records if "$NOTIFY_SOCKET" in entry.message] == [caplog.messages[0]]
