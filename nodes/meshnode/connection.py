"""One plain socket at the bridge. Shell: `docs/text-protocol.md`.

Owns its transport. What is said and done the conversation decides; here it is carried out.
"""

import asyncio
import os
from contextlib import suppress
from fcntl import ioctl
from termios import FIONREAD
from typing import Protocol

from mesh.wire.messages import NodeItem
from meshnode.core.conversation import CROWDED_BYTES, Conversation, Phase
from meshnode.core.events import Event

UNSENT_BYTES = 256 << 20
"""Bytes of replies that may wait for one caller: what its jobs in flight return comes, though it does not read."""

LOUD_BYTES = 32 * 1024
"""A piece of input this large says that more is on its way."""

HOLD_TURNS = 64
"""Turns of the loop for which replies wait while a caller writes on. One that writes and closes without reading resets
the connection as soon as a reply has reached it, and its kernel then drops what it has not sent."""

RESCUE_BYTES = 16 << 20
"""Bytes read at most from a connection that is lost, what its kernel had taken before."""


class Host(Protocol):
    """What a connection asks of the bridge that accepted it."""

    unread: float
    requests: int
    rescued: int

    @property
    def crowded(self) -> bool:
        """Do all connections together hold too much?"""

    def post(self, event: Event) -> None:
        """Tell the scheduler."""

    def opened(self, connection: "Connection") -> str | None:
        """Count a connection in; return why there is no room for it, if so."""

    def closed(self, connection: "Connection") -> None:
        """Count a connection out. What it asked for may still run."""

    def finished(self, connection: "Connection") -> None:
        """Forget a connection: nothing of it is left."""

    def weigh(self, more: int) -> None:
        """Count bytes that wait, or fewer of them."""

    def gave_up(self, connection: "Connection", unsent: int) -> None:
        """Count a connection that is closed since its caller does not read, and say so."""


