"""Finds what a test leaves open: file descriptors, threads and child processes of this process."""

from __future__ import annotations

import functools
import gc
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest
import uvloop

# Sockets, threads and children may close in the background; longer than this is a leak.
PATIENCE = 10.0  # seconds
POLL = 0.01  # seconds


@contextmanager
def no_leaks(*, patience: float = PATIENCE) -> Iterator[None]:
    """Fail if the block leaves descriptors, threads or children that were not there before.

    What it left has `patience` seconds to end; the failure names what has not. A block that
    raises is not judged. Threads of libraries written in C show by their descriptors only: a
    ZeroMQ context that was not terminated is named by those of its own threads.
    """
    _open_for_life()
    before = _holdings()
    yield
    if leaked := _await_end(before, patience):
        pytest.fail("left behind: " + "; ".join(leaked), pytrace=False)


@pytest.fixture(autouse=True)
def leak_check() -> Iterator[None]:
    """Judges every test of the module or folder that imports this fixture by name."""
    with no_leaks():
        yield


@functools.cache
def _open_for_life() -> None:
    """Open now what the first use of a library opens until the process ends: libuv's signal pipe."""
    uvloop.new_event_loop().close()


_Key = tuple[str, int, object]


def _await_end(before: set[_Key], patience: float) -> list[str]:
    """Descriptions of what is new and still there after `patience` seconds; empty if nothing."""
    deadline = time.monotonic() + patience
    if not _holdings() - before:
        return []
    gc.collect()  # a cycle may hold what is dropped already; a ResourceWarning tells if it was open
    while new := _holdings() - before:
        if time.monotonic() >= deadline:
            return [_describe(key) for key in sorted(new, key=str)]
        time.sleep(POLL)
    return []


def _holdings() -> set[_Key]:
    """Everything held now, named so that a number used again is another thing."""
    held: set[_Key] = {("fd", fd, target) for fd, target in _descriptors()}
    held |= {("thread", id(thread), thread) for thread in threading.enumerate()}
    # psutil tells processes of one pid apart by their start; zombies, not waited for, count
    children = psutil.Process().children(recursive=True)
    return held | {("child", child.pid, child) for child in children}


def _descriptors() -> Iterator[tuple[int, str]]:
    for name in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # the listing's own
            yield int(name), str(Path("/proc/self/fd", name).readlink())


def _describe(key: _Key) -> str:
    match key:
        case ("thread", _, threading.Thread() as thread):
            return f"thread {thread.name!r} {_place(thread)}"
        case ("child", pid, psutil.Process() as child):
            return f"child {pid} {_program(child)}"
        case (_, fd, target):
            return f"fd {fd} {_peer(fd) or target}"


def _place(thread: threading.Thread) -> str:
    frame = sys._current_frames().get(thread.ident or 0)
    return f"in {frame.f_code.co_filename}:{frame.f_lineno}" if frame else "at its end"


def _program(child: psutil.Process) -> str:
    try:
        zombie = child.status() == psutil.STATUS_ZOMBIE  # has no command line any more
        command = [child.name()] if zombie else child.cmdline()
    except psutil.NoSuchProcess:
        return "(just gone)"
    return " ".join(["(zombie)"] * zombie + command)[:200]


def _peer(fd: int) -> str | None:
    """What a socket is, by its addresses; None for other descriptors."""
    for connection in psutil.Process().net_connections(kind="all"):
        if connection.fd == fd:
            family = connection.family.name.removeprefix("AF_")
            kind = connection.type.name.removeprefix("SOCK_")
            ends = " -> ".join(map(_address, filter(None, (connection.laddr, connection.raddr))))
            return f"socket {family} {kind} {ends or 'unbound'} {connection.status}"
    return None


def _address(address: object) -> str:
    match address:
        case (host, port):
            return f"{host}:{port}"
        case _:
            return str(address)
