"""A worker process: takes orders from its socket, runs them, sends outcomes back.

Shell: owns the worker's end of the socketpair and, where the application has async tasks, an event loop.
Sync jobs run in the main thread, outside the loop, so that they may use `asyncio.run` themselves.
"""

import inspect
import select
import signal
import socket
import struct
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from contextvars import ContextVar
from types import FrameType
from typing import TYPE_CHECKING, Any

import setproctitle

from mesh.errors import JobCancelled, UnknownTask
from mesh.inner import Answer, InnerClient
from mesh.tasks import Task, ambient, current, no_job
from mesh.wire.messages import Failed, Result, Submit
from meshnode.core.orders import Call, End, Orders, Ran
from meshnode.worker.catalogue import Application
from meshnode.worker.coroutine import run_async
from meshnode.worker.link import (
    Packet,
    Receiver,
    attach,
    decode_answer,
    decode_orders,
    decode_ran,
    pack_call,
    pack_ran,
    send,
)
from meshnode.worker.runner import Runner, failed, over_limit
from meshnode.worker.shelf import Shelf
from meshnode.worker.stacks import tell_when_asked

if TYPE_CHECKING:
    import asyncio

READY = b"\x90"
"""The first datagram of a worker that has set up: an empty array (of `Ran`)."""

IDLE_S = 0.1
"""Seconds for which a worker that waits still shows the task that it ran, and keeps the memory of its shelf: to change
the title costs as much as a small job, and new memory more than a large body."""

_IDLE_TIMEVAL = struct.pack("ll", 0, int(IDLE_S * 1e6))

FLUSH_NS = 500_000
"""Nanoseconds for which a worker keeps outcomes at most while it goes on with jobs that it has; it sends them at once
when it has none."""


