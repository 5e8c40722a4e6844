"""One node: joins the front, the bridge, the workers and discovery around the scheduler.

Shell: the only place that knows them all. What happened goes to the scheduler in one batch a turn; what it
orders is done before anything else happens.
"""

import asyncio
import gc
import logging
import os
import secrets
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
from setproctitle import setproctitle

from mesh.core.grants import ALLOWED
from mesh.errors import ConfigError
from mesh.version import product_version
from mesh.wire.messages import (
    FORCED,
    RUNNING,
    VERSIONS,
    About,
    Drain,
    NodeItem,
    Submit,
    TaskSpec,
    Welcome,
)
from mesh.wire.reports import Connections, Jobs, Reach, Stack, Status, cut, short
from meshnode import reporting, stacks
from meshnode.announce import Announcement
from meshnode.bridge import Bridge
from meshnode.config import DEFAULT_PORT, Settings, host_name
from meshnode.control import Control, RefusedError
from meshnode.core import books
from meshnode.core.counts import Counts
from meshnode.core.events import (
    CancelAsked,
    Draining,
    Event,
    GraceOver,
    Resized,
    Served,
    Spoken,
    Undraining,
)
from meshnode.core.held import Held
from meshnode.core.lifecycle import ExitCode, Lifecycle, State
from meshnode.core.peers import Peers
from meshnode.core.scheduler import Scheduler
from meshnode.forwarder import Forwarder
from meshnode.front import Front, PortTakenError, context
from meshnode.guard import Guard
from meshnode.metrics import BridgeSeen, Seen, WorkersSeen
from meshnode.notify import Notifier
from meshnode.operations import Operations
from meshnode.pages import MetricsPage, health, readiness
from meshnode.steering import Steering
from meshnode.supervisor import Supervisor, zygote_config
from meshnode.turns import Turns, stamp_of
from meshnode.web import Page, Web

log = logging.getLogger("meshnode")
T = TypeVar("T")

GC_EACH: Final = 10_000
"""Objects made and not yet gone after which the garbage collector looks at the youngest: a turn may hold thousands."""


KNOWN_S: Final = 1.0
"""Seconds for all clients to say that they know that this node leaves; until then what they send is given back."""

LINGER_S = 2.0
"""Seconds that the last outcomes may take to leave."""


