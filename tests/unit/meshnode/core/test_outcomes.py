"""What became of the latest jobs."""

import pytest

from mesh.wire.messages import Accepted, Failed, Lost, NodeItem, Reject, Result, Submit, TaskSpec
from meshnode.core.held import FOREVER, Held, Owner, TaskEntry
from meshnode.core.outcomes import HEAVY, KEPT_S, MOST, MOST_BYTES, Outcomes


def job_id(number: int) -> bytes:
    return number.to_bytes(16, "big")


def result(number: int, *, attempt: int = 1, body: bytes = b"done") -> Result:
    return Result(job_id(number), attempt, body)


def wanted(*numbers: int, attempt: int | None = None) -> dict[bytes, int | None]:
    return {job_id(number): attempt for number in numbers}


def kept(*items: NodeItem, size: int = 10) -> Outcomes:
    outcomes = Outcomes()
    outcomes.keep([list(items)], size, 0.0)
    return outcomes


@pytest.mark.parametrize(
    "item",
    [result(1), Failed(job_id(1), 1, b"no"), Lost(job_id(1), 1, "crash", True, ""), Reject(job_id(1), 1, "stale", "")],
    ids=lambda item: type(item).__name__,
)
def test_an_end_of_any_kind_is_found(item: NodeItem) -> None:
    assert kept(result(7), item).find(wanted(1), 1.0) == {job_id(1): item}


def test_what_nobody_asked_for_and_what_is_not_known_is_not_told() -> None:
    outcomes = kept(result(1), Accepted([job_id(2)]), result(3))
    assert outcomes.find(wanted(2, 3, 4), 1.0) == {job_id(3): result(3)}
    assert outcomes.find({}, 1.0) == {}


def test_of_several_attempts_the_last_is_found_unless_one_is_asked_for() -> None:
    outcomes = kept(result(1, attempt=1), result(1, attempt=2))
    assert outcomes.find(wanted(1), 1.0) == {job_id(1): result(1, attempt=2)}
    assert outcomes.find(wanted(1, attempt=1), 1.0) == {job_id(1): result(1, attempt=1)}
    assert outcomes.find(wanted(1, attempt=3), 1.0) == {}


def test_outcomes_of_several_lists_count_together() -> None:
    outcomes = Outcomes()
    outcomes.keep([[result(1), result(2)], [result(3)]], 30, 0.0)
    assert len(outcomes) == 3
    assert set(outcomes.find(wanted(1, 2, 3), 0.0)) == {job_id(1), job_id(2), job_id(3)}


def test_what_is_old_is_not_found_and_goes_when_something_new_comes() -> None:
    outcomes = kept(result(1))
    assert outcomes.find(wanted(1), KEPT_S)
    assert outcomes.find(wanted(1), KEPT_S + 0.1) == {}
    outcomes.keep([[result(2)]], 10, KEPT_S + 0.1)
    assert len(outcomes) == 1


def test_no_more_than_so_many_are_kept_and_the_oldest_go_first() -> None:
    outcomes = Outcomes()
    for number in range(MOST + 10):
        outcomes.keep([[result(number)]], 10, 0.0)
    assert len(outcomes) == MOST
    assert set(outcomes.find(wanted(9, 10, MOST + 9), 0.0)) == {job_id(10), job_id(MOST + 9)}


def test_no_more_than_so_many_bytes_are_kept() -> None:
    outcomes = Outcomes()
    for number in range(4):
        outcomes.keep([[result(2 * number), result(2 * number + 1)]], MOST_BYTES // 3, 0.0)
    assert len(outcomes) == 6
    assert set(outcomes.find(wanted(1, 2, 7), 0.0)) == {job_id(2), job_id(7)}


def test_a_single_heavy_outcome_is_not_kept_but_many_light_ones_that_are_as_heavy_together_are() -> None:
    assert len(kept(result(1), size=HEAVY)) == 0
    assert len(kept(result(1), size=HEAVY - 1)) == 1
    assert len(kept(result(1), result(2), size=HEAVY)) == 2


def test_the_heavy_outcome_of_a_job_whose_owner_is_gone_is_kept_as_a_copy_of_its_own() -> None:
    outcomes = Outcomes()
    shared = bytearray(b"x" * HEAVY)
    outcomes.keep_orphaned(Result(job_id(1), 1, memoryview(shared)), 0.0)
    shared[:] = b"y" * HEAVY
    assert outcomes.find(wanted(1), 0.0) == {job_id(1): result(1, body=b"x" * HEAVY)}
    assert len(outcomes) == 1


def test_outcomes_of_jobs_whose_owner_is_gone_count_as_all_others() -> None:
    outcomes = Outcomes()
    for number in range(MOST + 1):
        outcomes.keep_orphaned(Lost(job_id(number), 1, "crash", True, ""), 0.0)
    assert len(outcomes) == MOST
    for number in range(3):
        outcomes.keep_orphaned(Failed(job_id(number), 1, b"x" * (MOST_BYTES // 2)), 0.0)
    assert len(outcomes) == 2


def test_what_is_larger_than_all_that_is_kept_is_not_kept() -> None:
    outcomes = Outcomes()
    outcomes.keep_orphaned(result(1, body=bytes(MOST_BYTES + 1)), 0.0)
    assert len(outcomes) == 0
    assert outcomes.find(wanted(1), 0.0) == {}


def held(number: int, attempt: int, *, member: str = "") -> Held:
    submit = Submit(job_id(number), attempt, "slow", 0, None, None, b"")
    return Held(submit, TaskEntry(TaskSpec("slow")), Owner(1, member=member), FOREVER)


def test_an_outcome_is_found_by_the_member_whose_it_is_and_by_no_other() -> None:
    outcomes = Outcomes()
    outcomes.keep([[result(1)]], 4, 0.0, whose="client a")
    outcomes.keep_orphaned(result(2), 0.0, whose="client a")
    assert set(outcomes.find(wanted(1, 2), 0.0, whose="client a")) == {job_id(1), job_id(2)}
    assert outcomes.find(wanted(1, 2), 0.0, whose="client b") == {}
    assert outcomes.find(wanted(1, 2), 0.0) == {}


def test_an_attempt_of_another_member_does_not_hide_an_orphan() -> None:
    outcomes = Outcomes()
    mine = held(1, 1, member="client a")
    outcomes.orphaned(mine)
    outcomes.orphaned(held(1, 2, member="client b"))
    assert outcomes.orphans == {job_id(1): mine}


def test_of_two_attempts_whose_owners_are_gone_the_last_is_the_orphan() -> None:
    outcomes = Outcomes()
    first, second = held(1, 1), held(1, 2)
    for one in (first, second, first):
        outcomes.orphaned(one)
    assert outcomes.orphans == {job_id(1): second}
    assert not outcomes.ended(first)
    assert outcomes.ended(second)
    assert not outcomes.ended(second)
    assert outcomes.orphans == {}
