"""The zygote and its workers: starts them, passes orders and outcomes, notices deaths, replaces the dead.

Shell: owns the control socket to the zygote and one socketpair a worker. It keeps the worker's end of each
open too, so that it can take back what the worker has not read; hence a worker's death is told by its pidfd
and by the zygote, never by the end of the stream.
"""

import asyncio
import logging
import mmap
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress

import msgspec

from mesh.errors import ConfigError
from mesh.wire.messages import Submit, TaskSpec
from meshnode.core.events import Ended, Event, TakenBack, WorkerLost, WorkerReady
from meshnode.core.orders import Orders
from meshnode.core.respawn import Respawn
from meshnode.worker.link import (
    BUFFER,
    Packet,
    Receiver,
    attach,
    decode_orders,
    decode_ran,
    pack_orders,
    send,
)
from meshnode.worker.zygote import Config, Exited, Forked, Loaded, LoadFailed, Report, decode_report

log = logging.getLogger(__name__)

BURST = 16
"""Datagrams taken from one worker in one turn."""

MANY = 32
"""Outcomes in a datagram that say that its worker is in the midst of many."""

END = msgspec.msgpack.encode(Orders(0, []))
"""Orders without jobs: end when you have done what you have."""

_CAUSE_S = 0.05
"""Seconds that a death waits for its cause, which the zygote reports; it ends the jobs without it then."""

_DEATHS_S = 1.0
"""Seconds for which the loop waits for workers that were killed, all together; it takes milliseconds."""


