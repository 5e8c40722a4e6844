"""A worker's end of the socketpair to its node: one datagram a message, large bodies beside it.

Both ends use these functions. A SEQPACKET socket keeps datagrams whole, so that the node can take one back
out of the worker's end before the worker reads it (docs/decisions/0002).
"""

import array
import errno
import fcntl
import mmap
import os
import socket
from collections.abc import Sequence
from typing import Final

import msgspec

from mesh.wire.messages import Failed, Lost, Reject, Result, Submit
from meshnode.core.orders import Call, End, Orders, Ran
from meshnode.worker.shelf import Shelf

BUFFER: Final = 208 * 1024
"""Bytes that Linux lets an unprivileged socket ask for as its buffer; it doubles them."""

DATAGRAM: Final = 160 * 1024
"""Bytes of one datagram at most: two fit into the buffer."""

SHELVED: Final = 32 * 1024
"""Bytes from which a body goes on the shelf: below, to look for its place costs as much as it saves."""

LARGE: Final = 128 * 1024
"""Bytes from which a body for which the shelf has no room travels in a memory file of its own: below, two copies cost
less than its system calls. What stands around a smaller one fits into the datagram with it."""

_encode: Final = msgspec.msgpack.Encoder().encode
decode_orders: Final = msgspec.msgpack.Decoder(Orders).decode
decode_ran: Final = msgspec.msgpack.Decoder(list[Ran]).decode
decode_call: Final = msgspec.msgpack.Decoder(Call).decode
decode_answer: Final = msgspec.msgpack.Decoder(Result | Failed | Reject | Lost).decode

_ANCILLARY: Final = socket.CMSG_SPACE(array.array("i").itemsize)

Packet = tuple[bytes, bytes | memoryview | None]
"""A datagram, and the large body that goes with it."""


def pack_orders(first: int, jobs: list[Submit], shelf: Shelf | None = None) -> list[Packet]:
    """Pack orders into datagrams: one if they fit. Bodies on the shelf have the orders' numbers as keys."""
    least = SHELVED if shelf else LARGE
    packets: list[Packet] = []
    for start, stop, large in _cuts(jobs, least):
        if large:
            packets.append(_large_order(first + start, jobs[start], shelf))
        else:
            packets += _small_orders(first + start, jobs[start:stop])
    return packets


def pack_ran(rans: list[Ran], shelf: Shelf | None = None) -> list[Packet]:
    """Pack outcomes into datagrams: one if they fit."""
    least = SHELVED if shelf else LARGE
    if not any(len(end.body) >= least for ran in rans for end in ran.ends):
        datagram = _encode(rans)
        if len(datagram) <= DATAGRAM:
            return [(datagram, None)]
    packets: list[Packet] = []
    for ran in rans:
        for start, stop, large in _cuts(ran.ends, least):
            if large:
                packets.append(_large_end(_part(ran, start, stop), shelf))
            else:
                packets += _small_ends(ran if stop - start == len(ran.ends) else _part(ran, start, stop))
    return packets


def pack_call(call: Call) -> Packet:
    """Pack a call that a job makes, or the answer to one, below."""
    job = call.job
    if len(job.body) < LARGE:
        return _encode(call), None
    return _encode(Call(call.seq, msgspec.structs.replace(job, body=b""))), job.body


def pack_answer(answer: Result | Failed | Reject | Lost) -> Packet:
    """Pack what came of a call that a job has made."""
    if isinstance(answer, (Result, Failed)) and len(answer.body) >= LARGE:
        return _encode(msgspec.structs.replace(answer, body=b"")), answer.body
    return _encode(answer), None


def _cuts(items: Sequence[Submit | End], least: int) -> list[tuple[int, int, bool]]:
    """Where to cut so that each with a body of so many bytes stands alone: from which to which, and is it such a one?

    One range at least.
    """
    cuts: list[tuple[int, int, bool]] = []
    begin = 0
    for n, item in enumerate(items):
        if len(item.body) >= least:
            if begin < n:
                cuts.append((begin, n, False))
            cuts.append((n, n + 1, True))
            begin = n + 1
    if begin < len(items) or not items:
        cuts.append((begin, len(items), False))
    return cuts


