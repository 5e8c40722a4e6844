"""Sends bridge callers' jobs on to other nodes, by the same core as a client's.

Shell: a client of the mesh inside the node. A job that no other node takes at once comes back and waits here.
"""

from collections.abc import Callable

from mypy_extensions import mypyc_attr

from mesh.client import Client
from mesh.core.record import JobRecord
from mesh.errors import Failure, MeshBusy, MeshError
from mesh.keys import NO_KEYS
from mesh.wire.messages import FORM_JSON, Failed, Result, TaskSpec, trace_of
from mesh.wire.payload import pack_failure
from meshnode.config import Settings
from meshnode.core import text
from meshnode.core.events import Event, ForwardEnded, Tick
from meshnode.core.held import Held


class Forwarder(Client):
    """Knows the other nodes of the mesh. `post` gets what came of each job, and a tick for each word from them."""

    def __init__(self, settings: Settings, *, post: Callable[[Event], None]) -> None:
        super().__init__(
            settings.mesh,
            seeds=settings.seeds,
            mdns=settings.mdns,
            keys=settings.keys or NO_KEYS,
            allow_networks=settings.allow_networks,
            max_pending=2**31,
            name=f"node {settings.shown_name}",
            not_node=settings.node_id,
        )
        self._post_to_node = post

    @property
    def there(self) -> bool:
        """Is any other node connected?"""
        return len(self._session.roster) > 0

    def free(self, task: str, *, is_async: bool) -> int:
        """Slots free for a task at other nodes, as of their last words."""
        return self._session.roster.free(task, is_async=is_async)

    def spec(self, task: str) -> TaskSpec | None:
        """Return a task as another node serves it."""
        served = self._session.roster.serves(task)
        return served.spec if served else None

    def forward(self, held: Held) -> None:
        """Send a job on."""
        self.hand_in(ForwardedJob(held, self._ended))

    def _ended(self, job: "ForwardedJob", item: Result | Failed | None) -> None:
        self._post_to_node(ForwardEnded(job.held, item, job.began, job.crashes))

    def _heard_word(self) -> None:
        self._post_to_node(Tick())


@mypyc_attr(acyclic=True)
class ForwardedJob(JobRecord):
    """A bridge caller's job on its way to another node; it is not forwarded again from there."""

    def __init__(self, held: Held, ended: Callable[["ForwardedJob", Result | Failed | None], None]) -> None:
        submit = held.submit
        super().__init__(submit.id, submit.task, submit.body)
        self.form = submit.form
        self.priority = submit.options.priority if submit.options else 5
        self.deadline = None if submit.remaining is None else held.expires
        self.bounce = True
        self.forwarded = True
        self.attempt = submit.attempt
        self.crashes = held.crashes
        self.trace = trace_of(submit.options)
        self.held = held
        self._ended = ended

    def finish(self, outcome: Result | Failed | MeshError) -> None:
        """Hand what came of it back to the scheduler; None where no node took it."""
        if isinstance(outcome, MeshBusy):
            self.began = self.began or outcome.started is True
            self._ended(self, None)
        elif isinstance(outcome, MeshError):
            self._ended(self, Failed(self.id, self.attempt, self._failure(outcome)))
        else:
            self._ended(self, outcome)

    def _failure(self, error: MeshError) -> bytes:
        started = error.started is not False
        if self.form == FORM_JSON:
            return text.error(type(error), str(error), started=started)
        return pack_failure(Failure(type(error).__name__, str(error), mesh=True, started=started))
