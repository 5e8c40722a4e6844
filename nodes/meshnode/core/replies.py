"""The answers that a bridge connection is owed. Pure: `docs/text-protocol.md`."""

from collections import deque

from mesh.wire.messages import Body
from meshnode.core.request import Asked


class Replies:
    """Without an id answers are written in the order of their requests, with one as they come.

    `lines` is what is to be written now, lines and pieces of some.
    """

    def __init__(self) -> None:
        self.tags: set[bytes] = set()
        self._owed: deque[Asked] = deque()
        self.lines: list[Body] = []
        self._muted = False

    def __bool__(self) -> bool:
        """Is any answer owed?"""
        return bool(self._owed or self.tags)

    @property
    def in_order(self) -> int:
        """Answers without an id that are owed."""
        return len(self._owed)

    def expect(self, asked: Asked) -> None:
        """An answer will come later."""
        if asked.tag is None:
            self._owed.append(asked)
        else:
            self.tags.add(asked.tag)

    def answer(self, asked: Asked, line: bytes) -> None:
        """The answer that was expected."""
        if asked.tag is None:
            asked.answer = line
            self._write_owed()
        else:
            self.tags.discard(asked.tag)
            self._write(line)

    def say(self, tag: bytes | None, line: bytes) -> None:
        """Answer what nothing was expected of; without an id it has its place in the order too."""
        if tag is None:
            self._owed.append(Asked(None, answer=line))
            self._write_owed()
        else:
            self._write(line)

    def _write_owed(self) -> None:
        while self._owed and (line := self._owed[0].answer) is not None:
            self._owed.popleft()
            self._write(line)

    def _write(self, line: bytes) -> None:
        if not self._muted:
            self.lines.append(line)

    def mute(self) -> None:
        """Nobody listens any more: answers are dropped."""
        self._muted = True
        self.lines.clear()

    def take(self) -> bytes:
        """Take what is to be written."""
        lines = b"".join(self.lines)
        self.lines.clear()
        return lines
