"""A site that must not stall: a WebSocket server that hands its mails over to the mesh.

    mail 1000      hand over 1,000 mails; "task complete" comes when all are sent, and nobody waits meanwhile
    inline 50      the same the old way: send them from here, and everybody waits
    stats          the longest stall of the event loop since last asked, the nodes, and the mails that each sent
    anything else  comes back at once

SITE_PORT is its port (8000), MESHNODE_MESH the mesh (default).
"""

import asyncio
import json
import os
import signal
from collections import Counter
from contextlib import suppress
from uuid import uuid4

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

import mesh
from examples.loop_watch import LoopWatch
from examples.tasks import Mailer, letter, send_mail

NEWS = "There is news on the site: come and see."
GRACE_S = 2.0
"""Seconds that mails under way get when the site is told to stop; their visitors hear of those that are left."""


class Site:
    """Answers its visitors."""

    def __init__(self, client: mesh.Client, watch: LoopWatch) -> None:
        self.client = client
        self.watch = watch
        self.sent_by: Counter[str] = Counter()

    async def welcome(self, visitor: ServerConnection) -> None:
        """Serve one visitor until they leave; mails that they asked for are sent even so."""
        async with asyncio.TaskGroup() as background:
            with suppress(ConnectionClosed):
                async for message in visitor:
                    match str(message).split():
                        case ["mail", count] if count.isdecimal():
                            background.create_task(self.send_mails(visitor, int(count)))
                        case ["inline", count] if count.isdecimal():
                            await visitor.send(self.send_mails_inline(int(count)))
                        case ["stats"]:
                            await visitor.send(self.stats())
                        case _:
                            await visitor.send(message)

    async def send_mails(self, visitor: ServerConnection, count: int) -> None:
        """Hand the mails over, wait for them without holding up anybody, tell this visitor."""
        try:
            addresses = [f"reader{n}@example.org" for n in range(count)]
            jobs = [self.client.submit(send_mail, to=address, contents=NEWS) for address in addresses]
            for job in jobs:
                await job
                self.sent_by[str(job.node)] += 1
            answer = f"task complete: {count} mails"
        except (mesh.MeshError, OSError) as error:
            answer = f"task failed: {error}"
        with suppress(ConnectionClosed):
            await visitor.send(answer)

    def send_mails_inline(self, count: int) -> str:
        """Send them from this process, as one would without a mesh: the event loop stands still."""
        mailer = Mailer()
        for n in range(count):
            mailer.send(letter(uuid4().hex, f"inline{n}@example.org", NEWS, "site@example.org"))
        mailer.close()
        return f"task complete: {count} mails"

    def stats(self) -> str:
        """Report; the stall is measured anew from here."""
        nodes = [node.name for node in self.client.nodes()]
        return json.dumps(
            {"longest_stall_ms": self.watch.longest_stall_ms(), "nodes": nodes, "sent_by": dict(self.sent_by)}
        )


async def main() -> None:
    """Serve until told to stop."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    port = int(os.environ.get("SITE_PORT", "8000"))
    async with (
        LoopWatch() as watch,
        mesh.Client(os.environ.get("MESHNODE_MESH", "default")) as client,
        serve(Site(client, watch).welcome, "127.0.0.1", port) as server,
    ):
        print(f"site: ws://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
        await stop.wait()
        await client.close(timeout=GRACE_S)


if __name__ == "__main__":
    asyncio.run(main())
