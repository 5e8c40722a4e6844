"""An SMTP server to try things with: takes every mail, keeps none, and counts them.

    python -m examples.smtp_server [PORT] [SECONDS FOR EACH MAIL]

A mail that comes with a Message-ID seen before is a duplicate.
"""

import asyncio
import signal
import sys
from email import message_from_bytes
from typing import Any

from aiosmtpd.smtp import SMTP

SHOW_S = 0.05


class Mailbox:
    """Counts what comes in."""

    def __init__(self, takes_s: float) -> None:
        self.takes_s = takes_s
        self.accepted = 0
        self.messages: set[str] = set()
        self.recipients: set[str] = set()

    async def handle_DATA(self, _server: SMTP, _session: Any, envelope: Any) -> str:  # noqa: N802  # aiosmtpd's name
        """Take one mail, as slowly as was asked for, while others come in."""
        await asyncio.sleep(self.takes_s)
        self.accepted += 1
        self.messages.add(str(message_from_bytes(envelope.content)["Message-ID"]))
        self.recipients.update(envelope.rcpt_tos)
        return "250 taken"

    def __str__(self) -> str:
        """Say what was counted."""
        duplicates = self.accepted - len(self.messages)
        return f"accepted {self.accepted}, recipients {len(self.recipients)}, duplicates {duplicates}"


async def main(port: int = 1025, takes_s: float = 0.004) -> None:
    """Serve until told to stop, and print the counts whenever they have changed."""
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    mailbox = Mailbox(takes_s)
    server = await loop.create_server(lambda: SMTP(mailbox, hostname="localhost", loop=loop), "127.0.0.1", port)
    print(f"smtp: 127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    shown = str(mailbox)
    while not stop.is_set():
        await asyncio.sleep(SHOW_S)
        if str(mailbox) != shown:
            shown = str(mailbox)
            print(shown, flush=True)
    server.close()


if __name__ == "__main__":
    asyncio.run(main(*(int(word) for word in sys.argv[1:2]), *(float(word) for word in sys.argv[2:3])))
