"""Who holds on to a message that does not end, judged from bytes and memory alone."""

import pytest

from meshnode.core.unfinished import EXCUSED, EXPLAINED, GROWTH, LEAST, Key, Unfinished

MIB = 1 << 20
MOST = 64 * MIB
FIRST, SECOND = (7, 1001), (8, 1002)


def watch() -> Unfinished:
    return Unfinished(most=MOST, memory=100 * MIB)


def look(
    unfinished: Unfinished,
    received: dict[Key, int],
    *heard: Key,
    memory: int = 120 * MIB,
    whole: int = 0,
    settled: bool = True,
) -> dict[Key, int]:
    unfinished.worth_a_look(memory, whole)
    return unfinished.look(received, {key[0] for key in heard}, settled=settled)


def test_a_process_that_does_not_grow_is_not_worth_a_look() -> None:
    unfinished = watch()
    assert not unfinished.worth_a_look(100 * MIB + GROWTH, 0)
    assert unfinished.worth_a_look(100 * MIB + GROWTH + 1, 0)


def test_growth_counts_from_the_least_that_it_was() -> None:
    unfinished = watch()
    assert not unfinished.worth_a_look(50 * MIB, 0)
    assert unfinished.worth_a_look(51 * MIB + GROWTH, 0)


def test_a_look_that_suspects_nobody_takes_the_memory_for_needed() -> None:
    unfinished = watch()
    assert look(unfinished, {FIRST: 20 * MIB}, memory=130 * MIB) == {}
    assert not unfinished.worth_a_look(130 * MIB + GROWTH, 0)


def test_a_message_beyond_the_largest_that_is_allowed_ends_its_connection_at_the_second_look() -> None:
    unfinished = watch()
    assert look(unfinished, {FIRST: MOST + 1, SECOND: MOST}) == {}
    assert unfinished.worth_a_look(100 * MIB, 0)
    assert look(unfinished, {FIRST: MOST + 9, SECOND: MOST}) == {FIRST: MOST + 9}
    assert not unfinished.worth_a_look(100 * MIB, 0)


def test_one_that_finishes_its_message_between_two_looks_is_left_alone() -> None:
    unfinished = watch()
    look(unfinished, {FIRST: MOST + 1})
    assert look(unfinished, {FIRST: 2 * MOST}, FIRST) == {}
    assert not unfinished.worth_a_look(100 * MIB, 0)
    assert look(unfinished, {FIRST: 3 * MOST}) == {}


def test_what_came_before_the_last_whole_message_does_not_count() -> None:
    unfinished = watch()
    look(unfinished, {FIRST: 1000 * MOST}, FIRST)
    for more in range(1, 3):
        assert look(unfinished, {FIRST: 1000 * MOST + more}) == {}


def test_a_descriptor_that_is_used_again_is_another_connection() -> None:
    unfinished = watch()
    look(unfinished, {FIRST: MOST + 1})
    again: Key = (FIRST[0], 1003)
    assert look(unfinished, {again: MOST + 1}) == {}


@pytest.mark.parametrize("explained", [True, False])
def test_small_frames_without_end_are_told_by_the_memory_that_they_take(explained: bool) -> None:
    unfinished = watch()
    begun = 2 * LEAST
    memory = 100 * MIB + EXCUSED + EXPLAINED * begun + (0 if explained else 1)
    received = {FIRST: begun, SECOND: LEAST - 1}
    assert look(unfinished, received, memory=memory) == {}
    assert look(unfinished, received, memory=memory) == ({} if explained else {FIRST: begun})


def test_small_frames_without_end_are_told_however_slowly_they_come() -> None:
    unfinished = watch()
    memory, size = 100 * MIB, 0
    ended: dict[Key, int] = {}
    while not ended:
        size += 4096
        memory += 32 * 4096
        if unfinished.worth_a_look(memory, 0):
            ended = unfinished.look({FIRST: size}, set(), settled=True)
        assert memory < 300 * MIB
    assert ended == {FIRST: size}


def test_large_messages_on_their_way_explain_growth() -> None:
    unfinished = watch()
    received = {(number, number): 20 * MIB for number in range(10)}
    for _ in range(3):
        assert look(unfinished, received, memory=500 * MIB) == {}


def test_whole_messages_that_are_held_explain_growth() -> None:
    unfinished = watch()
    look(unfinished, {FIRST: MIB}, whole=0)
    for n in range(1, 9):
        assert look(unfinished, {FIRST: n * MIB}, memory=(120 + 200 * n) * MIB, whole=200 * n * MIB) == {}


def test_growth_from_before_a_message_began_is_none_of_its() -> None:
    unfinished = watch()
    look(unfinished, {FIRST: 1000}, memory=120 * MIB)
    look(unfinished, {FIRST: 1000}, memory=900 * MIB)
    for n in range(1, 5):
        assert look(unfinished, {FIRST: n * MIB}, memory=900 * MIB) == {}


def test_nobody_is_blamed_while_whole_messages_wait_to_be_read() -> None:
    unfinished = watch()
    for _ in range(3):
        assert look(unfinished, {FIRST: MOST + 1}, memory=900 * MIB, settled=False) == {}
    assert not unfinished.worth_a_look(100 * MIB, 0)


def test_what_is_ended_is_not_ended_again() -> None:
    unfinished = watch()
    assert look(unfinished, {FIRST: MOST + 1}) == {}
    assert look(unfinished, {FIRST: MOST + 1}) == {FIRST: MOST + 1}
    for _ in range(2):
        assert look(unfinished, {FIRST: MOST + 1}) == {}
