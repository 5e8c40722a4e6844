"""A bridge connection's requests on their way to the scheduler. Pure: `docs/text-protocol.md`, Fire and forget."""

from collections import deque
from collections.abc import Callable
from typing import Final

from mesh.wire.messages import Options, Submit
from meshnode.core.held import FOREVER, Owner
from meshnode.core.request import Asked, milliseconds

_DEFAULTS: Final = Options()


class Lane:
    """Bounded ahead: `most` jobs and `most_bytes` of arguments, beyond the first; the rest waits in its order.

    The scheduler starts jobs of a higher priority first. Where answers come in order execution has to: there
    the next priority waits until the jobs of the last one have ended.
    """

    __slots__ = ("_bytes", "_flying", "_most", "_most_bytes", "_options", "_waiting", "owner", "waiting_bytes")

    def __init__(self, owner: Owner, *, most: int, most_bytes: int) -> None:
        self.owner = owner
        self.waiting_bytes = 0
        self._waiting: deque[Asked] = deque()
        self._most = most
        self._most_bytes = most_bytes
        self._flying = 0
        self._bytes = 0
        self._options: Options | None = None

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def join(self, asked: Asked) -> None:
        """One more is to go."""
        self._waiting.append(asked)
        self.waiting_bytes += asked.size

    def widen(self) -> None:
        """Let go of the bounds: what waits goes to the scheduler."""
        self._most = self._most_bytes = 2**63

    def depart(self, now: float) -> list[Submit]:
        """Return those that go to the scheduler now."""
        leaving: list[Submit] = []
        while self._waiting and (not self._flying or self._fits(self._waiting[0])):
            asked = self._waiting.popleft()
            submit = asked.submit
            assert submit is not None
            if asked.expires != FOREVER:
                submit.remaining = milliseconds(asked.expires - now)
            self.fly(asked)
            self.waiting_bytes -= asked.size
            leaving.append(submit)
        return leaving

    def fly(self, asked: Asked) -> None:
        """One goes to the scheduler."""
        assert asked.submit is not None
        self._flying += 1
        self._bytes += asked.size
        self._options = asked.submit.options

    def _fits(self, asked: Asked) -> bool:
        if self._flying >= self._most or self._bytes + asked.size > self._most_bytes:
            return False
        assert asked.submit is not None
        return not self.owner.ordered or _priority(asked.submit.options) == _priority(self._options)

    def land(self, asked: Asked) -> None:
        """One of those that went has ended."""
        self._flying -= 1
        self._bytes -= asked.size

    def leave_out(self, which: Callable[[Asked], bool]) -> list[Asked]:
        """Take those that `which` says out of the waiting, and return them."""
        out = [asked for asked in self._waiting if which(asked)]
        if out:
            self._waiting = deque(asked for asked in self._waiting if not which(asked))
            self.waiting_bytes -= sum(asked.size for asked in out)
        return out


def _priority(options: Options | None) -> int:
    return (options or _DEFAULTS).priority
