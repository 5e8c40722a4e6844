"""How long to wait before trying again."""

import random

import pytest

from mesh.core.backoff import EXPECTED_GROWTH, FIRST_S, MOST_S, backoff


class Highest(random.Random):
    """Chance that always gives the upper end."""

    def uniform(self, a: float, b: float) -> float:
        return b


@pytest.mark.parametrize(("failures", "seconds"), [(0, FIRST_S), (1, 0.1), (3, 0.4), (6, MOST_S), (10**6, MOST_S)])
def test_the_longest_wait_doubles_up_to_a_bound(failures: int, seconds: float) -> None:
    assert backoff(failures, Highest()) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("failures", "seconds"), [(0, FIRST_S), (1, FIRST_S * EXPECTED_GROWTH), (19, MOST_S), (10**6, MOST_S)]
)
def test_the_wait_for_a_node_that_said_goodbye_grows_more_slowly_to_the_same_bound(
    failures: int, seconds: float
) -> None:
    assert backoff(failures, Highest(), expected=True) == pytest.approx(seconds)


def test_a_node_that_said_goodbye_is_found_again_soon_after_it_returned() -> None:
    late = []
    for seed in range(300):
        rng = random.Random(seed)
        for away in (0.3, 3.0):
            now, failures = 0.0, 0
            while now < away:
                now += backoff(failures, rng, expected=True)
                failures += 1
            late.append((now - away) / away)
    assert sum(late) / len(late) < 0.25
    assert failures < 30


def test_waits_are_spread_from_none_to_the_longest() -> None:
    rng = random.Random(1)
    waits = [backoff(5, rng) for _ in range(1000)]
    assert min(waits) < 0.1
    assert 1.5 < max(waits) <= 1.6
    assert 0.7 < sum(waits) / len(waits) < 0.9
