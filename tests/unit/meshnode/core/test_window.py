"""How many jobs a client may have outstanding at a node."""

import pytest

from meshnode.core.window import MOST_AHEAD, Pace, window

SHORT_S = 100e-6
SLOW_S = 500e-6


def pace(seconds: float) -> Pace:
    made = Pace()
    made.finished(1, seconds)
    return made


def test_nothing_is_asked_for_ahead_before_a_job_has_ended() -> None:
    assert Pace().ahead(workers=8, cores=8) == 0


def test_slow_jobs_keep_every_worker_busy() -> None:
    assert pace(SLOW_S).ahead(workers=8, cores=2) == 32


def test_short_jobs_keep_no_more_workers_busy_than_there_are_cores() -> None:
    assert pace(SHORT_S).ahead(workers=8, cores=2) == 40
    assert pace(SHORT_S).ahead(workers=1, cores=2) == 20


def test_jobs_that_take_longer_than_a_round_trip_are_not_kept_ahead() -> None:
    assert pace(0.02).ahead(workers=8, cores=8) == 0


@pytest.mark.parametrize("seconds", [0.0, 1e-9, 1e-7])
def test_jobs_ahead_have_a_bound_however_short_they_are(seconds: float) -> None:
    assert pace(seconds).ahead(workers=64, cores=64) == MOST_AHEAD


def test_the_first_jobs_give_the_mean_and_one_later_job_moves_it_a_little() -> None:
    made = Pace()
    made.finished(4, 0.4)
    assert made.mean == pytest.approx(0.1)
    made.finished(1, 6.5)
    assert made.mean == pytest.approx(0.2)


def test_a_large_batch_is_the_new_mean_and_never_goes_beyond_it() -> None:
    made = pace(1.0)
    made.finished(1000, 10.0)
    assert made.mean == pytest.approx(0.01)


def test_a_pace_that_is_forgotten_is_reckoned_from_the_next_job_alone() -> None:
    made = pace(1.0)
    made.reset()
    assert made.ahead(workers=8, cores=8) == 0
    made.finished(1, SLOW_S)
    assert made.mean == pytest.approx(SLOW_S)


@pytest.mark.parametrize(
    ("slots", "ahead", "sharers", "share"),
    [
        (4, 0, 1, 4),
        (4, 6, 1, 10),
        (4, 0, 2, 2),
        (4, 3, 2, 4),
        (4, 0, 3, 2),
        (4, 0, 100, 1),
        (0, 0, 1, 1),
        (4, 0, 0, 4),
    ],
)
def test_slots_and_work_ahead_are_shared_and_nobody_gets_nothing(
    slots: int, ahead: int, sharers: int, share: int
) -> None:
    assert window(slots, ahead, sharers) == share


def test_the_shares_together_leave_no_slot_unused() -> None:
    assert all(window(slots, 0, sharers) * sharers >= slots for slots in range(20) for sharers in range(1, 20))
