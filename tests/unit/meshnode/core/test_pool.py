"""The workers of a node: who is free, who has room, who gets the next job."""

import pytest

from mesh.wire.messages import Submit, TaskSpec
from meshnode.core.held import COROUTINE, FOREVER, Held, Owner, TaskEntry
from meshnode.core.pool import MOST, PACKED_S, Pool, Worker
from meshnode.core.runtime import STEADY_S

SHORT_S = 58e-6  # five of them are a worker's budget
OWNER = Owner(1)
SLOW = TaskEntry(TaskSpec("slow"))


def short(seconds: float = SHORT_S) -> TaskEntry:
    entry = TaskEntry(TaskSpec("short"))
    entry.runtime.observe(1, seconds, seconds)
    return entry


def steady(seconds: float = STEADY_S / 4, name: str = "steady") -> TaskEntry:
    entry = TaskEntry(TaskSpec(name))
    entry.runtime.observe(1, seconds, seconds)
    assert entry.runtime.steady
    return entry


def coroutine() -> TaskEntry:
    return TaskEntry(TaskSpec("fetch", is_async=True), COROUTINE)


def pool(workers: int, *, cores: int = 2, concurrency: int = 1) -> Pool:
    made = Pool(concurrency=concurrency, cores=cores)
    for key in range(1, workers + 1):
        made.add(key)
    return made


def job(entry: TaskEntry) -> Held:
    return Held(Submit(bytes(16), 1, entry.spec.name, 0, None, None, b""), entry, OWNER, FOREVER)


def give(made: Pool, entry: TaskEntry, wanted: int = 1) -> tuple[int, list[Held]]:
    """Give a worker as many jobs as it has room for: its key, and the jobs."""
    choice = made.pick(entry, wanted)
    assert choice is not None
    worker, room = choice
    jobs = [job(entry) for _ in range(room)]
    made.give(worker, jobs)
    return worker.key, jobs


def share_out(made: Pool, entry: TaskEntry, wanted: int) -> dict[int, int]:
    """Give as many of the jobs as find room: how many each worker got."""
    got: dict[int, int] = {}
    while wanted and made.pick(entry, wanted) is not None:
        key, jobs = give(made, entry, wanted)
        got[key] = got.get(key, 0) + len(jobs)
        wanted -= len(jobs)
    return got


def test_where_no_worker_is_ready_no_job_goes() -> None:
    made = pool(0)
    assert [made.pick(entry, 1) for entry in (SLOW, short(), coroutine())] == [None] * 3
    assert (made.free, made.free_async) == (0, 0)


def test_slow_jobs_take_a_worker_each_until_none_is_free() -> None:
    made = pool(3)
    assert sorted(share_out(made, SLOW, 10).values()) == [1, 1, 1]
    assert made.free == 0
    assert made.pick(SLOW, 1) is None


def test_the_worker_that_went_idle_last_is_taken_first() -> None:
    made = pool(3)
    given = {key: jobs[0] for key, jobs in (give(made, SLOW) for _ in range(3))}
    for key in (2, 3, 1):
        made.end(made.workers[key], [given[key].seq])
    assert [give(made, SLOW)[0] for _ in range(3)] == [1, 3, 2]


def test_short_jobs_are_spread_over_as_many_workers_as_there_are_cores() -> None:
    made = pool(4, cores=2)
    assert sorted(share_out(made, short(), 6).values()) == [3, 3]
    assert made.free == 2


def test_more_short_jobs_go_where_least_work_lies_and_wake_others_only_when_those_are_full() -> None:
    made = pool(3, cores=2)
    entry = short()
    first, _ = give(made, entry, 6)
    second, _ = give(made, entry, 1)
    assert give(made, entry, 2)[0] == second
    assert made.free == 1
    third = ({1, 2, 3} - {first, second}).pop()
    assert share_out(made, entry, 100) == {first: 2, second: 2, third: 5}
    assert made.pick(entry, 1) is None


