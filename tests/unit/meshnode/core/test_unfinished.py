"""Who holds on to a message that does not end, judged from bytes and memory alone."""

import pytest

from meshnode.core.unfinished import EXCUSED, EXPLAINED, GROWTH, LEAST, Key, Unfinished

MIB = 1 << 20
MOST = 64 * MIB
FIRST, SECOND = (7, 1001), (8, 1002)


def watch() -> Unfinished:
    return Unfinished(most=MOST, memory=100 * MIB)


def test_a_process_that_does_not_grow_is_not_worth_a_look() -> None:
    unfinished = watch()
    assert not unfinished.worth_a_look(100 * MIB + GROWTH)
    assert unfinished.worth_a_look(100 * MIB + GROWTH + 1)


def test_growth_counts_from_the_least_that_it_was() -> None:
    unfinished = watch()
    assert not unfinished.worth_a_look(50 * MIB)
    assert unfinished.worth_a_look(51 * MIB + GROWTH)


def test_a_look_that_finds_nothing_unfinished_takes_the_memory_for_needed() -> None:
    unfinished = watch()
    assert unfinished.look({FIRST: LEAST - 1}, set(), memory=300 * MIB, settled=True) == {}
    assert not unfinished.worth_a_look(300 * MIB + GROWTH)


def test_a_message_beyond_the_largest_that_is_allowed_ends_its_connection_at_the_second_look() -> None:
    unfinished = watch()
    assert unfinished.look({FIRST: MOST + 1, SECOND: MOST}, set(), memory=120 * MIB, settled=True) == {}
    assert unfinished.suspicious
    assert unfinished.look({FIRST: MOST + 9, SECOND: MOST}, set(), memory=120 * MIB, settled=True) == {FIRST: MOST + 9}
    assert not unfinished.suspicious


def test_one_that_finishes_its_message_between_two_looks_is_left_alone() -> None:
    unfinished = watch()
    unfinished.look({FIRST: MOST + 1}, set(), memory=120 * MIB, settled=True)
    assert unfinished.look({FIRST: 2 * MOST}, {FIRST[0]}, memory=120 * MIB, settled=True) == {}
    assert not unfinished.suspicious
    assert unfinished.look({FIRST: 3 * MOST}, set(), memory=120 * MIB, settled=True) == {}


def test_what_came_before_the_last_whole_message_does_not_count() -> None:
    unfinished = watch()
    unfinished.look({FIRST: 1000 * MOST}, {FIRST[0]}, memory=120 * MIB, settled=True)
    for more in range(1, 3):
        assert unfinished.look({FIRST: 1000 * MOST + more}, set(), memory=120 * MIB, settled=True) == {}


def test_a_descriptor_that_is_used_again_is_another_connection() -> None:
    unfinished = watch()
    unfinished.look({FIRST: MOST + 1}, set(), memory=120 * MIB, settled=True)
    again: Key = (FIRST[0], 1003)
    assert unfinished.look({again: MOST + 1}, set(), memory=120 * MIB, settled=True) == {}


@pytest.mark.parametrize("explained", [True, False])
def test_small_messages_that_do_not_end_are_told_by_the_memory_that_they_take(explained: bool) -> None:
    unfinished = watch()
    begun = 2 * LEAST
    memory = 100 * MIB + EXCUSED + EXPLAINED * begun + (0 if explained else 1)
    received = {FIRST: begun, SECOND: LEAST - 1}
    assert unfinished.look(received, set(), memory=memory, settled=True) == {}
    assert unfinished.look(received, set(), memory=memory, settled=True) == ({} if explained else {FIRST: begun})


def test_large_messages_on_their_way_explain_growth() -> None:
    unfinished = watch()
    received = {(number, number): 20 * MIB for number in range(10)}
    for _ in range(3):
        assert unfinished.look(received, set(), memory=500 * MIB, settled=True) == {}


def test_nobody_is_blamed_while_whole_messages_wait_to_be_read() -> None:
    unfinished = watch()
    for _ in range(3):
        assert unfinished.look({FIRST: MOST + 1}, set(), memory=900 * MIB, settled=False) == {}
    assert not unfinished.suspicious


def test_what_is_ended_is_not_ended_again() -> None:
    unfinished = watch()
    for _ in range(2):
        ended = unfinished.look({FIRST: MOST + 1}, set(), memory=120 * MIB, settled=True)
    assert ended == {FIRST: MOST + 1}
    for _ in range(2):
        assert unfinished.look({FIRST: MOST + 1}, set(), memory=120 * MIB, settled=True) == {}
