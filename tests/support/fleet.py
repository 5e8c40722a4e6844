"""Several nodes of one application: started, killed and started again on the ports that they had."""

from __future__ import annotations

import asyncio
import string
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import mesh
from mesh.seen import NodeInfo
from tests.support.ledger import Ledger
from tests.support.nodes import NodeProcess, lasting_address


class Fleet:
    """Nodes called a, b, c… that serve the tasks of one folder and write into one ledger.

    `workers`: how many each node has, one after the other. `options` are those of `NodeProcess`.
    """

    def __init__(self, folder: Path, ledger: Ledger, workers: Sequence[int], **options: Any) -> None:
        self._folder = folder
        self._ledger = ledger
        self._options = options
        self._stack = ExitStack()
        self._nodes: dict[str, NodeProcess] = {}
        self._workers = dict(zip(string.ascii_lowercase, workers, strict=False))
        self._binds = {name: lasting_address() for name in self._workers}

    def __enter__(self) -> Self:
        with ExitStack() as stack:  # ends those that have begun if another cannot
            self._stack = stack
            for name in self._binds:
                self.start(name)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def __getitem__(self, name: str) -> NodeProcess:
        return self._nodes[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._binds)

    @property
    def seeds(self) -> list[str]:
        return [node.seed for node in self._nodes.values()]

    def start(self, name: str) -> NodeProcess:
        """Start a node, on the port that it had before if there was one; returns when it is ready."""
        node = NodeProcess(
            self._folder,
            workers=self._workers[name],
            bind=self._binds[name],
            environment=self._ledger.environment(name),
            **self._options,
        )
        if name in self._nodes:
            self._nodes[name].__exit__(None, None, None)  # lets go of what this process held for it
        self._nodes[name] = self._stack.enter_context(node)
        return node

    async def restart(self, name: str) -> NodeProcess:
        """Start a node that has ended, beside the loop."""
        return await asyncio.to_thread(self.start, name)

    def client(self, **options: Any) -> mesh.Client:
        """Return a client, not yet begun, that knows all of them."""
        return mesh.Client(seeds=self.seeds, mdns=False, **options)

    def seen(self, client: mesh.Client, name: str) -> NodeInfo | None:
        """Return a node as a client sees it now; None if it sees none there."""
        return next((about for about in client.nodes() if about.endpoint == self._nodes[name].endpoint), None)