def test_a_worker_holds_as_many_short_jobs_as_make_up_its_budget() -> None:
    assert share_out(pool(1), short(SHORT_S), 100) == {1: 5}
    assert share_out(pool(1), short(95e-6), 100) == {1: 3}


def test_a_worker_holds_a_bounded_number_of_jobs_however_short_they_are() -> None:
    assert share_out(pool(1), short(1e-7), 10 * MOST) == {1: MOST}


def test_a_slow_job_leaves_no_room_for_a_short_one_behind_it() -> None:
    made = pool(1)
    give(made, SLOW)
    assert made.pick(short(), 1) is None


def test_a_worker_that_drags_on_gets_nothing_and_another_is_woken_instead() -> None:
    made = pool(2, cores=1)
    entry = short()
    key, _ = give(made, entry)
    made.workers[key].stuck = True
    assert made.room(made.workers[key], entry) == 0
    other, _ = give(made, entry)
    assert other != key
    made.workers[other].stuck = True
    assert made.pick(entry, 1) is None


def test_a_worker_that_drags_on_does_not_hide_one_with_room() -> None:
    made = pool(2, cores=2)
    entry = short()
    (stuck, _), (busy, _) = give(made, entry), give(made, entry, 3)
    made.workers[stuck].stuck = True
    assert give(made, entry)[0] == busy


def test_a_job_that_ended_gives_its_budget_back() -> None:
    made = pool(1)
    entry = short()
    key, jobs = give(made, entry, 9)
    worker = made.workers[key]
    assert made.room(worker, entry) == 0
    assert made.end(worker, [jobs[0].seq]) == [jobs[0]]
    assert made.room(worker, entry) == 1
    assert made.free == 0
    assert made.end(worker, [held.seq for held in jobs[1:]]) == jobs[1:]
    assert made.free == 1
    assert made.room(worker, entry) == 5


def test_an_order_that_a_worker_does_not_have_cannot_end_there() -> None:
    made = pool(1)
    key, jobs = give(made, SLOW)
    worker = made.workers[key]
    assert made.end(worker, [77]) == [None]
    assert made.end(worker, [jobs[0].seq]) == [jobs[0]]
    assert made.end(worker, [jobs[0].seq]) == [None]
    assert made.free == 1


def test_of_orders_that_end_together_those_that_the_worker_does_not_have_are_left_out() -> None:
    made = pool(1, cores=1)
    entry = short()
    key, jobs = give(made, entry, 3)
    assert made.end(made.workers[key], range(2, 6)) == [jobs[1], jobs[2], None, None]
    assert made.room(made.workers[key], entry) == 4
    assert made.free == 0
    assert made.end(made.workers[key], range(1, 4)) == [jobs[0], None, None]
    assert made.free == 1


def test_a_workers_orders_are_counted_from_one_and_never_twice() -> None:
    made = pool(1)
    seqs = []
    for _ in range(3):
        key, jobs = give(made, SLOW)
        seqs.append(jobs[0].seq)
        made.end(made.workers[key], [jobs[0].seq])
    assert seqs == [1, 2, 3]


def test_jobs_given_together_are_numbered_on_from_the_workers_last() -> None:
    made = pool(1)
    entry = short()
    worker = made.workers[1]
    one, two, three = job(entry), job(entry), job(entry)
    assert made.give(worker, [one]) == 1
    assert made.give(worker, [two, three]) == 2
    assert [held.seq for held in (one, two, three)] == [1, 2, 3]


def test_coroutines_share_a_worker_up_to_its_places() -> None:
    made = pool(1, concurrency=3)
    assert made.free_async == 3
    assert share_out(made, coroutine(), 10) == {1: 3}
    assert (made.free, made.free_async) == (0, 0)


def test_coroutines_spread_over_the_cores_first_and_then_go_where_the_fewest_are() -> None:
    made = pool(3, concurrency=4, cores=2)
    entry = coroutine()
    (first, _), (second, _) = give(made, entry, 4), give(made, entry, 1)
    assert first != second
    assert made.free == 1
    assert give(made, entry, 1)[0] == second
    assert made.free_async == 4 + 2 + 2


