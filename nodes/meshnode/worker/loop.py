"""A worker process: takes orders from its socket, runs them, sends outcomes back.

Shell: owns the worker's end of the socketpair and, where the application has async tasks, an event loop.
Sync jobs run in the main thread, outside the loop, so that they may use `asyncio.run` themselves.
"""

import inspect
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator
from types import FrameType
from typing import TYPE_CHECKING, Any

import setproctitle

from meshnode.core.orders import Order, Outcome
from meshnode.worker.catalogue import Application
from meshnode.worker.link import Receiver, attach, decode_orders, packets, send
from meshnode.worker.runner import Runner

if TYPE_CHECKING:
    import asyncio

READY = b"\x90"
"""The first datagram of a worker that has set up: an empty array of outcomes."""

FLUSH_NS = 500_000
"""Nanoseconds of unsent outcomes after which a worker sends them before it takes up the next job."""


class WorkerLoop:
    """Serves one worker until its node closes the socket or asks it to end.

    `started` is a word of memory shared with the node: the number of the last order taken up.
    """

    def __init__(
        self,
        link: socket.socket,
        application: Application,
        started: "memoryview[int]",
        *,
        title: str,
    ) -> None:
        self._link = link
        self._application = application
        self._runner = Runner(application.tasks)
        self._started = started
        self._title = title
        self._shown = ""
        self._receiver = Receiver()
        self._outcomes: list[Outcome] = []
        self._sending = False
        self._ending = False
        self._generators: list[AsyncIterator[None] | Iterator[None]] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._coroutines: set[asyncio.Task[None]] = set()
        self._sync_orders: deque[Order] = deque()

    def serve(self) -> None:
        """Set up, work until there is no more to come, tear down."""
        signal.signal(signal.SIGURG, self._nudged)
        if self._application.needs_loop:
            import asyncio

            self._loop = asyncio.new_event_loop()
            asyncio.set_event_loop(self._loop)
        self._set_up()
        self._link.send(READY)
        if self._loop is None:
            self._serve_blocking()
        else:
            self._serve_on_loop(self._loop)
        self._tear_down()

    # lifespans

    def _set_up(self) -> None:
        for lifespan in self._application.lifespans:
            generator = lifespan(self._runner.state)
            self._step(generator)
            self._generators.append(generator)

    def _tear_down(self) -> None:
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
        while True:
            self._show("idle")
            orders = self._receive(0)
            if not orders:
                return
            self._run(orders)

    def _serve_on_loop(self, loop: "asyncio.AbstractEventLoop") -> None:
        loop.add_reader(self._link.fileno(), self._readable)
        while not self._ending or self._coroutines:
            self._show("idle" if not self._coroutines else self._shown)
            loop.run_forever()
            while self._sync_orders:
                self._run([self._sync_orders.popleft()])
        loop.remove_reader(self._link.fileno())

    def _readable(self) -> None:
        """On the loop: start coroutines; leave the loop to run sync jobs, or to end."""
        assert self._loop is not None
        try:
            orders = self._receive(socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        if not orders:
            self._ending = True
            self._loop.remove_reader(self._link.fileno())
            self._loop.stop()
            return
        for order in orders:
            if self._runner.tasks[order.task].is_async:
                self._start(order, self._loop)
            else:
                self._sync_orders.append(order)
        if self._sync_orders:
            self._loop.stop()

    def _receive(self, flags: int) -> list[Order]:
        """Return the next orders; none when the node asks to end or is gone."""
        try:
            datagram, descriptor = self._receiver.receive(self._link, flags)
        except ConnectionError:
            return []
        if not datagram:
            return []
        orders = decode_orders(datagram)
        attach(orders, descriptor)
        return orders

    # running them

    def _run(self, orders: list[Order]) -> None:
        began = since = time.perf_counter_ns()
        for order in orders:
            self._started[0] = order.seq
            self._show(self._runner.tasks[order.task].name)
            code, body = self._runner.run(order)
            ended = time.perf_counter_ns()
            self._outcomes.append(Outcome(order.seq, code, (ended - began) // 1000, body))
            if ended - since > FLUSH_NS:
                self._flush()
                since = ended
            began = ended
        self._flush()

    def _start(self, order: Order, loop: "asyncio.AbstractEventLoop") -> None:
        self._started[0] = max(order.seq, self._started[0])
        self._show(self._runner.tasks[order.task].name)
        task = loop.create_task(self._run_async(order, loop))
        self._coroutines.add(task)
        task.add_done_callback(self._coroutine_ended)

    async def _run_async(self, order: Order, loop: "asyncio.AbstractEventLoop") -> None:
        began = time.perf_counter_ns()
        code, body = await self._runner.run_async(order)
        micros = (time.perf_counter_ns() - began) // 1000
        if not self._outcomes:
            loop.call_soon(self._flush)
        self._outcomes.append(Outcome(order.seq, code, micros, body))

    def _coroutine_ended(self, task: "asyncio.Task[None]") -> None:
        self._coroutines.discard(task)
        if self._loop is not None and not self._coroutines:
            # After the flush that is already due; `_serve_on_loop` looks whether there is more to do.
            self._loop.call_soon(self._loop.stop)

    # telling the node

    def _flush(self) -> None:
        """Send what has ended. The signal's function calls it too, in the middle of anything."""
        if self._sending:
            return
        self._sending = True
        try:
            while self._outcomes:
                # The list itself stays: the line that the signal interrupted may be about to append to it.
                outcomes = self._outcomes[:]
                del self._outcomes[: len(outcomes)]
                for packet in packets(outcomes):
                    send(self._link, packet)
        except (BrokenPipeError, ConnectionError):
            self._ending = True  # the node is gone; so are we, as soon as the socket says so
        finally:
            self._sending = False

    def _nudged(self, _signal: int, _frame: FrameType | None) -> None:
        """The node asks for what has ended, since the job that runs drags on."""
        self._flush()

    def _show(self, doing: str) -> None:
        if doing != self._shown:
            self._shown = doing
            setproctitle.setproctitle(f"{self._title}: {doing}")


def ignore_signal(_signal: int, _frame: Any) -> None:
    """Do nothing. A function and not SIG_IGN: that would be inherited by programs that tasks start."""
