"""A client that also asks nodes of themselves, and tells them what to do. Shell: `docs/protocol.md`, Operating.

It is what `meshctl` is made of: an ordinary client, whose key a node lets operate it.
"""

import asyncio
from typing import Any, NoReturn

import msgspec

from mesh.client import Client
from mesh.core.doctor import AUTH
from mesh.core.effects import Answered, Close, Effect
from mesh.core.events import OperateAsked
from mesh.core.roster import NodeView
from mesh.errors import MeshError, NotAllowed
from mesh.link import KEY_REFUSED, NO_KEYS, OTHER_KEY
from mesh.seen import NodeInfo
from mesh.wire.reports import Report, decode_report, decode_wrong

PATIENCE_S = 5.0
"""Seconds for a node to answer; one of before this was thought of passes the question over."""


class OperateError(MeshError):
    """The node has not done it; the text says why."""


class Operator(Client):
    """Asks nodes. `ends`: how the last link to each endpoint ended that led to no node, or no longer does."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.ends: dict[str, str] = {}
        self._asked: dict[int, tuple[str, asyncio.Future[Report]]] = {}
        self._last_token = 0

    async def ask(self, node: NodeInfo, verb: str, *, timeout: float | None = PATIENCE_S, **args: Any) -> Report:
        """Ask a node, and return what it reports. Raises OperateError, and NotAllowed where the key is not enough."""
        view = self._session.roster.by_id(node.id)
        if view is None:
            raise OperateError(f"the node {node.name} is gone")
        if not node.version:
            raise OperateError(f"the node {node.name} is of an earlier version: it cannot be operated from elsewhere")
        self._last_token += 1
        token = self._last_token
        answer: asyncio.Future[Report] = self.loop.create_future()
        self._asked[token] = node.id, answer
        self._post(OperateAsked(view.key, token, verb, msgspec.msgpack.encode(args)))
        try:
            async with asyncio.timeout(timeout):
                return await answer
        except TimeoutError:
            raise OperateError(f"the node {node.name} does not answer within {timeout:g} s") from None
        finally:
            del self._asked[token]

    def record(self, node: NodeInfo) -> NodeView | None:
        """Return all that this client knows of a node; None if it is gone."""
        return self._session.roster.by_id(node.id)

    # what happens to links and questions

    def _answered(self, answer: Answered) -> None:
        _, waiting = self._asked.get(answer.token, ("", None))
        if waiting is None or waiting.done():
            return
        try:
            if answer.ok:
                waiting.set_result(decode_report(answer.body))
            else:
                _raise(answer.body)
        except MeshError as error:
            waiting.set_exception(error)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            waiting.set_exception(OperateError(f"the node answers what cannot be read: {error}"))

    def _parted(self, view: NodeView) -> None:
        for node_id, waiting in self._asked.values():
            if node_id == view.about.node and not waiting.done():
                waiting.set_exception(OperateError(f"the node {view.about.name} is gone"))

    def _perform(self, effect: Effect, now: float) -> None:
        if isinstance(effect, Close) and not effect.same_as:
            self.ends[self._dialer.endpoint(effect.key)] = effect.why
        super()._perform(effect, now)

    def _lost(self, key: int, why: str) -> None:
        self.ends[self._dialer.endpoint(key)] = self._why_lost(key, why)
        super()._lost(key, why)

    def _why_lost(self, key: int, why: str) -> str:
        link = self._links.get(key)
        if why in (OTHER_KEY, NO_KEYS) and (link is None or link.curve is None):
            return f"{AUTH}: it wants keys, and this client has none"
        return f"{AUTH}: {why}" if why in (KEY_REFUSED, OTHER_KEY, NO_KEYS) else why


def _raise(body: bytes) -> NoReturn:
    wrong = decode_wrong(body)
    raise NotAllowed(wrong.message) if wrong.type == "NotAllowed" else OperateError(wrong.message)
