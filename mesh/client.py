"""The client: hands jobs to the mesh from inside any asyncio application.

Shell: joins the session (which decides), the links (which carry), discovery (who is there) and the application.
It starts no thread; everything happens in turns of the application's own loop (`mesh.turns`).
"""

import asyncio
import ipaddress
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from contextvars import Token
from types import TracebackType
from typing import Any, Final, ParamSpec, Self, TypeVar, overload

from mesh.core.roster import NodeView
from mesh.errors import ClosedError, ConfigError, NoNodes
from mesh.finder import Networks
from mesh.inner import InnerClient
from mesh.job import Ended
from mesh.job import Job as AnyJob
from mesh.keys import Keyring, client_keyring
from mesh.link import context
from mesh.seen import NodeInfo
from mesh.tasks import Task, ambient, trace_here
from mesh.turns import Turns, wake
from mesh.wire.messages import TaskSpec, Trace

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

IN_FLIGHT: Final = 2048
"""Jobs that `map` keeps under way by default: enough for two milliseconds of the smallest (docs/protocol.md,
Windows), few enough to hold their results in memory."""


class Client(Turns):
    """Hands jobs to the nodes of a mesh.

    `seeds`: nodes by address, `"web7:5750"`; `mdns`: look for nodes on this host and its networks too.
    `keys`: the mesh's folder of keys, or a key file in it; found by itself where it lies in its place, `"none"` for no
    keys (docs/security.md). `allow_networks`: believe mDNS only addresses in these, `"10.0.0.0/8"`.
    `max_pending`: jobs under way at most; beyond it `submit` raises MeshBusy, `call` and `map` wait.
    `discovery_grace`: seconds that a job waits for the first node that serves its task. Leaving the block waits for
    what is outstanding, but for jobs that were detached, and takes no more. Raises ConfigError for a value that makes
    no sense. `on_end`, once set, is called with each job right after it has ended, also while the client is being
    closed: for those who keep books of all.

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
        super().__init__(
            mesh,
            seeds=seeds,
            mdns=mdns,
            keys=keys,
            networks=_networks(allow_networks),
            max_pending=max_pending,
            discovery_grace=discovery_grace,
            name=name or "",
            not_node=not_node,
        )
        self._token: Token[Client | InnerClient] | None = None

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
        """Wait for what is outstanding, at most `timeout` seconds; what is left then ends with ClosedError.

        Meanwhile `call` and `submit` raise ClosedError, and a `map` does when it has yielded what it had under way:
        those who go on handing in would never let it end.
        """
        if self._closed or self._context is None:
            self._closed = True
            return
        try:
            await asyncio.sleep(0)  # what tasks made just before hand in with their first step comes before
            self._closing = True
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
        if self._closing:
            self._require_taking()
        if self._jobs < self._max_pending and not self._room:
            return await self._submit(task, args, kwargs)
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

    async def map(
        self, task: Any, *iterables: Iterable[Any], ordered: bool = True, in_flight: int = IN_FLIGHT
    ) -> AsyncIterator[Any]:
        """Run a job for each element (or each tuple of several iterables), at most `in_flight` at once.

        Yields results in order, or as they come with `ordered=False`. The first failure is raised; what was under
        way and has not started is cancelled then, as it is when the loop over the results is left. Raises ClosedError
        where the client is closed before all are handed in, after what was under way.
        """
        self._require_taking()
        arguments = zip(*iterables, strict=False)
        under_way: dict[AnyJob, None] = {}
        ended = None if ordered else Ended(self.loop)
        bound = max(1, min(in_flight, self._max_pending))
        no_names: dict[str, Any] = {}
        try:
            exhausted = False
            while True:
                # One that goes on while the client is being closed would never let it end.
                while (
                    not (exhausted or self._closing)
                    and len(under_way) < bound
                    and (self._jobs < self._max_pending or not under_way)
                ):
                    element = next(arguments, None)
                    if element is None:
                        exhausted = True
                    elif self._jobs < self._max_pending:
                        under_way[self._submit(task, element, no_names, ended)] = None
                    else:
                        under_way[await self._submit_with_room(task, element, no_names, ended)] = None
                if not under_way:
                    if not exhausted:
                        self._require_taking()
                    return
                if ended is None:
                    job = next(iter(under_way))
                elif ended.jobs:
                    job = ended.jobs.popleft()
                else:
                    job = await ended.get()
                result = job.outcome() if job.over else await job
                del under_way[job]
                yield result
        finally:
            for job in under_way:
                job.abandon()

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
                wake(self._room, 1)

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


def _tracing() -> Callable[[str, bytes], Trace | None] | None:
    """Return what tells which trace a job belongs to; None where nobody traces.

    Asked once, so that a job costs nothing more where OpenTelemetry is not used.
    """
    if "opentelemetry.trace" in sys.modules:
        from mesh import tracing

        if tracing.in_use():
            return tracing.handed_in
    return trace_here if isinstance(ambient.get(None), InnerClient) else None
