"""What a node tells the service manager that started it: datagrams to `$NOTIFY_SOCKET`, as sd_notify(3) says. Shell.

Ready, reloading, stopping, how it is, and, where a watchdog asks for it, that its main loop still turns.
"""

import asyncio
import logging
import os
import socket
import time
from collections.abc import Callable, MutableMapping
from typing import Self

log = logging.getLogger(__name__)

TELL_S = 10.0
"""Seconds between two tellings of how the node is, where no watchdog wants to hear more often."""

BEATS = 3
"""Signs of life in the time after which the watchdog ends a silent node (sd_watchdog_enabled(3) wants two or more)."""

PATIENCE_S = 0.5
"""Seconds that a manager with a full socket is waited for: the node's loop stands still meanwhile."""

LONGEST = 400
"""Characters of a status; a service manager shows it in one line."""


class Notifier:
    """Tells a service manager how the node is; one that is not there is told nothing.

    `address`: its socket, a path or, with `@` in front, an abstract name; `watchdog`: seconds of silence after which
    it ends the node.
    """

    def __init__(self, address: str | None = None, *, watchdog: float | None = None) -> None:
        self._address = f"\0{address[1:]}" if address is not None and address.startswith("@") else address
        self._pause = TELL_S if watchdog is None else min(TELL_S, watchdog / BEATS)
        self._watched = watchdog is not None
        self._timer: asyncio.TimerHandle | None = None
        self._describe: Callable[[], str] = str
        self._told = ""
        self._complained = False

    @classmethod
    def from_environment(cls, environment: MutableMapping[str, str] = os.environ) -> Self:
        """Make one as the service manager asks, and take its variables away, so that no worker answers in our name."""
        address = environment.pop("NOTIFY_SOCKET", None)
        length = environment.pop("WATCHDOG_USEC", "")
        meant = environment.pop("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        if not address or address[0] not in "/@":
            return cls()
        watched = meant and length.isdecimal() and int(length) > 0
        return cls(address, watchdog=int(length) / 1e6 if watched else None)

    def ready(self, describe: Callable[[], str]) -> None:
        """The node serves, and `describe` says how it is, from now on again and again."""
        if self._address is None:
            return
        self._describe = describe
        self._told = described = describe()[:LONGEST]
        self._send("READY=1", f"STATUS={described}", *self._sign_of_life())
        self._next()

    def reloading(self) -> None:
        """The node begins to replace its workers; `reloaded` ends that."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}", "STATUS=reloading")
        self._told = "reloading"

    def reloaded(self) -> None:
        """The workers are replaced, or stay as they were."""
        self._send("READY=1")
        self.tell()

    def stopping(self) -> None:
        """The node takes nothing more and ends."""
        self._send("STOPPING=1")
        self.tell()

    def tell(self) -> None:
        """Say how the node is, if that is news."""
        if self._timer is None:
            return
        described = self._describe()[:LONGEST]
        if described != self._told:
            self._told = described
            self._send(f"STATUS={described}")

    def close(self) -> None:
        """Say nothing any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _next(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._pause, self._turned)

    def _turned(self) -> None:
        """The loop has come round to this timer: it lives."""
        self._send(*self._sign_of_life())
        self.tell()
        self._next()

    def _sign_of_life(self) -> tuple[str, ...]:
        return ("WATCHDOG=1",) if self._watched else ()

    def _send(self, *lines: str) -> None:
        if self._address is None or not lines:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.settimeout(PATIENCE_S)
            try:
                sender.sendto("\n".join(lines).encode(), self._address)
            except OSError as error:
                if not self._complained:
                    log.warning("the service manager at $NOTIFY_SOCKET cannot be told anything: %s", error)
                self._complained = True
