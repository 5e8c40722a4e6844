"""The memory that a node and its worker share: what lies there, who frees it, and what it takes."""

import errno
import mmap
import os
from collections.abc import Iterator

import pytest

from meshnode.core.orders import Place
from meshnode.worker.shelf import HALF, STRETCH, Shelf, shelf_file

MIB = 1024 * 1024


class Ends:
    """Both ends of the stretch of the second of three workers."""

    def __init__(self) -> None:
        self.file = shelf_file(3)
        self.node = Shelf(self.file, 1, of_node=True)
        self.worker = Shelf(self.file, 1, of_node=False)

    @property
    def memory(self) -> int:
        """Bytes of memory that the file takes."""
        return os.fstat(self.file).st_blocks * 512


@pytest.fixture
def ends() -> Iterator[Ends]:
    made = Ends()
    yield made
    os.close(made.file)


def placed(place: Place | None) -> Place:
    assert place is not None
    return place


def test_what_one_end_lays_down_the_other_finds_both_ways_at_once(ends: Ends) -> None:
    orders = [os.urandom(size) for size in (1, 40_000, MIB)]
    outcomes = [os.urandom(size) for size in (MIB, 7, 99_999)]
    there = [placed(ends.node.put(key, body)) for key, body in enumerate(orders, 5)]
    back = [placed(ends.worker.put_next(body)) for body in outcomes]
    assert [place.key for place in there] == [5, 6, 7]
    assert [place.key for place in back] == [1, 2, 3]
    assert [bytes(ends.worker.look(place)) for place in there] == orders
    assert [bytes(ends.node.look(place)) for place in back] == outcomes


def test_a_body_may_be_a_view_and_is_seen_where_it_lies_and_cannot_be_written_by_its_reader(ends: Ends) -> None:
    seen = ends.worker.look(placed(ends.node.put(1, memoryview(b"as it came")[3:])))
    assert seen.readonly
    assert bytes(seen) == b"it came"


def test_workers_have_stretches_of_their_own(ends: Ends) -> None:
    others = [Shelf(ends.file, number, of_node=True) for number in (0, 2)]
    for number, shelf in enumerate([others[0], ends.node, others[1]]):
        assert placed(shelf.put(1, bytes([number]) * HALF)).at == 0
    for number, shelf in enumerate([Shelf(ends.file, number, of_node=False) for number in range(3)]):
        assert bytes(shelf.look(Place(0, HALF, 1))) == bytes([number]) * HALF


def test_what_is_freed_makes_room_and_what_is_not_known_frees_nothing(ends: Ends) -> None:
    assert ends.node.put(1, bytes(HALF // 2)) is not None
    assert ends.node.put(2, bytes(HALF // 2)) is not None
    assert ends.node.put(3, b"x") is None
    ends.node.free([3, 4, 17])
    assert set(ends.node.lent) == {1, 2}
    ends.node.free(range(2, 9))
    assert set(ends.node.lent) == {1}
    assert placed(ends.node.put(5, b"x")).at == HALF // 2


def test_all_up_to_the_last_that_was_taken_are_freed_also_such_as_never_came(ends: Ends) -> None:
    for _ in range(4):
        assert ends.worker.put_next(bytes(HALF // 4)) is not None
    assert ends.worker.put_next(b"x") is None
    ends.worker.free_until(2)
    assert set(ends.worker.lent) == {3, 4}
    assert placed(ends.worker.put_next(b"x")).key == 6
    ends.worker.free_until(6)
    assert not ends.worker.lent


def test_nothing_takes_memory_before_it_is_used_and_nothing_after_it_was_handed_back(ends: Ends) -> None:
    assert ends.memory == 0
    assert ends.node.put(1, b"1" * MIB) is not None
    assert ends.worker.put_next(b"2" * MIB) is not None
    assert ends.memory == 2 * MIB
    ends.node.rest()
    assert ends.memory == 2 * MIB, "something lies there"
    ends.node.free([1])
    ends.node.rest()
    assert ends.memory == MIB
    assert ends.node.held == 0
    place = placed(ends.node.put(2, b"3" * MIB))
    assert bytes(ends.worker.look(place)) == b"3" * MIB
    assert ends.memory == 2 * MIB


def test_one_end_hands_back_nothing_of_the_other(ends: Ends) -> None:
    place = placed(ends.worker.put_next(b"2" * MIB))
    assert ends.node.put(1, b"1" * (MIB + 1)) is not None
    ends.node.free([1])
    ends.node.rest()
    assert bytes(ends.node.look(place)) == b"2" * MIB
    assert ends.memory == MIB


def test_the_same_memory_serves_one_body_after_the_other(ends: Ends) -> None:
    for key in range(50):
        assert placed(ends.node.put(key, bytes([key]) * MIB)).at == 0
        ends.node.free([key])
    assert ends.memory == MIB


def test_what_a_dead_worker_held_is_handed_back_also_if_it_was_never_looked_at(ends: Ends) -> None:
    assert ends.worker.put_next(b"2" * MIB) is not None
    other = Shelf(ends.file, 2, of_node=True)
    assert other.put(1, b"1" * MIB) is not None
    ends.node.clear()
    assert ends.memory == MIB
    assert bytes(Shelf(ends.file, 2, of_node=False).look(Place(0, MIB, 1))) == b"1" * MIB


def test_a_body_for_which_there_is_no_memory_is_refused_and_its_room_is_free(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_file: int, _offset: int, _length: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as short:
        short.setattr(os, "posix_fallocate", refuse)
        assert ends.node.put(1, bytes(MIB)) is None
    assert not ends.node.lent
    assert placed(ends.node.put(1, bytes(HALF))).at == 0


def test_the_file_can_be_neither_shrunk_nor_made_longer_by_whoever_has_it(ends: Ends) -> None:
    for size in (0, 3 * STRETCH - 1, 3 * STRETCH + mmap.PAGESIZE):
        with pytest.raises(PermissionError):
            os.truncate(ends.file, size)
    assert os.fstat(ends.file).st_size == 3 * STRETCH