def test_coroutines_wake_another_worker_when_all_places_at_the_others_are_taken() -> None:
    made = pool(3, concurrency=2, cores=2)
    assert sorted(share_out(made, coroutine(), 100).values()) == [2, 2, 2]
    assert made.pick(coroutine(), 1) is None


def test_coroutines_and_whole_jobs_do_not_share_a_worker() -> None:
    made = pool(1, concurrency=3)
    entry = coroutine()
    key, jobs = give(made, entry)
    assert made.pick(SLOW, 1) is None
    assert made.pick(short(), 1) is None
    assert made.room(made.workers[key], short()) == 0
    made.end(made.workers[key], [jobs[0].seq])
    give(made, SLOW)
    assert made.pick(entry, 1) is None
    assert made.free_async == 0


def test_coroutines_do_not_wait_in_a_workers_socket() -> None:
    made = pool(1, concurrency=3)
    give(made, short())
    assert made.room(made.workers[1], coroutine()) == 0


def test_without_places_for_coroutines_each_free_worker_counts_as_one() -> None:
    made = pool(3, concurrency=1)
    give(made, short())
    assert (made.free, made.free_async) == (2, 2)


@pytest.mark.parametrize("busy", [False, True])
def test_a_worker_that_is_gone_gets_nothing_more(*, busy: bool) -> None:
    made = pool(1)
    jobs = give(made, short(), 3)[1] if busy else []
    assert list(made.remove(1)) == jobs
    assert made.free == 0
    assert made.pick(short(), 1) is None
    assert made.pick(SLOW, 1) is None


def test_a_worker_that_is_not_known_leaves_nothing_behind_and_takes_nobody_along() -> None:
    made = pool(1)
    assert list(made.remove(9)) == []
    assert made.free == 1


def test_only_the_first_job_in_a_workers_socket_seems_to_run() -> None:
    made = pool(1)
    _, jobs = give(made, short(), 6)
    assert [made.running(held) for held in jobs] == [True, False, False]
    made.end(made.workers[1], [jobs[0].seq])
    assert [made.running(held) for held in jobs[1:]] == [True, False]


def test_all_coroutines_of_a_worker_run() -> None:
    made = pool(1, concurrency=3)
    _, jobs = give(made, coroutine(), 5)
    assert [made.running(held) for held in jobs] == [True] * 3


def test_a_job_that_waits_or_whose_worker_is_gone_does_not_run() -> None:
    made = pool(1)
    waiting = job(SLOW)
    waiting.worker = 1
    assert not made.running(waiting)
    _, jobs = give(made, SLOW)
    made.remove(1)
    assert not made.running(jobs[0])


# one behind another


def test_where_all_are_at_work_a_steady_job_goes_behind_the_one_that_began_first() -> None:
    made = pool(3)
    entry = steady()
    began = [give(made, entry)[0] for _ in range(3)]
    assert made.free == 0
    assert [give(made, entry)[0] for _ in range(3)] == began
    assert [len(made.workers[key].outstanding) for key in began] == [2, 2, 2]


def test_of_many_steady_jobs_only_one_goes_behind_another() -> None:
    made = pool(2)
    entry = steady()
    assert share_out(made, entry, 100) == {1: 2, 2: 2}
    assert made.pick(entry, 1) is None


def test_an_idle_worker_is_taken_before_a_job_goes_behind_another() -> None:
    made = pool(2)
    first, jobs = give(made, steady())
    second, _ = give(made, steady())
    assert first != second
    made.end(made.workers[first], [jobs[0].seq])
    assert give(made, steady())[0] == first


def test_a_job_whose_length_is_unknown_or_that_runs_for_long_goes_behind_none() -> None:
    made = pool(1)
    entry = steady()
    give(made, entry)
    long = TaskEntry(TaskSpec("long"))
    long.runtime.observe(1, 2 * STEADY_S, 2 * STEADY_S)
    assert made.pick(SLOW, 1) is None
    assert made.pick(long, 1) is None
    assert made.pick(entry, 1) is not None


