"""The memory that a node and its worker share: what lies there, who frees it, and what it takes."""

import ctypes
import errno
import mmap
import os
from collections.abc import Iterator

import pytest

from meshnode.core.orders import Place
from meshnode.worker.shelf import HALF, PAGE, STRETCH, Shelf, shelf_file

MIB = 1024 * 1024


class Ends:
    """Both ends of the stretch of the second of three workers."""

    def __init__(self) -> None:
        self.file = shelf_file(3)
        self._mapped = mmap.mmap(self.file, 3 * STRETCH)
        self.node = self.node_of(1)
        self.worker = Shelf.of_worker(self.file, 1)

    def node_of(self, place: int) -> Shelf:
        """The node's end of another worker's stretch."""
        return Shelf(self.file, place, self._mapped, place * STRETCH, of_node=True)

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


def test_what_one_end_lays_down_the_other_takes_both_ways_at_once(ends: Ends) -> None:
    orders = [os.urandom(size) for size in (1, 40_000, MIB)]
    outcomes = [os.urandom(size) for size in (MIB, 7, 99_999)]
    there = [placed(ends.node.put(key, body)) for key, body in enumerate(orders, 5)]
    back = [placed(ends.worker.put_next(body)) for body in outcomes]
    assert [place.key for place in there] == [5, 6, 7]
    assert [place.key for place in back] == [1, 2, 3]
    assert [ends.worker.take(place) for place in there] == orders
    assert [ends.node.take(place) for place in back] == outcomes


def test_a_body_may_be_a_view(ends: Ends) -> None:
    assert ends.worker.take(placed(ends.node.put(1, memoryview(b"as it came")[3:]))) == b"it came"


def test_workers_have_stretches_of_their_own(ends: Ends) -> None:
    nodes = [ends.node_of(0), ends.node, ends.node_of(2)]
    workers = [Shelf.of_worker(ends.file, 0), ends.worker, Shelf.of_worker(ends.file, 2)]
    there = [placed(shelf.put(1, bytes([number]) * HALF)) for number, shelf in enumerate(nodes)]
    back = [placed(shelf.put_next(bytes([9 - number]) * HALF)) for number, shelf in enumerate(workers)]
    assert {place.at for place in [*there, *back]} == {0}
    for number in range(3):
        assert workers[number].take(there[number]) == bytes([number]) * HALF
        assert nodes[number].take(back[number]) == bytes([9 - number]) * HALF