class Node(Turns):
    """Runs one node until it is told to stop; `run` returns the exit code.

    `folder` is where its control socket belongs; without one it hears signals only.
    """

    _supervisor: Supervisor
    _bridge: Bridge | None

    def __init__(self, settings: Settings, *, folder: Path | None = None) -> None:
        super().__init__()
        self.settings = settings
        self.lifecycle = Lifecycle()
        self._began = time.monotonic()
        self._notifier = Notifier.from_environment()
        self._version = product_version()
        self._counts = Counts() if settings.http else None
        self._web = self._pages(settings.http) if settings.http else None
        self._endpoint = ""
        self._stop = asyncio.Event()
        self._now = asyncio.Event()
        self._context = context()
        self._supervisor = Supervisor(
            zygote_config(settings),
            slots=settings.workers,
            turn=self._take,
            on_served=self._serve,
            job_at=self._job_at,
            max_jobs=settings.max_tasks_per_child,
            jitter=settings.max_tasks_jitter,
            max_memory=settings.max_memory_per_child,
        )
        self._guard = Guard(settings.keys) if settings.keys is not None else None
        self._front = Front(
            self._context,
            guard=self._guard,
            max_message=settings.max_message,
            on_messages=self._received,
            on_lost=self._unreachable,
            on_flow=self._flows,
        )
        self._announcement: Announcement | None = None
        self._served: About
        self._steering = Steering(self, grace=settings.grace)
        self._operations = Operations(self._steering.answer, say=self._say)
        self._control = Control(folder, settings.shown_name, answer=self._steering.answer) if folder else None

    # life

    async def run(self) -> int:
        """Start, serve until told to stop, stop. Raises ConfigError where it cannot start."""
        self._steering.heed()
        try:
            if self._control is not None:
                await self._control.listen()
            if self._web is not None:
                await self._web.listen()
            if await self._or_stop(self._start()):
                await self._stop.wait()
            return await self._finish()
        finally:
            await self._release()

    async def _start(self) -> bool:
        """Load the application, bind, fork, announce."""
        endpoint = self._endpoint = self._bind_front()
        if self._guard is not None:
            await self._loop.run_in_executor(None, self._guard.prove, endpoint)
        tasks = await self._supervisor.load()
        settings = self.settings
        if settings.bridge is not None and (settings.mdns or settings.seeds):
            self._forwarder = Forwarder(settings, post=self.post)
        scheduler = self._scheduler = Scheduler(
            tasks,
            slots=settings.workers,
            concurrency=settings.concurrency,
            cores=os.cpu_count() or 1,
            limit=settings.limit,
            elsewhere=self._forwarder,
            taken_up=self._supervisor.taken_up,
            counts=self._counts,
        )
        about = self._served = self._about(tasks)
        self._peers = Peers(about)
        if settings.bridge is not None:
            self._bridge = Bridge(settings, scheduler=scheduler, post=self.post, new_key=self._new_key)
            self._bridge.listen()
        await self._supervisor.start_workers()
        self._front.listen()
        self._sweep_at = self._loop.time()
        self._sweep()
        self._announcement = Announcement(settings, about, endpoint)
        await self._announcement.start()
        if self._forwarder is not None:
            await self._forwarder.open()
        self.lifecycle.running()
        # What there is by now stays: to look through it again and again took a quarter of the node's time (measured).
        gc.collect()
        gc.freeze()
        gc.set_threshold(GC_EACH)
        self._say_ready(tasks, endpoint)
        self._notifier.ready(lambda: reporting.in_one_line(self.status()))
        return True

    async def _or_stop(self, work: Coroutine[Any, Any, T]) -> T | None:
        """Do this, unless told to stop meanwhile."""
        doing = asyncio.ensure_future(work)
        stopping = asyncio.ensure_future(self._stop.wait())
        await asyncio.wait((doing, stopping), return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not doing.done():
            doing.cancel()
            await asyncio.wait((doing,))
            return None
        return doing.result()

    def _about(self, tasks: Sequence[TaskSpec]) -> About:
        settings = self.settings
        return About(
            node=settings.node_id,
            epoch=secrets.token_bytes(8),
            name=settings.shown_name,
            mesh=settings.mesh,
            workers=settings.workers,
            concurrency=settings.concurrency,
            max_body=settings.max_message,
            tasks=list(tasks),
            version=self._version,
            host=host_name(),
            started=round(time.time(), 3),
        )

    def _bind_front(self) -> str:
        """Bind the front. A default port that is taken moves to a free one; one that was asked for does not."""
        try:
            return self._front.bind(self.settings.bind)
        except PortTakenError:
            if not self.settings.bind_is_default:
                raise
        free = self._front.bind(f"{self.settings.bind.removesuffix(str(DEFAULT_PORT))}0")
        log.info("port %d is taken (by another node?): listening at %s instead", DEFAULT_PORT, free)
        return free

    def _say_ready(self, tasks: Sequence[TaskSpec], endpoint: str) -> None:
        settings = self.settings
        names = ", ".join(task.name for task in tasks[:8]) + (" …" if len(tasks) > 8 else "")
        count = "1 task" if len(tasks) == 1 else f"{len(tasks)} tasks"
        log.info(
            "node %s is ready after %.2f s: mesh %s, %d workers, %s (%s)",
            settings.shown_name, time.monotonic() - self._began, settings.mesh, settings.workers, count, names,
        )  # fmt: skip
        log.info("clients: %s (%s)", endpoint, _reach(settings))
        if self._bridge is not None:
            log.info("bridge: %s (%s)", self._bridge.address, self._bridge.hint(tasks))

    # what it is told while it runs

    def begin_stop(self, *, now: bool) -> None:
        """Finish what runs and end, or end `now`; may be called again."""
        if now:
            self._now.set()
        self._stop.set()

    def turn_away(self) -> None:
        """Take nothing new from anybody, and say so. It stays announced, for those who are to take that back."""
        if self._bridge is not None:
            self._bridge.drain()
            self._turn()  # what it has just handed over comes before the word that nothing new is taken
        self._peers.draining = True
        self._drained_at = stamp_of(self._loop.time()) + 1  # later than any word before
        self._take([Draining(), *(Spoken(peer.owner, [Drain()]) for peer in self._peers.everyone())])
        self._notifier.tell()

    def welcome_again(self) -> None:
        """Take back `turn_away`."""
        self._empty.clear()
        self._drained_at = 0
        if self._bridge is not None:
            self._bridge.undrain()
        self._peers.draining = False
        greeting = Welcome(VERSIONS[1], self._served)
        self._take([Undraining(), *(Spoken(peer.owner, [greeting]) for peer in self._peers.everyone())])
        self._notifier.tell()

    def _serve(self, tasks: list[TaskSpec]) -> None:
        """The application serves other tasks than before: say so to everybody."""
        if self._scheduler is None:
            return
        self._served = msgspec.structs.replace(self._served, tasks=tasks)
        self._take([Served(tasks), *self._greetings()])

    def _job_at(self, worker: int, seq: int) -> Submit | None:
        """Return the job that a worker has under this number."""
        there = self._scheduler.pool.workers.get(worker) if self._scheduler else None
        held = there.outstanding.get(seq) if there is not None else None
        return None if held is None else held.submit

    async def reload(self) -> str | None:
        """Replace all workers by such as run the code as it is now; return what went wrong, None for nothing.

        Before that the bridge's token and certificate are read again.
        """
        self._notifier.reloading()
        try:
            if self._bridge is not None:
                self._bridge.read_secrets()
            return await self._supervisor.reload()
        except ConfigError as error:
            return str(error)
        finally:
            self._notifier.reloaded()

    def resize(self, workers: int) -> None:
        """Have so many workers from now on, and say so to everybody. Raises RefusedError."""
        if not 1 <= workers <= self._supervisor.most:
            raise RefusedError(f"this node can have 1 to {self._supervisor.most} workers, not {workers}")
        if workers == self.workers:
            return
        self._served = msgspec.structs.replace(self._served, workers=workers)
        setproctitle(f"meshnode {self.settings.shown_name} ({workers} workers)")
        self._supervisor.resize(workers)
        self._take([Resized(workers), *self._greetings()])

    @property
    def workers(self) -> int:
        """How many workers this node is to have."""
        return self._supervisor.slots

    def status(self) -> Status:
        """Tell how this node is; no worker is asked."""
        return reporting.describe(
            self.settings, self.lifecycle, self._scheduler, self._supervisor,
            version=self._version,
            uptime=time.monotonic() - self._began,
            endpoint=self._endpoint,
            bridge=self._bridge,
            clients=len(self._peers) if self._scheduler else 0,
        )  # fmt: skip

    def connections(self) -> Connections:
        """Tell who is connected to this node."""
        return reporting.connections(self._peers if self._scheduler else None, self._front, self._bridge)

    def jobs(self, task: str, word: str) -> Jobs:
        """Tell which jobs this node holds."""
        peers = self._peers if self._scheduler else None
        return reporting.jobs(self._scheduler, self._supervisor, peers, task=task, word=word)

    def reach(self) -> Reach:
        """Tell which other nodes this one is connected to."""
        return reporting.reach(self._forwarder)

    def cancel(self, word: str, *, force: bool) -> Jobs:
        """Cancel the job that a word means, be it whose it will; return it as it is before. Raises RefusedError."""
        held = self._meant(word)
        before = self.jobs("", held.id.hex())
        if held.forwarded:
            raise RefusedError("another node has this job: cancel it there")
        self._take([CancelAsked(held.owner, held.id, FORCED if force else RUNNING)])
        return before

    async def stack(self, word: str) -> Stack:
        """Tell where the job hangs that a word means. Raises RefusedError."""
        held = self._meant(word)
        assert self._scheduler is not None
        if not self._scheduler.pool.running(held):
            raise RefusedError("this job does not run")
        link = next(link for link in self._supervisor.links if link.key == held.worker)
        on_loop = held.entry.spec.is_async
        text, awaits = await stacks.of(link, seq=held.seq if on_loop else 0)
        job, task = held.id.hex(), held.submit.task
        return Stack(id=job, task=task, worker=link.slot, pid=link.pid, text=cut(text), awaits=cut(awaits))

    def _meant(self, word: str) -> Held:
        """Return the one job that a word means. Raises RefusedError."""
        found = books.meant(self._scheduler, word) if self._scheduler is not None else []
        if not found:
            raise RefusedError(f"this node holds no job {word!r}")
        if len(found) > 1:
            some = ", ".join(short(held.id.hex()) for held in found[:5])
            raise RefusedError(f"{word!r} means {len(found)} jobs here: {some}{' …' if len(found) > 5 else ''}")
        return found[0]

    def _greetings(self) -> list[Event]:
        """Describe this node anew, for everybody."""
        assert self._scheduler is not None
        self._peers.describe(self._served)
        news: list[NodeItem] = [Welcome(VERSIONS[1], self._served)]
        if self._scheduler.draining:
            news.append(Drain())
        return [Spoken(peer.owner, news) for peer in self._peers.everyone()]

    def _pages(self, address: str) -> Web:
        pages: dict[str, Callable[[], Awaitable[Page]]] = {
            "/health": lambda: health(self.status()),
            "/ready": lambda: readiness(self.status()),
            "/metrics": MetricsPage(self._seen),
        }
        return Web(address, pages)

    def _seen(self) -> Seen:
        """Tell all that is to be measured, as of now."""
        supervisor, bridge, scheduler = self._supervisor, self._bridge, self._scheduler
        workers = WorkersSeen(supervisor.started, supervisor.died, supervisor.killed, supervisor.recycled)
        callers = BridgeSeen()
        if bridge is not None:
            callers = BridgeSeen(
                open=bridge.open,
                connections=bridge.connections,
                requests=bridge.requests,
                refused=bridge.refused,
                barred=bridge.barred,
                strangers=bridge.strangers,
                closed_unread=bridge.closed_unread,
            )
        malformed = self._oddities.malformed + (self._peers.malformed if scheduler else 0)
        return Seen(
            status=self.status(),
            version=self._version,
            epoch=self._served.epoch.hex() if scheduler else "",
            started=time.time() - (time.monotonic() - self._began),
            idle=scheduler.pool.free if scheduler else 0,
            counts=(self._counts or Counts()).as_of_now(),
            workers=workers,
            bridge=callers,
            malformed=malformed,
            unknown=self._oddities.unknown,
        )

    async def _finish(self) -> int:
        """Leave: say goodbye, finish what is held within the grace, end the workers."""
        self._notifier.stopping()
        if self._scheduler is None or self.lifecycle.state is State.STARTING:
            return ExitCode.CLEAN
        until = self._loop.time() + self.settings.grace
        self._empty.clear()
        self._known.clear()
        if self._announcement is not None:
            self._announcement.show(there=False)
        self.turn_away()
        self._look_who_knows()
        await self._first_of(self._empty, self._now, timeout=self.settings.grace)
        if not self._empty.is_set():
            self.lifecycle.grace_over()
            self._take([GraceOver()])
            await self._supervisor.stop(0.0)  # by way of the zygote, which ends what their tasks had started too
        elif not self._now.is_set():
            await self._supervisor.stop(max(1.0, until - self._loop.time()))
            await self._first_of(self._known, self._now, timeout=KNOWN_S)
        self._take(self._peers.leave())
        return self.lifecycle.stopped()

    async def _first_of(self, *events: asyncio.Event, timeout: float) -> None:
        waits = [asyncio.ensure_future(event.wait()) for event in events]
        await asyncio.wait(waits, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()

    async def _release(self) -> None:
        """Close everything, whatever state it is in; no process is left."""
        self._notifier.close()
        for timer in (self._timer, self._sweeper):
            if timer is not None:
                timer.cancel()
        await self._operations.close()
        await self._steering.close()
        if self._web is not None:
            await self._web.close()
        if self._announcement is not None:
            await self._announcement.close()
        if self._bridge is not None:
            await self._bridge.close()
        if self._forwarder is not None:
            await self._forwarder.close(timeout=0)
        self._supervisor.close()
        self._front.close(linger=LINGER_S)
        await asyncio.get_running_loop().run_in_executor(None, self._context.term)
        if self._control is not None:
            await self._control.close()


def _reach(settings: Settings) -> str:
    """Say whom the front serves."""
    if settings.keys is not None:
        return f"encrypted, for the keys in {settings.keys.folder / ALLOWED}"
    if settings.insecure:
        return "the network, unencrypted"
    return "this host only; `meshctl keygen` makes keys for the network, --insecure does without"
