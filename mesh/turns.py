"""The turns of a client: what happened is told to the session, and what that orders is done. Shell.

Holds what a client has, and does what is done for each job; `mesh.client` opens and closes it, and waits. It stands
apart since this is compiled, and coroutines are not (docs/decisions/0011).
"""

import asyncio
import logging
import os
import random
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar, assert_never, overload

import zmq
from mypy_extensions import mypyc_attr

from mesh.core.dialer import Dialer
from mesh.core.effects import Answered, Close, Effect, Greet, Joined, Outcome, Parted, Progress, Send, Settle
from mesh.core.events import CancelAsked, Event, Heard, KeepAsked, KeyDenied, LinkLost, Opening, Submitted, Tick
from mesh.core.grants import ALLOWED
from mesh.core.record import DONE, PENDING, JobRecord
from mesh.core.roster import NodeView
from mesh.core.session import Session
from mesh.errors import BadArguments, ClosedError, MeshBusy
from mesh.finder import Finder, Networks
from mesh.job import Ended
from mesh.job import Job as AnyJob
from mesh.keys import Keyring
from mesh.link import KEY_REFUSED, NO_KEYS, OTHER_KEY, Curve, Link
from mesh.seldom import Seldom
from mesh.tasks import Task
from mesh.wire.messages import (
    MAGIC,
    VERSIONS,
    Bye,
    ClientMessage,
    Hello,
    NodeMessage,
    Trace,
)
from mesh.wire.payload import pack_arguments

if TYPE_CHECKING:
    from mesh.typed import Job

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
log = logging.getLogger("mesh")


