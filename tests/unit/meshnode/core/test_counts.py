"""What a node counts of its jobs, by itself and as its scheduler tells it."""

import pytest

from mesh.wire.messages import (
    BUSY,
    CANCELLED,
    CRASH,
    DRAINING,
    EXPIRED,
    LIMIT,
    RUNNING,
    UNKNOWN_TASK,
    Failed,
    Lost,
    Reject,
    Result,
)
from meshnode.core.counts import BOUNDS, OTHERS, Counts, Histogram, outcome
from meshnode.core.events import CancelAsked, Draining, Ended, Left, Served, Submitted, WorkerReady
from meshnode.core.held import COUNTED, FOREVER, Held, TaskEntry
from meshnode.core.orders import Ran
from tests.support.scheduling import FAR, TASKS, Desk, bridge, client, job, job_id, jobs


def counting(workers: int = 1) -> tuple[Desk, Counts]:
    """Return a desk whose scheduler counts."""
    desk = Desk(workers)
    counts = desk.scheduler.counts = Counts()
    counts.serve(desk.scheduler.tasks)
    return desk, counts


def ended(counts: Counts, task: str = "slow") -> dict[tuple[str, str], int]:
    return {how: count for how, count in counts.of(task).ended.items() if count}


def held(since: float) -> Held:
    return Held(job(1), TaskEntry(TASKS[0]), client(), FOREVER, since=since)


# by itself


@pytest.mark.parametrize(("seconds", "bucket"), [(0.0, 0), (BOUNDS[0], 0), (0.0002, 1), (1.0, 10), (1e6, len(BOUNDS))])
def test_a_bucket_holds_what_took_up_to_its_bound(seconds: float, bucket: int) -> None:
    histogram = Histogram()
    histogram.observe(seconds, 3)
    assert histogram.counts[bucket] == sum(histogram.counts) == 3
    assert histogram.total == 3 * seconds


def test_of_jobs_that_end_together_one_ran_longest_and_the_others_alike() -> None:
    counts = Counts()
    counts.serve(["slow"])
    counts.ran("slow", 4, 1.2, 0.9)
    run = counts.of("slow").run
    assert [(BOUNDS[n], count) for n, count in enumerate(run.counts) if count] == [(0.1, 3), (1.0, 1)]
    assert run.total == pytest.approx(1.2)


def test_jobs_wait_from_when_they_were_taken_in_and_are_counted_once() -> None:
    counts = Counts()
    counts.serve(["slow"])
    counts.waited("slow", [held(1.0), held(1.0), held(COUNTED), held(2.5), held(COUNTED)], 3.0)
    wait = counts.of("slow").wait
    assert [(BOUNDS[n], count) for n, count in enumerate(wait.counts) if count] == [(0.5, 1), (2.5, 2)]
    assert wait.total == 4.5


def test_what_callers_make_up_is_counted_under_no_name_of_its_own() -> None:
    counts = Counts()
    counts.serve(["slow"])
    for number in range(100):
        counts.ended(f"made-up-{number}", Reject(job_id(number), 1, UNKNOWN_TASK, ""))
    assert set(counts.tasks) == {"slow", OTHERS}
    assert ended(counts, OTHERS) == {("rejected", UNKNOWN_TASK): 100}


@pytest.mark.parametrize(
    ("item", "how"),
    [
        (Reject(job_id(1), 1, BUSY, ""), "rejected"),
        (Reject(job_id(1), 1, EXPIRED, ""), "timeout"),
        (Reject(job_id(1), 1, CANCELLED, ""), "cancelled"),
        (Lost(job_id(1), 1, CRASH, True, ""), "lost"),
        (Lost(job_id(1), 1, EXPIRED, True, ""), "timeout"),
        (Lost(job_id(1), 1, LIMIT, True, ""), "timeout"),
        (Lost(job_id(1), 1, CANCELLED, True, ""), "cancelled"),
    ],
)
def test_what_an_owner_is_told_says_how_a_job_ended(item: Reject | Lost, how: str) -> None:
    assert outcome(item) == how


def test_a_copy_stays_as_it_is_whatever_is_counted_next() -> None:
    counts = Counts()
    counts.serve(["slow"])

    def count() -> None:
        counts.told("slow", 3, failed=1, cancelled=0)
        counts.ran("slow", 1, 0.5, 0.5)
        counts.waited("slow", [held(0.0)], 0.5)
        counts.retried("slow")
        counts.dropped("nobody")
        counts.late += 1
        counts.forwarded["ok"] += 1

    def shown(of: Counts) -> object:
        return of.late, of.forwarded, [
            (name, one.ended, one.retries, one.run.counts, one.run.total, one.wait.counts, one.wait.total)
            for name, one in of.tasks.items()
        ]  # fmt: skip

    count()
    copy, before = counts.as_of_now(), repr(shown(counts))
    assert repr(shown(copy)) == before
    count()
    assert repr(shown(copy)) == before != repr(shown(counts))


# as the scheduler tells it


