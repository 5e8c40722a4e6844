"""The nodes that a client knows, and how jobs are shared out among them."""

import math
import random

import pytest

from mesh.core.record import JobRecord
from mesh.core.roster import NodeView, Roster, ServedTask, level
from mesh.core.standing import State
from mesh.errors import BadArguments, PayloadTooLarge
from mesh.wire.messages import About, NodeMessage, TaskSpec

TASKS = [TaskSpec("add"), TaskSpec("fetch", is_async=True)]


def view(key: int, *, free: int = 4, window: int = 10, free_async: int = 0, tasks: list[TaskSpec] = TASKS) -> NodeView:
    about = About(f"{key:032x}", b"epoch---", f"n{key}", "default", 4, 1, 1 << 20, tasks)
    made = NodeView(key, about, 0.0)
    made.heard(NodeMessage(free, free_async, window, 0, 7, []), 0.0)
    return made


def roster(*views: NodeView) -> Roster:
    made = Roster(random.Random(1))
    for one in views:
        made.add(one)
    return made


def shares(made: Roster, task: str, wanted: int, *, not_key: int = 0, tried: tuple[str, ...] = ()) -> dict[int, int]:
    return {one.key: count for one, count in made.share(task, wanted, not_key=not_key, tried=tried)}


@pytest.mark.parametrize(
    ("heights", "amount", "takes"),
    [
        ([3], 2, [2]),
        ([3], 9, [3]),
        ([0, 0], 5, [0, 0]),
        ([5, 5, 3], 3, [2, 1, 0]),
        ([5, 5, 3], 4, [2, 2, 0]),
        ([1, 9], 4, [0, 4]),
        ([1, 9], 9, [1, 8]),
        ([4, 2, 8], 0, [0, 0, 0]),
        ([4, 2, 8], 14, [4, 2, 8]),
        ([4, 2, 8], 13, [4, 2, 7]),
        ([2, 2, 2], 1, [1, 0, 0]),
    ],
)
def test_the_highest_heaps_give_first(heights: list[int], amount: int, takes: list[int]) -> None:
    assert level(heights, amount) == takes


def test_levelling_is_what_taking_one_by_one_from_the_highest_gives() -> None:
    rng = random.Random(2)
    for _ in range(300):
        heights = [rng.randrange(12) for _ in range(rng.randrange(1, 8))]
        amount = rng.randrange(40)
        left = list(heights)
        for _ in range(min(amount, sum(heights))):
            left[left.index(max(left))] -= 1
        takes = level(heights, amount)
        assert sorted(height - take for height, take in zip(heights, takes, strict=True)) == sorted(left)


def test_jobs_go_where_most_slots_are_free() -> None:
    made = roster(view(1, free=1), view(2, free=6), view(3, free=3))
    assert shares(made, "add", 3) == {2: 3}
    assert shares(made, "add", 7) == {2: 5, 3: 2}


def test_where_no_slot_is_free_they_go_where_the_window_has_most_room() -> None:
    made = roster(view(1, free=0, window=3), view(2, free=0, window=8))
    assert shares(made, "add", 4) == {2: 4}
    assert shares(made, "add", 100) == {1: 3, 2: 8}


def test_free_slots_come_before_room_in_a_window() -> None:
    made = roster(view(1, free=2, window=2), view(2, free=0, window=50))
    assert shares(made, "add", 3) == {1: 2, 2: 1}


def test_a_single_node_gets_what_its_window_allows() -> None:
    assert shares(roster(view(1, window=5)), "add", 3) == {1: 3}
    assert shares(roster(view(1, window=5)), "add", 30) == {1: 5}


def test_equal_nodes_share_alike_and_ties_fall_by_chance() -> None:
    made = roster(*(view(key, free=8) for key in range(1, 5)))
    assert set(shares(made, "add", 16).values()) == {4}
    firsts = {next(iter(shares(made, "add", 1))) for _ in range(100)}
    assert firsts == {1, 2, 3, 4}


def test_what_was_sent_since_the_last_word_counts_as_taken() -> None:
    one, other = view(1, free=4), view(2, free=3)
    one.sent = 2
    assert shares(roster(one, other), "add", 1) == {2: 1}
    one.heard(NodeMessage(3, 0, 10, 2, 8, []), 1.0)
    assert (one.idle(is_async=False), one.stamp) == (3, 8)


