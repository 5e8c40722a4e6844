"""How many further attempts a client may make."""

import itertools

import pytest

from mesh.core.budget import FLOOR, PERIOD_S, SHARE, Budget


def taken(budget: Budget, now: float) -> int:
    """Take all that may be made at this moment."""
    count = 0
    while budget.wait(now) == 0:
        budget.take(now)
        count += 1
    return count


def test_a_client_with_few_jobs_may_try_again_and_after_some_rest_a_whole_period_s_worth_at_once() -> None:
    budget = Budget()
    assert taken(budget, 0.0) == pytest.approx(FLOOR * PERIOD_S, abs=1)
    assert taken(budget, 1.0) == pytest.approx(FLOOR, abs=1)
    assert taken(budget, 1000.0) == pytest.approx(FLOOR * PERIOD_S, abs=1)


def test_beyond_its_share_a_further_attempt_waits_for_its_turn() -> None:
    budget = Budget()
    taken(budget, 0.0)
    waits = []
    for _ in range(5):
        waits.append(budget.wait(0.0))
        budget.take(0.0)
    steps = [later - earlier for earlier, later in itertools.pairwise(waits)]
    assert steps == pytest.approx([1 / FLOOR] * 4)


def test_asking_takes_nothing() -> None:
    budget = Budget()
    taken(budget, 0.0)
    assert budget.wait(0.0) == budget.wait(0.0) > 0


def test_the_more_jobs_are_handed_in_the_more_may_be_tried_again() -> None:
    budget = Budget()
    budget.handed_in(10_000, 0.0)
    assert taken(budget, 0.0) == pytest.approx(FLOOR * PERIOD_S + SHARE * 10_000, abs=1)


def test_jobs_count_for_a_period_and_no_longer() -> None:
    budget = Budget()
    for tenth in range(100):
        budget.handed_in(100, tenth / 10)
    assert len(budget._handed_in) <= 11
    assert taken(budget, 9.9) == pytest.approx(FLOOR * PERIOD_S + SHARE * 10_000, abs=1)
    assert taken(budget, 9.9 + 3 * PERIOD_S) == pytest.approx(FLOOR * PERIOD_S, abs=1)
    assert not budget._handed_in


def test_over_a_long_time_the_share_holds() -> None:
    budget = Budget()
    made = 0
    for second in range(100):
        budget.handed_in(1000, float(second))
        made += taken(budget, float(second))
    assert made <= (FLOOR + SHARE * 1100) * (100 + PERIOD_S)