@mypyc_attr(allow_interpreted_subclasses=True)
class Turns:
    """A client as far as it does not wait. `loop`: the one that it was opened in."""

    def __init__(
        self,
        mesh: str,
        *,
        seeds: Sequence[str],
        mdns: bool,
        keys: str | os.PathLike[str] | Keyring | None,
        networks: Networks,
        max_pending: int,
        discovery_grace: float,
        name: str,
        not_node: str,
    ) -> None:
        self.mesh = mesh
        self.on_end: Callable[[JobRecord], None] | None = None
        self.loop: asyncio.AbstractEventLoop
        self._finder = Finder(
            mesh,
            seeds=seeds,
            mdns=mdns,
            networks=networks,
            on_change=self._found,
            on_denied=self._denied,
        )
        self._keys = keys
        self._keyring: Keyring | None = None
        self._key_watch: asyncio.Task[None] | None = None
        self._seldom = Seldom(log)
        self._max_pending = max_pending
        self._name = name
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
        self._closing = self._closed = False
        self._room: deque[asyncio.Future[None]] = deque()
        self._idle: deque[asyncio.Future[None]] = deque()
        self._changed: list[asyncio.Future[None]] = []

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
        self._events.clear()  # of what was not heard any more: it leads to jobs, and these back here
        Turns._settled(self, outcomes)
        self._session.forget_jobs()
        for view in self._session.roster:
            link = self._links.pop(view.key, None)
            if link is not None:  # lost in this very turn otherwise
                link.send(ClientMessage(view.about.epoch, view.stamp, [Bye()]))
                link.close(linger=_GOODBYE_S)
        for link in self._links.values():
            link.close()
        self._links.clear()
        for waiter in [*self._room, *self._changed, *self._idle]:
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
        cannot travel, ClosedError on a client that is closed or being closed.
        """
        if self._closing:
            self._require_taking()
        if self._jobs >= self._max_pending:
            raise MeshBusy(f"{self._max_pending} jobs are under way (max_pending); await some, or use call or map")
        return Turns._submit(self, task, args, kwargs)

    def _require_taking(self) -> None:
        if self._closing and not self._closed:
            text = "this client is being closed: it waits for the jobs that it has, and takes no more"
            raise ClosedError(text, started=False)
        self._require_open()

    def _require_open(self) -> None:
        if self._closed or self._context is None:
            text = "this client is closed" if self._closed else "open this client first: async with Client()"
            raise ClosedError(text, started=False)

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
        job = AnyJob(self, self._id_prefix, name, pack_arguments(args, kwargs), self._last_id, ended=ended)
        if type(task) is str:
            Turns._check_by_name(self, job, name, args, kwargs)
        else:
            job.priority = task.settings.priority
            timeout = task.settings.timeout
            if timeout is not None:
                extras = job.own_extras()
                extras.timeout = timeout
                extras.deadline = self.loop.time() + timeout
        if self._tracing is not None:
            job.own_extras().trace = self._tracing(name, job.id)
        Turns.hand_in(self, job)
        return job

    def hand_in(self, record: JobRecord) -> None:
        """Take a job in; it leaves in this loop's next turn, together with all others of this one.

        The only one under way leaves at once: mostly there is none to come with it.
        """
        self._jobs += 1
        self._submitted.append(record)
        if self._jobs == 1 and not self._turn_due:
            Turns._turn(self)
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

    def cancel(self, job: AnyJob, how: int) -> None:
        """Ask that a job does not start; `how` far that goes if it runs (`mesh.wire.messages`, Cancel)."""
        self._post(CancelAsked(job, how))

    def keep(self, job: AnyJob) -> None:
        """Let a job outlive this client."""
        self._post(KeepAsked(job))

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
        Turns._arm(self, now)
        if self._idle:
            wake(self._idle, len(self._idle))

    def _perform(self, effect: Effect, now: float) -> None:
        match effect:
            case Send():
                self._links[effect.key].send(effect.message)
            case Settle():
                Turns._settled(self, effect.outcomes)
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
                link = self._links.pop(effect.key, None)
                if link is not None:
                    self._shut_link(link, effect, now)
            case _ as never:
                assert_never(never)

    def _parted(self, view: NodeView) -> None:
        """A node is no longer one of ours; for those who have asked it something."""

    def _answered(self, answer: Answered) -> None:
        """A node answers; for those who ask."""

    def _settled(self, outcomes: Sequence[Outcome]) -> None:
        """Tell the application of the jobs that are over, and those who wait for room or for the last of them."""
        for record, outcome in outcomes:
            record.finish(outcome)
        self._jobs -= len(outcomes)
        if self._room:
            wake(self._room, len(outcomes))
        if self.on_end is not None:
            for record, _ in outcomes:
                self._tell_of_end(record)

    def _tell_of_end(self, record: JobRecord) -> None:
        try:
            assert self.on_end is not None
            self.on_end(record)
        except Exception:
            log.exception("on_end failed for a job of task %r", record.task)

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
        Turns._turn(self, at=self._timer_at)

    # links

    def _found(self, source: str, endpoints: Iterable[str], keys: tuple[str, ...]) -> None:
        """Discovery has something new to offer."""
        if not self._closed:
            self._dialer.offer(source, endpoints, self.loop.time(), keys=keys)
            self._post(Tick())

    def _denied(self, node: str, why: str) -> None:
        self._post(KeyDenied(node, why))

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

    def _shut_link(self, link: Link, close: Close, now: float) -> None:
        endpoint = link.endpoint
        log.debug("link %d to %s closed: %s", close.key, endpoint, close.why)
        if close.refused:
            self._seldom.warn(f"{endpoint} {close.why}", "the node at %s refused: %s", endpoint, close.why)
        if close.same_as:  # the node would count two clients, until it misses this one
            link.send(ClientMessage(b"", 0, [Bye()]))
        link.close(linger=_GOODBYE_S if close.same_as else 0.0)
        self._dialer.lost(close.key, now, twin_of=close.same_as, refused=close.refused, goodbye=close.goodbye)

    def _heard(self, key: int, messages: list[NodeMessage]) -> None:
        self._events.extend([Heard(key, message) for message in messages])
        Turns._turn(self)
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


_GOODBYE_S: Final = 0.1
"""Seconds that a goodbye may take to leave while a link closes."""


def wake(waiters: "deque[asyncio.Future[None]]", most: int) -> None:
    while waiters and most:
        waiter = waiters.popleft()
        if not waiter.done():
            waiter.set_result(None)
            most -= 1
