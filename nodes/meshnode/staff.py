"""The workers of a node, and the zygotes that fork them: what they say, what they are told, who replaces them. Shell.

They stand apart from `meshnode.supervisor`, which waits for them to start and to end, since this is compiled
(docs/decisions/0011).
"""

import asyncio
import logging
import mmap
import os
import random
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from itertools import count
from typing import Final

import msgspec
from mypy_extensions import mypyc_attr

from mesh.errors import ConfigError
from mesh.wire.messages import Failed, Lost, NodeItem, Reject, Result, Submit, TaskSpec
from meshnode.core.events import Called, Ended, Event, Retired, SpareLost, TakenBack, WorkerLost, WorkerReady
from meshnode.core.orders import Orders, Ran
from meshnode.core.respawn import Respawn
from meshnode.generation import Generation, Link
from meshnode.system import own_memory
from meshnode.worker.link import (
    Receiver,
    attach,
    decode_call,
    decode_orders,
    decode_ran,
    pack_answer,
    pack_orders,
    send,
)
from meshnode.worker.shelf import STRETCH, Shelf, shelf_file
from meshnode.worker.zygote import WORDS, Config, Exited, Forked, Loaded, LoadFailed, NotForked

log = logging.getLogger(__name__)

BURST: Final = 16
"""Datagrams taken from one worker in one turn."""

BURST_BYTES: Final = 256 * 1024
"""The same in bytes: others are not to wait for a worker whose results are large."""

MANY: Final = 32
"""Outcomes in a datagram that say that its worker is in the midst of many."""

END: Final = msgspec.msgpack.encode(Orders(0, []))
"""Orders without jobs: end when you have done what you have."""

INTERRUPT_S: Final = 0.05
"""Seconds after which a worker that has not heeded that it is to stop a job is signalled again."""

SPARE_AGAIN_S: Final = 0.1
FORK_AGAIN_S: Final = 1.0
"""Seconds after which what could not be forked is tried again."""

_CAUSE_S: Final = 0.25
"""Seconds that a death waits for its cause, which the zygote reports; it ends the jobs without it then. It came in time
for all of 300 workers that were killed on two CPUs with a load of three."""

SHELVES_S: Final = 1.0
"""Seconds for which a shelf keeps its memory at least after the last large body."""

MEMORY_S: Final = 2.0
"""Seconds between two looks at the workers' memory."""

PLACES: Final = 4
"""Places for each worker that there may be: its own, a spare one's, and a successor's of both."""


