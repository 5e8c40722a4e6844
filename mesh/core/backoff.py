"""How long to wait before trying again. Pure."""

import random
from typing import Final

FIRST_S: Final = 0.05
MOST_S: Final = 3.0
"""Seconds between two attempts at most: a node that returns is found within that, and a node that is gone
costs one connect in 1.5 s on average."""


def backoff(failures: int, rng: random.Random) -> float:
    """Return seconds to wait after so many failures in a row: full jitter under a doubling cap.

    Full jitter spreads the clients of a node that restarts (M. Brooker, "Exponential Backoff And Jitter", 2015).
    """
    return full_jitter(failures, first=FIRST_S, cap=MOST_S, rng=rng)


def full_jitter(failures: int, *, first: float, cap: float, rng: random.Random) -> float:
    """Return seconds between nothing and `first`, doubled for each failure before, `cap` at most."""
    return rng.uniform(0.0, min(cap, first * 2.0 ** min(failures, 64)))
