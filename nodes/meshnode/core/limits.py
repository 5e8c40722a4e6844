"""What one bridge connection may do. Pure: `docs/text-protocol.md`, Limits."""

from msgspec import Struct

UNREAD_S = 60.0
"""Seconds that replies may wait for a caller that does not read."""

LINE_S = 10.0
"""Seconds for a line to come, and one more for each `LINE_RATE` bytes of it that have come. A caller that begins lines
and leaves them costs a descriptor and its share of an address's connections for no longer."""

LINE_RATE = 1024
"""Bytes of a line that buy it another second: slower than any link on which large lines make sense."""

SLOW_S = 300.0
"""Seconds that one line may take at most, however much of it has come."""


class Limits(Struct, frozen=True):
    """What one connection may do. `line` is bytes, the others are seconds; `idle` is None for as long as it likes.

    `unread`: how long replies may wait for a caller that does not read. `begun`: how long a line may take of which next
    to nothing has come (`LINE_RATE`), `slow`: how long any may.
    """

    line: int = 10 * 1024 * 1024
    unread: float = UNREAD_S
    begun: float = LINE_S
    slow: float = SLOW_S
    idle: float | None = None

    def patience(self, pending: int) -> float:
        """Seconds in which a line of which so many bytes have come is to end."""
        return min(self.begun + pending / LINE_RATE, max(self.slow, self.begun))
