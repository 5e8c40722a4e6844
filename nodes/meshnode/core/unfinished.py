"""Which connections of the front hold on to a message that does not end. Pure: told the time by who looks.

libzmq keeps the frames of a message until its last one has come, 64 bytes for each and its content, and bounds neither
their number nor their sum: MAXMSGSIZE is for one frame, RCVHWM counts whole messages. So each connection's bytes are
compared with the last whole message of it. `docs/protocol.md`, Transport.
"""

from collections.abc import Collection, Mapping
from typing import NamedTuple

GROWTH = 16 << 20
"""Bytes that this process must have grown by before it is worth looking at connections."""

LEAST = 16 << 10
"""Bytes of a message that has begun from which it counts: less is on its way all the time."""

EXCUSED = 64 << 20
"""Bytes that this process may have grown by since a message began, beyond what was received, for reasons of its own."""

EXPLAINED = 4
"""Bytes of memory that a byte received explains. A frame of no byte takes 2 bytes on the wire and 64 here; with
frames of 20 bytes or more it is less than this."""

Key = tuple[int, int]
"""A connection: its descriptor, and its inode, since descriptors are used again."""


class _Base(NamedTuple):
    """How things were when a connection had nothing unfinished: what it had brought, and the whole process."""

    size: int
    memory: int
    whole: int


class Unfinished:
    """Counts what has come over each connection since its last whole message, and how the process has grown since.

    `most`: bytes of the largest message that is allowed, with what buffers hold. `memory` is always this process's, and
    `whole` the bytes of all whole messages that it has read.
    """

    def __init__(self, *, most: int, memory: int) -> None:
        self._most = most
        self._calm = memory
        self._before = self._now = (memory, 0)
        self._bases: dict[Key, _Base] = {}
        self._suspects: set[Key] = set()

    def worth_a_look(self, memory: int, whole: int) -> bool:
        """Has this process grown since nobody was suspected, or is somebody?"""
        self._before, self._now = self._now, (memory, whole)
        self._calm = min(self._calm, memory)
        return bool(self._suspects) or memory > self._calm + GROWTH

    def look(self, received: Mapping[Key, int], heard: Collection[int], *, settled: bool) -> dict[Key, int]:
        """Look at connections, right after `worth_a_look`; return those to be ended, with what each has begun.

        `received`: all that each connection has brought so far. `heard`: descriptors of which a whole message was read
        since the last look. `settled`: whatever was whole then has been read by now; if not, nobody is blamed.
        """
        begun = self._begun(received, heard)
        self._suspects.intersection_update(begun)
        if not settled:
            return {}
        over = {key: size for key, size in begun.items() if size > self._most or self._swells(key, sum(begun.values()))}
        ended = {key: size for key, size in over.items() if key in self._suspects}
        self._suspects = over.keys() - ended.keys()
        if not over:
            self._calm = self._now[0]
        for key in ended:
            self._bases[key] = _Base(received[key], *self._now)  # what is left of it is not counted again
        return ended

    def _begun(self, received: Mapping[Key, int], heard: Collection[int]) -> dict[Key, int]:
        begun: dict[Key, int] = {}
        bases: dict[Key, _Base] = {}
        for key, size in received.items():
            # One that is new and has not been heard has never finished a message.
            base = _Base(size, *self._now) if key[0] in heard else self._bases.get(key) or _Base(0, *self._before)
            if size - base.size >= LEAST:
                begun[key] = size - base.size
            else:
                base = _Base(base.size, *self._now)
            bases[key] = base
        self._bases = bases
        return begun

    def _swells(self, key: Key, begun: int) -> bool:
        """Has the process grown by more than was received, since this connection's message began?"""
        base = self._bases[key]
        memory, whole = self._now
        return memory - base.memory > EXCUSED + EXPLAINED * (begun + whole - base.whole)
