"""Which connections of the front hold on to a message that does not end. Pure: told the time by who looks.

libzmq keeps the frames of a message until its last one has come, 64 bytes for each and its content, and bounds neither
their number nor their sum: MAXMSGSIZE is for one frame, RCVHWM counts whole messages. So each connection's bytes are
compared with the last whole message of it. `docs/protocol.md`, Transport.
"""

from collections.abc import Collection, Mapping

GROWTH = 16 << 20
"""Bytes that this process must have grown by before it is worth looking at connections."""

LEAST = 16 << 10
"""Bytes of a message that has begun from which it counts: less is on its way all the time."""

EXCUSED = 64 << 20
"""Bytes that this process may have grown by beyond what messages that have begun explain, for reasons of its own."""

EXPLAINED = 4
"""Bytes of memory that a byte of a message that has begun explains. A frame of no byte takes 2 bytes on the wire and 64
here; with frames of 20 bytes or more it is less than this."""

Key = tuple[int, int]
"""A connection: its descriptor, and its inode, since descriptors are used again."""


class Unfinished:
    """Counts what has come over each connection since its last whole message.

    `most`: bytes of the largest message that is allowed, with what buffers hold. `memory` is always this process's.
    """

    def __init__(self, *, most: int, memory: int) -> None:
        self._most = most
        self._calm = memory
        self._bases: dict[Key, int] = {}
        self._suspects: set[Key] = set()

    @property
    def suspicious(self) -> bool:
        """Is another look needed soon?"""
        return bool(self._suspects)

    def worth_a_look(self, memory: int) -> bool:
        """Has this process grown since nothing was unfinished?"""
        self._calm = min(self._calm, memory)
        return memory > self._calm + GROWTH

    def look(
        self, received: Mapping[Key, int], heard: Collection[int], *, memory: int, settled: bool
    ) -> dict[Key, int]:
        """Take one look; return the connections that are to be ended, with the bytes of what they have begun.

        `received`: all that each connection has brought so far. `heard`: descriptors of which a whole message was read
        since the last look. `settled`: whatever was whole then has been read by now; if not, nobody is blamed.
        """
        begun: dict[Key, int] = {}
        bases: dict[Key, int] = {}
        for key, size in received.items():
            # One that is new and has not been heard has never finished a message.
            bases[key] = size if key[0] in heard else self._bases.get(key, 0)
            if size - bases[key] >= LEAST:
                begun[key] = size - bases[key]
        self._bases = bases
        self._suspects.intersection_update(begun)
        if not begun:
            self._calm = memory
        if not settled:
            return {}
        swollen = memory - self._calm > EXCUSED + EXPLAINED * sum(begun.values())
        over = {key: size for key, size in begun.items() if swollen or size > self._most}
        ended = {key: size for key, size in over.items() if key in self._suspects}
        self._suspects = over.keys() - ended.keys()
        for key in ended:
            bases[key] = received[key]  # what is left of it is not counted again
        return ended
