"""The processes of nodes, seen from outside. Each may end between two questions, which is an answer and no error."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from tests.support.waiting import until

if TYPE_CHECKING:
    from tests.support.nodes import NodeProcess


def is_alive(process: psutil.Process) -> bool:
    """Is it there? One that has ended and that its parent has not waited for yet is not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def children_of(process: psutil.Process) -> list[psutil.Process]:
    """Return what is alive of what a process has started itself; nothing where it has ended."""
    try:
        return [child for child in process.children() if is_alive(child)]
    except psutil.NoSuchProcess:
        return []


def family_of(pid: int) -> list[psutil.Process]:
    """Return what a process has started, and what that has; nothing where it has ended."""
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def zygotes_of(node: NodeProcess) -> list[psutil.Process]:
    """Return the zygotes of a node as of now: two while it reloads, none before the successor of one that died."""
    try:
        return children_of(psutil.Process(node.pid))
    except psutil.NoSuchProcess:
        return []


def zygote_of(node: NodeProcess) -> psutil.Process:
    """Return the zygote of a node that is ready and does not reload."""
    (zygote,) = zygotes_of(node)
    return zygote


def workers_of(node: NodeProcess) -> list[psutil.Process]:
    """Return the workers of a node as of now: what its zygotes have started, and no program of theirs."""
    return [worker for zygote in zygotes_of(node) for worker in children_of(zygote)]


def kill(process: psutil.Process) -> bool:
    """Kill a process; False where it has ended before."""
    try:
        process.kill()
    except psutil.NoSuchProcess:
        return False
    return True


@contextmanager
def suspended(processes: Iterable[psutil.Process]) -> Iterator[None]:
    """Let these stand still for the length of the block."""
    stopped = [*processes]
    try:
        for process in stopped:
            with suppress(psutil.NoSuchProcess):
                process.suspend()
        yield
    finally:
        for process in stopped:
            with suppress(psutil.NoSuchProcess):
                process.resume()


async def until_ended(processes: Sequence[psutil.Process], timeout: float = 10.0) -> None:
    """Wait for the end of processes of others. Raises TimeoutError after `timeout` seconds."""
    await until(lambda: not any(is_alive(process) for process in processes), timeout)


def descriptors_of(pid: int) -> list[str]:
    """Return what the descriptors of a process lead to; nothing where it has ended."""
    found: list[str] = []
    with suppress(FileNotFoundError, ProcessLookupError):
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(FileNotFoundError, ProcessLookupError):  # closed meanwhile
                found.append(str(descriptor.readlink()))
    return found
