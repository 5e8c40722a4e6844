"""Whose time is up next."""

import sys

from mesh.core.deadlines import SLACK, Deadlines
from mesh.core.record import JobRecord


def job(number: int = 1) -> JobRecord:
    return JobRecord(number.to_bytes(16, "big"), "add", b"")


def test_jobs_come_due_in_the_order_of_their_deadlines() -> None:
    deadlines = Deadlines()
    late, early, same = job(1), job(2), job(3)
    for record, at in ((late, 9.0), (early, 3.0), (same, 3.0)):
        deadlines.set(record, at)
    assert deadlines.next() == 3.0
    assert list(deadlines.due(2.9)) == []
    assert list(deadlines.due(3.0)) == [early, same]
    assert deadlines.next() == 9.0
    assert (early.extras.deadline, early.alarm) == (3.0, None)
    assert len(deadlines) == 1
    assert list(deadlines.due(10.0)) == [late]
    assert deadlines.next() is None


def test_what_is_forgotten_leads_back_to_no_job() -> None:
    deadlines = Deadlines()
    records = [job(number) for number in range(3)]
    for record in records:
        deadlines.set(record, 9.0)
    deadlines.forget()
    assert [record.alarm for record in records] == [None] * 3
    assert (len(deadlines), deadlines.next(), list(deadlines.due(10.0))) == (0, None, [])


def test_a_job_that_is_over_does_not_come_due() -> None:
    deadlines = Deadlines()
    record = job()
    deadlines.set(record, 1.0)
    deadlines.clear(record)
    assert len(deadlines) == 0
    assert list(deadlines.due(5.0)) == []


def test_a_job_that_is_over_is_not_held_until_its_time_would_have_been_up() -> None:
    deadlines = Deadlines()
    record = job()
    holders = sys.getrefcount(record)
    deadlines.set(record, 3600.0)
    assert sys.getrefcount(record) > holders
    deadlines.clear(record)
    assert sys.getrefcount(record) == holders


def test_alarms_of_jobs_that_are_over_are_swept_out() -> None:
    deadlines = Deadlines()
    stays = job()
    deadlines.set(stays, 7200.0)
    for number in range(10 * SLACK):
        record = job(number)
        deadlines.set(record, 3600.0 + number)
        deadlines.clear(record)
    assert len(deadlines._alarms) <= SLACK + 2
    assert list(deadlines.due(8000.0)) == [stays]
