"""How long to wait before trying again. Pure."""

import random
from typing import Final

FIRST_S: Final = 0.05
MOST_S: Final = 3.0
"""Seconds between two attempts at most: a node that returns on a host that answers is found within that, and a node
that is gone costs one connect in 1.5 s on average."""

GROWTH: Final = 2.0
"""How many times as large the bound of the waits grows with each failure."""

RETURNING_GROWTH: Final = 1.25
"""The same for a node that said goodbye, until it is found again: most are being restarted, while one that died may be
gone for long.

Where it was away for 0.3 to 1 s it is found a fifth of that later on average, seven tenths of it where the bound
doubles (simulated). For that it is tried some 16 times in its first 3 s away, 7 times otherwise.
"""


def backoff(failures: int, rng: random.Random, *, returning: bool = False) -> float:
    """Return seconds to wait after so many failures in a row: full jitter under a growing cap.

    `returning`: the node said goodbye and is likely to return soon. Full jitter spreads the clients of a node that
    restarts (M. Brooker, "Exponential Backoff And Jitter", 2015).
    """
    return full_jitter(failures, first=FIRST_S, cap=MOST_S, rng=rng, growth=RETURNING_GROWTH if returning else GROWTH)


def full_jitter(failures: int, *, first: float, cap: float, rng: random.Random, growth: float = GROWTH) -> float:
    """Return seconds between nothing and `first`, `growth` times as much for each failure before, `cap` at most."""
    return rng.uniform(0.0, min(cap, first * growth ** min(failures, 64)))
