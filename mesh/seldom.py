"""Log lines that strangers can cause: each once, so many different ones, and then only how many more there were."""

import logging
import time

MOST = 16
"""Different lines at most; what is beyond is counted."""

EVERY_S = 60.0
"""Seconds between two words about what was counted."""


class Seldom:
    """Says the same once. May be used from any thread: at worst a line comes twice."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._said: set[str] = set()
        self._beyond = 0
        self._told_at = -EVERY_S

    def warn(self, about: str, text: str, *details: object) -> None:
        """Warn of something, unless that was done before. `about` says what is the same."""
        if about in self._said:
            return
        if len(self._said) < MOST:
            self._said.add(about)
            self._log.warning(text, *details)
            return
        self._beyond += 1
        now = time.monotonic()
        if now - self._told_at >= EVERY_S:
            self._told_at = now
            self._log.warning("and %d more of the kind, the last one: %s", self._beyond, text % details)