@pytest.mark.parametrize("seconds", [None, 2 * STEADY_S])
def test_no_job_goes_behind_one_of_which_is_not_known_that_it_ends_soon(seconds: float | None) -> None:
    made = pool(1)
    first = TaskEntry(TaskSpec("first"))
    if seconds is not None:
        first.runtime.observe(1, seconds, seconds)
    give(made, first)
    assert made.pick(steady(), 1) is None


def test_a_steady_job_of_one_task_goes_behind_one_of_another() -> None:
    made = pool(1)
    give(made, steady(name="one"))
    assert give(made, steady(name="other"))[0] == 1


def test_the_worker_whose_next_job_has_begun_is_behind_those_that_began_before() -> None:
    made = pool(2)
    entry = steady()
    (first, one), (second, _) = give(made, entry), give(made, entry)
    assert give(made, entry)[0] == first
    made.end(made.workers[first], [one[0].seq])  # and its second begins now
    assert [give(made, entry)[0], give(made, entry)[0]] == [second, first]


def test_no_job_goes_behind_one_that_drags_on() -> None:
    made = pool(2)
    entry = steady()
    first, second = give(made, entry)[0], give(made, entry)[0]
    made.workers[first].stuck = True
    assert give(made, entry)[0] == second
    assert made.pick(entry, 1) is None
    made.workers[first].stuck = False
    assert give(made, entry)[0] == first


def test_no_steady_job_goes_behind_short_ones() -> None:
    made = pool(1)
    give(made, short())
    assert made.pick(steady(), 1) is None


def test_no_short_job_goes_behind_a_steady_one() -> None:
    made = pool(1)
    give(made, steady())
    assert made.pick(short(), 1) is None


@pytest.mark.parametrize("known", [False, True])
def test_no_steady_job_goes_behind_coroutines_however_steady_they_are(*, known: bool) -> None:
    made = pool(1, concurrency=3)
    entry = coroutine()
    if known:
        entry.runtime.observe(1, STEADY_S / 4, STEADY_S / 4)
    give(made, entry)
    assert made.pick(steady(), 1) is None


def test_workers_with_a_job_behind_another_are_named_the_latest_first_and_no_more_than_asked_for() -> None:
    made = pool(3)
    entry = steady()
    began = [give(made, entry)[0] for _ in range(3)]
    assert made.ahead(3) == []
    for _ in range(3):
        give(made, entry)
    assert [worker.key for worker in made.ahead(2)] == [began[2], began[1]]
    assert [worker.key for worker in made.ahead(9)] == began[::-1]
    assert made.ahead(0) == []


def test_a_worker_that_was_asked_already_is_not_named_again() -> None:
    made = pool(1)
    give(made, steady())
    give(made, steady())
    made.workers[1].stuck = True
    assert made.ahead(1) == []


@pytest.mark.parametrize("which", [0, 1])
def test_a_worker_with_one_job_left_is_not_named(which: int) -> None:
    made = pool(1)
    entry = steady()
    jobs = [give(made, entry)[1][0] for _ in range(2)]
    made.end(made.workers[1], [jobs[which].seq])
    assert made.ahead(1) == []
    assert give(made, entry)[0] == 1, "there is room for one again"


def test_short_jobs_and_coroutines_that_lie_together_are_not_named() -> None:
    made = pool(2, concurrency=3)
    give(made, short(), 3)
    give(made, coroutine(), 5)
    assert made.ahead(2) == []


def test_a_worker_that_is_gone_is_no_longer_named_and_gets_no_job_behind_its_last() -> None:
    made = pool(2)
    entry = steady()
    began = [give(made, entry)[0] for _ in range(2)]
    waiting = give(made, entry)[1]
    assert list(made.remove(began[0]))[1:] == waiting
    assert made.ahead(2) == []
    made.remove(began[1])
    assert made.pick(entry, 1) is None


# how many are woken


