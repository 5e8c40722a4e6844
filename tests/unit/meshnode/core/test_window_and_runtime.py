"""What a node learns of run times, and the windows that follow from it."""

import pytest

from meshnode.core.respawn import MOST_S, Respawn
from meshnode.core.runtime import BUDGET_S, RunTime
from meshnode.core.window import AHEAD_S, MOST_AHEAD, Pace, window


def test_a_task_nobody_has_seen_is_not_short_and_costs_the_whole_budget() -> None:
    runtime = RunTime()
    assert not runtime.short
    assert runtime.cost == BUDGET_S


def test_a_short_task_costs_its_mean() -> None:
    runtime = RunTime()
    runtime.observe(10, 10 * 20e-6, 30e-6)
    assert runtime.short
    assert runtime.cost == pytest.approx(20e-6)


def test_one_stumble_does_not_make_a_short_task_long_but_several_do() -> None:
    runtime = RunTime()
    runtime.observe(1, 20e-6, 20e-6)
    runtime.observe(1, 0.5, 0.5)
    assert runtime.short
    for _ in range(3):
        runtime.observe(1, 0.5, 0.5)
    assert not runtime.short


def test_a_task_that_was_long_becomes_short_again() -> None:
    runtime = RunTime()
    runtime.observe(1, 0.01, 0.01)
    assert not runtime.short
    runtime.observe(2000, 2000 * 5e-6, 5e-6)
    assert runtime.short


def test_jobs_ahead_follow_from_the_mean_run_time() -> None:
    pace = Pace()
    assert pace.ahead(64, 2) == 0
    pace.finished(64, 64 * 0.001)
    assert pace.ahead(64, 2) == int(64 * AHEAD_S / 0.001)
    pace.reset()
    assert pace.ahead(64, 2) == 0


def test_short_jobs_ahead_are_reckoned_by_cores_and_bounded() -> None:
    pace = Pace()
    pace.finished(64, 64 * 100e-6)
    assert pace.ahead(64, 2) == 2 * AHEAD_S / 100e-6
    pace.finished(640, 640 * 1e-7)
    assert pace.ahead(64, 2) == MOST_AHEAD


@pytest.mark.parametrize(
    ("slots", "ahead", "sharers", "jobs"),
    [(64, 0, 1, 64), (64, 0, 3, 22), (4, 100, 2, 52), (1, 0, 50, 1), (0, 0, 0, 1)],
)
def test_a_window_is_a_fair_share_and_at_least_one(slots: int, ahead: int, sharers: int, jobs: int) -> None:
    assert window(slots, ahead, sharers) == jobs


def test_a_worker_that_lived_is_replaced_at_once_and_one_that_dies_young_ever_later() -> None:
    respawn = Respawn()
    delays = [respawn.delay(3, 0.1) for _ in range(12)]
    assert delays[:4] == [0.0, 0.1, 0.2, 0.4]
    assert delays[-1] == MOST_S
    assert respawn.delay(4, 0.1) == 0.0, "each slot for itself"
    assert respawn.delay(3, 5.0) == 0.0
    assert respawn.delay(3, 0.1) == 0.0, "a long life makes good for it"
