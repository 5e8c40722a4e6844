"""Clients of the nodes that a test has started."""

from __future__ import annotations

import asyncio
from typing import Any

import mesh
from mesh.core.record import STARTED
from tests.support.nodes import NodeProcess


def connected(*nodes: NodeProcess, **options: Any) -> mesh.Client:
    """Return a client, not yet begun, that knows these nodes by their addresses."""
    return mesh.Client(seeds=[node.seed for node in nodes], mdns=False, **options)


async def until_started(client: mesh.Client, *jobs: mesh.Job[Any]) -> None:
    """Wait for the node's word that all of these run, or have run and ended. Raises TimeoutError after 20 s."""
    async with asyncio.timeout(20):
        for job in jobs:
            while job.state != STARTED and not job.done():
                await client.changed()
