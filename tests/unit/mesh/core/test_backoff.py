"""How long to wait before trying again."""

import random

import pytest

from mesh.core.backoff import FIRST_S, MOST_S, RETURNING_GROWTH, backoff


class Highest(random.Random):
    """Chance that always gives the upper end."""

    def uniform(self, a: float, b: float) -> float:
        return b


@pytest.mark.parametrize(("failures", "seconds"), [(0, FIRST_S), (1, 0.1), (3, 0.4), (6, MOST_S), (10**6, MOST_S)])
def test_the_longest_wait_doubles_up_to_a_bound(failures: int, seconds: float) -> None:
    assert backoff(failures, Highest()) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("failures", "seconds"), [(0, FIRST_S), (1, FIRST_S * RETURNING_GROWTH), (19, MOST_S), (10**6, MOST_S)]
)
def test_the_wait_for_a_node_that_said_goodbye_grows_more_slowly_to_the_same_bound(
    failures: int, seconds: float
) -> None:
    assert backoff(failures, Highest(), returning=True) == pytest.approx(seconds)


@pytest.mark.parametrize("away", [0.3, 0.5, 1.0])
@pytest.mark.parametrize(("returning", "least", "most"), [(True, 0.17, 0.23), (False, 0.6, 0.8)])
def test_a_node_that_said_goodbye_is_found_soon_after_it_returned(
    away: float, returning: bool, least: float, most: float
) -> None:
    late, _ = found_again(away=away, returning=returning)
    assert least < late < most


@pytest.mark.parametrize(("returning", "least", "most"), [(True, 15, 17), (False, 7, 8)])
def test_a_node_that_said_goodbye_is_tried_about_twice_as_often_at_first(
    returning: bool, least: float, most: float
) -> None:
    _, tries = found_again(away=3.0, returning=returning)
    assert least < tries < most


def found_again(*, away: float, returning: bool) -> tuple[float, float]:
    """Return how much later than a node returned it is found, as a share of that time, and after how many tries."""
    rng = random.Random(1)
    outages = 3000
    late = tries = 0.0
    for _ in range(outages):
        now, failures = 0.0, 0
        while now < away:
            now += backoff(failures, rng, returning=returning)
            failures += 1
        late += (now - away) / away
        tries += failures
    return late / outages, tries / outages


def test_waits_are_spread_from_none_to_the_longest() -> None:
    rng = random.Random(1)
    waits = [backoff(5, rng) for _ in range(1000)]
    assert min(waits) < 0.1
    assert 1.5 < max(waits) <= 1.6
    assert 0.7 < sum(waits) / len(waits) < 0.9