def test_coroutines_have_slots_of_their_own() -> None:
    made = roster(view(1, free=0, free_async=9, window=20), view(2, free=4, free_async=0, window=20))
    assert shares(made, "fetch", 2) == {1: 2}
    assert shares(made, "add", 2) == {2: 2}
    assert made.free("fetch", is_async=True) == 9
    assert made.free("add", is_async=False) == 4


@pytest.mark.parametrize("why", ["draining", "suspect", "full", "serves another"])
def test_a_node_that_cannot_take_a_job_gets_none(why: str) -> None:
    one = view(1, window=1, tasks=[TaskSpec("mul")] if why == "serves another" else TASKS)
    one.standing.state = {"draining": State.DRAINING, "suspect": State.SUSPECT}.get(why, State.ALIVE)
    if why == "full":
        one.outstanding[b"x"] = JobRecord(b"x", "add", b"")
    made = roster(one)
    assert made.share("add", 1) == []
    assert made.free("add", is_async=False) == 0


def test_the_node_that_rejected_a_job_is_passed_over_while_there_is_another() -> None:
    one, other = view(1, free=9), view(2, free=1)
    assert shares(roster(one, other), "add", 1, not_key=1) == {2: 1}
    assert shares(roster(one), "add", 1, not_key=1) == {1: 1}
    assert shares(roster(), "add", 1, not_key=1) == {}


def test_nodes_are_found_by_link_and_by_id() -> None:
    one, other = view(1), view(2, tasks=[TaskSpec("mul")])
    made = roster(one, other)
    assert list(made) == [one, other]
    assert len(made) == 2
    assert made.get(2) is other
    assert made.get(3) is None
    assert made.by_id(one.about.node) is one
    assert made.task_names() == {"add", "fetch", "mul"}
    assert made.serves("mul") is other.tasks["mul"]
    assert made.serves("div") is None


def test_removing_a_node_leaves_the_link_that_took_its_place() -> None:
    old, new = view(1), view(2)
    new.about = old.about
    made = roster(old, new)
    assert made.remove(1) is old
    assert made.by_id(old.about.node) is new
    assert made.remove(2) is new
    assert made.by_id(old.about.node) is None
    assert made.remove(2) is None


@pytest.mark.parametrize(
    ("said", "taken"), [(3.0, 3.0), (None, None), (math.inf, None), (math.nan, None), (-1.0, None), (0.0, None)]
)
def test_a_time_that_makes_no_sense_is_none(said: float | None, taken: float | None) -> None:
    assert ServedTask(TaskSpec("add", timeout=said)).timeout == taken


def test_a_node_that_was_tried_gets_nothing_while_another_lives_full_or_not() -> None:
    one, other = view(1), view(2, window=0)
    tried = (one.about.node,)
    made = roster(one, other)
    assert shares(made, "add", 1, tried=tried) == {}
    other.window = 1
    assert shares(made, "add", 2, tried=tried) == {2: 1}
    assert shares(made, "add", 1, tried=tried, not_key=2) == {2: 1}
    other.standing.state = State.SUSPECT
    assert shares(made, "add", 2, tried=tried) == {1: 2}


def test_a_node_on_trial_has_room_for_one_job_in_all() -> None:
    one = view(1, window=9)
    one.standing.state = State.TRIAL
    assert one.room == 1
    one.outstanding[b"x"] = JobRecord(b"x", "add", b"")
    assert one.room == 0


def test_a_task_in_quarantine_is_served_again_when_its_time_is_over() -> None:
    one = view(1)
    served = one.tasks["add"]
    assert one.quarantine("add", 10.0)
    assert not one.quarantine("add", 20.0)
    assert "add" not in one.tasks
    assert one.served("add") is served
    assert one.served("fetch") is one.tasks["fetch"]
    assert one.served("mul") is None
    assert not one.release(9.9)
    assert one.release(10.0)
    assert (one.tasks["add"], one.quarantined) == (served, {})


def test_what_plainly_cannot_run_at_a_node_is_said_and_arguments_are_looked_at_once() -> None:
    one = view(1)
    wrong = JobRecord(b"x", "add", b"")
    wrong.shape = (9, ())
    assert isinstance(one.misfit(wrong), BadArguments)
    assert one.misfit(wrong) is None
    assert isinstance(one.misfit(JobRecord(b"x", "add", bytes(2 << 20))), PayloadTooLarge)
