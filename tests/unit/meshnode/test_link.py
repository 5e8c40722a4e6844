"""Orders and outcomes in datagrams: what lies together, what is split, and that nothing gets lost on the way."""

import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import pairwise

import msgspec
import pytest

from mesh.wire.messages import Failed, Options, Result, Submit
from meshnode.core.orders import End, Orders, Ran
from meshnode.worker.link import (
    DATAGRAM,
    LARGE,
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

BIG = LARGE - 1
"""The size of the largest body that is no large one."""


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
        (one,) = decode_ran(datagram)
        attach(one.ends, None if large is None else memory_file(large))
        read.append(one)
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
    [20_000] * 9,
    [1000] * 500,
    [LARGE, *[20_000] * 5, LARGE, BIG, LARGE, 0, BIG],
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
    sizes = [100] * 400
    assert len(pack_orders(1, jobs(*sizes))) == len(pack_ran([ran(*sizes)])) == 1


def test_what_is_a_byte_too_long_lies_in_two() -> None:
    spare = DATAGRAM - len(pack_orders(1, jobs(30_000, 30_000))[0][0])
    assert len(pack_orders(1, jobs(30_000, 30_000 + spare))) == 1
    assert [len(orders.jobs) for orders in opened_orders(pack_orders(1, jobs(30_000, 30_001 + spare)))] == [1, 1]
    spare = DATAGRAM - len(pack_ran([ran(30_000, 30_000)])[0][0])
    assert len(pack_ran([ran(30_000, 30_000 + spare)])) == 1
    assert [len(one.ends) for one in opened_ran(pack_ran([ran(30_000, 30_001 + spare)]))] == [1, 1]


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
    whole = Ran(1, 1001, 900, ran(*[20_000] * 7).ends)
    parts = opened_ran(pack_ran([whole]))
    assert len(parts) > 1
    assert 1001 - 2 * len(parts) < sum(part.spent for part in parts) <= 1001
    assert all(part.longest == 900 for part in parts)


def test_packing_leaves_the_outcomes_as_they_are() -> None:
    whole = ran(0, LARGE, 20_000, BIG, BIG)
    pack_ran([whole])
    assert whole == ran(0, LARGE, 20_000, BIG, BIG)


def test_orders_without_jobs_are_one_datagram() -> None:
    assert [decode_orders(datagram) for datagram, _ in pack_orders(0, [])] == [Orders(0, [])]


# through a socket


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        yield ours, theirs


def descriptors() -> list[str]:
    return sorted(os.listdir("/proc/self/fd"))


def test_packets_come_through_a_socket_whole_and_leave_no_descriptor_open(
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
    assert descriptors() == before


@pytest.mark.timeout(5)
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


def test_a_body_comes_back_from_its_memory_file_as_it_was() -> None:
    body = bytes(range(256)) * 5000
    assert read_memory_file(memory_file(body)) == body
    assert read_memory_file(memory_file(b"")) == b""


def test_numbers_of_consecutive_datagrams_join_up() -> None:
    parts = opened_orders(pack_orders(1, jobs(*[20_000] * 40)))
    assert len(parts) > 10
    assert all(one.first + len(one.jobs) == next_one.first for one, next_one in pairwise(parts))
