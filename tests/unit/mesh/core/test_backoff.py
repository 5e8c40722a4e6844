"""How long to wait before trying again."""

import random

import pytest

from mesh.core.backoff import FIRST_S, MOST_S, backoff


class Highest(random.Random):
    """Chance that always gives the upper end."""

    def uniform(self, a: float, b: float) -> float:
        return b


@pytest.mark.parametrize(("failures", "seconds"), [(0, FIRST_S), (1, 0.1), (3, 0.4), (6, MOST_S), (10**6, MOST_S)])
def test_the_longest_wait_doubles_up_to_a_bound(failures: int, seconds: float) -> None:
    assert backoff(failures, Highest()) == pytest.approx(seconds)


def test_waits_are_spread_from_none_to_the_longest() -> None:
    rng = random.Random(1)
    waits = [backoff(5, rng) for _ in range(1000)]
    assert min(waits) < 0.1
    assert 1.5 < max(waits) <= 1.6
    assert 0.7 < sum(waits) / len(waits) < 0.9
