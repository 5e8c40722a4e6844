"""The queues of the jobs that no node has room for."""

from mesh.core.record import JobRecord
from mesh.core.waiting import SLACK, Waiting


def job(number: int, task: str = "add", priority: int = 5) -> JobRecord:
    record = JobRecord(number.to_bytes(16, "big"), task, b"")
    record.priority = priority
    return record


def numbers(waiting: Waiting) -> list[int]:
    return [int.from_bytes(record.id, "big") for record in waiting]


def end(waiting: Waiting, record: JobRecord) -> None:
    record.over = True
    waiting.ended(record)


def test_jobs_wait_by_priority_then_task_then_in_their_order() -> None:
    waiting = Waiting()
    for record in (job(1), job(2, "mul"), job(3), job(4, priority=9), job(5, "mul", priority=0)):
        waiting.add([record])
    assert numbers(waiting) == [4, 1, 3, 2, 5]
    assert [(priority, task) for priority, (task, _), _ in waiting.queues()] == [
        (9, "add"), (5, "add"), (5, "mul"), (0, "mul"),
    ]  # fmt: skip
    assert len(waiting) == 5


def test_a_job_that_comes_back_stands_before_the_others() -> None:
    waiting = Waiting()
    waiting.add([job(1)])
    waiting.add([job(2)], front=True)
    assert numbers(waiting) == [2, 1]


def test_taking_passes_over_what_is_over() -> None:
    waiting = Waiting()
    records = [job(number) for number in range(4)]
    for record in records:
        waiting.add([record])
    end(waiting, records[0])
    end(waiting, records[1])
    ((_, _, queue),) = waiting.queues()
    assert len(waiting) == 2
    assert waiting.first(queue) is records[2]
    assert waiting.take(queue, 1) == [records[2]]
    assert waiting.take(queue, 5) == [records[3]]
    assert waiting.take(queue, 1) == []
    assert len(waiting) == 0


def test_a_task_that_had_its_turn_stands_behind_the_others_of_its_priority() -> None:
    waiting = Waiting()
    for record in (job(1), job(2), job(3, "mul")):
        waiting.add([record])
    _, task, queue = waiting.queues()[0]
    waiting.take(queue, 1)
    waiting.served(5, task)
    assert [task for _, (task, _), _ in waiting.queues()] == ["mul", "add"]


def test_an_empty_queue_goes_and_so_does_an_empty_priority() -> None:
    waiting = Waiting()
    waiting.add([job(1)])
    waiting.add([job(2, "mul")])
    for priority, task, queue in waiting.queues():
        waiting.take(queue, 1)
        waiting.served(priority, task)
    assert waiting.queues() == []


def test_the_last_job_that_ends_takes_everything_with_it() -> None:
    waiting = Waiting()
    records = [job(1), job(2, "mul"), job(3, priority=1)]
    for record in records:
        waiting.add([record])
    for record in records:
        end(waiting, record)
    assert waiting.queues() == []


def test_jobs_that_ended_behind_one_that_waits_for_long_are_swept_out() -> None:
    waiting = Waiting()
    stays = job(0)
    waiting.add([stays])
    for number in range(1, 10 * SLACK):
        record = job(number, "add" if number % 2 else "mul", priority=5 if number % 3 else 2)
        waiting.add([record])
        end(waiting, record)
    assert sum(len(queue) for *_, queue in waiting.queues()) <= SLACK + 2
    assert numbers(waiting) == [0]
    ((_, _, queue),) = [line for line in waiting.queues() if line[2] and not line[2][0].over]
    assert waiting.take(queue, 2) == [stays]


def test_a_job_that_waits_for_its_time_does_not_wait_for_room_until_then() -> None:
    waiting = Waiting()
    late, early, other = job(1), job(2), job(3)
    waiting.add([other])
    waiting.add_later(late, 9.0)
    waiting.add_later(early, 5.0)
    assert (len(waiting), numbers(waiting), waiting.next_time()) == (1, [3, 2, 1], 5.0)
    assert waiting.come_of_time(4.9) == []
    assert waiting.come_of_time(5.0) == [early]
    assert (len(waiting), numbers(waiting), waiting.next_time()) == (2, [2, 3, 1], 9.0)
    assert early.extras.delayed is None


def test_a_job_that_ends_while_it_waits_for_its_time_is_let_go_of() -> None:
    waiting = Waiting()
    for number in range(10 * SLACK):
        record = job(number)
        waiting.add_later(record, 3600.0 + number)
        if number:
            end(waiting, record)
    assert len(waiting._later) <= SLACK + 2
    assert numbers(waiting) == [0]
    assert waiting.come_of_time(3601.0) != []
    assert waiting.come_of_time(1e9) == []
    assert (len(waiting), waiting.next_time()) == (1, None)


def test_what_is_forgotten_leads_back_to_no_job() -> None:
    waiting = Waiting()
    late, other = job(1), job(2)
    waiting.add([other])
    waiting.add_later(late, 9.0)
    waiting.forget()
    assert late.extras.delayed is not None
    assert late.extras.delayed[2] is None
    assert (len(waiting), numbers(waiting), waiting.next_time(), waiting.queues()) == (0, [], None, [])


def test_jobs_are_kept_apart_by_the_nodes_that_they_are_not_to_go_to() -> None:
    waiting = Waiting()
    tried = job(2)
    tried.own_extras().tried = ("node",)
    waiting.add([job(1)])
    waiting.add([tried])
    assert [key for _, key, _ in waiting.queues()] == [("add", ()), ("add", ("node",))]
