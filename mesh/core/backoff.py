"""How long to wait before trying again. Pure."""

import random
from typing import Final

FIRST_S: Final = 0.05
MOST_S: Final = 3.0
"""Seconds between two attempts at most: a node that returns is found within that, and a node that is gone
costs one connect in 1.5 s on average."""

GROWTH: Final = 2.0
"""How many times as long as the one before each wait may be."""

EXPECTED_GROWTH: Final = 1.25
"""How much longer each wait for a node that said goodbye may be than the one before: most are being restarted.

A node that was away for up to a second is found again a fifth of that later on average, three quarters of it where
waits double (simulated); for that it is tried eight times more in its first three seconds away. A node that died is
not: its clients would all try at once.
"""


def backoff(failures: int, rng: random.Random, *, expected: bool = False) -> float:
    """Return seconds to wait after so many failures in a row: full jitter under a growing cap.

    `expected`: the node said goodbye and is likely to return soon. Full jitter spreads the clients of a node that
    restarts (M. Brooker, "Exponential Backoff And Jitter", 2015).
    """
    return full_jitter(failures, first=FIRST_S, cap=MOST_S, rng=rng, growth=EXPECTED_GROWTH if expected else GROWTH)


def full_jitter(failures: int, *, first: float, cap: float, rng: random.Random, growth: float = GROWTH) -> float:
    """Return seconds between nothing and `first`, `growth` times as much for each failure before, `cap` at most."""
    return rng.uniform(0.0, min(cap, first * growth ** min(failures, 64)))
