"""Reads where a worker hangs: signals it, and reads what it has written into its file. Shell: `worker/stacks`."""

import asyncio
import os
import re
from pathlib import Path

from meshnode.control import RefusedError
from meshnode.generation import Link
from meshnode.system import process_state
from meshnode.worker.stacks import AWAITS, END, FILE, STACK

WAIT_S = 2.0
"""Seconds for a worker to write; it takes a millisecond unless it takes no signals."""

AWAITS_S = 0.5
"""Seconds for its interpreter to write what coroutines await, which it cannot while a call into C does not return."""

_LOOK_S = 0.005


async def of(link: Link, *, seq: int = 0) -> tuple[str, str]:
    """Return the stacks of a worker's threads, and what the coroutine of an order awaits; an empty text for none.

    Raises RefusedError where it cannot tell.
    """
    file = _file_of(link.pid)
    if file is None:
        raise RefusedError("its worker cannot tell where it is: it has closed its descriptors, or ended")
    descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        begin = os.fstat(descriptor).st_size
        link.signal(STACK)
        if not await _until_written(link.pid, descriptor, begin):
            raise RefusedError(
                f"its worker (process {link.pid}) takes no signals, in the state {process_state(link.pid) or 'gone'} "
                "(D: in the kernel, for a disk or a network file system; T: stopped)"
            )
        end = os.fstat(descriptor).st_size
        text = os.pread(descriptor, end - begin, begin).decode(errors="replace")
        if not seq:
            return text, ""
        link.signal(AWAITS)
        told = await _coroutines(descriptor, end)
        return text, "" if told is None else _of_order(told, seq)
    finally:
        os.close(descriptor)


def _file_of(pid: int) -> str | None:
    """Return the path of a worker's file in memory."""
    try:
        for descriptor in os.listdir(f"/proc/{pid}/fd"):
            path = f"/proc/{pid}/fd/{descriptor}"
            if os.readlink(path).startswith(f"/memfd:{FILE}"):
                return path
    except OSError:
        pass  # it has ended meanwhile, or has closed that very descriptor
    return None


async def _until_written(pid: int, descriptor: int, begin: int) -> bool:
    """Wait until the signal's function has written, and has returned; False if it does not begin."""
    until = asyncio.get_running_loop().time() + WAIT_S
    while asyncio.get_running_loop().time() < until:
        await asyncio.sleep(_LOOK_S)
        if os.fstat(descriptor).st_size > begin and not _writes(pid):
            return True
    return False


def _writes(pid: int) -> bool:
    """Does a thread of this process run the signal's function? A signal is blocked for as long (sigaction(2))."""
    for task in Path(f"/proc/{pid}/task").glob("*/status"):
        try:
            blocked = re.search(r"^SigBlk:\s*([0-9a-f]+)", task.read_text(), re.MULTILINE)
        except OSError:
            continue  # that thread has ended
        if blocked is not None and int(blocked[1], 16) >> (STACK - 1) & 1:
            return True
    return False


async def _coroutines(descriptor: int, begin: int) -> str | None:
    """Wait for what coroutines await; None if the interpreter does not come to it."""
    until = asyncio.get_running_loop().time() + AWAITS_S
    while asyncio.get_running_loop().time() < until:
        await asyncio.sleep(_LOOK_S)
        told = os.pread(descriptor, os.fstat(descriptor).st_size - begin, begin)
        if END in told:
            return told.split(END)[0].decode(errors="replace")
    return None


def _of_order(told: str, seq: int) -> str:
    """Return the part of one order."""
    found = re.search(rf"^order {seq}:\n((?: .*\n)*)", told, re.MULTILINE)
    return found[1] if found else ""
