"""What waits, and whose turn it is."""

from collections.abc import Sequence

from mesh.wire.messages import Options, Submit, TaskSpec
from meshnode.core.backlog import LOOK, Backlog, Nowhere, waiting
from meshnode.core.held import COROUTINE, ELSEWHERE, FOREVER, KINDS, WHOLE, Held, Owner, TaskEntry

SLOW, QUICK = TaskEntry(TaskSpec("slow")), TaskEntry(TaskSpec("quick"))
FETCH = TaskEntry(TaskSpec("fetch", is_async=True), COROUTINE)
FAR = TaskEntry(TaskSpec("far"), ELSEWHERE)
HIGH = Options(priority=9)
LANE = Options().priority * KINDS
"""Where jobs of the usual priority wait for a whole worker."""


class Mesh:
    """Other nodes, with `places` for any task while they are `there`."""

    def __init__(self, places: int, *, there: bool = True) -> None:
        self.places = places
        self.there = there

    def free(self, task: str, *, is_async: bool) -> int:
        return self.places

    def spec(self, task: str) -> TaskSpec | None:
        return None


def client(key: int = 1) -> Owner:
    return Owner(key)


def bridge(key: int = 11, *, most: int = 128) -> Owner:
    return Owner(key, most=most, windowed=False)


def job(
    owner: Owner, number: int, entry: TaskEntry = SLOW, *, options: Options | None = None, expires: float = FOREVER
) -> Held:
    submit = Submit(number.to_bytes(16, "big"), 1, entry.spec.name, 0, None, options, b"")
    return Held(submit, entry, owner, expires, cost=1.0)


def jobs(owner: Owner, numbers: Sequence[int], entry: TaskEntry = SLOW) -> list[Held]:
    return [job(owner, number, entry) for number in numbers]


def numbers(held: Sequence[Held]) -> list[int]:
    return [int.from_bytes(one.submit.id, "big") for one in held]


def take(
    backlog: Backlog, lane: int = LANE, *, room: int = 100, most: int | None = None, now: float = 0.0
) -> list[int]:
    """Take jobs for worker 7, of which none may be late."""
    turns = len(backlog.ring(lane)) if most is None else most
    taken, late = backlog.take(lane, 7, room=room, most=turns, now=now)
    assert late == []
    return numbers(taken)


def in_lane(backlog: Backlog, lane: int) -> list[Owner]:
    return list(backlog.ring(lane)) if lane in backlog.lanes else []


# in and out


def test_what_waits_is_counted_in_and_out() -> None:
    backlog, owner, caller = Backlog(), client(), bridge()
    backlog.add(owner, jobs(owner, [1, 2]))
    backlog.add(caller, jobs(caller, [11]))
    assert (backlog.count, backlog.cost, backlog.bridge) == (3, 3.0, 1)
    assert (owner.queued, owner.queued_cost) == (2, 2.0)
    assert take(backlog) == [1, 2, 11]
    assert (backlog.count, backlog.cost, backlog.bridge) == (0, 0.0, 0)
    assert (owner.queued, owner.queued_cost) == (0, 0.0)
    assert (owner.running, owner.worker) == (2, 7)


def test_what_comes_back_goes_before_what_came_later_and_keeps_its_order() -> None:
    backlog, owner = Backlog(), client()
    backlog.add(owner, jobs(owner, [3]))
    backlog.add(owner, jobs(owner, [1, 2]), front=True)
    assert take(backlog) == [1, 2, 3]


def test_a_job_that_is_over_while_it_waits_is_passed_over() -> None:
    backlog, owner = Backlog(), client()
    held = jobs(owner, [1, 2, 3])
    backlog.add(owner, held)
    for over in held[:2]:
        over.over = True
        backlog.drop(over)
    assert backlog.count == 1
    queue = waiting(owner, LANE)
    assert queue is not None
    assert numbers(queue) == [3]
    held[2].over = True
    backlog.drop(held[2])
    assert not owner.queues


def test_one_that_is_over_between_others_of_its_task_is_not_taken() -> None:
    backlog, owner = Backlog(), client()
    held = jobs(owner, [1, 2, 3])
    backlog.add(owner, held)
    held[1].over = True
    backlog.drop(held[1])
    assert take(backlog) == [1, 3]
    assert (backlog.count, backlog.cost) == (0, 0.0)


def test_what_is_over_does_not_pile_up_in_a_queue() -> None:
    backlog, owner = Backlog(), client()
    held = jobs(owner, range(500))
    backlog.add(owner, held)
    for over in held[1:]:
        over.over = True
        backlog.drop(over)
    assert sum(map(len, owner.queues.values())) < 100
    assert take(backlog) == [0]


