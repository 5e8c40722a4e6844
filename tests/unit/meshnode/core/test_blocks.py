"""Which blocks of a stretch of memory are lent."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnode.core.blocks import FULL, LINE, Blocks

SIZE = 64 * LINE


def test_blocks_lie_one_behind_the_other_each_on_lines_of_its_own() -> None:
    blocks = Blocks(SIZE)
    assert [blocks.take(length) for length in (1, LINE, LINE + 1, 1)] == [0, LINE, 2 * LINE, 4 * LINE]


def test_the_lowest_gap_that_is_large_enough_is_taken_again() -> None:
    blocks = Blocks(SIZE)
    starts = [blocks.take(length * LINE) for length in (1, 3, 1, 2, 1)]
    blocks.give_back(starts[1])
    blocks.give_back(starts[3])
    assert blocks.take(2 * LINE) == starts[1]
    assert blocks.take(2 * LINE) == starts[3]
    assert blocks.take(1) == starts[1] + 2 * LINE


def test_what_fits_nowhere_is_refused_and_changes_nothing() -> None:
    blocks = Blocks(SIZE)
    assert blocks.take(SIZE + 1) == FULL
    assert blocks.take(SIZE) == 0
    assert blocks.take(1) == FULL
    blocks.give_back(0)
    assert blocks.take(SIZE) == 0


def test_only_what_is_lent_can_be_given_back() -> None:
    blocks = Blocks(SIZE)
    blocks.take(3 * LINE)
    with pytest.raises(ValueError, match="not in list"):
        blocks.give_back(LINE)


@given(st.lists(st.tuples(st.booleans(), st.integers(1, SIZE // 4)), max_size=80))
def test_no_two_blocks_overlap_and_none_is_refused_that_fits(steps: list[tuple[bool, int]]) -> None:
    blocks = Blocks(SIZE)
    lent: dict[int, int] = {}
    for n, (take, length) in enumerate(steps):
        if take or not lent:
            start = blocks.take(length)
            lines = -(-length // LINE)
            used = {line for one, many in lent.items() for line in range(one // LINE, one // LINE + many)}
            free = [line for line in range(SIZE // LINE - lines + 1) if not used & set(range(line, line + lines))]
            assert start == (free[0] * LINE if free else FULL)
            if start != FULL:
                lent[start] = lines
        else:
            start = list(lent)[n % len(lent)]
            blocks.give_back(start)
            del lent[start]
