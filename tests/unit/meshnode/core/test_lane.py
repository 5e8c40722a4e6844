"""A bridge connection's requests on their way to the scheduler."""

import pytest

from mesh.wire.messages import Options, Submit
from meshnode.core.held import FOREVER, Owner
from meshnode.core.lane import Lane
from meshnode.core.request import LONGEST_MS, Asked


def lane(*, most: int = 100, most_bytes: int = 1000, ordered: bool = False) -> Lane:
    return Lane(Owner(1, most=1 if ordered else 128, windowed=False), most=most, most_bytes=most_bytes)


def asked(number: int, *, size: int = 1, expires: float = FOREVER, priority: int = 5) -> Asked:
    submit = Submit(number.to_bytes(16, "big"), 1, "add", 1, None, Options(priority=priority), b"x" * size)
    return Asked(None, submit, size=size, expires=expires)


def gone(made: Lane, now: float = 0.0) -> list[int]:
    return [int.from_bytes(submit.id, "big") for submit in made.depart(now)]


def test_what_joined_departs_once_and_in_its_order() -> None:
    made = lane()
    for number in (1, 2, 3):
        made.join(asked(number, size=10))
    assert (len(made), made.waiting_bytes) == (3, 30)
    assert gone(made) == [1, 2, 3]
    assert (len(made), made.waiting_bytes) == (0, 0)
    assert gone(made) == []


def test_no_more_than_its_bound_are_on_their_way_and_each_end_lets_one_go() -> None:
    made = lane(most=2)
    jobs = [asked(number) for number in range(4)]
    for job in jobs:
        made.join(job)
    assert gone(made) == [0, 1]
    assert gone(made) == []
    made.land(jobs[0])
    assert gone(made) == [2]
    made.land(jobs[1])
    made.land(jobs[2])
    assert gone(made) == [3]


def test_bytes_on_their_way_are_bounded_too() -> None:
    made = lane(most_bytes=100)
    jobs = [asked(1, size=60), asked(2, size=40), asked(3, size=1)]
    for job in jobs:
        made.join(job)
    assert gone(made) == [1, 2]
    assert made.waiting_bytes == 1
    made.land(jobs[1])
    assert gone(made) == [3]


def test_one_job_goes_however_large_it_is_but_nothing_goes_beside_it() -> None:
    made = lane(most_bytes=100)
    jobs = [asked(1, size=5000), asked(2), asked(3)]
    for job in jobs:
        made.join(job)
    assert gone(made) == [1]
    made.land(jobs[0])
    assert gone(made) == [2, 3]


def test_a_job_too_large_to_go_now_is_not_overtaken_by_a_small_one() -> None:
    made = lane(most_bytes=100)
    for job in (asked(1), asked(2, size=5000), asked(3)):
        made.join(job)
    assert gone(made) == [1]


def test_where_answers_come_in_order_another_priority_waits_for_the_end_of_the_last() -> None:
    made = lane(ordered=True)
    jobs = [asked(1, priority=5), asked(2, priority=5), asked(3, priority=9), asked(4, priority=5)]
    for job in jobs:
        made.join(job)
    assert gone(made) == [1, 2]
    made.land(jobs[0])
    assert gone(made) == []
    made.land(jobs[1])
    assert gone(made) == [3]
    made.land(jobs[2])
    assert gone(made) == [4]


def test_where_answers_come_as_they_end_priorities_go_together() -> None:
    made = lane()
    for job in (asked(1, priority=5), asked(2, priority=9)):
        made.join(job)
    assert gone(made) == [1, 2]


def test_a_lane_without_bounds_lets_everything_go() -> None:
    made = lane(most=1, most_bytes=1)
    for number in range(50):
        made.join(asked(number, size=1 << 20))
    assert len(gone(made)) == 1
    made.widen()
    assert len(gone(made)) == 49


@pytest.mark.parametrize(
    ("expires", "milliseconds"),
    [(FOREVER, None), (12.5, 2500), (10.0, 0), (9.0, 0), (1e300, LONGEST_MS)],
)
def test_a_job_is_told_the_time_that_is_left_when_it_departs(expires: float, milliseconds: int | None) -> None:
    made = lane()
    made.join(asked(1, expires=expires))
    (submit,) = made.depart(10.0)
    assert submit.remaining == milliseconds


def test_what_is_left_out_never_departs_and_the_others_keep_their_order() -> None:
    made = lane()
    jobs = [asked(number, size=number) for number in (1, 2, 3, 4)]
    for job in jobs:
        made.join(job)
    assert made.leave_out(lambda job: job.size % 2 == 0) == [jobs[1], jobs[3]]
    assert (len(made), made.waiting_bytes) == (2, 4)
    assert made.leave_out(lambda job: job.size > 100) == []
    assert gone(made) == [1, 3]


def test_jobs_of_different_traces_go_together() -> None:
    made = lane(ordered=True)
    for number in (1, 2, 3):
        job = asked(number)
        assert job.submit is not None
        job.submit.options = Options(trace=f"trace-{number}")
        made.join(job)
    assert gone(made) == [1, 2, 3]
