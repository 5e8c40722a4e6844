"""Whether a task brings down worker after worker."""

from meshnode.core.quarantine import CLOSED_S, CRASHES, WITHIN_S, Quarantine


def crash(quarantine: Quarantine, *moments: float) -> list[bool]:
    return [quarantine.crashed(at) for at in moments]


def test_a_task_is_open_until_so_many_workers_in_a_row_have_died_of_it() -> None:
    quarantine = Quarantine()
    assert not quarantine.closed(0.0)
    assert crash(quarantine, *range(1, CRASHES + 1)) == [False] * (CRASHES - 1) + [True]
    assert quarantine.closed(CRASHES)


def test_a_worker_that_lives_ends_the_row() -> None:
    quarantine = Quarantine()
    crash(quarantine, *range(1, CRASHES))
    quarantine.survived()
    assert crash(quarantine, *range(CRASHES, 2 * CRASHES - 1)) == [False] * (CRASHES - 1)
    assert not quarantine.closed(2 * CRASHES)


def test_deaths_long_ago_do_not_count() -> None:
    quarantine = Quarantine()
    crash(quarantine, *([0.0] * (CRASHES - 1)))
    assert crash(quarantine, WITHIN_S) == [False]
    assert crash(quarantine, *([WITHIN_S] * (CRASHES - 1)))[-1]


def test_a_task_is_open_again_after_a_while() -> None:
    quarantine = Quarantine()
    crash(quarantine, *([10.0] * CRASHES))
    assert quarantine.closed(10.0 + CLOSED_S - 0.1)
    assert not quarantine.closed(10.0 + CLOSED_S)


def test_a_task_on_trial_is_closed_by_one_more_death_if_the_others_were_not_long_ago() -> None:
    quarantine = Quarantine()
    crash(quarantine, *([10.0] * CRASHES))
    assert crash(quarantine, 20.0) == [True]
    assert quarantine.closed(20.0 + CLOSED_S - 0.1)


def test_a_task_on_trial_that_leaves_its_worker_alive_is_as_any_other() -> None:
    quarantine = Quarantine()
    crash(quarantine, *([10.0] * CRASHES))
    quarantine.survived()
    assert crash(quarantine, 11.0) == [False]
