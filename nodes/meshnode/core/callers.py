"""Workers whose jobs wait for other jobs, and the spare workers that keep them from waiting for ever. Pure."""

from typing import Final

from meshnode.core.held import FOREVER, Owner

SPARE_S: Final = 1.0
"""Seconds for which a spare worker stays when nobody waits any more: to fork one costs some milliseconds."""


class Callers:
    """Who of the workers waits for what its own jobs have called.

    A node all of whose workers wait for jobs that wait for a worker would stand still. So it may have as many workers
    more as there are that wait, up to `most`: no more run at a time than it has slots. `at`: when the spare ones go.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._owners: dict[int, Owner] = {}
        self.spares: set[int] = set()
        self.at = FOREVER
        self._coming = 0

    def resize(self, most: int) -> None:
        """There may be so many spare workers from now on."""
        self._most = most

    def of(self, worker: int) -> Owner:
        """Return the owner of what a worker's jobs call; its key is the worker's, below zero."""
        owner = self._owners.get(worker)
        if owner is None:
            owner = self._owners[worker] = Owner(-worker, windowed=False)
        return owner

    def lost(self, worker: int) -> Owner | None:
        """A worker is gone, and nobody waits for what its jobs have called."""
        self.spares.discard(worker)
        if not self.spares:
            self.at = FOREVER
        return self._owners.pop(worker, None)

    def superfluous(self, now: float) -> list[int]:
        """Return the spare workers that go, since nobody has waited for `SPARE_S`."""
        if self.blocked or not self.spares:
            self.at = FOREVER
            return []
        if self.at == FOREVER:
            self.at = now + SPARE_S
        if now < self.at:
            return []
        self.at = FOREVER
        going = list(self.spares)
        self.spares.clear()
        return going

    @property
    def blocked(self) -> int:
        """How many workers wait."""
        return sum(1 for owner in self._owners.values() if owner.jobs)

    @property
    def queued(self) -> list[Owner]:
        """Those whose calls wait for a worker."""
        return [owner for owner in self._owners.values() if owner.queued]

    def wants_spare(self) -> bool:
        """May one more worker be started? Then it is on its way."""
        if len(self.spares) + self._coming >= min(self.blocked, self._most):
            return False
        self._coming += 1
        return True

    def exhausted(self) -> bool:
        """Are all the spares there that there may be?"""
        return len(self.spares) >= self._most

    def came(self, worker: int | None) -> None:
        """A spare worker is there, or (None) will not come."""
        self._coming = max(0, self._coming - 1)
        if worker is not None:
            self.spares.add(worker)

    def __bool__(self) -> bool:
        """Is there anything to look after?"""
        return bool(self._owners or self.spares)
