"""A worker's end of the socketpair to its node: one datagram a message, memory files for large bodies.

Both ends use these functions. A SEQPACKET socket keeps datagrams whole, so that the node can take one back
out of the worker's end before the worker reads it (docs/decisions).
"""

import array
import os
import socket
from collections.abc import Sequence
from typing import Any

import msgspec

from meshnode.core.orders import Order, Outcome

DATAGRAM = 64 * 1024
"""Bytes of one datagram at most: well below the 208 KiB that Linux lets an unprivileged socket buffer."""

LARGE = 48 * 1024
"""Bytes from which a body travels in a memory file of its own."""

_encode = msgspec.msgpack.Encoder().encode
decode_orders = msgspec.msgpack.Decoder(list[Order]).decode
decode_outcomes = msgspec.msgpack.Decoder(list[Outcome]).decode

_ANCILLARY = socket.CMSG_SPACE(array.array("i").itemsize)

Packet = tuple[bytes, bytes | memoryview | None]
"""A datagram, and the large body that goes with it."""


def packets(parts: Sequence[Order] | Sequence[Outcome]) -> list[Packet]:
    """Pack orders or outcomes into datagrams: together while they fit, a large body alone."""
    done: list[Packet] = []
    group: list[Any] = []
    size = 0
    for part in parts:
        length = len(part.body or b"")
        if group and (size + length > DATAGRAM - 4096 or length >= LARGE):
            done.append((_encode(group), None))
            group, size = [], 0
        if length >= LARGE:
            large, part.body = part.body, None
            done.append((_encode([part]), large))
        else:
            group.append(part)
            size += length + _OVERHEAD
    if group:
        done.append((_encode(group), None))
    return done


_OVERHEAD = 64
"""Bytes of an order or outcome beside its body, at most."""


def memory_file(body: bytes | memoryview) -> int:
    """Write a body to a memory file and return its descriptor."""
    descriptor = os.memfd_create("meshnode-body", os.MFD_CLOEXEC)
    try:
        view = memoryview(body)
        while view:
            view = view[os.write(descriptor, view) :]
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def read_memory_file(descriptor: int) -> bytes:
    """Read a memory file whole and close it."""
    try:
        size = os.fstat(descriptor).st_size
        return os.pread(descriptor, size, 0)
    finally:
        os.close(descriptor)


def send(link: socket.socket, packet: Packet, flags: int = 0) -> None:
    """Send one datagram. Raises BlockingIOError if it does not fit now, OSError if the other end is gone."""
    datagram, large = packet
    if large is None:
        link.send(datagram, flags)
        return
    descriptor = memory_file(large)
    try:
        socket.send_fds(link, [datagram], [descriptor], flags)
    finally:
        os.close(descriptor)


class Receiver:
    """Receives datagrams into one buffer of its own."""

    def __init__(self, size: int = 4 * DATAGRAM) -> None:
        self._buffer = bytearray(size)
        self._view = memoryview(self._buffer)

    def receive(self, link: socket.socket, flags: int = 0) -> tuple[memoryview, int | None]:
        """Return one datagram (valid until the next call; empty at the end of stream) and its descriptor.

        Raises BlockingIOError if there is none now.
        """
        size, ancillary, _, _ = link.recvmsg_into([self._buffer], _ANCILLARY, flags | socket.MSG_CMSG_CLOEXEC)
        descriptor: int | None = None
        for level, kind, content in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                descriptor = array.array("i", content[:4])[0]
        return self._view[:size], descriptor


def attach(parts: "list[Order] | list[Outcome]", descriptor: int | None) -> None:
    """Give the one part of a datagram the large body that came beside it."""
    if descriptor is not None:
        body = read_memory_file(descriptor)
        if parts:
            parts[0].body = body