def _large_order(seq: int, job: Submit, shelf: Shelf | None) -> Packet:
    """Pack one with a large body: that lies on the shelf or goes beside it, or in it where it is not too large."""
    place = shelf.put(seq, job.body) if shelf else None
    if place is None and len(job.body) < LARGE:
        return _encode(Orders(seq, [job])), None
    datagram = _encode(Orders(seq, [msgspec.structs.replace(job, body=b"")], place))
    return datagram, job.body if place is None else None


def _large_end(ran: Ran, shelf: Shelf | None) -> Packet:
    """Pack one outcome with a large body, likewise. `ran` is changed: give it a copy."""
    (end,) = ran.ends
    place = ran.place = shelf.put_next(end.body) if shelf else None
    if place is None and len(end.body) < LARGE:
        return _encode([ran]), None
    ran.ends[0] = msgspec.structs.replace(end, body=b"")
    return _encode([ran]), end.body if place is None else None


def _small_orders(first: int, jobs: list[Submit]) -> list[Packet]:
    datagram = _encode(Orders(first, jobs))
    if len(datagram) <= DATAGRAM:
        return [(datagram, None)]
    cut = len(jobs) // 2
    return _small_orders(first, jobs[:cut]) + _small_orders(first + cut, jobs[cut:])


def _small_ends(ran: Ran) -> list[Packet]:
    datagram = _encode([ran])
    if len(datagram) <= DATAGRAM:
        return [(datagram, None)]
    cut = len(ran.ends) // 2
    return _small_ends(_part(ran, 0, cut)) + _small_ends(_part(ran, cut, len(ran.ends)))


def _part(ran: Ran, start: int, stop: int) -> Ran:
    """Return some of the outcomes with their share of the time that all took."""
    share = ran.spent * (stop - start) // len(ran.ends)
    return Ran(ran.first + start, share, ran.longest, ran.ends[start:stop])


def memory_file(body: bytes | memoryview) -> int:
    """Write a body to a memory file that nobody can change any more, and return its descriptor."""
    descriptor = os.memfd_create("meshnode-body", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        view = memoryview(body)
        while view:
            written = os.write(descriptor, view)
            view = view[written:]
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def read_memory_file(descriptor: int) -> bytes | memoryview:
    """Return what a memory file holds, and close it: mapped, not copied, where it cannot shrink under its reader."""
    try:
        size = os.fstat(descriptor).st_size
        if not size or fcntl.fcntl(descriptor, fcntl.F_GET_SEALS) & _SEALS != _SEALS:
            return os.pread(descriptor, size, 0)
        return memoryview(mmap.mmap(descriptor, size, mmap.MAP_PRIVATE | mmap.MAP_POPULATE, mmap.PROT_READ))
    finally:
        os.close(descriptor)


_SEALS: Final = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


def send(link: socket.socket, packet: Packet, flags: int = 0) -> None:
    """Send one datagram. Raises BlockingIOError if it does not fit now, OSError if the other end is gone."""
    datagram, large = packet
    if large is None:
        link.send(datagram, flags)
        return
    descriptor = memory_file(large)
    try:
        # Not socket.send_fds: it forgets the flags (Python 3.11), and would wait for room.
        rights = array.array("i", [descriptor])
        link.sendmsg([datagram], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)], flags)
    finally:
        os.close(descriptor)


class Receiver:
    """Receives datagrams into one buffer of its own, of which only what was ever used takes memory."""

    def __init__(self, size: int = DATAGRAM) -> None:
        self._buffer = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._view = memoryview(self._buffer)

    def receive(self, link: socket.socket, flags: int = 0) -> tuple[memoryview, int | None]:
        """Return one datagram (valid until the next call; empty at the end of stream) and its descriptor.

        Raises BlockingIOError if there is none now, and OSError if its descriptor could not be taken in.
        """
        size, ancillary, told, _ = link.recvmsg_into([self._buffer], _ANCILLARY, flags | socket.MSG_CMSG_CLOEXEC)
        descriptor: int | None = None
        for level, kind, content in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                descriptor = array.array("i", content[:4])[0]
        if told & socket.MSG_CTRUNC:
            raise OSError(errno.EMFILE, "no descriptor is free for a body")
        return self._view[:size], descriptor


def attach(items: "list[Submit] | list[End]", descriptor: int | None) -> None:
    """Give the one item of a datagram the large body that came beside it."""
    if descriptor is not None:
        body = read_memory_file(descriptor)
        if items:
            items[0].body = body