def test_of_an_owner_that_leaves_nothing_waits() -> None:
    backlog, owner, other = Backlog(), bridge(), bridge(12)
    backlog.add(owner, jobs(owner, [1, 2]))
    backlog.add(other, jobs(other, [21]))
    backlog.drop_all(owner)
    assert (backlog.count, backlog.cost, backlog.bridge) == (1, 1.0, 1)
    assert not owner.queues
    backlog.drop_all(owner)
    assert backlog.count == 1


def test_jobs_whose_time_is_up_are_taken_out_apart() -> None:
    backlog, owner, other = Backlog(), client(1), client(2)
    backlog.add(owner, [job(owner, 1, expires=5.0), job(owner, 2)])
    backlog.add(other, [job(other, 21, expires=5.0), job(other, 22, expires=5.1)])
    taken, late = backlog.take(LANE, 7, room=100, most=2, now=5.0)
    assert (numbers(taken), numbers(late)) == ([2, 22], [1, 21])
    assert backlog.count == owner.queued == other.queued == 0
    assert owner.running == other.running == 1


# turns


def test_owners_go_in_turn_and_the_next_one_begins() -> None:
    backlog, owners = Backlog(), [bridge(key, most=2) for key in (11, 12, 13)]
    for owner in owners:
        backlog.add(owner, jobs(owner, [10 * owner.key, 10 * owner.key + 1, 10 * owner.key + 2]))
    assert take(backlog, room=3) == [110, 111, 120]
    assert list(backlog.ring(LANE)) == [owners[2], owners[0], owners[1]]
    assert take(backlog, room=3) == [130, 131]


def test_only_jobs_of_one_task_are_taken_together() -> None:
    backlog, owner, other, third = Backlog(), client(1), client(2), client(3)
    backlog.add(owner, jobs(owner, [1], QUICK))
    backlog.add(owner, jobs(owner, [2], SLOW))
    backlog.add(other, jobs(other, [21], QUICK))
    backlog.add(third, jobs(third, [31], SLOW))
    assert take(backlog) == [1, 21]


def test_no_more_owners_have_a_turn_than_asked_for() -> None:
    backlog, owner, other = Backlog(), client(1), client(2)
    backlog.add(owner, jobs(owner, [1]))
    backlog.add(other, jobs(other, [21]))
    assert take(backlog, most=1) == [1]


def test_an_owner_with_nothing_in_a_lane_ends_the_round() -> None:
    backlog, owner, other = Backlog(), client(1), client(2)
    backlog.add(owner, jobs(owner, [1]))
    backlog.add(other, jobs(other, [21]))
    assert take(backlog, room=1) == [1]
    assert take(backlog) == [21]
    assert take(backlog) == []


def test_an_ordered_owners_jobs_wait_together_and_its_coroutines_go_one_at_a_time() -> None:
    backlog, owner = Backlog(), bridge(most=1)
    backlog.add(owner, jobs(owner, [1, 2], FETCH))
    backlog.add(owner, jobs(owner, [3]))
    assert in_lane(backlog, LANE + COROUTINE) == [owner]
    assert in_lane(backlog, LANE + WHOLE) == []
    assert take(backlog, LANE + COROUTINE) == [1]
    assert take(backlog, LANE + COROUTINE, most=1) == [2]
    backlog.change_lane(LANE + COROUTINE)
    assert in_lane(backlog, LANE + COROUTINE) == []
    assert in_lane(backlog, LANE + WHOLE) == [owner]
    assert take(backlog) == [3]


def test_an_owner_that_stepped_aside_comes_back_when_it_is_asked_to() -> None:
    backlog, owner = Backlog(), bridge()
    backlog.add(owner, jobs(owner, [1]))
    backlog.step_aside(LANE)
    assert in_lane(backlog, LANE) == []
    backlog.ring_again(owner)
    backlog.ring_again(owner)
    assert in_lane(backlog, LANE) == [owner]
    backlog.add(owner, jobs(owner, [2]))
    assert in_lane(backlog, LANE) == [owner]
    assert take(backlog) == [1, 2]
    backlog.step_aside(LANE)
    backlog.ring_again(owner)
    assert in_lane(backlog, LANE) == []


def test_an_owner_that_runs_as_many_as_it_may_takes_no_turns_unless_it_is_ordered() -> None:
    backlog, busy, ordered = Backlog(), bridge(11, most=2), bridge(12, most=1)
    busy.running, ordered.running = 2, 1
    for owner in (busy, ordered):
        backlog.add(owner, jobs(owner, [owner.key]))
    assert in_lane(backlog, LANE) == [ordered]
    ordered.queues[LANE].append(job(ordered, 2, QUICK))
    backlog.add(ordered, jobs(ordered, [3]))
    assert in_lane(backlog, LANE) == [ordered]


