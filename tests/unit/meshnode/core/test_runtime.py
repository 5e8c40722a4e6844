"""How long a task's jobs run, judged from those that ended."""

import pytest

from meshnode.core.runtime import BUDGET_S, STEADY_S, RunTime

SHORT_S = 40e-6
SLOW_S = 0.01


def known(seconds: float) -> RunTime:
    runtime = RunTime()
    runtime.observe(1, seconds, seconds)
    return runtime


def once(runtime: RunTime, seconds: float) -> None:
    runtime.observe(1, seconds, seconds)


def test_a_task_of_which_nothing_is_known_takes_a_whole_worker() -> None:
    runtime = RunTime()
    assert not runtime.short
    assert runtime.cost == BUDGET_S


def test_a_short_task_costs_what_its_jobs_take() -> None:
    runtime = RunTime()
    runtime.observe(4, 200e-6, 80e-6)
    assert runtime.short
    assert runtime.cost == pytest.approx(50e-6)


def test_a_slow_task_costs_the_whole_budget_and_no_more() -> None:
    runtime = known(SLOW_S)
    assert not runtime.short
    assert runtime.cost == BUDGET_S


@pytest.mark.parametrize(("seconds", "short"), [(BUDGET_S / 2, True), (BUDGET_S / 2 + 1e-6, False)])
def test_two_short_jobs_fit_into_one_workers_budget(seconds: float, *, short: bool) -> None:
    assert known(seconds).short is short


def test_the_longest_of_a_batch_decides_whether_its_task_is_short() -> None:
    runtime = RunTime()
    runtime.observe(100, 100 * SHORT_S + SLOW_S, SLOW_S)
    assert not runtime.short


def test_one_long_job_does_not_make_a_short_task_slow_but_two_soon_after_each_other_do() -> None:
    runtime = known(SHORT_S)
    once(runtime, SLOW_S)
    assert runtime.short
    once(runtime, SLOW_S)
    assert not runtime.short


def test_the_high_estimate_does_not_climb_beyond_the_job_that_raised_it() -> None:
    runtime = known(100e-6)
    once(runtime, 120e-6)
    assert runtime.high == pytest.approx(120e-6)


@pytest.mark.parametrize(("every", "short"), [(400, True), (50, False)])
def test_a_task_is_short_as_long_as_long_jobs_are_rare(every: int, *, short: bool) -> None:
    runtime = known(SHORT_S)
    for number in range(1, 40 * every + 1):
        once(runtime, SLOW_S if number % every == 0 else SHORT_S)
    assert runtime.short is short


def test_a_task_that_was_slow_is_short_again_after_many_short_jobs_alone_or_in_one_batch() -> None:
    one_by_one, at_once = known(400e-6), known(400e-6)
    for _ in range(200):
        once(one_by_one, SHORT_S)
    assert not one_by_one.short
    at_once.observe(200, 200 * SHORT_S, SHORT_S)
    assert at_once.high == pytest.approx(one_by_one.high)
    once(one_by_one, SHORT_S)
    for _ in range(100):
        once(one_by_one, SHORT_S)
    assert one_by_one.short


def test_one_job_moves_the_mean_a_little_and_a_batch_of_many_replaces_it() -> None:
    runtime = known(140e-6)
    once(runtime, 12e-6)
    assert runtime.mean == pytest.approx(138e-6)
    runtime.observe(64, 64 * 20e-6, 20e-6)
    assert runtime.mean == pytest.approx(20e-6)
    runtime.observe(128, 128 * 10e-6, 10e-6)
    assert runtime.mean == pytest.approx(10e-6)


def test_a_worker_that_was_set_aside_does_not_spoil_the_mean() -> None:
    runtime = known(SHORT_S)
    once(runtime, 60.0)
    assert runtime.cost < 1.1 * SHORT_S


def test_jobs_that_took_no_time_at_all_cost_something_still() -> None:
    runtime = RunTime()
    for _ in range(3):
        runtime.observe(1000, 0.0, 0.0)
        assert 0 < runtime.cost < 10e-6
    assert runtime.high is not None
    assert runtime.high > 0


# steady


@pytest.mark.parametrize(("seconds", "steady"), [(STEADY_S / 4, True), (STEADY_S, True), (STEADY_S + 1e-6, False)])
def test_a_task_is_steady_if_its_jobs_end_soon(seconds: float, *, steady: bool) -> None:
    assert known(seconds).steady is steady


def test_a_task_of_which_nothing_is_known_and_one_whose_jobs_are_short_are_not_steady() -> None:
    assert not RunTime().steady
    assert not known(SHORT_S).steady
    assert not known(BUDGET_S / 2).steady
    assert known(BUDGET_S / 2 + 1e-6).steady


@pytest.mark.parametrize(("longest", "steady"), [(0.01, True), (0.010001, False)])
def test_a_steady_tasks_longest_jobs_run_for_at_most_twice_as_long_as_the_mean(longest: float, *, steady: bool) -> None:
    runtime = RunTime()
    runtime.observe(10, 10 * 0.005, longest)
    assert runtime.steady is steady


def test_a_much_longer_job_makes_a_task_unsteady_until_many_have_been_as_long_as_ever() -> None:
    runtime = known(0.005)
    once(runtime, 0.009)
    assert runtime.steady
    once(runtime, 0.05)
    assert not runtime.steady
    for _ in range(400):
        once(runtime, 0.005)
    assert runtime.steady
