"""Memory that a node and one of its workers share for large bodies: what a body costs is two copies, not new pages.

Shell: owns a mapping of a stretch of one file that the node makes for all its workers. The node writes into the first
half of a worker's stretch, the worker into the second. Each frees what it has lent when it knows that it was read: a
node by the outcome of the job, a worker by the word of shared memory in which its node says which body it took last.

Memory is taken by `posix_fallocate` before it is touched: where there is none, that fails, while to touch it would
end the process by SIGBUS.
"""

import fcntl
import mmap
import os
from collections.abc import Iterable
from contextlib import suppress
from typing import Final

from meshnode.core.blocks import FULL, Blocks
from meshnode.core.orders import Place

HALF: Final = 4 * 1024 * 1024
"""Bytes of bodies that are under way each way at most; what does not fit goes in a memory file of its own."""

STRETCH: Final = 2 * HALF

_SEALS: Final = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


def shelf_file(places: int) -> int:
    """Make the file for so many workers, and return its descriptor. It takes no memory until something lies in it.

    Its size is fixed for good: who could shrink it could end all others by SIGBUS.
    """
    descriptor = os.memfd_create("meshnode-shelves", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.truncate(descriptor, places * STRETCH)
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
    return descriptor


class Shelf:
    """One end's view of a worker's stretch, mapped when it is first used.

    `held`: bytes of memory taken for our half. `lent`: where the bodies lie that the other end may still read, by key.
    `used`: something was put there; for others to clear.
    """

    def __init__(self, file: int, place: int, *, of_node: bool) -> None:
        self.held = 0
        self.lent: dict[int, int] = {}
        self.used = False
        self._file = file
        self._stretch = place * STRETCH
        self._ours = 0 if of_node else HALF
        self._theirs = HALF - self._ours
        self._map: mmap.mmap | None = None
        self._view: memoryview | None = None
        self._blocks = Blocks(HALF)
        self._last = 0

    def put(self, key: int, body: bytes | memoryview) -> Place | None:
        """Lay a body down, to be known by a key that no other has; None if there is no room or no memory for it."""
        size = len(body)
        at = self._blocks.take(size)
        if at == FULL:
            return None
        end = at + size
        try:
            if end > self.held:
                os.posix_fallocate(self._file, self._stretch + self._ours + self.held, end - self.held)
                self.held = end
            view = self._mapped()
        except OSError:
            self._blocks.give_back(at)
            return None
        start = self._ours + at
        view[start : start + size] = body
        self.lent[key] = at
        self.used = True
        return Place(at, size, key)

    def put_next(self, body: bytes | memoryview) -> Place | None:
        """Lay a body down under the next number as its key."""
        self._last += 1
        return self.put(self._last, body)

    def free(self, keys: Iterable[int]) -> None:
        """These bodies, as far as they lie here, have been read, or never will be."""
        for key in keys:
            at = self.lent.pop(key, FULL)
            if at != FULL:
                self._blocks.give_back(at)

    def free_until(self, last: int) -> None:
        """All bodies with keys up to this one have been read. Keys rise in the order in which bodies are put."""
        self.free([key for key in self.lent if key <= last])

    def look(self, place: Place) -> memoryview:
        """Return the other's body that lies there, until the other frees it. Raises OSError if it cannot be mapped."""
        start = self._theirs + place.at
        return self._mapped()[start : start + place.size].toreadonly()

    def rest(self) -> None:
        """Hand our half's memory back if nothing lies there."""
        if self.lent or not self.held or self._map is None:
            return
        length = -(-self.held // mmap.PAGESIZE) * mmap.PAGESIZE
        self._map.madvise(mmap.MADV_REMOVE, self._ours, length)
        self.held = 0

    def clear(self) -> None:
        """The other end is gone: hand back the memory of both halves, and let the mapping go."""
        with suppress(OSError):  # it cannot be mapped: then nor is much of it in use
            self._mapped()
            assert self._map is not None
            self._map.madvise(mmap.MADV_REMOVE)
        self._map = None
        self._view = None

    def _mapped(self) -> memoryview:
        view = self._view
        if view is None:
            self._map = mmap.mmap(self._file, STRETCH, offset=self._stretch)
            view = self._view = memoryview(self._map)
        return view
