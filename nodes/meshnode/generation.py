"""One zygote and the workers that it forks: they run the application as it was when the zygote imported it.

Shell: owns the control socket to the zygote and, for each worker, a socketpair of which it keeps both ends, so that
what the worker has not read can be taken back. Hence a worker's death is told by its pidfd and by the zygote.
"""

import asyncio
import logging
import os
import signal
import socket
import subprocess
import sys
from collections import deque
from contextlib import suppress

import msgspec

from mesh.errors import ConfigError
from mesh.wire.messages import TaskSpec
from meshnode.worker.link import BUFFER, Packet
from meshnode.worker.shelf import Shelf
from meshnode.worker.zygote import Config, Exited, Forked, Loaded, LoadFailed, NotForked, Order, Report, decode_report

log = logging.getLogger(__name__)


class Link:
    """One worker as its node holds it.

    `slot`: which of the node's workers it is; `place`: where its words and its `shelf` are. `replaces`: the worker that
    ends once this one is ready. `came` is resolved with None when it is ready, or with how it ended before. `ending`:
    it was told to end, `doomed`: it is killed on purpose, `surplus`: it goes since the node is to have fewer.
    `replaced`: its successor is on the way. `calls`: where calls come from that its jobs make of others; `answers` to
    them wait for room there.
    """

    __slots__ = (
        "answers", "blocked", "born", "called", "calls", "came", "doomed", "ending", "generation", "key", "ours",
        "outbox", "pid", "pidfd", "place", "ready", "replaced", "replaces", "shelf", "slot", "surplus", "theirs",
    )  # fmt: skip

    def __init__(self, generation: "Generation", key: int, slot: int, place: int, shelf: Shelf | None) -> None:
        loop = asyncio.get_running_loop()
        self.generation = generation
        self.key = key
        self.slot = slot
        self.place = place
        self.shelf = shelf
        self.born = loop.time()
        self.ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (self.ours, self.theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
        self.calls, self.called = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (self.calls, self.called):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
        self.outbox: deque[Packet] = deque()
        self.answers: deque[Packet] = deque()
        self.blocked = False
        self.doomed = False
        self.pid = 0
        self.pidfd = -1
        self.ready = False
        self.ending = False
        self.replaced = False
        self.surplus = False
        self.replaces: Link | None = None
        self.came: asyncio.Future[str | None] = loop.create_future()

    def settle(self, how: str | None) -> None:
        """It is ready (None), or has ended: how."""
        if not self.came.done():
            self.came.set_result(how)

    def signal(self, number: int) -> None:
        """Send it a signal, if it is there."""
        if self.pidfd >= 0:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.pidfd, number)

    def close(self) -> None:
        """Close all ends, and let go of what is shared."""
        for end in (self.ours, self.theirs, self.calls, self.called):
            end.close()
        if self.shelf is not None:
            self.shelf.clear()
            self.shelf = None
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1


class Generation:
    """A zygote. `loaded` comes to the tasks of the application, or to a ConfigError if it does not import.

    `has_shelves`: its workers share memory with the node. A zygote may be of another version than a node that was
    upgraded, or gone back with, where it lies and then reloaded; such as know no shelves are given none.
    """

    def __init__(self, config: Config, words_fd: int, shelves_fd: int) -> None:
        self.links: set[Link] = set()
        self.loaded: asyncio.Future[list[TaskSpec]] = asyncio.get_running_loop().create_future()
        self.has_shelves = False
        self._forking: deque[Link] = deque()
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # From the main thread: a parent-death signal follows the thread that forked.
        self._process = subprocess.Popen(
            [
                sys.executable, "-m", "meshnode.worker.zygote",
                str(theirs.fileno()), str(words_fd), str(os.getpid()), str(shelves_fd),
            ],
            pass_fds=(theirs.fileno(), words_fd, *([shelves_fd] if shelves_fd >= 0 else [])),
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
        theirs.close()
        self.control.send(msgspec.msgpack.encode(config))

    @property
    def is_loaded(self) -> bool:
        """Has the application been imported?"""
        return self.loaded.done() and not self.loaded.cancelled() and self.loaded.exception() is None

    def fork(self, link: Link) -> None:
        """Have a worker forked; its process id comes by a report."""
        self.links.add(link)
        self._forking.append(link)
        order = msgspec.msgpack.encode(Order(link.slot, link.place))
        try:
            socket.send_fds(self.control, [order], [link.theirs.fileno(), link.called.fileno()])
        except OSError:
            log.debug("the zygote is gone; its end is noticed on its own")
        link.called.close()

    def read(self) -> tuple[Report, Link | None] | None:
        """Read one report, with the worker that was forked if it is about that; None if the zygote is gone."""
        try:
            message, descriptors, _, _ = socket.recv_fds(self.control, 1 << 22, 1)  # there is one: epoll said so
        except ConnectionError:
            return None
        if not message:
            return None
        report: Report = decode_report(message)
        link = None
        match report:
            case Loaded():
                self.has_shelves = report.shelves
                self.loaded.set_result(report.tasks)
            case LoadFailed():
                self.loaded.set_exception(ConfigError(report.text))
            case Forked():
                link = self._forking.popleft()
                link.pid = report.pid
                if descriptors:
                    link.pidfd = descriptors[0]
                else:  # no descriptor was free for it: a worker whose end cannot be seen is none; its zygote tells it
                    os.kill(report.pid, signal.SIGKILL)
            case NotForked():
                link = self._forking.popleft()
            case Exited():
                pass
        return report, link

    def lost(self) -> int:
        """It has ended by itself: return its exit code."""
        self._forking.clear()
        self.control.close()
        return self._process.wait()

    def close(self) -> None:
        """End the zygote, and with it whatever worker is left."""
        self.control.close()
        self._process.kill()
        self._process.wait()
        if not self.loaded.done():
            self.loaded.cancel()
        elif not self.loaded.cancelled():
            self.loaded.exception()  # seen
