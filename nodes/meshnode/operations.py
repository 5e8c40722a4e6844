"""What peers of the front ask a node to tell or do: OPERATE in, ANSWER out. Shell: `docs/protocol.md`, Operating.

What a verb does is `steering`'s, as for the control socket; here it is read, bounded, and its answer packed.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable

import msgspec

from mesh.wire.messages import Answer as AnswerItem
from mesh.wire.messages import Operate
from mesh.wire.reports import Report, Wrong, packed
from meshnode.control import Answer, RefusedError, Request
from meshnode.core.peers import Peer

log = logging.getLogger("meshnode")

OPEN = frozenset(("status", "connections", "jobs", "stack", "reach", "cancel", "drain", "undrain", "reload", "scale"))
"""Verbs for whoever may operate the node from elsewhere. To stop it takes somebody on its host."""

TELLING = frozenset(("status", "connections", "jobs", "stack", "reach"))
"""Those that change nothing, and are not logged."""

MOST = 64
MOST_OF_ONE = 16
"""Questions under way at once, of all peers and of one: each is answered in moments, but for reloads."""


class Operations:
    """Has what peers ask answered by `answer`, and `say` them what came of it."""

    def __init__(
        self, answer: Callable[[Request], Awaitable[Answer]], *, say: Callable[[Peer, AnswerItem], None]
    ) -> None:
        self._answer = answer
        self._say = say
        self._of_peer: Counter[int] = Counter()
        self._under_way: set[asyncio.Task[None]] = set()

    def take(self, peer: Peer, item: Operate) -> None:
        """A peer that may operate this node asks something."""
        key = peer.owner.key
        if len(self._under_way) >= MOST or self._of_peer[key] >= MOST_OF_ONE:
            self._refuse(peer, item, "MeshBusy", "too much is asked of this node already")
            return
        self._of_peer[key] += 1
        task = asyncio.get_running_loop().create_task(self._serve(peer, item))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def close(self) -> None:
        """Give up what is under way."""
        tasks = list(self._under_way)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _serve(self, peer: Peer, item: Operate) -> None:
        try:
            answer = await self._answer(_request(item))
        except RefusedError as error:
            self._refuse(peer, item, "Refused", str(error))
        except Exception as error:  # a verb's failure is its asker's; the node goes on
            log.exception("a verb failed")
            self._refuse(peer, item, type(error).__name__, f"the verb failed: {error}")
        else:
            if item.verb not in TELLING:
                log.info("%s: done, as the client %r asked", item.verb, peer.name)
            report = msgspec.convert(answer, Report, from_attributes=True)
            self._say(peer, AnswerItem(item.token, True, packed(report)))
        finally:
            self._of_peer[peer.owner.key] -= 1
            if not self._of_peer[peer.owner.key]:
                del self._of_peer[peer.owner.key]

    def _refuse(self, peer: Peer, item: Operate, kind: str, text: str) -> None:
        self._say(peer, AnswerItem(item.token, False, packed(Wrong(kind, text[:2000]))))


def _request(item: Operate) -> Request:
    """Read what a peer asks. Raises RefusedError."""
    if item.verb not in OPEN:
        raise RefusedError(f"{item.verb!r} is no verb that this node hears from elsewhere")
    try:
        args = msgspec.msgpack.decode(item.args, type=dict[str, object]) if item.args else {}
        return msgspec.convert({**args, "verb": item.verb}, Request)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise RefusedError(f"what goes with {item.verb!r} cannot be read: {error}") from None
