"""The leak check names what was left, and waits for what is about to close."""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import uvloop
import zmq

from tests.support.leaks import no_leaks

SHORT = 0.05  # seconds; nothing closes by itself in these tests unless one says so


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """Closes what a test leaked on purpose."""
    with ExitStack() as stack:
        yield stack


def found_by_the_check(stack: ExitStack, leak: object) -> str:
    """The failure that `leak`, a function, provokes."""
    assert callable(leak)
    with pytest.raises(pytest.fail.Exception) as failure, no_leaks(patience=SHORT):
        leak(stack)
    return str(failure.value)


def test_a_block_that_leaves_nothing_passes(tmp_path: Path) -> None:
    with no_leaks(patience=0):
        (tmp_path / "file").write_text("closed")


def test_a_loop_and_a_context_that_are_closed_leave_nothing() -> None:
    async def nothing() -> None:
        pass

    with no_leaks(), zmq.Context() as context, context.socket(zmq.ROUTER):
        uvloop.run(nothing())


def test_a_leaked_file_is_named_by_its_path(stack: ExitStack, tmp_path: Path) -> None:
    path = tmp_path / "left-open"
    failure = found_by_the_check(stack, lambda s: s.enter_context(path.open("w")))
    assert str(path) in failure


def test_a_leaked_pipe_is_named_by_its_kind(stack: ExitStack) -> None:
    def leak(stack: ExitStack) -> None:
        for end in os.pipe():
            stack.callback(os.close, end)

    assert found_by_the_check(stack, leak).count("pipe:[") == 2


def test_a_leaked_socket_is_named_by_its_address(stack: ExitStack) -> None:
    server = socket.socket()
    server.bind(("127.0.0.1", 0))
    stack.enter_context(server)

    def leak(stack: ExitStack) -> None:
        server.listen()
        stack.enter_context(socket.create_connection(server.getsockname()))

    assert f"-> 127.0.0.1:{server.getsockname()[1]} ESTABLISHED" in found_by_the_check(stack, leak)


def test_a_descriptor_used_again_for_another_file_is_a_leak(stack: ExitStack, tmp_path: Path) -> None:
    first = stack.enter_context((tmp_path / "first").open("w"))

    def leak(_: ExitStack) -> None:
        with (tmp_path / "second").open("w") as second:
            os.dup2(second.fileno(), first.fileno())

    assert str(tmp_path / "second") in found_by_the_check(stack, leak)


def test_a_leaked_thread_is_named_with_the_place_where_it_stands(stack: ExitStack) -> None:
    release = threading.Event()

    def leak(stack: ExitStack) -> None:
        thread = threading.Thread(target=release.wait, name="left-running")
        thread.start()
        stack.callback(thread.join)
        stack.callback(release.set)

    failure = found_by_the_check(stack, leak)
    assert "thread 'left-running' in " in failure
    assert "threading.py:" in failure


def test_a_leaked_child_is_named_by_its_command(stack: ExitStack) -> None:
    def leak(stack: ExitStack) -> None:
        argv = [sys.executable, "-c", "input('left-alive')"]
        child = stack.enter_context(subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
        stack.callback(child.kill)

    assert "input('left-alive')" in found_by_the_check(stack, leak)


def test_a_child_that_nobody_waited_for_is_a_leak(stack: ExitStack) -> None:
    def leak(stack: ExitStack) -> None:
        child = stack.enter_context(subprocess.Popen(["true"]))
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)

    assert "(zombie) true" in found_by_the_check(stack, leak)


def test_what_ends_soon_is_waited_for(stack: ExitStack) -> None:
    timer = threading.Timer(0.05, lambda: None)
    with no_leaks():
        timer.start()
    assert timer.finished.is_set()


def test_a_block_that_raises_is_not_judged(stack: ExitStack, tmp_path: Path) -> None:
    def leak_and_raise() -> None:
        stack.enter_context((tmp_path / "left-open").open("w"))
        raise LookupError

    with pytest.raises(LookupError), no_leaks(patience=SHORT):
        leak_and_raise()