def test_results_and_failures_are_told_apart_and_timed() -> None:
    desk, counts = counting()
    owner = client()
    desk.tell(Submitted(owner, jobs(range(2))))
    desk.end(0, micros=300)
    desk.now = 2.0
    desk.end(1, end=Failed, micros=20_000)
    assert ended(counts) == {("ok", ""): 1, ("failed", ""): 1}
    run, wait = counts.of("slow").run, counts.of("slow").wait
    assert sum(run.counts) == sum(wait.counts) == 2
    assert run.total == pytest.approx(0.0203)
    assert wait.total == 0.0
    assert not ended(counts, "short")


def test_a_whole_batch_of_outcomes_is_counted_job_by_job() -> None:
    desk, counts = counting()
    desk.tell(Submitted(client(), jobs(range(4), "short")))
    (worker, numbers), *more = desk.dispatched()
    assert not more
    ends: list[Result | Failed] = [(Failed if n == 2 else Result)(job_id(n), 1, b"") for n in numbers]
    again = Ended(worker, [Ran(desk.seq(0), 160_000, 70_000, ends)])
    desk.tell(again)
    desk.tell(again)  # a word that is said twice counts once
    assert ended(counts, "short") == {("ok", ""): 3, ("failed", ""): 1}
    assert sum(counts.of("short").run.counts) == 4
    assert counts.late == 0


def test_a_job_waits_until_it_is_first_given_to_a_worker() -> None:
    desk, counts = counting()
    desk.tell(Submitted(client(), [job(1), job(2, "short"), job(3, "short")]))
    desk.now = 0.3
    desk.end(1)
    wait = counts.of("short").wait
    assert sum(wait.counts) == 2
    assert wait.total == pytest.approx(0.6)
    desk.taken_back(3)
    desk.end(2)
    assert desk.attempts(3) == 2
    assert sum(wait.counts) == 2


def test_a_job_that_is_refused_is_counted_with_its_reason() -> None:
    desk, counts = counting()
    desk.tell(Draining(), Submitted(client(), [job(1), job(2, "nobody")]))
    assert ended(counts) == {("rejected", DRAINING): 1}
    assert ended(counts, OTHERS) == {("rejected", UNKNOWN_TASK): 1}


def test_a_worker_that_dies_loses_its_job() -> None:
    desk, counts = counting()
    desk.tell(Submitted(client(), [job(1)]))
    desk.die(1)
    assert ended(counts) == {("lost", CRASH): 1}


def test_time_that_is_up_and_cancels_are_counted_before_and_while_a_job_runs() -> None:
    desk, counts = counting()
    owner = client()
    desk.tell(Submitted(owner, [job(1), job(2)]))
    desk.tell(CancelAsked(owner, job_id(2), RUNNING), Submitted(owner, [job(3, remaining=500)]))
    assert ended(counts) == {("cancelled", CANCELLED): 1}
    desk.at(1.0)
    assert ended(counts) == {("cancelled", CANCELLED): 1, ("timeout", EXPIRED): 1}
    desk.tell(CancelAsked(owner, job_id(1), RUNNING))
    desk.end(1, end=Failed)
    assert ended(counts) == {("cancelled", CANCELLED): 2, ("timeout", EXPIRED): 1}


def test_an_attempt_that_is_followed_by_another_is_a_retry_and_no_end() -> None:
    desk, counts = counting()
    desk.tell(Submitted(bridge(), [job(1, "retried")]))
    desk.fail(1, again=0.0)
    assert (counts.of("retried").retries, ended(counts, "retried")) == (1, {})
    desk.at(1.0)
    desk.end(1)
    assert (counts.of("retried").retries, ended(counts, "retried")) == (1, {("ok", ""): 1})
    assert sum(counts.of("retried").wait.counts) == 1


def test_what_ends_after_its_owner_is_gone_is_late_and_what_waited_is_dropped() -> None:
    desk, counts = counting()
    owner = client()
    desk.tell(Submitted(owner, jobs([1, 2])))
    desk.tell(Left(owner))
    assert ended(counts) == {("dropped", ""): 1}
    desk.end(1)
    assert (counts.late, ended(counts)) == (1, {("dropped", ""): 1})


def test_jobs_sent_on_are_counted_by_what_came_of_them() -> None:
    desk, counts = counting()
    desk.mesh.places = 3
    owner = bridge()
    desk.tell(Submitted(owner, [job(number, FAR.name) for number in (1, 2, 3)]))
    desk.forward_ended(desk.forwards[0], Result(job_id(1), 1, b""))
    desk.forward_ended(desk.forwards[1], Failed(job_id(2), 1, b""))
    desk.mesh.places = 0
    desk.forward_ended(desk.forwards[2])
    assert counts.forwarded == {"ok": 1, "failed": 1, "back": 1}
    assert set(counts.tasks) == {*desk.scheduler.tasks, OTHERS}


def test_a_task_that_comes_with_a_reload_is_counted_under_its_name() -> None:
    desk, counts = counting(0)
    desk.tell(Served([*TASKS, FAR]), WorkerReady(1), Submitted(client(), [job(1, FAR.name)]))
    desk.end(1)
    assert ended(counts, FAR.name) == {("ok", ""): 1}
