"""Memory that a node and one of its workers share for large bodies: what a body costs is two copies, not new pages.

Shell: one file that the node makes for all its workers; each has a stretch of it, which both ends have mapped. Behind a
page of words lies the node's half, behind that the worker's. Either end lays bodies down in its half; the other says
in its word up to which it has read them: docs/decisions/0012.
"""

import fcntl
import mmap
import os
import weakref
from collections.abc import Iterable
from functools import partial
from typing import Final

from meshnode.core.blocks import FULL, Blocks
from meshnode.core.orders import Place

PAGE: Final = mmap.PAGESIZE
STRETCH: Final = 8 * 1024 * 1024
HALF: Final = (STRETCH - PAGE) // 2 // PAGE * PAGE
"""Bytes of bodies that are under way each way at most; what does not fit goes in another way."""

_SEALS: Final = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


def shelf_file(places: int) -> int:
    """Make the file for so many workers, and return its descriptor. It takes no memory until something lies in it.

    Its size is fixed for good: who could shrink it could end all others by SIGBUS. Raises OSError.
    """
    descriptor = os.memfd_create("meshnode-shelves", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.truncate(descriptor, places * STRETCH)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


class Shelf:
    """One end's view of a worker's stretch of the file, which lies in `mapped` from `start`.

    `held`: bytes of memory taken for our half. `lent`: where the bodies lie that the other end may still read, by key.
    `used`: something was put there; for others to clear. `last`: the key that `put_next` gave last.
    """

    def __init__(self, file: int, place: int, mapped: mmap.mmap, start: int, *, of_node: bool) -> None:
        self.held = 0
        self.lent: dict[int, int] = {}
        self.used = False
        self.last = 0
        self._file = file
        self._in_file = place * STRETCH
        self._mapped = mapped
        self._start = start
        self._view = memoryview(mapped)[start : start + STRETCH]
        self._taken = self._view[:16].cast("Q")
        self._ours = PAGE if of_node else PAGE + HALF
        self._theirs = PAGE + HALF if of_node else PAGE
        self._said = 1 if of_node else 0
        self._heard = 0 if of_node else 1
        self._blocks = Blocks(HALF)
        self._looked: dict[int, weakref.ref[memoryview]] = {}
        self._seen = 0
        self._begun = False
        self._sticks = False

    @classmethod
    def of_worker(cls, file: int, place: int) -> "Shelf":
        """Map a worker's stretch, and return its end. Raises OSError."""
        mapped = mmap.mmap(file, STRETCH, offset=place * STRETCH)
        return cls(file, place, mapped, 0, of_node=False)

    def put(self, key: int, body: bytes | memoryview) -> Place | None:
        """Lay a body down; None if there is no room or no memory for it. Keys rise from one to the next, from 1 on."""
        self._free_taken()
        size = len(body)
        at = self._blocks.take(size)
        if at == FULL:
            return None
        try:
            self._hold(at + size)
            start = self._ours + at
            self._view[start : start + size] = body
        except BaseException as error:
            self._blocks.give_back(at)
            if isinstance(error, OSError):
                return None
            raise
        self.lent[key] = at
        self.used = True
        return Place(at, size, key)

    def put_next(self, body: bytes | memoryview) -> Place | None:
        """Lay a body down under the next number as its key."""
        self.last += 1
        return self.put(self.last, body)

    def look(self, place: Place) -> memoryview:
        """Return the other's body where it lies. It is said to be read when the view is let go of.

        Bodies have to be looked at in the order of their keys.
        """
        start = self._theirs + place.at
        view = self._view[start : start + place.size].toreadonly()
        key = self._seen = place.key
        self._looked[key] = weakref.ref(view, partial(self._let_go, key))
        return view

    def _let_go(self, key: int, _view: object) -> None:
        looked = self._looked
        del looked[key]
        self._taken[self._said] = next(iter(looked)) - 1 if looked else self._seen

    def take(self, place: Place) -> bytes:
        """Return a copy of the other's body that lies there. Raises MemoryError."""
        return bytes(self.look(place))

    def free(self, keys: Iterable[int]) -> None:
        """These bodies, as far as they lie here, will never be read."""
        for key in keys:
            at = self.lent.pop(key, FULL)
            if at != FULL:
                self._blocks.give_back(at)

    def _free_taken(self) -> None:
        if self.lent:
            taken = self._taken[self._heard]
            self.free([key for key in self.lent if key <= taken])

    def _hold(self, end: int) -> None:
        """Have memory for our half up to there, and for the words.

        To touch a page that the kernel cannot give would end the process by SIGBUS; this raises OSError.
        """
        if not self._begun:
            os.posix_fallocate(self._file, self._in_file, PAGE)
            self._begun = True
        if end > self.held:
            os.posix_fallocate(self._file, self._in_file + self._ours + self.held, end - self.held)
            self.held = end

    def rest(self) -> None:
        """Hand our half's memory back if nothing lies there."""
        if not self.held or self._sticks:
            return
        self._free_taken()
        if self.lent:
            return
        try:
            self._mapped.madvise(mmap.MADV_REMOVE, self._start + self._ours, -(-self.held // PAGE) * PAGE)
        except OSError:  # somebody has locked all memory, or the kernel is none that can
            self._sticks = True
        else:
            self.held = 0

    @property
    def wants_rest(self) -> bool:
        """Is there memory that may be handed back, now or later?"""
        return self.held > 0 and not self._sticks

    def clear(self) -> None:
        """The worker is gone: hand back all memory of its stretch."""
        self.lent.clear()
        self.held = 0
        try:
            self._mapped.madvise(mmap.MADV_REMOVE, self._start, STRETCH)
        except OSError:
            self._taken[0] = self._taken[1] = 0  # the next worker here begins anew
