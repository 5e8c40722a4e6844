"""How long to wait before trying again. Pure."""

import random

FIRST_S = 0.05
MOST_S = 3.0
"""Seconds between two attempts at most: a node that returns is found within that, and a node that is gone
costs one connect in 1.5 s on average."""


def backoff(failures: int, rng: random.Random) -> float:
    """Return seconds to wait after so many failures in a row: full jitter under a doubling cap.

    Full jitter spreads the clients of a node that restarts (M. Brooker, "Exponential Backoff And Jitter", 2015).
    """
    return rng.uniform(0.0, min(MOST_S, FIRST_S * 2.0 ** min(failures, 16)))
