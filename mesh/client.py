"""The client: hands jobs to the mesh from inside any asyncio application.

Shell: joins the session (which decides), the links (which carry), discovery (who is there) and the application.
It starts no thread; everything happens in turns of the application's own loop.
"""

import asyncio
import ipaddress
import logging
import os
import random
import sys
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from contextvars import Token
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, ParamSpec, Self, TypeVar, assert_never, overload

import zmq
from mypy_extensions import mypyc_attr

from mesh.core.dialer import Dialer
from mesh.core.effects import Answered, Close, Effect, Greet, Joined, Outcome, Parted, Progress, Send, Settle
from mesh.core.events import CancelAsked, Event, Heard, KeepAsked, KeyDenied, LinkLost, Opening, Submitted, Tick
from mesh.core.grants import ALLOWED
from mesh.core.record import DONE, PENDING, JobRecord
from mesh.core.roster import NodeView
from mesh.core.session import Session
from mesh.errors import BadArguments, ClosedError, ConfigError, MeshBusy, NoNodes
from mesh.finder import Finder, Networks
from mesh.inner import InnerClient
from mesh.job import Ended
from mesh.job import Job as AnyJob
from mesh.keys import Keyring, client_keyring
from mesh.link import KEY_REFUSED, NO_KEYS, OTHER_KEY, Curve, Link, context
from mesh.mapped import mapped
from mesh.node_info import NodeInfo
from mesh.seldom import Seldom
from mesh.tasks import Task, ambient, trace_here
from mesh.wire.messages import (
    MAGIC,
    VERSIONS,
    Bye,
    ClientMessage,
    Hello,
    NodeMessage,
    TaskSpec,
    Trace,
)
from mesh.wire.payload import pack_arguments

if TYPE_CHECKING:
    from mesh.typed import Job

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
log = logging.getLogger("mesh")

