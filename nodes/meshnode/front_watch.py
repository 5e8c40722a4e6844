"""Ends connections of the front that send a message without an end, which libzmq holds as long as there is memory.

Shell: reads from the kernel what each connection has brought, and how large this process is. Who is to be ended is
judged in `core/unfinished.py`.
"""

import asyncio
import ctypes
import logging
import os
import socket
import stat
import struct
import time
from collections.abc import Callable
from contextlib import suppress

import zmq

from mesh.wire.codec import HEADER_LIMIT
from meshnode.core.unfinished import Key, Unfinished

log = logging.getLogger(__name__)

LOOK_S = 0.15
"""Seconds between two looks at this process's memory. To wake up for one costs more than the look itself; a peer on
this host may bring two gigabytes a second and more."""

AGAIN_S = 0.02
"""The same while it has grown or somebody is suspected: the second or third look ends a connection."""

TRIM_S = 1.0
"""Seconds until what an ended connection had taken is given back to the system: ZeroMQ has to free it first."""

SPARED = 20
"""So many times as much CPU as a look has taken the next one waits, since it takes more with many connections."""

BUFFERED = 8 << 20
"""Bytes that the kernel may hold of one connection: they count as received, and are not in memory yet."""

_HEARD_IDS = 32_768
"""Routing ids remembered at most between two looks; those of connections that are gone are among them."""

_WARN_EVERY_S = 60.0
_PAGE = os.sysconf("SC_PAGE_SIZE")
_BYTES_RECEIVED = struct.Struct("=128xQ")
"""`tcpi_bytes_received` in the kernel's `struct tcp_info` (linux/tcp.h, since 4.1)."""

_NOWHERE = struct.pack("=H14x", socket.AF_UNSPEC)
_libc = ctypes.CDLL(None, use_errno=True)


class FrontWatch:
    """Watches the connections accepted at `port`. `most`: bytes of the largest body that a message may carry.

    `waits` tells whether a whole message has arrived that is not read. The front calls `hear` with the first message of
    each routing id that is not in `heard`, and counts messages and their bytes in `taken` and `whole`.
    """

    def __init__(self, *, port: int, most: int, waits: Callable[[], bool]) -> None:
        self.heard: set[bytes] = set()
        self.taken = 0
        self.whole = 0
        self.ended = 0
        self._waits = waits
        self._port = port
        self._loop = asyncio.get_running_loop()
        self._statm = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
        self._unfinished = Unfinished(most=most + HEADER_LIMIT + BUFFERED, memory=_memory(self._statm))
        self._descriptors: set[int] = set()
        self._others: dict[int, int] = {}
        self._ours: dict[int, int] = {}
        self._taken_before = 0
        self._trim_at: float | None = None
        self._warned_at = -_WARN_EVERY_S
        self._timer = self._loop.call_later(LOOK_S, self._look)

    def hear(self, routing_id: bytes, frame: zmq.Frame) -> None:
        """Note that a whole message has come over the connection that this frame is from."""
        if len(self.heard) >= _HEARD_IDS:
            self.heard.clear()
        self.heard.add(routing_id)
        with suppress(zmq.ZMQError):  # a peer of ZMTP 1 or 2: libzmq does not say where its frames are from
            self._descriptors.add(int(frame.get(zmq.SRCFD)))

    def close(self) -> None:
        """Look no more."""
        self._timer.cancel()
        os.close(self._statm)

    def _look(self) -> None:
        began = time.thread_time()  # on a busy machine a look may have to wait, and costs no more for that
        worth = False
        try:
            worth = self._unfinished.worth_a_look(_memory(self._statm), self.whole)
            if worth:
                self._look_at_connections()
        except OSError:  # no descriptor is left to look with: the next look comes all the same
            log.debug("cannot look at connections now", exc_info=True)
        if self._trim_at is not None and self._loop.time() >= self._trim_at:
            self._trim_at = None
            _trim()
        spent = time.thread_time() - began
        delay = AGAIN_S if worth else LOOK_S
        self._timer = self._loop.call_later(max(delay, SPARED * spent), self._look)

    def _look_at_connections(self) -> None:
        received = self._received()
        # ZeroMQ serves connections in turns, so after so many messages each that had a whole one was heard.
        settled = self.taken - self._taken_before > len(received) or not self._waits()
        ended = self._unfinished.look(received, self._descriptors, settled=settled)
        self._taken_before = self.taken
        self.heard.clear()
        self._descriptors.clear()
        for key, size in ended.items():
            self._end(key, size)

    def _received(self) -> dict[Key, int]:
        """What each connection of the front has brought."""
        received: dict[Key, int] = {}
        others: dict[int, int] = {}
        ours: dict[int, int] = {}
        for name in os.listdir("/proc/self/fd"):
            descriptor = int(name)
            try:
                status = os.fstat(descriptor)
            except OSError:  # closed meanwhile: ZeroMQ's thread goes on while this one looks
                continue
            if not stat.S_ISSOCK(status.st_mode) or self._others.get(descriptor) == status.st_ino:
                others[descriptor] = status.st_ino
                continue
            known = self._ours.get(descriptor) == status.st_ino
            size = _received(descriptor, None if known else self._port)
            if size is None:
                others[descriptor] = status.st_ino
            else:
                ours[descriptor] = status.st_ino
                received[descriptor, status.st_ino] = size
        self._others, self._ours = others, ours
        return received

    def _end(self, key: Key, size: int) -> None:
        """Reset the connection, and drop what the kernel holds of it: libzmq would read that first."""
        try:
            own = os.dup(key[0])
        except OSError:
            return
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM, fileno=own) as connection:
            if os.fstat(own).st_ino != key[1]:
                return
            try:
                peer = connection.getpeername()[0]
            except OSError:
                return
            _libc.connect(own, _NOWHERE, len(_NOWHERE))  # as connect(2) says: an AF_UNSPEC address dissolves it
        self.ended += 1
        self._trim_at = self._loop.time() + TRIM_S
        if self._loop.time() - self._warned_at >= _WARN_EVERY_S:
            self._warned_at = self._loop.time()
            log.warning("%s sends a message without an end, %d KiB so far: its connection is closed", peer, size >> 10)


def _received(descriptor: int, port: int | None) -> int | None:
    """Bytes that a connection has received; None if it is none, or was not accepted at this port."""
    borrowed = socket.socket(socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP, fileno=descriptor)
    try:
        if port is not None:
            name = borrowed.getsockname()
            if not isinstance(name, tuple) or name[1] != port:
                return None
            if borrowed.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                return None
        found = borrowed.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_RECEIVED.size)
        size: int = _BYTES_RECEIVED.unpack(found)[0]
        return size
    except (OSError, struct.error):
        return None
    finally:
        borrowed.detach()


def _memory(statm: int) -> int:
    """Bytes of memory that this process has, by its open `/proc/self/statm`."""
    return int(os.pread(statm, 128, 0).split()[1]) * _PAGE


def _trim() -> None:
    """Give back to the system what was freed; glibc keeps it otherwise, hundreds of megabytes (measured)."""
    trim = getattr(_libc, "malloc_trim", None)
    if trim is not None:
        trim(0)
