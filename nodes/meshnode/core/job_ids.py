"""Ids for jobs that come without one. Pure."""

from struct import Struct
from typing import Final

_pack: Final = Struct(">8sQ").pack


class JobIds:
    """Each call returns another id of 16 bytes: the given 8, which are to be random, and a number."""

    __slots__ = ("_last", "_prefix")

    def __init__(self, prefix: bytes) -> None:
        self._prefix = prefix
        self._last = 0

    def __call__(self) -> bytes:
        """Return the next one."""
        self._last += 1
        return _pack(self._prefix, self._last)