IN_FLIGHT: Final = 2048
"""Jobs that `map` keeps under way by default: enough for two milliseconds of the smallest (docs/protocol.md,
Windows), few enough to hold their results in memory."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Client:
    """Hands jobs to the nodes of a mesh.

    `seeds`: nodes by address, `"web7:5750"`; `mdns`: look for nodes on this host and its networks too.
    `keys`: the mesh's folder of keys, or a key file in it; found by itself where it lies in its place, `"none"` for no
    keys (docs/security.md). `allow_networks`: believe mDNS only addresses in these, `"10.0.0.0/8"`.
    `max_pending`: jobs under way at most; beyond it `submit` raises MeshBusy, `call` and `map` wait.
    `discovery_grace`: seconds that a job waits for the first node that serves its task. Leaving the block waits for
    what is outstanding, but for jobs that were detached. Raises ConfigError for a value that makes no sense.
    `on_end`, once set, is called with each job right after it has ended: for those who keep books of all.

        async with Client() as client:
            result = await client.call("send_mail", to="a@b")
    """

    def __init__(
        self,
        mesh: str = "default",
        *,
        seeds: Sequence[str] = (),
        mdns: bool = True,
        keys: str | os.PathLike[str] | Keyring | None = None,
        allow_networks: Sequence[str] = (),
        max_pending: int = 10_000,
        discovery_grace: float = 2.0,
        name: str | None = None,
        not_node: str = "",
    ) -> None:
        if isinstance(seeds, str):
            raise ConfigError(f"seeds is a list of addresses: seeds=[{seeds!r}]")
        if not mdns and not seeds:
            raise ConfigError("a client without mDNS needs seeds: Client(seeds=['host:5750'])")
        if not 0 < len(mesh) <= _NAME_LIMIT:
            raise ConfigError(f"a mesh's name has 1 to {_NAME_LIMIT} characters, not {len(mesh)}")
        if max_pending < 1:
            raise ConfigError(f"max_pending is at least 1, not {max_pending}")
        self.mesh = mesh
        self.on_end: Callable[[JobRecord], None] | None = None
        self.loop: asyncio.AbstractEventLoop
        self._finder = Finder(
            mesh,
            seeds=seeds,
            mdns=mdns,
            networks=_networks(allow_networks),
            on_change=self._found,
            on_denied=self._denied,
        )
        self._keys = keys
        self._keyring: Keyring | None = None
        self._key_watch: asyncio.Task[None] | None = None
        self._seldom = Seldom(log)
        self._max_pending = max_pending
        self._name = name or ""
        self._rng = random.Random()  # noqa: S311  # spreads load; guards nothing
        self._session = Session(self._rng, grace=discovery_grace, not_node=not_node)
        self._dialer = Dialer(self._rng)
        self._links: dict[int, Link] = {}
        self._last_link = 0
        self._jobs = 0
        self._id_prefix = b""
        self._last_id = 0
        self._submitted: list[JobRecord] = []
        self._events: list[Event] = []
        self._turn_due = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._tracing: Callable[[str, bytes], Trace | None] | None = None
        self._context: zmq.Context[zmq.SyncSocket] | None = None
        self._closed = False
        self._room: deque[asyncio.Future[None]] = deque()
        self._idle: deque[asyncio.Future[None]] = deque()
        self._changed: list[asyncio.Future[None]] = []
        self._token: Token[Client | InnerClient] | None = None

    # opening and closing

    async def __aenter__(self) -> Self:
        """Start looking for nodes; returns at once."""
        await self.open()
        self._token = ambient.set(self)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait for what is outstanding; if this block was cancelled, end it instead."""
        if self._token is not None:
            with suppress(ValueError):  # entered in another context, as test fixtures do: nothing to restore here
                ambient.reset(self._token)
        cancelled = isinstance(error, asyncio.CancelledError | KeyboardInterrupt | SystemExit)
        await self.close(timeout=0 if cancelled else None)

    async def open(self) -> None:
        """Start looking for nodes, as `async with` does; returns at once."""
        if self._context is not None or self._closed:
            raise ClosedError("a client is opened once; make another")
        self.loop = asyncio.get_running_loop()
        self._keyring = self._keys if isinstance(self._keys, Keyring) else client_keyring(self.mesh, self._keys)
        if self._keyring is not None:
            self._finder.pins = self._keyring.allowed.node_keys()
            self._key_watch = asyncio.create_task(self._watch_keys(self._keyring), name="keys")
        # Here and not before: processes forked from one that made the client are to differ.
        self._id_prefix = os.urandom(8)
        self._rng.seed()
        self._tracing = _tracing()
        self._name = (self._name or f"{os.uname().nodename}:{os.getpid()}")[:_CLIENT_NAME_LIMIT]
        self._context = context()
        try:
            await self._finder.start()
        except BaseException:
            await self.close(timeout=0)
            raise

    async def close(self, timeout: float | None = None) -> None:
        """Wait for what is outstanding, at most `timeout` seconds; what is left then ends with ClosedError."""
        if self._closed or self._context is None:
            self._closed = True
            return
        try:
            until = None if timeout is None else self.loop.time() + timeout
            while self._is_awaited() and (until is None or self.loop.time() < until):
                idle = self.loop.create_future()
                self._idle.append(idle)
                await asyncio.wait((idle,), timeout=None if until is None else until - self.loop.time())
        finally:
            self._shut()
            if self._key_watch is not None:
                self._key_watch.cancel()
                await asyncio.gather(self._key_watch, return_exceptions=True)
            try:
                await self._finder.close()
            finally:
                zmq_context, self._context = self._context, None
                if zmq_context is not None:
                    zmq_context.term()

    def _is_awaited(self) -> bool:
        """Is a job under way that does not outlive this client, or has not left it yet?"""
        if not self._jobs:
            return False
        unfinished = [*self._submitted, *self._session.unfinished()]
        return any(not (record.kept and record.state != PENDING) for record in unfinished)

    def _shut(self) -> None:
        """End every job that is left, say goodbye and close the links."""
        if self._closed:
            return
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        outcomes: list[Outcome] = []
        for record in [*self._submitted, *self._session.unfinished()]:
            started = record.state != PENDING or record.began
            record.over = True
            record.state = DONE
            outcomes.append((record, ClosedError("the client was closed before the job ended", started=started)))
        self._submitted.clear()
        self._settled(outcomes)
        for view in self._session.roster:
            link = self._links.pop(view.key, None)
            if link is not None:  # lost in this very turn otherwise
                link.send(ClientMessage(view.about.epoch, view.stamp, [Bye()]))
                link.close(linger=_GOODBYE_S)
        for link in self._links.values():
            link.close()
        self._links.clear()
        for waiter in [*self._room, *self._changed]:
            if not waiter.done():
                waiter.set_result(None)

    # handing in jobs

    @overload
    def submit(self, task: Task[P, Awaitable[R_co]], *args: P.args, **kwargs: P.kwargs) -> "Job[R_co]": ...
    @overload
    def submit(self, task: Task[P, R], *args: P.args, **kwargs: P.kwargs) -> "Job[R]": ...
    @overload
    def submit(self, task: str, *args: Any, **kwargs: Any) -> "Job[Any]": ...
    def submit(self, task: Any, *args: Any, **kwargs: Any) -> Any:
        """Hand in a job and return at once; whether it is awaited or not, it runs.

        Raises MeshBusy when `max_pending` jobs are under way, BadArguments when the arguments do not fit or
        cannot travel, ClosedError on a closed client.
        """
        if self._jobs >= self._max_pending:
            raise MeshBusy(f"{self._max_pending} jobs are under way (max_pending); await some, or use call or map")
        return self._submit(task, args, kwargs)

    @overload
    async def call(self, task: Task[P, Awaitable[R_co]], *args: P.args, **kwargs: P.kwargs) -> R_co: ...
    @overload
    async def call(self, task: Task[P, R], *args: P.args, **kwargs: P.kwargs) -> R: ...
    @overload
    async def call(self, task: str, *args: Any, **kwargs: Any) -> Any: ...
    async def call(self, task: Any, *args: Any, **kwargs: Any) -> Any:
        """Run a job and return its result, waiting for room where there is none.

        Raises what the task raised, or a MeshError that says whether it may have run.
        """
        job = await self._submit_with_room(task, args, kwargs)
        return await job

    @overload
    def map(
        self, task: Task[P, Awaitable[R_co]], *iterables: Iterable[Any], ordered: bool = True, in_flight: int = ...
    ) -> AsyncIterator[R_co]: ...
    @overload
    def map(
        self, task: Task[P, R], *iterables: Iterable[Any], ordered: bool = True, in_flight: int = ...
    ) -> AsyncIterator[R]: ...
    @overload
    def map(
        self, task: str, *iterables: Iterable[Any], ordered: bool = True, in_flight: int = ...
    ) -> AsyncIterator[Any]: ...
    def map(
        self, task: Any, *iterables: Iterable[Any], ordered: bool = True, in_flight: int = IN_FLIGHT
    ) -> AsyncIterator[Any]:
        """Run a job for each element (or each tuple of several iterables), at most `in_flight` at once.

        Yields results in order, or as they come with `ordered=False`. The first failure is raised; what was under
        way and has not started is cancelled then, as it is when the loop over the results is left.
        """
        bound = max(1, min(in_flight, self._max_pending))
        return mapped(self, task, zip(*iterables, strict=False), ordered=ordered, bound=bound)

    def _has_room(self) -> bool:
        return self._jobs < self._max_pending

    def _require_open(self) -> None:
        if self._closed or self._context is None:
            raise ClosedError(
                "this client is closed" if self._closed else "open this client first: async with Client()"
            )

    def _submit(self, task: Any, args: Sequence[Any], kwargs: dict[str, Any], ended: Ended | None = None) -> AnyJob:
        """Hand in a job, which puts itself into `ended` when it is over."""
        if self._closed or self._context is None:
            self._require_open()
        if type(task) is str:
            name = task
        elif isinstance(task, Task):
            name = task.name
            wrong = task.signature.misfit(len(args), kwargs)
            if wrong:
                raise BadArguments(f"{name} {wrong}")
        else:
            raise BadArguments(f"a task is one that @mesh.task made, or its name, not {type(task).__name__}")
        self._last_id += 1
        job_id = self._id_prefix + self._last_id.to_bytes(8, "big")
        job = AnyJob(self, job_id, name, pack_arguments(args, kwargs), ended=ended)
        if type(task) is str:
            self._check_by_name(job, name, args, kwargs)
        else:
            job.priority = task.settings.priority
            job.timeout = task.settings.timeout
            if job.timeout is not None:
                job.deadline = self.loop.time() + job.timeout
        if self._tracing is not None:
            job.trace = self._tracing(name, job_id)
        self.hand_in(job)
        return job

    def hand_in(self, record: JobRecord) -> None:
        """Take a job in; it leaves in this loop's next turn, together with all others of this one.

        The only one under way leaves at once: mostly there is none to come with it.
        """
        self._jobs += 1
        self._submitted.append(record)
        if self._jobs == 1 and not self._turn_due:
            self._turn()
        elif not self._turn_due:
            self._turn_due = True
            self.loop.call_soon(self._turn)

    def _check_by_name(self, job: AnyJob, name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
        """Check a call by name now if its task is known, else when it is given to a node."""
        served = self._session.roster.serves(name)
        if served is None:
            job.shape = (len(args), tuple(kwargs))
            return
        wrong = served.signature.misfit(len(args), kwargs)
        if wrong:
            raise BadArguments(f"{name} {wrong}")
        job.priority = served.spec.priority

    async def _submit_with_room(
        self, task: Any, args: Sequence[Any], kwargs: dict[str, Any], ended: Ended | None = None
    ) -> AnyJob:
        """Submit once there is room. Whoever is woken and takes none, or more is left, wakes the next."""
        try:
            while self._jobs >= self._max_pending and not self._closed:
                waiter = self.loop.create_future()
                self._room.append(waiter)
                await waiter
            return self._submit(task, args, kwargs, ended)
        finally:
            if self._room and self._jobs < self._max_pending:
                _wake(self._room, 1)

    def cancel(self, job: AnyJob, how: int) -> None:
        """Ask that a job does not start; `how` far that goes if it runs (`mesh.wire.messages`, Cancel)."""
        self._post(CancelAsked(job, how))

    def keep(self, job: AnyJob) -> None:
        """Let a job outlive this client."""
        self._post(KeepAsked(job))

    # looking around

    def nodes(self) -> list[NodeInfo]:
        """Return the nodes that this client is connected to, by name."""
        return sorted((self._info(view) for view in self._session.roster), key=lambda node: node.name)

    def tasks(self) -> dict[str, TaskSpec]:
        """Return the tasks that are served, by name."""
        specs = {name: served.spec for view in self._session.roster for name, served in view.tasks.items()}
        return dict(sorted(specs.items()))

    def _info(self, view: NodeView) -> NodeInfo:
        about = view.about
        return NodeInfo(
            name=about.name,
            id=about.node,
            endpoint=self._dialer.endpoint(view.key),
            state=view.standing.state.value,
            workers=about.workers,
            concurrency=about.concurrency,
            free=view.free,
            window=view.window,
            outstanding=len(view.outstanding),
            tasks=tuple(sorted(view.tasks)),
            version=about.version,
            host=about.host,
            started=about.started,
        )

    async def wait_ready(
        self, task: Task[..., Any] | str | None = None, *, nodes: int = 1, timeout: float | None = 10.0
    ) -> None:
        """Wait until so many nodes are there (that serve the task, if one is named). Raises NoNodes after `timeout`."""
        self._require_open()
        name = task.name if isinstance(task, Task) else task
        until = None if timeout is None else self.loop.time() + timeout
        while True:
            there = sum(1 for view in self._session.roster if view.open and (name is None or name in view.tasks))
            if there >= nodes:
                return
            left = None if until is None else until - self.loop.time()
            if left is not None and left <= 0:
                wanted = "1 node" if nodes == 1 else f"{nodes} nodes"
                serving = f" serving {name!r}" if name else ""
                raise NoNodes(f"waited {timeout:g} s for {wanted}{serving}: {there} there")
            await self.changed(timeout=left)

    async def changed(self, *, timeout: float | None = None) -> None:
        """Wait until a node comes, goes or speaks, at most `timeout` seconds. Raises ClosedError on a closed client."""
        self._require_open()
        waiter = self.loop.create_future()
        self._changed.append(waiter)
        try:
            await asyncio.wait((waiter,), timeout=timeout)
        finally:
            if waiter in self._changed:
                self._changed.remove(waiter)

    # turns

    def _post(self, event: Event) -> None:
        self._events.append(event)
        if not self._turn_due and not self._closed:
            self._turn_due = True
            self.loop.call_soon(self._turn)

    def _turn(self, *, at: float = 0.0) -> None:
        """Tell the session what has happened since the last turn, and do what it orders.

        `at`: when a timer was due that has fired; uvloop's clock, in milliseconds, may say that this is a hair away.
        """
        self._turn_due = False
        if self._closed:
            return
        now = max(self.loop.time(), at)
        events, self._events = self._events, []
        if self._submitted:
            events.insert(0, Submitted(self._submitted))
            self._submitted = []
        for effect in self._session.handle(events, now):
            self._perform(effect, now)
        for endpoint in self._dialer.due(now):
            self._connect(endpoint)
        self._arm(now)
        if self._idle:
            _wake(self._idle, len(self._idle))

    def _perform(self, effect: Effect, now: float) -> None:
        match effect:
            case Send():
                self._links[effect.key].send(effect.message)
            case Settle():
                self._settled(effect.outcomes)
            case Progress():
                for record in effect.records:
                    record.progressed()
            case Joined():
                self._dialer.joined(effect.view.key)
            case Parted():
                self._parted(effect.view)
                self._wake_changed()
            case Answered():
                self._answered(effect)
            case Greet():
                self._greet(self._links[effect.key])
            case Close():
                log.debug("link %d to %s closed: %s", effect.key, self._dialer.endpoint(effect.key), effect.why)
                if effect.refused:
                    endpoint = self._dialer.endpoint(effect.key)
                    self._seldom.warn(f"{endpoint} {effect.why}", "the node at %s refused: %s", endpoint, effect.why)
                link = self._links.pop(effect.key, None)
                if link is not None:
                    _close(link, goodbye=bool(effect.same_as))
                self._dialer.lost(effect.key, now, twin_of=effect.same_as, refused=effect.refused)
            case _ as never:
                assert_never(never)

    def _parted(self, view: NodeView) -> None:
        """A node is no longer one of ours; for those who have asked it something."""

    def _answered(self, answer: Answered) -> None:
        """A node answers; for those who ask."""

    def _settled(self, outcomes: Sequence[Outcome]) -> None:
        """Tell the application of the jobs that are over, and those who wait for room or for the last of them."""
        on_end = self.on_end
        for record, outcome in outcomes:
            record.finish(outcome)
            if on_end is not None:
                on_end(record)
        self._jobs -= len(outcomes)
        if self._room:
            _wake(self._room, len(outcomes))

    def _wake_changed(self) -> None:
        waiters, self._changed = self._changed, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def _arm(self, now: float) -> None:
        """Keep one timer, for the first thing that is due; one that fires early looks and goes on."""
        wake, other = self._session.next_wake(), self._dialer.next_wake()
        if wake is None or (other is not None and other < wake):
            wake = other
        if wake is None or (self._timer is not None and self._timer_at <= wake):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = max(wake, now)
        self._timer = self.loop.call_at(self._timer_at, self._time_passed)

    def _time_passed(self) -> None:
        self._timer = None
        self._events.append(Tick())
        self._turn(at=self._timer_at)

    # links

    def _found(self, source: str, endpoints: Iterable[str], keys: tuple[str, ...]) -> None:
        """Discovery has something new to offer."""
        if not self._closed:
            self._dialer.offer(source, endpoints, self.loop.time(), keys=keys)
            self._post(Tick())

    def _denied(self, node: str, why: str) -> None:
        self._post(KeyDenied(node, why))

    async def _watch_keys(self, keyring: Keyring) -> None:
        """Follow the list of those allowed. A node's own client has its node look."""
        allowed = keyring.allowed
        while True:
            await asyncio.sleep(KEYS_S)
            if keyring is not self._keys and not keyring.refresh() and keyring.flaw:
                self._seldom.warn(keyring.flaw, "the list of keys stays as it was: %s", keyring.flaw)
            if keyring.allowed is not allowed:
                allowed = keyring.allowed
                pins = allowed.node_keys()
                self._finder.pin(pins)
                for link in list(self._links.values()):
                    if link.curve is not None and link.curve.node not in pins:
                        link.close()
                        self._lost(link.key, "its node's key is no longer allowed")

    def _connect(self, endpoint: str) -> None:
        assert self._context is not None
        self._last_link += 1
        key = self._last_link
        expected = self._dialer.opened(endpoint, key)
        own = self._keyring.own if self._keyring is not None else None
        if own is not None and not expected:  # with keys nothing is ever said in the clear, whoever offers it
            self._dialer.lost(key, self.loop.time(), refused=True)
            return
        curve = Curve(expected, own.public, own.secret) if own is not None else None
        try:
            link = Link(self._context, key, endpoint, on_messages=self._heard, on_lost=self._lost, curve=curve)
        except zmq.ZMQError as error:
            log.warning("cannot connect to %s: %s", endpoint, error)
            self._dialer.lost(key, self.loop.time(), refused=True)
            return
        self._links[key] = link
        self._greet(link)
        self._post(Opening(key))

    def _greet(self, link: Link) -> None:
        link.send(ClientMessage(b"", 0, [Hello(MAGIC, *VERSIONS, self.mesh, self._name)]))

    def _heard(self, key: int, messages: list[NodeMessage]) -> None:
        self._events.extend([Heard(key, message) for message in messages])
        self._turn()
        if self._changed:
            self._wake_changed()
        self._heard_word()

    def _heard_word(self) -> None:
        """A node has spoken, and what it said is taken in; for those who wait for room at nodes."""

    def _lost(self, key: int, why: str) -> None:
        link = self._links.pop(key, None)
        if link is None:
            return
        left = self._dialer.lost(key, self.loop.time(), another_key=why == OTHER_KEY and link.curve is not None)
        if not left:
            self._look_why_denied(link, why)
        self._post(LinkLost(key, why))

    def _look_why_denied(self, link: Link, why: str) -> None:
        """Remember what keys had to do with the end of a link, for those who find no node."""
        if self._keyring is None or link.curve is None:
            if why in (OTHER_KEY, NO_KEYS):
                self._denied(link.endpoint, "the handshake failed: does it want keys? (docs/security.md)")
        elif why == KEY_REFUSED:
            node = self._keyring.allowed.node_keys().get(link.curve.node, link.endpoint)
            own = self._keyring.own
            self._denied(node, f"it does not accept the key {own.path.name}; is that in {ALLOWED} on its host?")
            self._seldom.warn(node, "node %s at %s does not accept the key %s", node, link.endpoint, own.path)
        elif why in (OTHER_KEY, NO_KEYS):
            what = (
                why if why == NO_KEYS else f"it has none of the keys that {ALLOWED} names for nodes, or speaks without"
            )
            self._denied(link.endpoint, what)
            self._seldom.warn(link.endpoint, "the node at %s is passed over: %s", link.endpoint, what)


def _networks(texts: Sequence[str]) -> Networks:
    if isinstance(texts, str):
        raise ConfigError(f"allow_networks is a list of networks: allow_networks=[{texts!r}]")
    try:
        return [ipaddress.ip_network(text) for text in texts]
    except ValueError as error:
        raise ConfigError(f"allow_networks: {error}, as in 10.0.0.0/8") from None


KEYS_S: Final = 1.0
"""Seconds between two looks whether the list of those allowed has changed."""

_NAME_LIMIT: Final = 63
_CLIENT_NAME_LIMIT: Final = 200
"""Characters of the names in HELLO (docs/protocol.md): a greeting with longer ones is dropped."""


def _close(link: Link, *, goodbye: bool) -> None:
    if goodbye:  # the node would count two clients, until it misses this one
        link.send(ClientMessage(b"", 0, [Bye()]))
    link.close(linger=_GOODBYE_S if goodbye else 0.0)


_GOODBYE_S: Final = 0.1
"""Seconds that a goodbye may take to leave while a link closes."""


def _tracing() -> Callable[[str, bytes], Trace | None] | None:
    """Return what tells which trace a job belongs to; None where nobody traces.

    Asked once, so that a job costs nothing more where OpenTelemetry is not used.
    """
    if "opentelemetry.trace" in sys.modules:
        from mesh import tracing

        if tracing.in_use():
            return tracing.handed_in
    return trace_here if isinstance(ambient.get(None), InnerClient) else None


def _wake(waiters: "deque[asyncio.Future[None]]", most: int) -> None:
    while waiters and most:
        waiter = waiters.popleft()
        if not waiter.done():
            waiter.set_result(None)
            most -= 1
