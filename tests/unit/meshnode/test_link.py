"""Orders and outcomes in datagrams: what lies together, what is split, and that nothing gets lost on the way."""

import fcntl
import mmap
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import pairwise

import msgspec
import pytest

from mesh.wire.messages import Failed, Options, Result, Submit
from meshnode.core.orders import End, Orders, Place, Ran
from meshnode.worker.link import (
    BUFFER,
    DATAGRAM,
    LARGE,
    SHELVED,
    Packet,
    Receiver,
    attach,
    decode_orders,
    decode_ran,
    memory_file,
    pack_orders,
    pack_ran,
    read_memory_file,
    send,
)
from meshnode.worker.shelf import HALF as SHELF
from meshnode.worker.shelf import STRETCH, Shelf, shelf_file

BIG = LARGE - 1
"""The size of the largest body that is no large one."""

HALF = DATAGRAM * 2 // 5
"""A size of which two bodies fit into a datagram, and three do not."""

HALF_SHELF = SHELF // 2

FEW = DATAGRAM // 400
"""A size of which some hundreds fit into a datagram."""


def job(number: int, size: int = 0) -> Submit:
    return Submit(number.to_bytes(16), 1 + number, "add", 0, 30_000, Options(priority=9), bytes([number % 256]) * size)


def jobs(*sizes: int) -> list[Submit]:
    return [job(number, size) for number, size in enumerate(sizes)]


def ran(*sizes: int, first: int = 7, each: int = 1000) -> Ran:
    """Outcomes with bodies of these sizes, every third a failure; each job took `each` ns."""
    ends: list[End] = []
    for number, size in enumerate(sizes):
        shape = Failed if number % 3 == 2 else Result
        ends.append(shape(number.to_bytes(16), 1, bytes([number % 256]) * size))
    return Ran(first, len(sizes) * each, each, ends)


def opened_orders(packets: Sequence[Packet]) -> list[Orders]:
    """What a worker reads."""
    read = []
    for datagram, large in packets:
        orders = decode_orders(datagram)
        attach(orders.jobs, None if large is None else memory_file(large))
        read.append(orders)
    return read


def opened_ran(packets: Sequence[Packet]) -> list[Ran]:
    """What a node reads."""
    read = []
    for datagram, large in packets:
        together = decode_ran(datagram)
        attach(together[0].ends, None if large is None else memory_file(large))
        read += together
    return read


def numbered(parts: Sequence[Orders]) -> list[tuple[int, Submit]]:
    return [numbered_job for part in parts for numbered_job in enumerate(part.jobs, part.first)]


def numbered_ends(parts: Sequence[Ran]) -> list[tuple[int, End]]:
    return [numbered_end for part in parts for numbered_end in enumerate(part.ends, part.first)]


MIXES = [
    [0],
    [0, 0, 0],
    [BIG],
    [LARGE],
    [10 * LARGE],
    [LARGE, LARGE],
    [0, LARGE, 0],
    [LARGE, 0, 0],
    [0, 0, LARGE],
    [BIG, BIG, BIG],
    [HALF] * 9,
    [10 * FEW] * 100,
    [LARGE, *[HALF] * 5, LARGE, BIG, LARGE, 0, BIG],
]
"""Sizes of bodies that are packed together."""


@pytest.mark.parametrize("sizes", MIXES)
def test_orders_keep_their_numbers_and_their_order_however_they_are_split(sizes: list[int]) -> None:
    given = jobs(*sizes)
    packets = pack_orders(41, given)
    assert numbered(opened_orders(packets)) == list(enumerate(jobs(*sizes), 41))
    assert given == jobs(*sizes), "they are the node's, which may pack them again"


@pytest.mark.parametrize("sizes", MIXES)
def test_outcomes_keep_their_numbers_and_their_order_however_they_are_split(sizes: list[int]) -> None:
    packets = pack_ran([ran(*sizes, first=41)])
    assert numbered_ends(opened_ran(packets)) == list(enumerate(ran(*sizes).ends, 41))


@pytest.mark.parametrize("sizes", MIXES)
def test_no_datagram_is_longer_than_it_may_be(sizes: list[int]) -> None:
    packets = [*pack_orders(1, jobs(*sizes)), *pack_ran([ran(*sizes)])]
    assert all(0 < len(datagram) <= DATAGRAM for datagram, _ in packets)


