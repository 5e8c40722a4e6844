"""Sends bridge callers' jobs on to other nodes, by the same core as a client's.

Shell: a client of the mesh inside the node. A job that no other node takes at once comes back and waits here.
"""

from collections.abc import Callable

from mesh.client import Client
from mesh.keys import NO_KEYS
from mesh.wire.messages import Failed, Result, TaskSpec
from meshnode.config import Settings
from meshnode.core.events import Event, ForwardEnded, Tick
from meshnode.core.held import Held
from meshnode.forwarded import ForwardedJob


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
        self._post_to_node(ForwardEnded(job.held, item, job.began, job.extras.crashes))

    def _heard_word(self) -> None:
        self._post_to_node(Tick())
