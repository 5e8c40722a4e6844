"""Workers whose jobs wait for other jobs, and the spare workers."""

from meshnode.core.callers import SPARE_S, Callers
from meshnode.core.held import FOREVER, Held, Owner, TaskEntry
from tests.support.scheduling import TASKS, job, job_id


def wait_for(owner: Owner, number: int, *, queued: bool = True) -> None:
    held = Held(job(number), TaskEntry(TASKS[0]), owner, FOREVER)
    owner.jobs[job_id(number)] = held
    owner.queued += queued


def test_a_worker_has_one_owner_for_what_its_jobs_call_which_is_told_no_window() -> None:
    callers = Callers(2)
    owner = callers.of(7)
    assert (owner.key, owner.windowed) == (-7, False)
    assert callers.of(7) is owner
    assert callers.lost(7) is owner
    assert callers.lost(7) is None
    assert not callers


def test_who_waits_and_whose_calls_find_no_worker_are_counted() -> None:
    callers = Callers(2)
    wait_for(callers.of(1), 1)
    wait_for(callers.of(2), 2, queued=False)
    callers.of(3)
    assert callers.blocked == 2
    assert callers.queued == [callers.of(1)]
    assert callers


def test_as_many_spare_workers_may_come_as_wait_but_no_more_than_so_many() -> None:
    callers = Callers(2)
    assert not callers.wants_spare()
    for worker in (1, 2, 3):
        wait_for(callers.of(worker), worker)
    assert [callers.wants_spare() for _ in range(3)] == [True, True, False]
    callers.came(11)
    callers.came(None)
    assert (callers.spares, callers.exhausted()) == ({11}, False)
    assert callers.wants_spare()
    callers.came(12)
    assert callers.exhausted()
    assert not callers.wants_spare()
    callers.lost(12)
    assert not callers.exhausted()


def test_one_that_did_not_come_and_was_not_awaited_means_nothing() -> None:
    callers = Callers(1)
    callers.came(None)
    wait_for(callers.of(1), 1)
    assert [callers.wants_spare() for _ in range(2)] == [True, False]


def test_spare_workers_go_when_nobody_has_waited_for_a_while() -> None:
    callers = Callers(2)
    assert callers.superfluous(0.0) == []
    callers.came(11)
    wait_for(callers.of(1), 1)
    assert callers.superfluous(1.0) == []
    assert callers.at == FOREVER
    callers.of(1).jobs.clear()
    assert callers.superfluous(2.0) == []
    assert callers.at == 2.0 + SPARE_S
    assert callers.superfluous(callers.at - 0.1) == []
    assert callers.superfluous(callers.at) == [11]
    assert (callers.spares, callers.at) == (set(), FOREVER)


def test_who_waits_again_keeps_the_spare_workers() -> None:
    callers = Callers(2)
    callers.came(11)
    callers.superfluous(0.0)
    wait_for(callers.of(1), 1)
    assert callers.superfluous(SPARE_S) == []
    assert callers.at == FOREVER
