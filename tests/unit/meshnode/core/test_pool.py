"""Which worker gets the next jobs."""

import pytest

from mesh.wire.messages import Submit, TaskSpec
from meshnode.core.held import COROUTINE, FOREVER, WHOLE, Held, Owner, TaskEntry
from meshnode.core.pool import Pool, Worker
from meshnode.core.runtime import BUDGET_S

OWNER = Owner(1)


def entry(mean: float | None = None, kind: int = WHOLE) -> TaskEntry:
    made = TaskEntry(TaskSpec(name="t"), 0, kind)
    if mean is not None:
        made.runtime.observe(1, mean, mean)
    return made


def pool(workers: int = 4, *, cores: int = 2, concurrency: int = 1) -> Pool:
    made = Pool(concurrency=concurrency, cores=cores)
    for key in range(workers):
        made.add(key)
    return made


def held(task: TaskEntry) -> Held:
    return Held(Submit(b"i" * 16, 1, "t", 0, None, None, b""), task, OWNER, FOREVER)


def give(to: Pool, task: TaskEntry, jobs: int = 1) -> Worker:
    choice = to.pick(task, jobs)
    assert choice is not None
    for _ in range(min(choice[1], jobs)):
        to.give(choice[0], held(task))
    return choice[0]


def test_a_slow_job_takes_an_idle_worker_and_no_second_one_goes_behind_it() -> None:
    slow, workers = entry(0.01), pool(2)
    assert {give(workers, slow).key, give(workers, slow).key} == {0, 1}
    assert workers.pick(slow, 1) is None
    assert workers.free == 0


def test_the_worker_that_went_idle_last_is_the_next_to_work() -> None:
    slow, workers = entry(0.01), pool(3)
    first, second = give(workers, slow), give(workers, slow)
    workers.end(first, 1)
    assert give(workers, slow) is first
    workers.end(second, 1)
    assert give(workers, slow) is second


def test_short_jobs_stay_on_as_many_workers_as_there_are_cores() -> None:
    short, workers = entry(1e-6), pool(64, cores=2)
    used = {give(workers, short, 8).key for _ in range(20)}
    assert len(used) == 2
    assert workers.free == 62


def test_a_worker_holds_no_more_short_jobs_than_the_budget_allows() -> None:
    short, workers = entry(BUDGET_S / 10), pool(1, cores=1)
    worker = give(workers, short, 100)
    assert len(worker.outstanding) == 10
    assert workers.room(worker, short) == 0


def test_full_workers_have_a_further_one_woken() -> None:
    short, workers = entry(BUDGET_S / 3), pool(3, cores=1)
    assert give(workers, short, 3).key != give(workers, short, 3).key


def test_a_worker_that_drags_on_gets_nothing() -> None:
    short, workers = entry(1e-6), pool(1, cores=1)
    give(workers, short).stuck = True
    assert workers.pick(short, 1) is None


def test_coroutines_share_a_worker_up_to_the_concurrency() -> None:
    task, workers = entry(kind=COROUTINE), pool(1, cores=1, concurrency=3)
    assert workers.free_async == 3
    worker = give(workers, task, 2)
    assert len(worker.outstanding) == 2
    assert workers.free_async == 1
    give(workers, task, 5)
    assert workers.pick(task, 1) is None
    assert all(workers.running(job) for job in worker.outstanding.values())


def test_a_sync_job_does_not_go_to_a_worker_with_coroutines() -> None:
    workers = pool(1, cores=1, concurrency=3)
    worker = give(workers, entry(kind=COROUTINE))
    assert workers.pick(entry(1e-6), 1) is None
    workers.end(worker, 1)
    assert workers.pick(entry(1e-6), 1) is not None


def test_coroutines_spread_over_the_cores_before_they_crowd() -> None:
    task, workers = entry(kind=COROUTINE), pool(4, cores=2, concurrency=8)
    assert give(workers, task, 8) is not give(workers, task, 8)
    assert workers.free == 2


def test_a_removed_worker_gives_back_its_jobs_in_their_order() -> None:
    short, workers = entry(1e-6), pool(1, cores=1)
    worker = give(workers, short, 3)
    assert [job.seq for job in workers.remove(worker.key)] == [1, 2, 3]
    assert list(workers.remove(worker.key)) == []
    assert workers.free == 0


def test_an_outcome_of_an_order_that_it_did_not_have_is_nothing() -> None:
    workers = pool(1)
    worker = give(workers, entry())
    assert workers.end(worker, 2) is None
    assert workers.end(worker, 1) is not None
    assert worker.load == pytest.approx(0.0)


def test_only_the_first_of_several_prefetched_jobs_counts_as_running() -> None:
    short, workers = entry(1e-6), pool(1, cores=1)
    worker = give(workers, short, 3)
    assert [workers.running(job) for job in worker.outstanding.values()] == [True, False, False]
    assert not workers.running(held(short))
