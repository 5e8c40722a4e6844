"""Which endpoints a client connects to, and when it tries again. Pure.

Sources (mDNS, seeds) only add candidates; a link that works stays, whatever they say later.
"""

import random
from collections.abc import Iterable
from dataclasses import dataclass, field

from mesh.core.backoff import backoff

REFUSED_S = 60.0
"""Seconds before an endpoint that refused us (another mesh or version) is tried again."""

MOST = 4096
"""Candidates at most: what announces itself is a stranger's word."""


@dataclass(slots=True)
class Candidate:
    """An endpoint that may lead to a node. `link` is the key of the link there, 0 for none."""

    endpoint: str
    sources: set[str] = field(default_factory=set)
    link: int = 0
    twin_of: int = 0
    failures: int = 0
    due: float = 0.0


class Dialer:
    """The candidates, and when each is due."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._candidates: dict[str, Candidate] = {}
        self._by_link: dict[int, Candidate] = {}
        self._wake: float | None = None

    def offer(self, source: str, endpoints: Iterable[str], now: float) -> None:
        """Replace what a source offers; a new endpoint is due at once."""
        offered = set(endpoints)
        for endpoint in offered:
            candidate = self._candidates.get(endpoint)
            if candidate is None:
                if len(self._candidates) >= MOST:
                    continue
                candidate = self._candidates[endpoint] = Candidate(endpoint, due=now)
            elif source not in candidate.sources and not candidate.link:
                candidate.due = min(candidate.due, now)
            candidate.sources.add(source)
        for candidate in list(self._candidates.values()):
            if candidate.endpoint not in offered and source in candidate.sources:
                candidate.sources.discard(source)
                self._drop_if_unwanted(candidate)
        self._reckon()

    def due(self, now: float) -> list[str]:
        """Return the endpoints to connect to now."""
        if self._wake is None or now < self._wake:
            return []
        return [c.endpoint for c in self._candidates.values() if _is_free(c) and c.due <= now]

    def next_wake(self) -> float | None:
        """When the next one is due; None for never."""
        return self._wake

    def _reckon(self) -> None:
        self._wake = min((c.due for c in self._candidates.values() if _is_free(c)), default=None)

    def opened(self, endpoint: str, link: int) -> None:
        """A link to an endpoint is being made."""
        candidate = self._candidates[endpoint]
        candidate.link = link
        self._by_link[link] = candidate
        self._reckon()

    def joined(self, link: int) -> None:
        """The node there greeted back."""
        candidate = self._by_link.get(link)
        if candidate is not None:
            candidate.failures = 0

    def endpoint(self, link: int) -> str:
        """Return where a link leads."""
        candidate = self._by_link.get(link)
        return candidate.endpoint if candidate else ""

    def lost(self, link: int, now: float, *, twin_of: int = 0, refused: bool = False) -> None:
        """A link is gone: try again later, or once its twin to the same node is gone.

        A link that is its own twin leads to where nobody wants to go: it is not tried again.
        """
        candidate = self._by_link.pop(link, None)
        if candidate is None:
            return
        candidate.link = 0
        if twin_of == link or twin_of in self._by_link:
            candidate.twin_of = twin_of
        elif refused:
            candidate.due = now + REFUSED_S
        else:
            candidate.due = now + backoff(candidate.failures, self._rng)
            candidate.failures += 1
        for other in self._candidates.values():
            if other.twin_of == link and other is not candidate:
                other.twin_of = 0
                other.due = now
        self._drop_if_unwanted(candidate)
        self._reckon()

    def _drop_if_unwanted(self, candidate: Candidate) -> None:
        if not candidate.sources and not candidate.link:
            self._candidates.pop(candidate.endpoint, None)


def _is_free(candidate: Candidate) -> bool:
    return not candidate.link and not candidate.twin_of