def packed(cores: int = 2) -> tuple[Pool, TaskEntry]:
    """More workers than cores, those that short jobs are packed onto full of them."""
    made = pool(cores + 2, cores=cores)
    entry = short()
    for _ in range(cores):
        key, _ = give(made, entry, 5 * cores)
        assert made.room(made.workers[key], entry) == 0
    return made, entry


def test_while_little_waits_short_jobs_wake_no_more_workers_than_there_are_cores() -> None:
    made, entry = packed(cores=2)
    assert made.pick(entry, 5, waiting=2 * PACKED_S) is None
    assert made.free == 2


def test_when_much_waits_short_jobs_wake_another_worker() -> None:
    made, entry = packed(cores=2)
    choice = made.pick(entry, 100, waiting=2 * PACKED_S + 1e-6)
    assert choice is not None
    worker, room = choice
    assert not worker.outstanding
    assert room == 5


def test_slow_jobs_wake_workers_however_little_waits() -> None:
    made, _ = packed(cores=2)
    assert made.pick(SLOW, 1, waiting=0.0) is not None


def test_a_worker_that_drags_on_does_not_count_among_those_that_short_jobs_are_packed_onto() -> None:
    made, entry = packed(cores=2)
    made.workers[next(key for key, worker in made.workers.items() if worker.packed)].stuck = True
    assert give(made, entry)[0] in made.workers
    assert made.free == 1


def test_a_new_worker_has_done_nothing_yet() -> None:
    worker = Worker(5)
    assert (worker.last, worker.load, worker.outstanding, worker.stuck) == (0, 0.0, {}, False)


# workers that get nothing more


def test_a_retired_worker_that_is_idle_is_chosen_for_nothing() -> None:
    made = pool(1, concurrency=2)
    made.retire(made.workers[1])
    assert [made.pick(entry, 1) for entry in (SLOW, short(), steady(), coroutine())] == [None] * 4
    assert (made.free, made.free_async, made.room(made.workers[1], short())) == (0, 0, 0)
    assert not made.at_rest, "it is still there"
    made.remove(1)
    assert made.at_rest


def test_a_retired_worker_at_work_ends_what_it_has_and_is_not_idle_then() -> None:
    made = pool(1)
    entry = short()
    _, jobs = give(made, entry, 2)
    worker = made.workers[1]
    made.retire(worker)
    assert made.pick(entry, 1) is None
    assert made.room(worker, entry) == 0
    assert made.running(jobs[0])
    assert made.end(worker, [held.seq for held in jobs]) == jobs
    assert (made.free, made.pick(entry, 1)) == (0, None)


def test_no_steady_job_goes_behind_one_at_a_retired_worker_and_none_is_called_back_from_there() -> None:
    made = pool(2)
    entry = steady()
    began = [give(made, entry) for _ in range(2)]
    behind, _ = give(made, entry)
    assert behind == began[0][0]
    for key in (1, 2):
        made.retire(made.workers[key])
    assert made.pick(entry, 1) is None
    assert made.ahead(2) == []
    made.end(made.workers[behind], [began[0][1][0].seq])
    assert made.pick(entry, 1) is None


def test_coroutines_do_not_join_those_at_a_retired_worker() -> None:
    made = pool(1, concurrency=3)
    give(made, coroutine())
    made.retire(made.workers[1])
    assert made.pick(coroutine(), 1) is None
    assert made.free_async == 0


def test_a_spare_worker_is_chosen_only_by_who_asks_for_one() -> None:
    made = pool(0, concurrency=2)
    assert made.pick_spare() is None
    made.add(9, spare=True)
    assert [made.pick(entry, 1) for entry in (SLOW, short(), steady(), coroutine())] == [None] * 4
    assert (made.free, made.at_rest) == (0, True)
    worker = made.pick_spare()
    assert worker is not None
    held = job(short())
    made.give(worker, [held])
    assert (made.pick_spare(), made.at_rest, made.pick(held.entry, 1)) == (None, False, None)
    made.end(worker, [held.seq])
    assert made.pick_spare() is worker
    made.retire(worker)
    assert made.pick_spare() is None