@pytest.mark.parametrize("node_puts", [True, False])
def test_what_was_taken_makes_room_with_all_that_came_before_it(ends: Ends, *, node_puts: bool) -> None:
    ours, theirs = (ends.node, ends.worker) if node_puts else (ends.worker, ends.node)
    places = [placed(ours.put(key, bytes([key]) * (HALF // 4))) for key in (1, 2, 5, 6)]
    assert ours.put(7, b"x") is None
    assert theirs.take(places[1]) == bytes([2]) * (HALF // 4)
    assert [placed(ours.put(key, b"x")).at for key in (8, 9)] == [0, 64]
    assert set(ours.lent) == {5, 6, 8, 9}
    assert theirs.take(places[2]) == bytes([5]) * (HALF // 4)


def test_what_somebody_looks_at_stays_and_so_does_all_behind_it(ends: Ends) -> None:
    places = [placed(ends.node.put(key, bytes([key]) * (HALF // 4))) for key in range(1, 5)]
    first, second, third = (ends.worker.look(place) for place in places[:3])
    assert first.readonly
    del second
    assert ends.node.put(5, b"x") is None
    assert bytes(first) == bytes([1]) * (HALF // 4)
    del first
    assert placed(ends.node.put(6, b"x")).at == 0
    assert set(ends.node.lent) == {3, 4, 6}
    assert bytes(third) == bytes([3]) * (HALF // 4)
    del third
    assert ends.worker.take(places[3]) == bytes([4]) * (HALF // 4)
    ends.node.rest()
    assert set(ends.node.lent) == {6}


def test_what_will_never_be_read_is_freed_and_what_is_not_known_frees_nothing(ends: Ends) -> None:
    assert ends.node.put(1, bytes(HALF // 2)) is not None
    assert ends.node.put(2, bytes(HALF // 2 - PAGE)) is not None
    ends.node.free([3, 4, 17])
    assert ends.node.put(3, bytes(HALF // 4)) is None
    ends.node.free(range(2, 9))
    assert set(ends.node.lent) == {1}
    assert placed(ends.node.put(5, b"x")).at == HALF // 2


def test_nothing_takes_memory_before_it_is_used_and_but_for_the_words_nothing_after_it_was_handed_back(
    ends: Ends,
) -> None:
    assert ends.memory == 0
    place = placed(ends.node.put(1, b"1" * MIB))
    other = placed(ends.worker.put_next(b"2" * MIB))
    assert ends.memory == 2 * MIB + PAGE
    ends.node.rest()
    ends.worker.rest()
    assert ends.memory == 2 * MIB + PAGE, "something lies there"
    assert ends.worker.take(place) == b"1" * MIB
    ends.node.rest()
    assert (ends.memory, ends.node.wants_rest) == (MIB + PAGE, False)
    assert ends.node.take(other) == b"2" * MIB
    ends.worker.rest()
    assert (ends.memory, ends.worker.wants_rest) == (PAGE, False)
    assert ends.worker.take(placed(ends.node.put(2, b"3" * MIB))) == b"3" * MIB
    assert ends.memory == MIB + PAGE


def test_one_end_hands_back_nothing_of_the_other(ends: Ends) -> None:
    place = placed(ends.worker.put_next(b"2" * MIB))
    assert ends.worker.take(placed(ends.node.put(1, b"1" * (MIB + 1)))) == b"1" * (MIB + 1)
    ends.node.rest()
    assert ends.node.take(place) == b"2" * MIB


def test_the_same_memory_serves_one_body_after_the_other(ends: Ends) -> None:
    for key in range(1, 50):
        place = placed(ends.node.put(key, bytes([key]) * MIB))
        assert place.at == 0
        assert ends.worker.take(place) == bytes([key]) * MIB
    assert ends.memory == MIB + PAGE


def test_after_a_worker_that_died_the_next_one_begins_anew_and_no_memory_is_left(ends: Ends) -> None:
    for _ in range(3):
        assert ends.node.take(placed(ends.worker.put_next(b"2" * MIB))) == b"2" * MIB
    assert ends.worker.put_next(b"never looked at") is not None
    assert ends.worker.take(placed(ends.node.put(7, b"1" * MIB))) == b"1" * MIB
    other = placed(ends.node_of(2).put(1, b"3" * MIB))
    ends.node.clear()
    assert ends.memory == MIB + PAGE
    assert Shelf.of_worker(ends.file, 2).take(other) == b"3" * MIB
    node, worker = ends.node_of(1), Shelf.of_worker(ends.file, 1)
    assert worker.put_next(b"4" * MIB) is not None
    assert placed(worker.put_next(b"5" * MIB)).at == MIB, "what was taken of the one before does not count"
    assert node.put(1, b"6" * MIB) is not None
    assert placed(node.put(2, b"7" * MIB)).at == MIB


@pytest.mark.parametrize("refused", [1, 2])
def test_a_body_for_which_there_is_no_memory_is_refused_and_its_room_is_free(
    ends: Ends, monkeypatch: pytest.MonkeyPatch, refused: int
) -> None:
    calls = 0
    allocate = os.posix_fallocate

    def refuse(file: int, offset: int, length: int) -> None:
        nonlocal calls
        calls += 1
        if calls == refused:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        allocate(file, offset, length)

    with monkeypatch.context() as short:
        short.setattr(os, "posix_fallocate", refuse)
        assert ends.node.put(1, bytes(MIB)) is None
    assert not ends.node.lent
    assert not ends.node.wants_rest
    assert ends.worker.take(placed(ends.node.put(1, bytes(HALF)))) == bytes(HALF)


def lock(mapped: mmap.mmap, start: int) -> None:
    """Lock a page of it in memory, as an application may lock all of its own."""
    address = ctypes.addressof(ctypes.c_char.from_buffer(mapped, start))
    assert ctypes.CDLL(None).mlock(ctypes.c_void_p(address), ctypes.c_size_t(PAGE)) == 0


def test_memory_that_cannot_be_handed_back_is_kept_and_asked_for_no_more(ends: Ends) -> None:
    lock(ends.worker._mapped, PAGE + HALF)
    assert ends.node.take(placed(ends.worker.put_next(b"1" * MIB))) == b"1" * MIB
    ends.worker.rest()
    assert (ends.memory, ends.worker.wants_rest) == (MIB + PAGE, False)
    assert ends.node.take(placed(ends.worker.put_next(b"2" * MIB))) == b"2" * MIB
    assert ends.memory == MIB + PAGE


def test_where_it_cannot_be_handed_back_the_next_worker_begins_anew_all_the_same(ends: Ends) -> None:
    lock(ends.node._mapped, STRETCH + PAGE)
    for _ in range(3):
        assert ends.node.take(placed(ends.worker.put_next(b"1" * MIB))) == b"1" * MIB
    ends.node.clear()
    assert ends.memory > 0
    worker = Shelf.of_worker(ends.file, 1)
    assert [placed(worker.put_next(bytes(MIB))).at for _ in range(2)] == [0, MIB]


def test_the_file_can_be_neither_shrunk_nor_made_longer_by_whoever_has_it(ends: Ends) -> None:
    for size in (0, 3 * STRETCH - 1, 3 * STRETCH + PAGE):
        with pytest.raises(PermissionError):
            os.truncate(ends.file, size)
    assert os.fstat(ends.file).st_size == 3 * STRETCH
