"""What owners are told, and when. Pure: `docs/protocol.md`, Windows."""

from collections import deque
from collections.abc import Sequence
from typing import Final

from mesh.wire.messages import Accepted, NodeItem, Started, Unknown
from meshnode.core.effects import Reply
from meshnode.core.held import FOREVER, WHOLE, Held, Owner, TaskEntry
from meshnode.core.pool import Pool
from meshnode.core.window import AHEAD_S, Pace, window

NEWS_S: Final = 0.05
"""Seconds after which an owner is told that a job is held or runs, if it has not ended by then."""

NEWS_SLACK_S: Final = 0.01
"""Seconds by which such news may come early, together with earlier ones: each on its own would cost a turn."""

NEWS_IDS: Final = 200
"""Ids in one ACCEPTED or STARTED at most: an item is no larger than 4 KiB (docs/protocol.md, Items)."""


class Word:
    """What owners are owed: the items that lie in their `replies`, the windows they have, news of their jobs.

    `slots`: workers that the node is to have. `active`: owners with jobs here, who share the windows. `full`: those who
    had no room left when they last heard, and hear when they have some. `pace`: how long the latest jobs ran.
    `draining`: every window is 0. `news_at`, `full_at`: when `tell_news` and `tell_full` are due; FOREVER for never.
    """

    def __init__(self, pool: Pool, slots: int) -> None:
        self.active: dict[int, Owner] = {}
        self.full: dict[int, Owner] = {}
        self.pace = Pace()
        self.draining = False
        self.news_at = FOREVER
        self.full_at = FOREVER
        self._pool = pool
        self._slots = slots
        self._places = slots * pool.concurrency
        self._due: dict[int, Owner] = {}
        self._loosened = False
        self._handed_in: list[Owner] = []
        self._news: deque[tuple[float, list[Held]]] = deque()

    def resize(self, slots: int) -> None:
        """The node is to have so many workers from now on."""
        self._slots = slots
        self._places = slots * self._pool.concurrency
        self._loosened = True

    # what happened

    def say(self, owner: Owner, *items: NodeItem) -> None:
        """Have an owner told these items, and what lies in its `replies`."""
        if not owner.gone:
            owner.replies.extend(items)
            self._due[owner.key] = owner

    def took_in(self, owner: Owner, jobs: list[Held], now: float) -> None:
        """New jobs of an owner, one at least, are held."""
        self.active[owner.key] = owner
        if owner.windowed:
            self._news.append((now + NEWS_S, jobs))
            self.news_at = self._news[0][0]
            self._handed_in.append(owner)

    def refused(self, owner: Owner) -> None:
        """A job of an owner was more than can start soon: what its window was reckoned from no longer holds."""
        self.pace.reset()
        owner.limit = len(owner.jobs)

    def ended(self, owner: Owner) -> None:
        """A job of an owner has ended otherwise than at a worker."""
        if not owner.jobs:
            self.active.pop(owner.key, None)
            self._loosened = True
        if not owner.gone:
            self._due[owner.key] = owner

    def ended_at_worker(self, owners: Sequence[Owner]) -> None:
        """Jobs of these owners have ended at a worker, which has room again."""
        for owner in owners:
            if not owner.jobs:
                self.active.pop(owner.key, None)
            if owner.gone:
                owner.replies.clear()
            else:
                self._due[owner.key] = owner
        self._loosened = True

    def loosen(self) -> None:
        """There is more room than before."""
        self._loosened = True

    def left(self, owner: Owner) -> None:
        """An owner is gone and hears nothing any more."""
        owner.replies.clear()
        self._due.pop(owner.key, None)
        self.full.pop(owner.key, None)
        self._loosened = True

    def drain(self) -> None:
        """From now on every window is 0."""
        self.draining = True

    def undrain(self) -> None:
        """Windows are as before; who heard that it had none hears of it at once."""
        if self.draining:
            self.draining = False
            self.tell_full()

    # windows

    def room(self, owner: Owner, entry: TaskEntry) -> int:
        """How many more jobs of a task an owner that keeps to a window may hand in.

        Those that would start about as soon here as elsewhere, as its fair share allows.
        """
        sharers = max(1, len(self.active))
        places = (self._slots if entry.kind == WHOLE else self._places) + self._leaving()
        ahead = int((2 * AHEAD_S * places / sharers - owner.queued_cost) / entry.expected)
        return max(-(-places // sharers) - len(owner.jobs), ahead)

    def _window(self, owner: Owner) -> int:
        """How many jobs an owner may have outstanding here now."""
        if self.draining or not self._pool.workers:
            return 0
        sharers = len(self.active) + (owner.key not in self.active)
        places = self._places + self._leaving()
        return max(1, min(window(places, self.pace.ahead(self._slots, self._pool.cores), sharers), owner.limit))

    def _leaving(self) -> int:
        """Places that are taken beyond the node's own, by jobs of workers whose successors are there already."""
        return len(self._pool.leaving)

    # time

    def tell_news(self, now: float) -> None:
        """Have owners told which of their jobs are still held after a while, and which of those run."""
        while self._news and self._news[0][0] <= now + NEWS_SLACK_S:
            self._tell_news(self._news.popleft()[1])
        self.news_at = self._news[0][0] if self._news else FOREVER

    def tell_full(self) -> None:
        """Have those told who had no room left when they last heard from us, if they have some now."""
        for key, owner in list(self.full.items()):
            if len(owner.jobs) < owner.told:
                del self.full[key]
            elif self._window(owner) > owner.told:
                del self.full[key]
                self._due[key] = owner
        self.full_at = FOREVER

    def _tell_news(self, jobs: list[Held]) -> None:
        """Say ACCEPTED of an owner's jobs that have not ended by now, and STARTED of those that run."""
        still = [held for held in jobs if not held.over]
        for owner in {held.owner.key: held.owner for held in still}.values():  # some may have another one by now
            self.tell_held(owner, [held for held in still if held.owner is owner], ())

    def tell_held(self, owner: Owner, jobs: Sequence[Held], unknown: Sequence[bytes]) -> None:
        """Tell an owner which of the jobs that it asked for are held, which of those run, and which nobody knows of."""
        for held in jobs:
            held.told = True
        ids = [held.id for held in jobs]
        started = [held.id for held in jobs if self._pool.running(held)]
        for shape, some in ((Accepted, ids), (Started, started), (Unknown, unknown)):
            for n in range(0, len(some), NEWS_IDS):
                self.say(owner, shape(list(some[n : n + NEWS_IDS])))

    # a turn's end

    def replies(self, now: float) -> list[Reply]:
        """Return what owners are told at the end of a turn."""
        if self._handed_in:
            self._tell_who_waits()
        replies = self._flush() if self._due else []
        if self._loosened and self.full and self.full_at == FOREVER:
            self.full_at = now + AHEAD_S
        self._loosened = False
        return replies

    def _tell_who_waits(self) -> None:
        """Correct those whose new jobs wait here although they were told of idle workers; note whose window is full."""
        for owner in self._handed_in:
            if owner.gone:
                continue
            if owner.queued and owner.told_idle:
                self._due[owner.key] = owner
            elif len(owner.jobs) >= owner.told:
                self.full[owner.key] = owner
        self._handed_in.clear()

    def _flush(self) -> list[Reply]:
        replies: list[Reply] = []
        free, free_async = self._pool.free, self._pool.free_async
        for owner in self._due.values():
            items, owner.replies = owner.replies, []
            if not owner.windowed:
                if items:
                    replies.append(Reply(owner, items))
                continue
            allowed = self._window(owner)
            replies.append(Reply(owner, items, allowed, free, free_async, owner.seen))
            owner.told = allowed
            owner.told_idle = free > 0 or free_async > 0
            owner.limit += max(1, len(items))
            if len(owner.jobs) >= allowed:
                self.full[owner.key] = owner
        self._due.clear()
        return replies