class Connection(asyncio.Protocol):
    """One plain socket. Each thing that happens is told to the conversation, and ends in one `_turn`."""

    def __init__(self, host: Host, conversation: Conversation, keys: tuple[int, int]) -> None:
        self.address = ""
        self.keys = keys
        self._host = host
        self._loop = asyncio.get_running_loop()
        self._conversation = conversation
        self._transport: asyncio.Transport
        self._descriptor = -1
        self._unread_count = bytearray(4)
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._weight = 0
        self._requests = 0
        self._reading = True
        self._ended = False
        self._finishing = False
        self._closing = False
        self._lost = False
        self._advancing = False
        self._holding = False
        self._loud = False
        self._held_turns = 0

    # what happens to the socket

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = transport  # type: ignore[assignment]  # uvloop's transports are no asyncio.Transport
        self._descriptor = transport.get_extra_info("socket").fileno()
        peer = transport.get_extra_info("peername")
        self.address = str(peer[0]) if peer else "(gone)"
        why = self._host.opened(self)
        if why is not None:
            self._conversation.refuse(f"this node takes no more: {why}", self._loop.time())
            self._turn()

    def data_received(self, data: bytes) -> None:
        """Take input."""
        self._loud = len(data) >= LOUD_BYTES
        self._conversation.received(data, self._loop.time())
        if self._conversation.pending > CROWDED_BYTES and self._host.crowded:
            self._conversation.refuse("this node holds too much input for a line as long as this", self._loop.time())
        self._turn()

    def eof_received(self) -> bool:
        """Take note that no more input comes; whether the caller still reads is not known, so stay open."""
        self._ended = True
        self._conversation.ended(self._loop.time())
        self._turn()
        return True

    def pause_writing(self) -> None:
        """Take note that the caller does not read."""
        self._conversation.paused(self._loop.time())

    def resume_writing(self) -> None:
        """Take note that it reads again."""
        self._conversation.resumed(self._loop.time())
        self._turn()

    def connection_lost(self, exc: Exception | None) -> None:
        """Read what the kernel had taken before, and leave it to run."""
        self._lost = True
        if exc is not None and not self._ended and not self._closing:
            self._rescue()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._host.closed(self)
        self._conversation.lost(self._loop.time())
        self._turn()

    def _rescue(self) -> None:
        """Read on after a failed write: a transport gives up its input with it, the kernel does not.

        Both loops call `connection_lost` before they close the socket.
        """
        left = RESCUE_BYTES
        with suppress(OSError):
            while left > 0 and (data := os.read(self._descriptor, 256 * 1024)):
                left -= len(data)
                self._host.rescued += len(data)
                self._conversation.received(data, self._loop.time())

    # what the node says

    def reply(self, items: list[NodeItem]) -> None:
        """Take what came of jobs."""
        self._conversation.replied(items, self._loop.time())
        self._turn()

    def drain(self) -> None:
        """Take nothing new."""
        self._conversation.drain(self._loop.time())
        self._turn()

    def shut(self) -> None:
        """Answer what is owed, whatever it is."""
        self._holding = False
        self._conversation.shut(self._loop.time())
        self._turn()

    def close(self, *, force: bool) -> None:
        """Close; what is written still leaves, unless by force."""
        self._closing = True
        if force:
            self._transport.abort()
        else:
            self._transport.close()

    # what follows from it

    def _turn(self) -> None:
        """Do all that the conversation now wants."""
        conversation = self._conversation
        for event in conversation.events():
            self._host.post(event)
        self._count()
        if conversation.more and not self._advancing:
            self._advancing = True
            self._loop.call_soon(self._advance)
        if conversation.finished:
            self._host.finished(self)
        if self._lost or self._closing:
            return
        if not self._holding:
            self._write()
        if not conversation.speaks and not self._closing:
            self._follow()
        self._steer()
        self._arm()

    def _count(self) -> None:
        held = self._conversation.held
        if held != self._weight:
            self._host.weigh(held - self._weight)
            self._weight = held
        self._host.requests += self._conversation.requests - self._requests
        self._requests = self._conversation.requests

    def _advance(self) -> None:
        self._advancing = False
        self._conversation.advance(self._loop.time())
        self._turn()

    def _write(self) -> None:
        conversation = self._conversation
        if not conversation.speaks or self._transport.is_closing() or conversation.hushed(self._loop.time()):
            return
        if self._writes_on and self._held_turns < HOLD_TURNS:
            self._hold()
            return
        self._held_turns = 0
        self._transport.write(conversation.output())
        if self._transport.get_write_buffer_size() > UNSENT_BYTES:
            self._give_up()

    def _follow(self) -> None:
        """End or close, as the conversation says, now that everything is written."""
        if self._transport.is_closing():
            return
        phase = self._conversation.phase
        if phase is Phase.OVER:
            self._end()
        elif phase is Phase.LINGERING and not self._finishing:
            self._finishing = True
            self._transport.write_eof()

    def _steer(self) -> None:
        """Read or pause reading, as the conversation says."""
        reading = self._conversation.reads(crowded=self._host.crowded)
        if reading is self._reading or self._ended or self._transport.is_closing():
            return
        self._reading = reading
        if reading:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    def _end(self) -> None:
        """Close. What is unsent has as long as ever to leave."""
        unsent = self._transport.get_write_buffer_size()
        if self._conversation.unread:
            self._give_up()
            return
        self._closing = True
        self._transport.close()
        if unsent:
            self._set_timer(self._loop.time() + self._host.unread)

    def _give_up(self) -> None:
        self._closing = True
        self._host.gave_up(self, self._transport.get_write_buffer_size())
        self._transport.abort()

    # time

    def _arm(self) -> None:
        """Keep one timer, for the first thing that is due; one that fires early looks and goes on."""
        wake = self._conversation.next_wake(self._loop.time())
        if wake is not None and not self._closing and (self._timer is None or wake < self._timer_at):
            self._set_timer(wake)

    def _set_timer(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = at
        self._timer = self._loop.call_at(at, self._time_passed)

    def _time_passed(self) -> None:
        self._timer = None
        if self._closing:
            self._give_up()
            return
        self._conversation.tick(self._loop.time())
        self._turn()

    # replies wait while the caller writes on

    @property
    def _writes_on(self) -> bool:
        """Has more input come than was read? Not asked while reading is paused."""
        if not self._reading or self._ended:
            return False
        if self._loud:
            return True
        ioctl(self._descriptor, FIONREAD, self._unread_count)
        return any(self._unread_count)

    def _hold(self) -> None:
        """Give the caller a turn of the loop: what is called soon runs before that turn's input is read."""
        self._holding = True
        self._held_turns += 1
        self._loop.call_soon(self._listen)

    def _listen(self) -> None:
        self._loud = False
        self._loop.call_soon(self._release)

    def _release(self) -> None:
        self._holding = False
        self._turn()