class Link:
    """One worker as the supervisor holds it."""

    __slots__ = ("blocked", "born", "key", "ours", "outbox", "pid", "pidfd", "ready", "slot", "theirs")

    def __init__(self, key: int, slot: int, born: float) -> None:
        self.key = key
        self.slot = slot
        self.born = born
        self.ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (self.ours, self.theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
        self.outbox: deque[Packet] = deque()
        self.blocked = False
        self.pid = 0
        self.pidfd = -1
        self.ready = False

    def close(self) -> None:
        """Close both ends."""
        self.ours.close()
        self.theirs.close()
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1


class Supervisor:
    """Keeps `slots` workers at work. `turn` is called with the events of each turn.

    `on_failed` is called with the reason when the application can no longer be run at all.
    """

    def __init__(
        self,
        config: Config,
        *,
        turn: Callable[[list[Event]], None],
        on_failed: Callable[[str], None],
    ) -> None:
        self._config = config
        self._turn = turn
        self._on_failed = on_failed
        self._loop = asyncio.get_running_loop()
        words_fd = os.memfd_create("meshnode-words", os.MFD_CLOEXEC)
        os.truncate(words_fd, 8 * config.slots)
        self._words_fd = words_fd
        self._words = memoryview(mmap.mmap(words_fd, 8 * config.slots)).cast("Q")
        self._epoll = select.epoll()
        self._receiver = Receiver()
        self._links: dict[int, Link] = {}
        self._by_descriptor: dict[int, Link] = {}
        self._by_pid: dict[int, Link] = {}
        self._forking: deque[Link] = deque()
        self._respawn = Respawn()
        self._timers: set[asyncio.TimerHandle] = set()
        self._last_key = 0
        self._stopping = False
        self._zygote: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._catalogue: list[TaskSpec] | None = None
        self._loaded: asyncio.Future[list[TaskSpec]] = self._loop.create_future()
        self._ready = asyncio.Event()
        self._none_left = asyncio.Event()

    # starting

    async def load(self) -> list[TaskSpec]:
        """Start the zygote and return the tasks of the application. Raises ConfigError if it does not import."""
        self._loop.add_reader(self._epoll.fileno(), self._readable)
        self._start_zygote()
        return await self._loaded

    async def start_workers(self) -> None:
        """Fork all workers, and return when every one has set up. Raises ConfigError if one cannot."""
        for slot in range(self._config.slots):
            self._fork(slot)
        failed = self._loop.create_future() if self._loaded.done() else self._loaded
        self._loaded = failed
        ready = asyncio.ensure_future(self._ready.wait())
        await asyncio.wait((ready, failed), return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        if failed.done():
            failed.result()
        failed.cancel()  # nobody waits for it any more: what fails from now on goes to `on_failed`

    def _start_zygote(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # From the main thread: a parent-death signal follows the thread that forked.
        self._zygote = subprocess.Popen(
            [
                sys.executable, "-m", "meshnode.worker.zygote",
                str(theirs.fileno()), str(self._words_fd), str(os.getpid()),
            ],
            pass_fds=(theirs.fileno(), self._words_fd),
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
        theirs.close()
        ours.send(msgspec.msgpack.encode(self._config))
        self._control = ours
        self._epoll.register(ours.fileno(), select.EPOLLIN)

    def _fork(self, slot: int) -> None:
        assert self._control is not None
        self._last_key += 1
        link = Link(self._last_key, slot, self._loop.time())
        self._words[slot] = 0
        self._links[link.key] = link
        self._forking.append(link)
        self._by_descriptor[link.ours.fileno()] = link
        self._epoll.register(link.ours.fileno(), select.EPOLLIN)
        try:
            socket.send_fds(self._control, [slot.to_bytes(4, "little")], [link.theirs.fileno()])
        except OSError:
            log.debug("the zygote is gone; its end is noticed on its own")

    # turns

    def _readable(self) -> None:
        events: list[Event] = []
        for descriptor, what in self._epoll.poll(0, 512):
            link = self._by_descriptor.get(descriptor)
            if link is None:
                if self._control is not None and descriptor == self._control.fileno():
                    self._take_report(events)
            elif descriptor == link.pidfd:
                self._epoll.unregister(descriptor)
                del self._by_descriptor[descriptor]
                self._later(_CAUSE_S, self._bury_late, link)
            else:
                if what & select.EPOLLOUT:
                    self._send_waiting(link)
                if what & select.EPOLLIN:
                    self._take_outcomes(link, events)
        if events:
            self._turn(events)

    def _take_outcomes(self, link: Link, events: list[Event], *, most: int = BURST) -> None:
        """Read what a worker has sent: all if `most` is more than a burst, else as long as much comes."""
        for _ in range(most):
            try:
                datagram, descriptor = self._receiver.receive(link.ours, socket.MSG_DONTWAIT)
            except (BlockingIOError, ConnectionError):
                return
            except OSError as error:
                self._give_up(link, error)
                return
            if not datagram:
                return
            ran = decode_ran(datagram)
            if ran:
                attach(ran[0].ends, descriptor)
                events.append(Ended(link.key, ran))
                if most <= BURST and len(ran[-1].ends) < MANY:
                    return  # it has hardly sent more; to be refused costs more than to be told again if it has
            else:
                self._worker_ready(link, events)

    def _worker_ready(self, link: Link, events: list[Event]) -> None:
        link.ready = True
        events.append(WorkerReady(link.key))
        if all(one.ready for one in self._links.values()) and len(self._links) == self._config.slots:
            self._ready.set()

    def dispatch(self, key: int, first: int, jobs: list[Submit]) -> None:
        """Write orders to a worker's socket, or to its outbox while that is full."""
        link = self._links.get(key)
        if link is None:
            return  # it died in this turn; its orders come back with its end
        link.outbox.extend(pack_orders(first, jobs))
        if not link.blocked:
            self._send_waiting(link)

    def _send_waiting(self, link: Link) -> None:
        """Send what waits for a worker, as far as its socket has room."""
        blocked = False
        while link.outbox:
            try:
                send(link.ours, link.outbox[0], socket.MSG_DONTWAIT)
            except BlockingIOError:
                blocked = True
                break
            except ConnectionError:
                link.outbox.clear()  # its death is on the way
                break
            except OSError as error:
                link.outbox.clear()
                self._give_up(link, error)
                break
            link.outbox.popleft()
        if blocked is not link.blocked:
            link.blocked = blocked
            self._epoll.modify(link.ours.fileno(), select.EPOLLIN | (select.EPOLLOUT if blocked else 0))

    def taken_up(self, key: int) -> int:
        """Return the number of the last order that a worker has taken up, as it says in shared memory."""
        link = self._links.get(key)
        return 0 if link is None else self._words[link.slot]

    def take_back(self, key: int) -> list[Event]:
        """Take the orders out of a worker's socket that it has not read, and have it send what has ended."""
        link = self._links.get(key)
        if link is None:
            return []
        seqs = [seq for packet in link.outbox for seq in _numbers(packet[0])]
        link.outbox.clear()
        taken: list[int] = []
        while True:
            try:
                datagram, descriptor = self._receiver.receive(link.theirs, socket.MSG_DONTWAIT)
            except (BlockingIOError, ConnectionError):
                break
            except OSError as error:
                self._give_up(link, error)
                break
            if not datagram:
                break
            if descriptor is not None:
                os.close(descriptor)
            taken += _numbers(datagram)
        if link.pidfd >= 0:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(link.pidfd, signal.SIGURG)
        seqs = taken + seqs
        return [TakenBack(key, seqs)] if seqs else []

    # deaths

    def _take_report(self, events: list[Event]) -> None:
        assert self._control is not None
        try:
            message, descriptors, _, _ = socket.recv_fds(self._control, 1 << 22, 1)  # there is one: epoll said so
        except ConnectionError:
            message, descriptors = b"", []
        if not message:
            self._zygote_lost(events)
            return
        report: Report = decode_report(message)
        match report:
            case Loaded():
                self._take_catalogue(report.tasks)
            case LoadFailed():
                self._fail(report.text)
            case Forked():
                self._forked(report, descriptors[0])
            case Exited():
                link = self._by_pid.get(report.pid)
                if link is not None:
                    self._bury(link, cause(report.status), events)

    def _take_catalogue(self, tasks: list[TaskSpec]) -> None:
        if self._catalogue is None:
            self._catalogue = tasks
            self._loaded.set_result(tasks)
        elif tasks != self._catalogue:
            self._fail("the application serves other tasks than when this node started; start it anew")
        else:
            for slot in range(self._config.slots):
                self._fork(slot)

    def _forked(self, report: Forked, pidfd: int) -> None:
        link = self._forking.popleft()
        link.pid, link.pidfd = report.pid, pidfd
        self._by_pid[report.pid] = link
        self._by_descriptor[pidfd] = link
        self._epoll.register(pidfd, select.EPOLLIN)

    def _bury_late(self, link: Link) -> None:
        if link.key in self._links:
            events: list[Event] = []
            self._bury(link, "its worker died", events)
            self._turn(events)

    def _bury(self, link: Link, text: str, events: list[Event]) -> None:
        """A worker is dead: read what it had sent, end what it had taken up, start another."""
        self._take_outcomes(link, events, most=sys.maxsize)
        started = self._words[link.slot]
        self._drop(link)
        if link.ready:
            events.append(WorkerLost(link.key, started, text))
        if self._stopping:
            if not self._links:
                self._none_left.set()
            return
        lived = self._loop.time() - link.born
        if not link.ready and not self._ready.is_set():
            self._fail(f"a worker cannot set up ({text}); its traceback stands above")
            return
        delay = self._respawn.delay(link.slot, lived)
        log.warning(
            "worker %d (process %d) ended: %s; %s", link.slot, link.pid, text,
            f"another starts in {delay:.1f} s" if delay else "another starts",
        )  # fmt: skip
        if delay:
            self._later(delay, self._fork_again, link.slot)
        else:
            self._fork(link.slot)

    def _fork_again(self, slot: int) -> None:
        if not self._stopping and self._control is not None:
            self._fork(slot)

    def _drop(self, link: Link) -> None:
        del self._links[link.key]
        self._by_pid.pop(link.pid, None)
        self._epoll.unregister(link.ours.fileno())
        del self._by_descriptor[link.ours.fileno()]
        if link.pidfd >= 0 and self._by_descriptor.pop(link.pidfd, None) is not None:
            self._epoll.unregister(link.pidfd)
        link.close()

    def _zygote_lost(self, events: list[Event]) -> None:
        """Its workers die with it: end their jobs, after what had come of them in this turn, and start another."""
        assert self._control is not None
        assert self._zygote is not None
        self._epoll.unregister(self._control.fileno())
        self._control.close()
        self._control = None
        status = self._zygote.wait()
        if self._stopping:
            return
        if self._catalogue is None or not self._ready.is_set():
            self._fail(f"the process that imports the application ended ({cause_of_exit(status)})")
            return
        log.error("the zygote ended (%s), its workers with it; another starts", cause_of_exit(status))
        self.kill()
        self._await_deaths()
        for link in list(self._links.values()):
            self._take_outcomes(link, events, most=sys.maxsize)
            if link.ready:
                events.append(WorkerLost(link.key, self._words[link.slot], "its zygote died"))
            self._drop(link)
        self._forking.clear()
        for timer in self._timers:
            timer.cancel()  # successors that were due: the next zygote starts a worker for every slot
        self._timers.clear()
        self._later(self._respawn.delay(-1, 0.0), self._start_zygote)

    def _await_deaths(self) -> None:
        """Wait until killed workers are no more: until then one may still take up an order that is to run elsewhere."""
        deadline = time.monotonic() + _DEATHS_S
        for link in self._links.values():
            if link.pidfd >= 0:
                poll = select.poll()
                poll.register(link.pidfd, select.POLLIN)
                poll.poll(max(0.0, deadline - time.monotonic()) * 1000)

    def _fail(self, text: str) -> None:
        if not self._loaded.done():
            self._loaded.set_exception(ConfigError(text))
        elif not self._stopping:
            self._on_failed(text)

    def _later(self, delay: float, function: Callable[..., None], *arguments: object) -> None:
        def run() -> None:
            self._timers.discard(handle)
            function(*arguments)

        handle = self._loop.call_later(delay, run)
        self._timers.add(handle)

    # stopping

    async def stop(self, grace: float) -> None:
        """End all workers in order, and kill those that are still there after `grace` seconds."""
        self._stopping = True
        for link in list(self._links.values()):
            link.outbox.append((END, None))
            self._send_waiting(link)
        await self._wait_until_none_left(grace)
        self.kill()
        await self._wait_until_none_left(2.0)

    async def _wait_until_none_left(self, timeout: float) -> None:
        if self._links and self._control is not None:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._none_left.wait(), timeout)

    def kill(self) -> None:
        """Kill what is left of the workers."""
        for link in self._links.values():
            self._kill(link)

    def _give_up(self, link: Link, error: OSError) -> None:
        """No descriptor or no memory is left for a body: replace the worker, so that its orders go to others."""
        log.error("worker %d (process %d) cannot be reached (%s): it is replaced", link.slot, link.pid, error.strerror)
        self._kill(link)

    def _kill(self, link: Link) -> None:
        if link.pidfd >= 0:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(link.pidfd, signal.SIGKILL)

    def close(self) -> None:
        """End the zygote, and with it whatever worker is left; release everything."""
        self._stopping = True
        for timer in self._timers:
            timer.cancel()
        self._loop.remove_reader(self._epoll.fileno())
        for link in list(self._links.values()):
            self._drop(link)
        if self._control is not None:
            self._control.close()
        if self._zygote is not None:
            self._zygote.kill()
            self._zygote.wait()
        self._epoll.close()
        words = self._words.obj
        self._words.release()
        del words
        os.close(self._words_fd)


def _numbers(datagram: bytes | memoryview) -> range:
    """The numbers of the orders in a datagram."""
    orders = decode_orders(datagram)
    return range(orders.first, orders.first + len(orders.jobs))


def cause(status: int) -> str:
    """Say in words how a worker ended, from its wait status."""
    return f"its worker {cause_of_exit(os.waitstatus_to_exitcode(status))}"


def cause_of_exit(code: int) -> str:
    """Say in words how a process ended: `killed by SIGKILL`, `exited with status 3`."""
    if code >= 0:
        return f"exited with status {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    hint = " (out of memory?)" if name == "SIGKILL" else ""
    return f"was killed by {name}{hint}"