def test_what_fits_lies_in_one_datagram() -> None:
    sizes = [FEW // 2] * 400
    assert len(pack_orders(1, jobs(*sizes))) == len(pack_ran([ran(*sizes)])) == 1


def test_what_is_a_byte_too_long_lies_in_two() -> None:
    rest = DATAGRAM - HALF - 200  # not far below what fits, so that its length is written in as many bytes
    rest += DATAGRAM - len(pack_orders(1, jobs(HALF, rest))[0][0])
    assert HALF < rest < LARGE
    assert [len(datagram) for datagram, _ in pack_orders(1, jobs(HALF, rest))] == [DATAGRAM]
    assert [len(orders.jobs) for orders in opened_orders(pack_orders(1, jobs(HALF, rest + 1)))] == [1, 1]
    rest = DATAGRAM - HALF - 200
    rest += DATAGRAM - len(pack_ran([ran(HALF, rest)])[0][0])
    assert HALF < rest < LARGE
    assert [len(datagram) for datagram, _ in pack_ran([ran(HALF, rest)])] == [DATAGRAM]
    assert [len(one.ends) for one in opened_ran(pack_ran([ran(HALF, rest + 1)]))] == [1, 1]


def test_several_sets_of_outcomes_lie_in_one_datagram_if_they_fit() -> None:
    sets = [ran(0, FEW, first=1), ran(FEW, first=3), ran(0, first=9)]
    ((datagram, large),) = pack_ran(sets)
    assert large is None
    assert decode_ran(datagram) == sets


@pytest.mark.parametrize("sizes", MIXES)
def test_several_sets_of_outcomes_keep_their_numbers_and_their_order_however_they_are_split(sizes: list[int]) -> None:
    sets = [ran(*sizes, first=1), ran(0, first=len(sizes) + 1), ran(*sizes, first=len(sizes) + 2)]
    packets = pack_ran(sets)
    assert all(0 < len(datagram) <= DATAGRAM for datagram, _ in packets)
    assert numbered_ends(opened_ran(packets)) == numbered_ends(sets)


def test_no_outcomes_are_the_datagram_that_says_nothing_but_ready() -> None:
    ((datagram, large),) = pack_ran([])
    assert (decode_ran(datagram), large) == ([], None)


def test_a_large_body_travels_alone_in_a_memory_file_and_its_place_is_left_empty() -> None:
    packets = pack_orders(5, jobs(3, 4, LARGE, 5))
    assert [large for _, large in packets] == [None, job(2, LARGE).body, None]
    first, alone, last = (decode_orders(datagram) for datagram, _ in packets)
    assert (first.first, alone.first, last.first) == (5, 7, 8)
    assert alone.jobs == [msgspec.structs.replace(job(2, LARGE), body=b"")]


def test_a_large_body_of_an_outcome_travels_alone_in_a_memory_file_and_its_place_is_left_empty() -> None:
    packets = pack_ran([ran(3, 4, LARGE, 5)])
    assert [large for _, large in packets] == [None, bytes([2]) * LARGE, None]
    ((first,), (alone,), (last,)) = (decode_ran(datagram) for datagram, _ in packets)
    assert (first.first, alone.first, last.first) == (7, 9, 10)
    assert alone.ends == [Failed((2).to_bytes(16), 1, b"")]


def test_the_largest_body_that_is_no_large_one_lies_in_the_datagram_whatever_stands_around_it() -> None:
    options = Options(priority=9, forwarded=True)
    longest = Submit(bytes(16), 2**31, "\N{GRINNING FACE}" * 200, 1, 2**53, options, bytes(BIG))
    ((datagram, large),) = pack_orders(2**53, [longest])
    assert large is None
    assert decode_orders(datagram) == Orders(2**53, [longest])
    assert pack_orders(1, jobs(LARGE))[0][1] is not None


def test_bodies_may_be_views_of_a_received_frame() -> None:
    small, large = jobs(3, LARGE)
    views = [msgspec.structs.replace(one, body=memoryview(one.body)) for one in (small, large)]
    assert numbered(opened_orders(pack_orders(1, views))) == [(1, small), (2, large)]


@pytest.mark.parametrize("sizes", MIXES)
def test_the_time_that_jobs_took_is_shared_out_between_the_datagrams(sizes: list[int]) -> None:
    parts = opened_ran(pack_ran([ran(*sizes, each=1000)]))
    assert [part.spent for part in parts] == [1000 * len(part.ends) for part in parts]
    assert {part.longest for part in parts} == {1000}


def test_an_uneven_share_of_the_time_is_rounded_down_and_none_is_counted_twice() -> None:
    whole = Ran(1, 1001, 900, ran(*[HALF] * 7).ends)
    parts = opened_ran(pack_ran([whole]))
    assert len(parts) > 1
    assert 1001 - 2 * len(parts) < sum(part.spent for part in parts) <= 1001
    assert all(part.longest == 900 for part in parts)


def test_packing_leaves_the_outcomes_as_they_are() -> None:
    whole = ran(0, LARGE, HALF, BIG, BIG)
    pack_ran([whole])
    assert whole == ran(0, LARGE, HALF, BIG, BIG)


def test_orders_without_jobs_are_one_datagram() -> None:
    assert [decode_orders(datagram) for datagram, _ in pack_orders(0, [])] == [Orders(0, [])]


# on the shelf


@pytest.fixture
def shelves() -> Iterator[tuple[Shelf, Shelf]]:
    """The node's end and the worker's."""
    file = shelf_file(1)
    yield Shelf(file, 0, mmap.mmap(file, STRETCH), 0, of_node=True), Shelf.of_worker(file, 0)
    os.close(file)


def taken_orders(packets: Sequence[Packet], shelf: Shelf) -> list[Orders]:
    """What a worker reads, also from the shelf."""
    read = opened_orders(packets)
    for orders in read:
        if orders.place is not None:
            orders.jobs[0].body = shelf.take(orders.place)
            orders.place = None
    return read


def taken_ran(packets: Sequence[Packet], shelf: Shelf) -> list[Ran]:
    """What a node reads, also from the shelf."""
    read = opened_ran(packets)
    for one in read:
        if one.place is not None:
            one.ends[0].body = shelf.take(one.place)
            one.place = None
    return read


@pytest.mark.parametrize("sizes", [*MIXES, [SHELVED - 1, SHELVED, BIG], [HALF_SHELF, HALF_SHELF, LARGE, SHELVED, 0]])
def test_with_a_shelf_all_keep_their_numbers_and_their_order_whether_it_has_room_or_not(
    shelves: tuple[Shelf, Shelf], sizes: list[int]
) -> None:
    node, worker = shelves
    orders = pack_orders(41, jobs(*sizes), node)
    assert numbered(taken_orders(orders, worker)) == list(enumerate(jobs(*sizes), 41))
    told = pack_ran([ran(*sizes, first=41), ran(0, first=99)], worker)
    assert numbered_ends(taken_ran(told, node)) == [*enumerate(ran(*sizes).ends, 41), *enumerate(ran(0).ends, 99)]
    assert all(0 < len(datagram) <= DATAGRAM for datagram, _ in [*orders, *told])


def test_a_body_goes_on_the_shelf_alone_under_its_orders_number_and_needs_no_descriptor(
    shelves: tuple[Shelf, Shelf],
) -> None:
    node, _ = shelves
    packets = pack_orders(5, jobs(3, SHELVED, SHELVED - 1, 10 * LARGE), node)
    assert [large for _, large in packets] == [None] * 4
    places = [decode_orders(datagram).place for datagram, _ in packets]
    assert places == [None, Place(0, SHELVED, 6), None, Place(SHELVED, 10 * LARGE, 8)]
    assert set(node.lent) == {6, 8}


def test_bodies_of_outcomes_get_keys_that_rise_in_the_order_in_which_they_are_sent(
    shelves: tuple[Shelf, Shelf],
) -> None:
    _, worker = shelves
    packets = pack_ran([ran(SHELVED, 0, SHELVED, first=1), ran(SHELVED, first=4)], worker)
    places = [one.place for datagram, _ in packets for one in decode_ran(datagram)]
    assert [place.key for place in places if place is not None] == [1, 2, 3]


def test_what_was_not_sent_is_known_by_its_keys_and_can_be_freed(shelves: tuple[Shelf, Shelf]) -> None:
    node, worker = shelves
    before = worker.last
    packets = pack_ran([ran(SHELVED, SHELVED, SHELVED)], worker)
    assert len(taken_ran(packets[:1], node)) == 1
    worker.free(range(before + 2, worker.last + 1))
    again = pack_ran([ran(SHELVED, SHELVED, SHELVED)], worker)
    assert [one.place.at for one in (decode_ran(datagram)[0] for datagram, _ in again) if one.place] == [
        0, SHELVED, 2 * SHELVED,
    ]  # fmt: skip
    assert numbered_ends(taken_ran(again, node)) == numbered_ends([ran(SHELVED, SHELVED, SHELVED)])


def test_where_the_shelf_is_full_a_body_lies_in_the_datagram_or_if_it_is_large_in_a_memory_file(
    shelves: tuple[Shelf, Shelf],
) -> None:
    node, _ = shelves
    assert node.put(1, bytes(2 * HALF_SHELF)) is not None
    packets = pack_orders(2, jobs(SHELVED, LARGE, BIG), node)
    assert [large for _, large in packets] == [None, jobs(0, LARGE)[1].body, None]
    assert all(decode_orders(datagram).place is None for datagram, _ in packets)


# through a socket


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        yield ours, theirs


def descriptors() -> list[str]:
    return sorted(os.listdir("/proc/self/fd"))


def test_packets_come_through_a_socket_whole_and_leave_no_descriptor_open_once_their_bodies_are_let_go(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = pair
    receiver = Receiver()
    before = descriptors()
    read = []
    for packet in pack_orders(1, jobs(0, BIG, LARGE, 3, 10 * LARGE)):
        send(ours, packet)
        datagram, descriptor = receiver.receive(theirs)
        orders = decode_orders(datagram)
        attach(orders.jobs, descriptor)
        read.append(orders)
    assert numbered(read) == list(enumerate(jobs(0, BIG, LARGE, 3, 10 * LARGE), 1))
    del orders
    read.clear()
    assert descriptors() == before


@pytest.mark.timeout(20)
@pytest.mark.parametrize("size", [BIG, LARGE])
def test_a_full_socket_refuses_a_packet_at_once_and_keeps_no_descriptor(
    pair: tuple[socket.socket, socket.socket], size: int
) -> None:
    ours, _ = pair
    before = descriptors()
    (filling,) = pack_orders(1, jobs(BIG))
    with suppress(BlockingIOError):
        while True:
            send(ours, filling, socket.MSG_DONTWAIT)
    (packet,) = pack_orders(1, jobs(size))
    with pytest.raises(BlockingIOError):
        fill(ours, packet)
    assert descriptors() == before


def fill(link: socket.socket, packet: Packet) -> None:
    for _ in range(10_000):
        send(link, packet, socket.MSG_DONTWAIT)


def test_the_end_of_a_stream_is_an_empty_datagram_without_a_body(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    ours.close()
    datagram, descriptor = Receiver().receive(theirs)
    assert (bytes(datagram), descriptor) == (b"", None)


def test_the_largest_datagram_fits_into_the_socket_and_the_receiver(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = pair
    for end in pair:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
    for _ in range(2):
        send(ours, (bytes(DATAGRAM), None), socket.MSG_DONTWAIT)
    receiver = Receiver()
    assert [len(receiver.receive(theirs)[0]) for _ in range(2)] == [DATAGRAM] * 2


def test_a_body_comes_back_from_its_memory_file_as_it_was() -> None:
    body = bytes(range(256)) * 5000
    before = descriptors()
    assert read_memory_file(memory_file(body)) == body
    assert read_memory_file(memory_file(b"")) == b""
    assert descriptors() == before


def test_a_sealed_memory_file_is_mapped_and_held_open_until_the_last_view_of_it_is_gone() -> None:
    body = bytes(range(256)) * 5000
    before = descriptors()
    mapped = read_memory_file(memory_file(body))
    assert isinstance(mapped, memoryview)
    assert mapped.readonly
    part = mapped[1000:2000]
    del mapped
    assert part == body[1000:2000]
    assert len(descriptors()) == len(before) + 1
    del part
    assert descriptors() == before


def test_a_memory_file_without_seals_is_read_and_not_mapped_since_it_could_change_under_its_reader() -> None:
    before = descriptors()
    for seals in (0, fcntl.F_SEAL_GROW, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW, fcntl.F_SEAL_WRITE):
        descriptor = os.memfd_create("meshnode-body", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.write(descriptor, b"as it was")
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
        other = os.dup(descriptor)
        body = read_memory_file(descriptor)
        assert type(body) is bytes
        if not seals & fcntl.F_SEAL_WRITE:
            os.pwrite(other, b"otherwise", 0)
        assert body == b"as it was"
        os.close(other)
    assert descriptors() == before


def test_a_sealed_memory_file_can_be_neither_written_nor_shrunk_nor_made_longer() -> None:
    descriptor = memory_file(b"for good")
    try:
        for change in (
            lambda: os.pwrite(descriptor, b"!", 0),
            lambda: os.pwrite(descriptor, b"!", 8),
            lambda: os.truncate(descriptor, 3),
            lambda: os.truncate(descriptor, 300),
        ):
            with pytest.raises(PermissionError):
                change()
        assert os.pread(descriptor, 100, 0) == b"for good"
    finally:
        os.close(descriptor)


def test_numbers_of_consecutive_datagrams_join_up() -> None:
    parts = opened_orders(pack_orders(1, jobs(*[HALF] * 40)))
    assert len(parts) > 10
    assert all(one.first + len(one.jobs) == next_one.first for one, next_one in pairwise(parts))
