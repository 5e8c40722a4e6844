"""What the scheduler's books say of jobs: looking changes nothing, and asks no worker."""

from mesh.wire.messages import UNSTARTED
from meshnode.core import books
from meshnode.core.events import CancelAsked, Submitted
from tests.support.scheduling import Desk, bridge, client, job, jobs


def states(desk: Desk, *, task: str = "", word: str = "") -> list[tuple[int, str]]:
    return [(int(one.id, 16), one.state) for one in books.jobs(desk.scheduler, desk.now, task=task, word=word).jobs]


def test_what_runs_comes_first_then_what_has_waited_longest() -> None:
    desk = Desk(1)
    owner = client()
    for number in (1, 2, 3):
        desk.now += 1.0
        desk.tell(Submitted(owner, [job(number)]))
    assert states(desk) == [(1, "running"), (2, "waiting"), (3, "waiting")]
    desk.now = 10.0
    found = books.jobs(
        desk.scheduler, desk.now, name_of=lambda owner: f"client {owner.key}", slot_of=lambda key: key + 5
    )
    assert [(one.elapsed, one.worker, one.client) for one in found.jobs] == [
        (9.0, 6, "client 1"), (8.0, -1, "client 1"), (7.0, -1, "client 1"),
    ]  # fmt: skip


def test_a_job_began_when_the_one_before_it_ended() -> None:
    desk = Desk(1)
    owner = client()
    desk.tell(Submitted(owner, jobs([1, 2])))
    desk.now = 4.0
    desk.end(1)
    desk.now = 6.0
    (worker,) = desk.scheduler.pool.workers.values()
    assert [(one.task, one.elapsed) for one in books.running(worker, desk.now)] == [("slow", 2.0)]
    assert (worker.done, worker.failed) == (1, 0)


def test_what_lies_behind_another_job_of_its_worker_is_sent_and_not_running() -> None:
    desk = Desk(1)
    desk.tell(Submitted(client(), jobs([1, 2, 3], "short")))
    assert states(desk) == [(1, "running"), (2, "sent"), (3, "sent")]
    assert books.begun(desk.scheduler) == 1


def test_coroutines_run_side_by_side_each_since_its_own_moment() -> None:
    desk = Desk(1, concurrency=3)
    owner = client()
    for number in (1, 2):
        desk.now += 1.0
        desk.tell(Submitted(owner, [job(number, "fetch")]))
    desk.now = 5.0
    (worker,) = desk.scheduler.pool.workers.values()
    assert [one.elapsed for one in books.running(worker, desk.now)] == [4.0, 3.0]
    assert [one.elapsed for one in books.running(worker, desk.now, most=1)] == [4.0]
    assert books.begun(desk.scheduler) == 2
    assert states(desk) == [(1, "running"), (2, "running")]


def test_jobs_can_be_chosen_by_their_task_and_by_a_word() -> None:
    desk = Desk(2)
    desk.tell(Submitted(bridge(), [job(1), job(2, "steady"), job(0xA0, "steady")]))
    assert [number for number, _ in states(desk, task="steady")] == [2, 0xA0]
    assert states(desk, word="0-a0") == [(0xA0, "sent")]
    assert [held.submit.task for held in books.meant(desk.scheduler, "0" * 30 + "02")] == ["steady"]
    assert books.meant(desk.scheduler, "f") == []


def test_what_finds_no_room_in_a_report_is_counted() -> None:
    desk = Desk(1)
    desk.tell(Submitted(bridge(), jobs(range(1, 11))))
    found = books.jobs(desk.scheduler, desk.now, most=4)
    assert (len(found.jobs), found.left_out) == (4, 6)


def test_a_job_that_another_node_has_is_forwarded_and_one_that_is_over_is_gone() -> None:
    desk = Desk(1)
    desk.mesh.places = 1
    caller = bridge()
    desk.tell(Submitted(caller, jobs([1, 2])))
    assert sorted(states(desk)) == [(1, "running"), (2, "forwarded")]
    owner = client()
    desk.mesh.places = 0
    desk.tell(Submitted(owner, [job(3)]))
    desk.tell(CancelAsked(owner, job(3).id, UNSTARTED))
    assert sorted(states(desk)) == [(1, "running"), (2, "forwarded")]
