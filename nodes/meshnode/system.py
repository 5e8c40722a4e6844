"""What the kernel knows of this machine and its processes. Shell: reads /proc, asks nobody."""

import os
import resource
from contextlib import suppress

_PAGE = os.sysconf("SC_PAGE_SIZE")


def own_memory(pid: int) -> int:
    """Return the bytes of a process that lie in memory and in no file; 0 if it is gone."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            words = file.read().split()
    except OSError:
        return 0
    return (int(words[1]) - int(words[2])) * _PAGE


def host_memory() -> tuple[int, int]:
    """Return the bytes of memory that this machine has, and those that are available; zeros where it does not say."""
    found: dict[str, int] = {}
    with suppress(OSError, ValueError, IndexError), open("/proc/meminfo", encoding="ascii") as file:
        for line in file:
            name, _, rest = line.partition(":")
            if name in ("MemTotal", "MemAvailable"):
                found[name] = int(rest.split()[0]) * 1024
    return found.get("MemTotal", 0), found.get("MemAvailable", 0)


def descriptors() -> tuple[int, int]:
    """Return how many descriptors this process has open, and how many it may."""
    return len(os.listdir("/proc/self/fd")), resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def process_state(pid: int) -> str:
    """Return a process's state as proc(5) writes it: `R`, `S`, `D`, `T`, …; an empty text if it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0].decode()
    except (OSError, IndexError):
        return ""