_DEATHS_S: Final = 1.0
"""Seconds for which the loop waits for workers that were killed, all together; it takes milliseconds."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Staff:
    """The workers as far as nobody waits for them: what they say and are told, how they end, who replaces them."""

    def __init__(
        self,
        config: Config,
        *,
        slots: int,
        turn: Callable[[list[Event]], None],
        on_served: Callable[[list[TaskSpec]], None],
        job_at: Callable[[int, int], Submit | None] = lambda worker, seq: None,
        max_jobs: int | None = None,
        jitter: int = 0,
        max_memory: int | None = None,
    ) -> None:
        self.unhealthy: str | None = None
        self.died = self.killed = self.recycled = 0
        self.slots = slots
        self.most = config.places // PLACES
        self.exits: dict[int, str] = {}
        self._config = config
        self._turn = turn
        self._on_served = on_served
        self._job_at = job_at
        self._max_jobs = max_jobs
        self._jitter = jitter
        self._max_memory = max_memory
        self._loop = asyncio.get_running_loop()
        size = 8 * WORDS * config.places
        self._words_fd = os.memfd_create("meshnode-words", os.MFD_CLOEXEC)
        os.truncate(self._words_fd, size)
        self._words = memoryview(mmap.mmap(self._words_fd, size)).cast("Q")
        self._shelves_fd = -1
        self._shelves: mmap.mmap | None = None
        self._make_shelves()
        self._tidying = False
        self._places = list(range(config.places))[::-1]
        self._epoll = select.epoll()
        self._receiver = Receiver()
        self._links: dict[int, Link] = {}
        self._by_descriptor: dict[int, Link] = {}
        self._by_control: dict[int, Generation] = {}
        self._by_pid: dict[int, Link] = {}
        self._at: dict[int, Link] = {}
        self._respawn = Respawn()
        self._timers: set[asyncio.TimerHandle] = set()
        self._last_key = 0
        self._stopping = False
        self._generation: Generation | None = None
        self._tasks: list[TaskSpec] = []
        self._staffed = False
        self._ready = asyncio.Event()
        self._none_left = asyncio.Event()

    def _make_shelves(self) -> None:
        """Make the memory that is shared with workers; without it a node serves too."""
        places = self._config.places
        try:
            self._shelves_fd = shelf_file(places)
            self._shelves = mmap.mmap(self._shelves_fd, places * STRETCH)
        except OSError as error:
            if self._shelves_fd >= 0:
                os.close(self._shelves_fd)
                self._shelves_fd = -1
            text = "large bodies go to workers by files, which takes longer: no memory can be shared with them (%s)"
            log.warning(text, error.strerror)

    @property
    def links(self) -> list[Link]:
        """All workers that there are, ready or not."""
        return list(self._links.values())

    # starting

    @property
    def started(self) -> int:
        """How many workers were forked."""
        return self._last_key

    def _start_generation(self) -> Generation:
        made = Generation(self._config, self._words_fd, self._shelves_fd)
        self._by_control[made.control.fileno()] = made
        self._epoll.register(made.control.fileno(), select.EPOLLIN)
        return made

    def _fork(self, slot: int, generation: Generation, *, replaces: Link | None = None) -> Link:
        self._last_key += 1
        place = self._places[-1]
        shelf: Shelf | None = None
        if self._shelves is not None and generation.has_shelves:
            shelf = Shelf(self._shelves_fd, place, self._shelves, place * STRETCH, of_node=True)
        link = Link(generation, self._last_key, slot, place, shelf)
        self._places.pop()
        link.replaces = replaces
        if replaces is not None:
            replaces.replaced = True
        for word in range(WORDS):
            self._words[link.place * WORDS + word] = 0
        self._links[link.key] = link
        if replaces is None:
            self._at[slot] = link
        for descriptor in (link.ours.fileno(), link.calls.fileno()):
            self._by_descriptor[descriptor] = link
            self._epoll.register(descriptor, select.EPOLLIN)
        generation.fork(link)
        return link

    # turns

    def _readable(self) -> None:
        events: list[Event] = []
        for descriptor, what in self._epoll.poll(0, 512):
            link = self._by_descriptor.get(descriptor)
            if link is None:
                generation = self._by_control.get(descriptor)
                if generation is not None:
                    self._take_report(generation, events)
            elif descriptor == link.pidfd:
                if not _has_ended(descriptor):
                    continue  # the number was another worker's, whose end was dealt with in this very turn
                self._epoll.unregister(descriptor)
                del self._by_descriptor[descriptor]
                self._later(_CAUSE_S, self._bury_late, link)
            else:
                try:
                    Staff._serve_link(self, link, descriptor, what, events)
                except OSError as error:  # no descriptor is left for a body: that worker is given up, the others go on
                    self._give_up(link, error)
        if events:
            self._turn(events)

    def _serve_link(self, link: Link, descriptor: int, what: int, events: list[Event]) -> None:
        """Write to a worker what waits for it, and read what it has sent."""
        if descriptor == link.calls.fileno():
            if what & select.EPOLLOUT:
                self._send_answers(link)
            if what & ~select.EPOLLOUT:
                self._take_call(link, events)
            return
        if what & select.EPOLLOUT:
            Staff._send_waiting(self, link)
        if what & select.EPOLLIN:
            Staff._take_outcomes(self, link, events)

    def _take_outcomes(self, link: Link, events: list[Event], *, all_of_them: bool = False) -> None:
        """Read what a worker has sent, as long as much comes; `all_of_them` where nothing follows."""
        size = 0
        for _ in range(sys.maxsize if all_of_them else BURST):
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
                bytes_told = len(datagram)
                if ran[0].place is not None or descriptor is not None:
                    try:
                        self._take_large(link, ran[0], descriptor)
                    except (OSError, MemoryError) as error:
                        self._give_up(link, error)
                        return
                    bytes_told = len(ran[0].ends[0].body)
                size += bytes_told
                events.append(Ended(link.key, ran, bytes_told))
                back = [seq for one in ran if one.back for seq in _given_back(one)]
                if back:
                    events.append(TakenBack(link.key, back))
                if not all_of_them and (len(ran[-1].ends) < MANY or size >= BURST_BYTES):
                    return  # it has hardly sent more; to be refused costs more than to be told again if it has
            else:
                self._worker_ready(link, events)

    def _take_large(self, link: Link, ran: Ran, descriptor: int | None) -> None:
        """Take in the large body of an outcome that stands alone."""
        place = ran.place
        if place is not None:
            assert link.shelf is not None
            ran.ends[0].body = link.shelf.take(place)
        else:
            attach(ran.ends, descriptor)

    def _take_call(self, link: Link, events: list[Event]) -> None:
        """Read one call that a job makes of another."""
        try:
            datagram, descriptor = self._receiver.receive(link.calls, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError as error:
            if not isinstance(error, ConnectionError):
                self._give_up(link, error)
            self._forget_calls(link)
            return
        if not datagram:
            self._forget_calls(link)
            return
        call = decode_call(datagram)
        attach([call.job], descriptor)
        events.append(Called(link.key, call.seq, call.job))

    def _forget_calls(self, link: Link) -> None:
        """A worker makes no calls any more."""
        descriptor = link.calls.fileno()
        if descriptor >= 0 and self._by_descriptor.pop(descriptor, None) is not None:
            self._epoll.unregister(descriptor)

    def answer(self, key: int, items: Sequence[NodeItem]) -> None:
        """Tell a worker what came of calls that its jobs have made."""
        link = self._links.get(key)
        if link is None:
            return
        waited = bool(link.answers)
        link.answers.extend(pack_answer(item) for item in items if isinstance(item, (Result, Failed, Reject, Lost)))
        if not waited:
            self._send_answers(link)

    def _send_answers(self, link: Link) -> None:
        """Send what came of a worker's calls, as far as its socket has room."""
        while link.answers:
            try:
                send(link.calls, link.answers[0], socket.MSG_DONTWAIT)
            except BlockingIOError:
                break
            except ConnectionError:
                link.answers.clear()  # its death is on the way
                break
            except OSError as error:
                link.answers.clear()
                self._give_up(link, error)
                break
            link.answers.popleft()
        if link.calls.fileno() in self._by_descriptor:
            self._epoll.modify(link.calls.fileno(), select.EPOLLIN | (select.EPOLLOUT if link.answers else 0))

    def spare(self) -> None:
        """Start one worker more than the node has, since others wait for what it is to do."""
        taken = {link.slot for link in self._links.values()}
        slot = next(slot for slot in count(self.most) if slot not in taken)
        if self._generation is not None and self._generation.is_loaded and self._places:
            self._try_fork(slot, self._generation)
        else:
            lost: list[Event] = [SpareLost()]
            self._later(SPARE_AGAIN_S, self._turn, lost)

    def _worker_ready(self, link: Link, events: list[Event]) -> None:
        if link.ending:
            link.signal(signal.SIGKILL)
            return
        link.ready = True
        link.settle(None)
        events.append(WorkerReady(link.key, self._lease(), spare=link.slot >= self.most))
        former, link.replaces = link.replaces, None
        self._at[link.slot] = link
        if former is not None and former.key in self._links:
            events.append(Retired(former.key))
        if self.unhealthy is not None:
            self.unhealthy = None
            log.info("healthy again: a worker is ready")
        if not self._ready.is_set() and all(self._is_ready(slot) for slot in range(self.slots)):
            self._ready.set()

    def _is_ready(self, slot: int) -> bool:
        link = self._at.get(slot)
        return link is not None and link.ready

    def _lease(self) -> int | None:
        """Return after how many jobs a worker is to be replaced."""
        if self._max_jobs is None:
            return None
        return max(1, self._max_jobs - random.randint(0, self._jitter))  # noqa: S311  # spreads restarts

    def dispatch(self, key: int, first: int, jobs: list[Submit]) -> None:
        """Write orders to a worker's socket, or to its outbox while that is full."""
        link = self._links.get(key)
        if link is None:
            return  # it died in this turn; its orders come back with its end
        shelf = link.shelf
        link.outbox.extend(pack_orders(first, jobs, shelf))
        if not self._tidying and shelf is not None and shelf.held:
            self._tidying = True
            self._later(SHELVES_S, self._tidy)
        if not link.blocked:
            Staff._send_waiting(self, link)

    def _tidy(self) -> None:
        """Hand back the memory of shelves on which nothing has lain for a while."""
        shelves = [link.shelf for link in self._links.values() if link.shelf is not None]
        for shelf in shelves:
            if not shelf.used:
                shelf.rest()
            shelf.used = False
        self._tidying = any(shelf.wants_rest for shelf in shelves)
        if self._tidying:
            self._later(SHELVES_S, self._tidy)

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
        return 0 if link is None else self._words[link.place * WORDS]

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
        link.signal(signal.SIGURG)
        seqs = taken + seqs
        if link.shelf is not None:
            link.shelf.free(seqs)
        return [TakenBack(key, seqs)] if seqs else []

    def interrupt(self, key: int, seq: int, *, on_loop: bool) -> None:
        """Have a worker stop the job of this number if that is what it runs; `on_loop`: one coroutine of several."""
        link = self._links.get(key)
        if link is None:
            return
        if on_loop:
            link.outbox.append((msgspec.msgpack.encode(Orders(seq, [])), None))
            if not link.blocked:
                Staff._send_waiting(self, link)
        else:
            self._words[link.place * WORDS + 1] = seq
            self._interrupt_again(link, seq)

    def _interrupt_again(self, link: Link, seq: int) -> None:
        """Signal a worker until it has heeded that it is to stop this job, or is done with it.

        The signal may come before the job's own code is entered, or while what has ended is being sent.
        """
        started, stop = self._words[link.place * WORDS : link.place * WORDS + 2]
        if link.key in self._links and stop == seq and started <= seq:
            link.signal(signal.SIGURG)
            self._later(INTERRUPT_S, self._interrupt_again, link, seq)

    def kill_one(self, key: int) -> None:
        """Kill a worker; its death is reported as any other's, and held against nobody."""
        link = self._links.get(key)
        if link is not None:
            link.doomed = True
            link.signal(signal.SIGKILL)

    # deaths

    def _take_report(self, generation: Generation, events: list[Event]) -> None:
        told = generation.read()
        if told is None:
            self._zygote_lost(generation, events)
            return
        report, link = told
        match report:
            case Loaded() if generation is self._generation and self._staffed:
                self._restaff(generation)
            case Loaded() | LoadFailed():
                pass  # who waits for it is told
            case Forked():
                assert link is not None
                self._by_pid[link.pid] = link
                if link.pidfd >= 0:
                    self._by_descriptor[link.pidfd] = link
                    self._epoll.register(link.pidfd, select.EPOLLIN)
            case NotForked():
                assert link is not None
                self._bury(link, report.text, events)
            case Exited():
                dead = self._by_pid.get(report.pid)
                if dead is not None:
                    self._bury(dead, cause(report.status), events)

    def _restaff(self, generation: Generation) -> None:
        """The zygote that came after one that died has loaded: it forks a worker for every slot that has none."""
        self._serve(generation.loaded.result())
        for slot in range(self.slots):
            if slot not in self._at:
                self._fork(slot, generation)

    def _serve(self, tasks: list[TaskSpec], *, anew: bool = False) -> None:
        if anew or tasks != self._tasks:
            self._tasks = tasks
            self._on_served(tasks)

    def _bury_late(self, link: Link) -> None:
        if link.key in self._links:
            events: list[Event] = []
            self._bury(link, "its worker died", events)
            self._turn(events)

    def _bury(self, link: Link, text: str, events: list[Event]) -> None:
        """A worker is dead: read what it had sent, end what it had taken up, start another."""
        Staff._take_outcomes(self, link, events, all_of_them=True)
        started = self._words[link.place * WORDS]
        self._drop(link)
        self._count_death(link)
        link.settle(text)
        if link.ready:
            events.append(WorkerLost(link.key, started, text))
        elif link.slot >= self.most:
            events.append(SpareLost())
        if not link.ending:
            self.exits[link.slot] = text
        if self._stopping:
            if not self._links:
                self._none_left.set()
        elif not link.ending and not link.surplus and link.slot < self.slots:
            self._succeed(link, text, self._about(link, started, events))

    def _count_death(self, link: Link) -> None:
        if link.doomed:
            self.killed += 1
        elif not (link.ending or self._stopping):
            self.died += 1

    def _about(self, link: Link, started: int, events: list[Event]) -> dict[str, object]:
        """Say for the log which worker it was, and which job it ran if that had not ended."""
        about: dict[str, object] = {"worker": link.slot}
        told = [one for event in events if isinstance(event, Ended) and event.worker == link.key for one in event.ran]
        job = self._job_at(link.key, started)
        if job is not None and not any(one.first <= started < one.first + len(one.ends) for one in told):
            about |= {"job": job.id.hex(), "task": job.task}
        return about

    def _succeed(self, link: Link, text: str, about: dict[str, object]) -> None:
        """Start another worker in the place of one that died, unless its successor is on the way."""
        if self._generation is None:
            return
        if link.replaces is not None and link.generation is not self._generation:
            return  # the first of new code, which is given up with it
        if any(other.replaces is link for other in self._links.values()):
            return
        delay = 0.0 if link.doomed else self._respawn.delay(link.slot, self._loop.time() - link.born)
        log.warning(
            "worker %d (process %d) ended: %s; %s", link.slot, link.pid, text,
            f"another starts in {delay:.1f} s" if delay else "another starts",
            extra=about,
        )  # fmt: skip
        if not any(other.ready for other in self._links.values()) and not link.ready:
            self._sicken(f"no worker can set up ({text}); its traceback stands in the log")
        if delay:
            self._later(delay, self._fork_again, link.slot, link.replaces)
        else:
            self._fork_again(link.slot, link.replaces)

    def _sicken(self, why: str) -> None:
        if self.unhealthy != why:
            self.unhealthy = why
            log.error("unhealthy: %s; trying again", why)

    def _fork_again(self, slot: int, replaces: Link | None) -> None:
        generation = self._generation
        if self._stopping or generation is None or not generation.is_loaded or slot >= self.slots:
            return
        if replaces is not None and replaces.key not in self._links:
            replaces = None
        if replaces is not None or not any(link.slot == slot and not link.surplus for link in self._links.values()):
            self._try_fork(slot, generation, replaces=replaces)

    def _try_fork(self, slot: int, generation: Generation, *, replaces: Link | None = None) -> Link | None:
        """Have a worker forked; where no descriptor or place is left for it, a little later."""
        try:
            return self._fork(slot, generation, replaces=replaces)
        except (OSError, IndexError) as error:
            log.error("no worker can be started now (%s); trying again", error)
            if slot >= self.most:
                lost: list[Event] = [SpareLost()]
                self._later(SPARE_AGAIN_S, self._turn, lost)
            else:
                self._later(FORK_AGAIN_S, self._fork_again, slot, replaces)
            return None

    def _fill_slots(self) -> None:
        """Have a worker forked for each slot that has none and waits for none."""
        for slot in range(self.slots):
            self._fork_again(slot, None)

    def _drop(self, link: Link) -> None:
        del self._links[link.key]
        if self._at.get(link.slot) is link:
            del self._at[link.slot]
        self._places.append(link.place)
        if link.replaces is not None:
            link.replaces.replaced = False
        self._by_pid.pop(link.pid, None)
        self._forget_calls(link)
        self._epoll.unregister(link.ours.fileno())
        del self._by_descriptor[link.ours.fileno()]
        if link.pidfd >= 0 and self._by_descriptor.pop(link.pidfd, None) is not None:
            self._epoll.unregister(link.pidfd)
        link.close()
        generation = link.generation
        generation.links.discard(link)
        if generation is not self._generation and not generation.links and generation.is_loaded and link.ready:
            self._close_generation(generation)  # the last worker of the code before

    def _close_generation(self, generation: Generation) -> None:
        descriptor = generation.control.fileno()
        if descriptor >= 0 and self._by_control.pop(descriptor, None) is not None:
            self._epoll.unregister(descriptor)
        generation.close()

    def _zygote_lost(self, generation: Generation, events: list[Event]) -> None:
        """Its workers die with it: end their jobs, after what had come of them in this turn, and start another."""
        descriptor = generation.control.fileno()
        self._epoll.unregister(descriptor)
        del self._by_control[descriptor]
        how = cause_of_exit(generation.lost())
        if not generation.loaded.done():
            generation.loaded.set_exception(ConfigError(f"the process that imports the application ended ({how})"))
        if self._stopping:
            return
        for link in generation.links:
            link.signal(signal.SIGKILL)
        self._await_deaths(generation)
        for link in list(generation.links):
            Staff._take_outcomes(self, link, events, all_of_them=True)
            started = self._words[link.place * WORDS]
            self._drop(link)
            self._count_death(link)
            link.settle("its zygote died")
            if link.ready:
                events.append(WorkerLost(link.key, started, "its zygote died"))
            elif link.slot >= self.most:
                events.append(SpareLost())
        if generation is not self._generation:
            self._fill_slots()
        elif self._staffed:
            log.error("the zygote ended (%s), its workers with it; another starts", how)
            for timer in self._timers:
                timer.cancel()  # successors that were due: the next zygote starts a worker for every slot
            self._timers.clear()
            self._tidying = False
            self._tidy()
            self._generation = None
            self._later(self._respawn.delay(-1, 0.0), self._start_again)
            if self._max_memory is not None:
                self._later(MEMORY_S, self._weigh)

    def _start_again(self) -> None:
        generation = self._generation = self._start_generation()
        generation.loaded.add_done_callback(self._started_again)

    def _started_again(self, loaded: "asyncio.Future[list[TaskSpec]]") -> None:
        """A zygote that does not load any more is started again and again: its code may be mended meanwhile."""
        if loaded.cancelled() or loaded.exception() is None:
            return
        self._sicken(f"the application cannot be loaded any more: {loaded.exception()}")
        if not self._stopping:
            self._generation = None
            self._later(self._respawn.delay(-1, 0.0), self._start_again)

    def _await_deaths(self, generation: Generation) -> None:
        """Wait until killed workers are no more: until then one may still take up an order that is to run elsewhere."""
        deadline = time.monotonic() + _DEATHS_S
        for link in generation.links:
            if link.pidfd >= 0:
                _has_ended(link.pidfd, within=max(0.0, deadline - time.monotonic()))

    def _later(self, delay: float, function: Callable[..., None], *arguments: object) -> None:
        def run() -> None:
            self._timers.discard(handle)
            function(*arguments)

        handle = self._loop.call_later(delay, run)
        self._timers.add(handle)

    # more and fewer of them

    def resize(self, slots: int) -> None:
        """Have so many workers from now on, `most` at most; those that are too many get nothing more, and end then."""
        self.slots = slots
        surplus = [link for link in self.links if slots <= link.slot < self.most and not link.ending]
        for link in surplus:
            link.surplus = True
            if not link.ready:
                link.ending = True
                link.signal(signal.SIGKILL)
        events: list[Event] = [Retired(link.key) for link in surplus if link.ready]
        if events:
            self._turn(events)
        self._fill_slots()

    # replacing

    def replace(self, key: int) -> None:
        """Start a worker's successor; it goes when that is ready."""
        link = self._links.get(key)
        if link is None or link.replaced or link.ending or link.surplus:
            return
        if self._generation is None or not self._generation.is_loaded:
            return
        log.info("worker %d (process %d) is replaced by a fresh one", link.slot, link.pid, extra={"worker": link.slot})
        self.recycled += 1
        self._try_fork(link.slot, self._generation, replaces=link)

    def end_one(self, key: int) -> None:
        """Tell a worker to end when it has done what it has."""
        link = self._links.get(key)
        if link is not None and not link.ending:
            link.ending = True
            link.outbox.append((END, None))
            Staff._send_waiting(self, link)

    def _weigh(self) -> None:
        """Replace workers that have grown too large."""
        assert self._max_memory is not None
        for link in list(self._links.values()):
            if link.ready and not link.replaced and link.replaces is None:
                size = own_memory(link.pid)
                if size > self._max_memory:
                    text = "worker %d (process %d) has %d MiB of its own"
                    log.info(text, link.slot, link.pid, size >> 20, extra={"worker": link.slot})
                    self.replace(link.key)
        self._later(MEMORY_S, self._weigh)

    def _retire_former(self, generation: Generation) -> None:
        """Whatever of the code before is still at work gets nothing more."""
        former = [link for link in self._links.values() if link.generation is not generation and link.ready]
        events: list[Event] = [Retired(link.key) for link in former]
        if events and generation is self._generation:
            self._turn(events)

    # stopping

    def kill(self) -> None:
        """Kill what is left of the workers."""
        for link in self._links.values():
            link.signal(signal.SIGKILL)

    def _give_up(self, link: Link, error: OSError | MemoryError) -> None:
        """No descriptor or no memory is left for a body: replace the worker, so that its orders go to others."""
        text = "worker %d (process %d) cannot be reached (%s): it is replaced"
        why = error.strerror if isinstance(error, OSError) else "no memory is left"
        log.error(text, link.slot, link.pid, why, extra={"worker": link.slot})
        link.signal(signal.SIGKILL)

    def close(self) -> None:
        """End the zygotes, and with them whatever worker is left; release everything."""
        self._stopping = True
        for timer in self._timers:
            timer.cancel()
        self._loop.remove_reader(self._epoll.fileno())
        for link in list(self._links.values()):
            link.settle("the node was closed")
            self._drop(link)
        for generation in list(self._by_control.values()):
            self._close_generation(generation)
        self._epoll.close()
        words = self._words.obj
        self._words.release()
        del words
        os.close(self._words_fd)
        self._shelves = None
        if self._shelves_fd >= 0:
            os.close(self._shelves_fd)


def _given_back(ran: Ran) -> range:
    """The numbers of orders that a worker had read and has not begun."""
    first = ran.first + len(ran.ends)
    return range(first, first + ran.back)


def _has_ended(pidfd: int, *, within: float = 0.0) -> bool:
    """Has a process ended, or does it so many seconds from now?"""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(within * 1000))


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
