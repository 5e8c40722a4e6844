"""Which endpoints a client connects to, and when it tries again. Pure.

Sources (mDNS, seeds) only add candidates; a link that works stays, whatever they say later.
"""

import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from mesh.core.backoff import backoff

REFUSED_S: Final = 60.0
"""Seconds before an endpoint that refused us (another mesh or version) is tried again."""

NO_KEY: Final = ""
"""Expected where nodes have no keys."""

MOST: Final = 4096
"""Candidates at most: what announces itself is a stranger's word."""


@dataclass(slots=True)
class Candidate:
    """An endpoint that may lead to a node. `link` is the number of the link there, 0 for none.

    `sources` name the public keys, one of which the node may prove to have; `turn` counts those that it did not.
    `returning`: the node there said goodbye, and has not been found since.
    """

    endpoint: str
    sources: dict[str, tuple[str, ...]] = field(default_factory=dict)
    turn: int = 0
    link: int = 0
    twin_of: int = 0
    failures: int = 0
    returning: bool = False
    due: float = 0.0

    @property
    def keys(self) -> list[str]:
        """The keys to expect there, each once."""
        return list(dict.fromkeys(key for keys in self.sources.values() for key in keys))


class Dialer:
    """The candidates, and when each is due."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._candidates: dict[str, Candidate] = {}
        self._by_link: dict[int, Candidate] = {}
        self._wake: float | None = None

    def offer(self, source: str, endpoints: Iterable[str], now: float, *, keys: tuple[str, ...] = (NO_KEY,)) -> None:
        """Replace what a source offers; a new endpoint is due at once, as is one with a new key.

        `keys`: the public keys that the nodes there may have, the likeliest first.
        """
        offered = set(endpoints)
        for endpoint in offered:
            candidate = self._candidates.get(endpoint)
            if candidate is None:
                if len(self._candidates) >= MOST:
                    continue
                candidate = self._candidates[endpoint] = Candidate(endpoint, due=now)
            elif candidate.sources.get(source) != keys and not candidate.link:
                candidate.due = min(candidate.due, now)
            candidate.sources[source] = keys
        for candidate in list(self._candidates.values()):
            if candidate.endpoint not in offered and source in candidate.sources:
                del candidate.sources[source]
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

    def opened(self, endpoint: str, link: int) -> str:
        """A link to an endpoint is being made; return the key that the node there has to prove."""
        candidate = self._candidates[endpoint]
        candidate.link = link
        self._by_link[link] = candidate
        self._reckon()
        keys = candidate.keys
        return keys[candidate.turn % len(keys)]

    def joined(self, link: int) -> None:
        """The node there greeted back."""
        candidate = self._by_link.get(link)
        if candidate is not None:
            _found(candidate)

    def endpoint(self, link: int) -> str:
        """Return where a link leads."""
        candidate = self._by_link.get(link)
        return candidate.endpoint if candidate else ""

    def lost(
        self,
        link: int,
        now: float,
        *,
        twin_of: int = 0,
        refused: bool = False,
        goodbye: bool = False,
        another_key: bool = False,
    ) -> bool:
        """A link is gone: try again later, or once its twin to the same node is gone; True if another key is left.

        A link that is its own twin leads to where nobody wants to go: it is not tried again. `goodbye`: the node took
        its leave. `another_key`: the node there does not have the key that was expected; the next one is tried at
        once, until all were.
        """
        candidate = self._by_link.pop(link, None)
        if candidate is None:
            return False
        candidate.link = 0
        left = False
        if twin_of == link or twin_of in self._by_link:
            candidate.twin_of = twin_of
            _found(candidate)
        elif refused:
            candidate.due = now + REFUSED_S
        elif another_key and self._next_key(candidate):
            left = True
            candidate.due = now
        else:
            candidate.returning = candidate.returning or goodbye
            self._put_off(candidate, now)
        for other in self._candidates.values():
            if other.twin_of == link and other is not candidate:
                other.twin_of = 0
                other.due = now
                if goodbye:
                    other.returning = True
                    self._put_off(other, now)
        self._drop_if_unwanted(candidate)
        self._reckon()
        return left

    def _put_off(self, candidate: Candidate, now: float) -> None:
        """Try it again after a wait, which may be longer each time."""
        candidate.due = now + backoff(candidate.failures, self._rng, returning=candidate.returning)
        candidate.failures += 1

    def _next_key(self, candidate: Candidate) -> bool:
        """Expect the next key; False once all have been tried."""
        candidate.turn += 1
        return bool(candidate.turn % max(1, len(candidate.keys)))

    def _drop_if_unwanted(self, candidate: Candidate) -> None:
        if not candidate.sources and not candidate.link:
            self._candidates.pop(candidate.endpoint, None)


def _found(candidate: Candidate) -> None:
    """Its node has greeted: the waits begin anew."""
    candidate.failures = 0
    candidate.returning = False


def _is_free(candidate: Candidate) -> bool:
    return not candidate.link and not candidate.twin_of