def test_when_nothing_waits_nobody_has_a_turn() -> None:
    backlog, owner, other = Backlog(), client(1), client(2)
    backlog.rest()
    backlog.add(owner, jobs(owner, [1]))
    backlog.add(other, [job(other, 2, options=HIGH)])
    take(backlog)
    take(backlog, 9 * KINDS)
    backlog.rest()
    assert owner.ringed == other.ringed == 0
    assert [in_lane(backlog, lane) for lane in backlog.lanes] == [[], []]
    backlog.add(owner, jobs(owner, [3]))
    assert in_lane(backlog, LANE) == [owner]


def test_higher_priorities_go_first_and_whole_workers_and_places_in_turn() -> None:
    backlog, owner = Backlog(), client()
    backlog.add(owner, jobs(owner, [1], FETCH))
    backlog.add(owner, jobs(owner, [2]))
    backlog.add(owner, [job(owner, 3, options=HIGH)])
    assert backlog.lanes == [9 * KINDS, LANE + WHOLE, LANE + COROUTINE]
    backlog.alternate()
    assert backlog.lanes == [9 * KINDS, LANE + COROUTINE, LANE + WHOLE]
    backlog.alternate()
    assert backlog.lanes == [9 * KINDS, LANE + WHOLE, LANE + COROUTINE]


# other nodes


def test_as_many_jobs_of_bridge_callers_go_on_as_other_nodes_have_slots_for() -> None:
    backlog, user, caller, other = Backlog(), client(), bridge(11), bridge(12)
    backlog.add(user, jobs(user, [1]))
    backlog.add(caller, jobs(caller, [11, 12]))
    backlog.add(other, jobs(other, [21, 22]))
    sent, moved = backlog.send_on(Mesh(3))
    assert (numbers(sent), moved) == ([11, 12, 21], False)
    assert all(held.forwarded for held in sent)
    assert (caller.running, caller.queued, other.running, other.queued) == (2, 0, 1, 1)
    assert (backlog.count, backlog.bridge) == (2, 1)


def test_no_worker_may_be_chosen_for_an_owners_next_job_by_one_that_was_sent_on() -> None:
    backlog, caller = Backlog(), bridge(most=1)
    caller.worker = 7
    backlog.add(caller, jobs(caller, [1, 2]))
    sent, _ = backlog.send_on(Mesh(3))
    assert (numbers(sent), caller.worker) == ([1], 0)


def test_slots_elsewhere_are_counted_for_each_task() -> None:
    backlog, caller = Backlog(), bridge()
    backlog.add(caller, jobs(caller, [1, 2], FETCH))
    backlog.add(caller, jobs(caller, [3, 4], FAR))
    sent, _ = backlog.send_on(Mesh(1))
    assert sorted(numbers(sent)) == [1, 3]


def test_a_node_that_knows_no_other_sends_nothing_on() -> None:
    backlog, caller = Backlog(), bridge()
    backlog.add(caller, jobs(caller, [1]))
    backlog.add(caller, jobs(caller, [2], FAR))
    nowhere = Nowhere()
    assert backlog.send_on(nowhere) == ([], False)
    assert nowhere.spec("far") is None
    assert in_lane(backlog, LANE + ELSEWHERE) == [caller]
    assert backlog.send_on(Mesh(5, there=False))[0][0].entry is FAR, "tasks of this node's own stay"


def test_who_waits_for_another_node_gives_way_to_the_next_there() -> None:
    backlog, callers = Backlog(), [bridge(key) for key in range(LOOK + 2)]
    for caller in callers:
        backlog.add(caller, jobs(caller, [caller.key], FAR))
    assert backlog.send_on(Mesh(0)) == ([], False)
    assert backlog.ring(LANE + ELSEWHERE)[0] is callers[LOOK]


def test_an_owner_whose_next_job_is_for_a_worker_here_after_all_changes_lanes() -> None:
    backlog, caller, other = Backlog(), bridge(11, most=1), bridge(12)
    held = [*jobs(caller, [1], FAR), *jobs(caller, [2])]
    for one in held:
        backlog.add(caller, [one])
    backlog.add(other, jobs(other, [21], FAR))
    held[0].over = True
    backlog.drop(held[0])
    assert backlog.send_on(Mesh(0)) == ([], True)
    assert in_lane(backlog, LANE + ELSEWHERE) == [other]
    assert in_lane(backlog, LANE) == [caller]


def test_what_is_over_behind_the_last_that_waited_is_let_go_of_since_it_leads_back_to_its_owner() -> None:
    backlog, caller = Backlog(), bridge(most=1)
    first, second = jobs(caller, [1, 2])
    backlog.add(caller, [first, second])
    second.over = True
    backlog.drop(second)
    assert take(backlog, room=1) == [1]
    assert caller.queues == {}