class WorkerLoop:
    """Serves one worker until its node closes the socket or asks it to end.

    `words` are two of memory shared with the node: the number of the last order taken up, and that of one to stop.
    `calls` is the socket for calls that tasks make of others. `concurrency`: coroutines that run at once; with 1 they
    run one after another, as sync jobs do, and nothing is read meanwhile. `limit`: seconds that a task may run which
    does not say so itself.
    """

    def __init__(
        self,
        link: socket.socket,
        application: Application,
        words: "memoryview[int]",
        shelf: Shelf | None,
        *,
        calls: socket.socket,
        title: str,
        concurrency: int = 1,
        limit: float | None = None,
    ) -> None:
        self._link = link
        self._application = application
        self._runner = Runner(application.tasks, limit=limit)
        self._seq: ContextVar[int] = ContextVar("meshnode.seq", default=0)
        self._calls = calls
        self._answers = Receiver()
        self._started = words[:1]
        self._stop = words[1:]
        self._shelf = shelf
        self._resting = False
        self._broken: Exception | None = None
        self._title = title
        self._shown = ""
        self._receiver = Receiver()
        self._first = 0
        self._ends: list[End] = []
        self._spent = 0
        self._longest = 0
        self._flush_at = 0
        self._ran: list[Ran] = []
        self._sending = False
        self._ending = False
        self._generators: list[AsyncIterator[None] | Iterator[None]] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._coroutines: dict[int, asyncio.Task[None]] = {}
        self._alone_runs: asyncio.Task[End] | None = None
        self._stopped: set[int] = set()
        self._limit = 0.0
        self._under_way: Orders | None = None
        self._overdue = False
        self._alone = concurrency == 1
        self._orders: deque[Orders] = deque()

    def serve(self) -> None:
        """Set up, work until there is no more to come, tear down."""
        inner = InnerClient(self._calls, send=self._call, receive=self._receive_answer, running=self._seq.get)
        ambient.set(inner)
        signal.signal(signal.SIGURG, self._nudged)
        signal.signal(signal.SIGALRM, self._limit_over)
        tell_when_asked(self._running_coroutines)
        if self._application.needs_loop:
            import asyncio

            self._loop = asyncio.new_event_loop()
            asyncio.set_event_loop(self._loop)
        self._set_up()
        self._trace_if_wanted(inner)
        self._link.send(READY)
        if self._loop is None:
            self._serve_blocking()
        else:
            self._serve_on_loop(self._loop)
        self._tear_down()

    def _trace_if_wanted(self, inner: InnerClient) -> None:
        """Make spans around jobs if the application has set up OpenTelemetry."""
        if "opentelemetry.trace" in sys.modules:
            from mesh import tracing

            if tracing.in_use():
                self._runner.span = tracing.running
                inner.tracing = tracing.handed_in

    # lifespans

    def _set_up(self) -> None:
        for lifespan in self._application.lifespans:
            generator = lifespan(self._runner.state)
            self._step(generator)
            self._generators.append(generator)

    def _tear_down(self) -> None:
        current.set(no_job)
        for generator in reversed(self._generators):
            try:
                self._step(generator)
            except (StopIteration, StopAsyncIteration):
                continue
            except Exception as error:  # noqa: BLE001  # user code; the others are torn down all the same
                sys.excepthook(type(error), error, error.__traceback__)
        if self._loop is not None:
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()

    def _step(self, generator: AsyncIterator[None] | Iterator[None]) -> None:
        if inspect.isasyncgen(generator):
            assert self._loop is not None
            self._loop.run_until_complete(generator.__anext__())
        else:
            next(generator)  # type: ignore[arg-type]  # not async, as the line above found

    # taking orders

    def _serve_blocking(self) -> None:
        self._link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _IDLE_TIMEVAL)
        arrived = select.poll()
        arrived.register(self._link.fileno(), select.POLLIN)
        while True:
            if self._ran and not arrived.poll(0):
                self._flush()
            try:
                orders = self._receive(0)
            except BlockingIOError:
                self._show("idle")
                arrived.poll(IDLE_S * 1000 if self._rest() else None)
                continue
            if orders is None:
                self._flush()
                return
            self._run(orders)

    def _serve_on_loop(self, loop: "asyncio.AbstractEventLoop") -> None:
        loop.add_reader(self._link.fileno(), self._readable)
        while not self._ending or self._coroutines:
            if not self._coroutines:
                self._show("idle")
                self._rest_later(loop)
            loop.run_forever()
            if self._broken is not None:
                raise self._broken
            while self._orders:
                orders = self._orders.popleft()
                task = self._task_of(orders)
                if task is not None and task.is_async:
                    loop.remove_reader(self._link.fileno())
                    loop.run_until_complete(self._run_coroutines(orders))
                    loop.add_reader(self._link.fileno(), self._readable)
                else:
                    self._run(orders)
                    self._flush()
        loop.remove_reader(self._link.fileno())

    def _readable(self) -> None:
        """On the loop: start coroutines that share the worker; leave the loop to run other jobs, or to end."""
        assert self._loop is not None
        try:
            orders = self._receive(socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except (OSError, MemoryError) as error:  # nothing is left for a body: end, so that it goes to another worker
            self._broken = error
            self._loop.stop()
            return
        if orders is None:
            self._ending = True
            self._loop.remove_reader(self._link.fileno())
            self._loop.stop()
        elif not orders.jobs:
            self._stop_coroutine(orders.first)
        elif not self._alone and (task := self._task_of(orders)) is not None and task.is_async:
            for seq, job in enumerate(orders.jobs, orders.first):
                self._start(seq, job, self._loop)
        else:
            self._orders.append(orders)
            self._loop.stop()

    def _receive(self, flags: int) -> Orders | None:
        """Return the next orders, all of one task, or none but the number of one to stop; None to end."""
        try:
            datagram, descriptor = self._receiver.receive(self._link, flags)
        except ConnectionError:
            return None
        if not datagram:
            return None
        orders = decode_orders(datagram)
        if orders.place is not None:
            assert self._shelf is not None
            orders.jobs[0].body = self._shelf.look(orders.place)
        else:
            attach(orders.jobs, descriptor)
        return orders if orders.jobs or orders.first else None

    # calls that tasks make

    def _call(self, seq: int, job: Submit) -> None:
        send(self._calls, pack_call(Call(seq or self._started[0], job)))

    def _receive_answer(self, flags: int) -> Answer:
        datagram, descriptor = self._answers.receive(self._calls, flags)
        if not datagram:
            raise ConnectionError("the node is gone")
        answer: Answer = decode_answer(datagram)
        if isinstance(answer, (Result, Failed)):
            attach([answer], descriptor)
        return answer

    # running them

    def _task_of(self, orders: Orders) -> Task[..., Any] | None:
        """Return the task of these jobs; they fail here and now if this code has none of the name."""
        name = orders.jobs[0].task
        task = self._runner.tasks.get(name)
        if task is None:
            gone = UnknownTask(f"no task {name!r} in the code that runs here")
            self._ran += [Ran(seq, 0, 0, [failed(gone, job)]) for seq, job in enumerate(orders.jobs, orders.first)]
            self._started[0] = orders.first + len(orders.jobs) - 1
            orders.jobs.clear()
            self._flush()
        return task

    def _run(self, orders: Orders) -> None:
        """Run the jobs of a sync task, one after another."""
        clock, run, ends, started = time.perf_counter_ns, self._runner.run, self._ends, self._started
        task = self._task_of(orders)
        if task is None:
            return
        if self._runner.limit(task) is not None:
            run = self._run_limited
        self._show(task.name)
        self._under_way = orders
        self._first = seq = orders.first
        began = clock()
        if not self._ran:
            self._flush_at = began + FLUSH_NS
        for job in orders.jobs:
            started[0] = seq
            seq += 1
            ends.append(run(task, job))
            ended = clock()
            spent = ended - began
            self._spent += spent
            if spent > self._longest:  # noqa: PLR1730  # a call of max() costs as much as all of this
                self._longest = spent
            if ended > self._flush_at:
                self._flush()
                self._flush_at = ended + FLUSH_NS
            began = ended
        self._under_way = None
        # The signal may come at any point here; it empties the very list that is put away.
        ends, self._ends = self._ends, []
        if ends:
            self._ran.append(Ran(self._first, self._spent, self._longest, ends))
            self._spent = self._longest = 0

    def _run_limited(self, task: Task[..., Any], job: Submit) -> End:
        limit = self._runner.limit(task)
        assert limit is not None
        self._limit = limit
        signal.setitimer(signal.ITIMER_REAL, limit)
        try:
            return self._runner.run(task, job)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0.0)

    async def _run_coroutines(self, orders: Orders) -> None:
        """Run the jobs of an async task, one after another."""
        assert self._loop is not None
        clock = time.perf_counter_ns
        task = self._runner.tasks[orders.jobs[0].task]
        self._show(task.name)
        began = since = clock()
        for seq, job in enumerate(orders.jobs, orders.first):
            self._started[0] = seq
            self._alone_runs = self._loop.create_task(run_async(self._runner, task, job))
            end = await self._alone_runs
            self._alone_runs = None
            end = self._end_of(seq, job, end)
            ended = clock()
            self._ran.append(Ran(seq, ended - began, ended - began, [end]))
            if ended - since > FLUSH_NS:
                self._flush()
                since = ended
            began = ended
        self._flush()

    def _start(self, seq: int, job: Submit, loop: "asyncio.AbstractEventLoop") -> None:
        self._started[0] = max(seq, self._started[0])
        self._show(job.task)
        self._coroutines[seq] = loop.create_task(self._run_async(seq, job, loop))

    async def _run_async(self, seq: int, job: Submit, loop: "asyncio.AbstractEventLoop") -> None:
        self._seq.set(seq)
        began = time.perf_counter_ns()
        end = self._end_of(seq, job, await run_async(self._runner, self._runner.tasks[job.task], job))
        spent = time.perf_counter_ns() - began
        if not self._ran:
            loop.call_soon(self._flush)
        self._ran.append(Ran(seq, spent, spent, [end]))
        del self._coroutines[seq]
        if not self._coroutines:
            # After the flush that is already due; `_serve_on_loop` looks whether there is more to do.
            loop.call_soon(loop.stop)

    def _running_coroutines(self) -> "dict[int, asyncio.Task[Any]]":
        """Return the coroutines that run, by the numbers of their orders."""
        running: dict[int, asyncio.Task[Any]] = dict(self._coroutines)
        if self._alone_runs is not None:
            running[self._started[0]] = self._alone_runs
        return running

    # stopping them

    def _end_of(self, seq: int, job: Submit, end: End) -> End:
        """Return how a coroutine ended; one that ended because it was stopped says so."""
        if seq not in self._stopped:
            return end
        self._stopped.discard(seq)
        return failed(JobCancelled("cancelled while it ran", started=True), job) if type(end) is Failed else end

    def _stop_coroutine(self, seq: int) -> None:
        running = self._coroutines.get(seq)
        if running is not None:
            self._stopped.add(seq)
            running.cancel()

    def _stop_if_asked(self) -> None:
        """Stop the job that runs if it is the one that the node wants stopped; raises JobCancelled inside a sync task.

        Called where a signal is handled, so in the main thread and between two of its steps: no other job can come
        between the look and what is raised.
        """
        if not self._stop[0] or self._stop[0] != self._started[0]:
            return
        if self._runner.inside:
            self._stop[0] = 0
            self._runner.inside = False
            raise JobCancelled("cancelled while it ran", started=True)
        running = self._alone_runs
        if running is not None and self._loop is not None:
            self._stop[0] = 0
            self._stopped.add(self._started[0])
            self._loop.call_soon_threadsafe(running.cancel)  # which wakes the loop, unlike the signal

    def _limit_over(self, _signal: int, _frame: FrameType | None) -> None:
        """The sync task that runs has reached its limit. What is being sent in the midst of it is sent whole first."""
        self._overdue = self._sending
        if self._runner.inside and not self._sending:
            self._runner.inside = False
            raise over_limit(self._limit)

    # telling the node

    def _flush(self) -> None:
        """Send what has ended. The signal's function calls it too, in the middle of anything."""
        if self._sending:
            return
        self._sending = True
        ran: list[Ran] = []
        sent: list[Packet] = []
        shelf = self._shelf
        before = 0 if shelf is None else shelf.last
        try:
            while ran := self._take_ran():
                for packet in pack_ran(ran, shelf):
                    send(self._link, packet)
                    sent.append(packet)
        except (BrokenPipeError, ConnectionError):
            self._ending = True  # the node is gone; so are we, as soon as the socket says so
        except BaseException:
            self._ran[:0] = ran  # for the next time; the node passes over what it has heard already
            if shelf is not None:
                shelf.free(set(range(before + 1, shelf.last + 1)) - _keys(sent))
            raise
        finally:
            self._sending = False

    def _rest(self) -> bool:
        """Hand back the shelf's memory if nothing lies there. Is it to be tried again?"""
        shelf = self._shelf
        if shelf is None or not shelf.wants_rest:
            return False
        self._sending = True  # what sends may come at any point, and would lay something down in the midst of it
        try:
            shelf.rest()
        finally:
            self._sending = False
        self._flush()  # what came meanwhile
        return shelf.wants_rest

    def _rest_later(self, loop: "asyncio.AbstractEventLoop") -> None:
        """Look after a while whether the shelf's memory can be handed back."""
        if not self._resting and self._shelf is not None and self._shelf.wants_rest:
            self._resting = True
            loop.call_later(IDLE_S, self._rest_now, loop)

    def _rest_now(self, loop: "asyncio.AbstractEventLoop") -> None:
        self._resting = False
        self._rest()
        self._rest_later(loop)

    def _take_ran(self) -> list[Ran]:
        """Take what has ended and is not sent. The lists themselves stay: the signal may have interrupted an append."""
        ran = self._ran[:]
        del self._ran[: len(ran)]
        ends = self._ends[:]
        if ends:
            del self._ends[: len(ends)]
            ran.append(Ran(self._first, self._spent, self._longest, ends))
            self._first += len(ends)
            self._spent = self._longest = 0
        return ran

    def _nudged(self, _signal: int, _frame: FrameType | None) -> None:
        """The node asks for what has ended, since the job that runs drags on, or wants that one stopped."""
        if self._sending:
            return  # this came in the midst of it; the node asks again if it has to
        self._give_back()
        with suppress(MemoryError, RecursionError, OSError):  # not the affair of the task that runs: it goes next time
            self._flush()
        if self._overdue:
            self._limit_over(_signal, _frame)
        self._stop_if_asked()

    def _give_back(self) -> None:
        """Give back what lies behind the job that drags on and is not begun.

        The one right behind it stays: it may have been taken out of the list already, and not be marked as begun yet.
        """
        orders = self._under_way
        if orders is None:
            return
        stay = self._started[0] - orders.first + 2
        back = len(orders.jobs) - stay
        if stay > 1 and back > 0:
            del orders.jobs[stay:]
            self._ran.append(Ran(orders.first + stay, 0, 0, [], back))

    def _show(self, doing: str) -> None:
        if doing != self._shown:
            self._shown = doing
            setproctitle.setproctitle(f"{self._title}: {doing}")


def _keys(packets: list[Packet]) -> set[int]:
    """The keys of what lies on the shelf, of outcomes that were sent."""
    return {ran.place.key for datagram, _ in packets for ran in decode_ran(datagram) if ran.place is not None}


def ignore_signal(_signal: int, _frame: Any) -> None:
    """Do nothing. A function and not SIG_IGN: that would be inherited by programs that tasks start."""
