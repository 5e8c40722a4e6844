"""One plain socket at the bridge. Shell: `docs/text-protocol.md`.

Owns its socket, without a transport of the loop's: a transport drops what the kernel has taken once a write fails, and
costs more than all that is done here for a request (docs/decisions/0007). What is said and done the conversation
decides; here it is carried out.
"""

import asyncio
import select
import socket
from contextlib import suppress
from fcntl import ioctl
from termios import FIONREAD
from typing import Final

from mesh.errors import MeshError
from mesh.wire.messages import NodeItem
from meshnode.core.conversation import CROWDED_BYTES, Conversation, Phase
from meshnode.host import Host
from meshnode.tls import Line

UNSENT_BYTES = 256 << 20
"""Bytes of replies that may wait for one caller: what its jobs in flight return comes, though it does not read."""

PAUSE_BYTES: Final = 64 * 1024
RESUME_BYTES: Final = 16 * 1024
"""Bytes of replies unsent above which a caller counts as one that does not read, and below which as one that does."""

LOUD_BYTES: Final = 32 * 1024
"""A piece of input this large says that more is on its way."""

HOLD_TURNS: Final = 64
"""Turns of the loop for which replies wait while a caller writes on. One that writes and closes without reading resets
the connection as soon as a reply has reached it, and its kernel then drops what it has not sent."""

RESCUE_BYTES: Final = 16 << 20
"""Bytes read at most from a connection that is lost, what its kernel had taken before."""

_piece = bytearray(256 * 1024)
_view = memoryview(_piece)
"""Input is read into this, a piece at a time."""


class Connection:
    """One plain socket. What happens is told to the conversation, and ends in one `_turn` unless all is plain.

    `before` is what has been read of it already.
    """

    __slots__ = (
        "_advancing", "_before", "_closing", "_conversation", "_ended", "_failed", "_held_turns", "_holding",
        "_host", "_line", "_loop", "_lost", "_loud", "_mask", "_shut", "_socket", "_timer", "_timer_at", "_unsent",
        "_weight", "address", "descriptor", "keys", "reading",
    )  # fmt: skip

    def __init__(
        self,
        host: Host,
        accepted: Line,
        address: str,
        conversation: Conversation,
        keys: tuple[int, int],
        *,
        before: bytes = b"",
    ) -> None:
        self.address = address
        self.descriptor = accepted.fileno()
        self.keys = keys
        self._host = host
        self._loop = host.loop
        self._socket = accepted
        self._conversation = conversation
        self._before = before
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._unsent = bytearray()
        self._weight = 0
        self._mask = select.EPOLLIN
        self._line = b""
        self.reading = True
        self._ended = False
        self._shut = False
        self._closing = False
        self._failed = False
        self._lost = False
        self._advancing = False
        self._holding = False
        self._loud = False
        self._held_turns = 0

    @property
    def requests(self) -> int:
        """How many lines it has asked with."""
        return self._conversation.requests

    # what happens to the socket

    def begin(self) -> None:
        """Take up the conversation."""
        why = self._enter()
        if why is not None:
            self._conversation.refuse(f"this node takes no more: {why}", self._loop.time())
            self._turn()
            return
        if self._before:
            before, self._before = self._before, b""
            self._conversation.received(before, self._loop.time())
            self._turn()
        if self.reading and not self._lost:
            self.read(self._loop.time())  # who has connected has mostly written already

    def refuse(self, kind: type[MeshError], why: str) -> None:
        """Say why there will be no conversation, and end."""
        self._enter()
        self._conversation.refuse(why, self._loop.time(), kind=kind)
        self._turn()

    def _enter(self) -> str | None:
        self._host.poll.register(self.descriptor, self._mask)
        return self._host.opened(self)

    def ready(self, what: int, now: float) -> None:
        """Do what the socket is ready for."""
        if what & select.EPOLLOUT:
            self._send_unsent()
        if self.reading and what & ~select.EPOLLOUT and not self._lost:
            self.read(now)
        elif what & (select.EPOLLERR | select.EPOLLHUP):
            self._lose()

    def read(self, now: float) -> None:
        """Take what has come."""
        try:
            size = self._socket.recv_into(_piece, 0, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            self._lose()
            return
        if not size:
            self._read_end()
            return
        conversation = self._conversation
        self._loud = size >= LOUD_BYTES
        before = conversation.requests
        conversation.received(bytes(_view[:size]), now)
        self._host.taken += conversation.requests - before
        if not conversation.calm:
            if conversation.pending > CROWDED_BYTES and self._host.crowded:
                conversation.refuse("this node holds too much input for a line as long as this", now)
            self._turn()
            return
        for event in conversation.events():
            self._host.post(event)
        if conversation.speaks or self._weight:
            self._turn()

    def _read_end(self) -> None:
        """Take note that no more input comes; while answers are owed the caller may still read, so stay open."""
        self._ended = True
        self.reading = False
        if not self._unsent and self._conversation.leave():
            self._drop()
        else:
            self._conversation.ended(self._loop.time())
            self._turn()

    def _lose(self) -> None:
        """The connection is gone: read what the kernel had taken before, and leave it to run."""
        if self._lost:
            return
        if not self._ended and not self._closing:
            self._rescue()
        self._drop()

    def _rescue(self) -> None:
        """Read on after a failed write, or while reading had paused."""
        left = RESCUE_BYTES
        with suppress(OSError):
            while left > 0 and (size := self._socket.recv_into(_piece, 0, socket.MSG_DONTWAIT)):
                left -= size
                self._conversation.received(bytes(_view[:size]), self._loop.time())

    def _drop(self) -> None:
        """Close the socket, and tell everybody."""
        self._lost = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._host.poll.unregister(self.descriptor)
        self._host.closed(self)
        self._socket.close()
        self._conversation.lost(self._loop.time())
        self._turn()

    # what the node says

    def reply(self, items: list[NodeItem]) -> bool:
        """Take what came of jobs; True if all that is left to do is to `speak`, after this turn's other replies."""
        plain = not (self._unsent or self._holding or self._closing or self._failed)
        self._line = self._conversation.answer(items, self._loop.time(), plain=plain)
        if not self._line:
            self._turn()
        return bool(self._line)

    def speak(self) -> None:
        """Send the reply that is left."""
        line, self._line = self._line, b""
        if not self._lost and not self._closing:
            self._send(line)

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
        if (force or not self._unsent) and not self._lost:
            self._drop()

    # what follows from it

    def _turn(self) -> None:
        """Do all that the conversation now wants."""
        conversation = self._conversation
        for event in conversation.events():
            self._host.post(event)
        self._weigh()
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

    def _weigh(self) -> None:
        held = self._conversation.held
        if held != self._weight:
            self._host.weigh(held - self._weight)
            self._weight = held

    def _advance(self) -> None:
        self._advancing = False
        self._conversation.advance(self._loop.time())
        self._turn()

    def _write(self) -> None:
        conversation = self._conversation
        if not conversation.speaks or self._failed or conversation.hushed(self._loop.time()):
            return
        if self._held_turns < HOLD_TURNS and self._writes_on:
            self._hold()
            return
        self._held_turns = 0
        self._send(conversation.output())

    def _send(self, lines: bytes) -> None:
        """Send what the kernel takes now; keep the rest."""
        sent = 0
        if not self._unsent:
            try:
                sent = self._socket.send(lines, socket.MSG_DONTWAIT)
            except BlockingIOError:
                pass
            except OSError:
                self._failed = True
                self._loop.call_soon(self._lose)
                return
        if sent < len(lines):
            self._unsent += lines[sent:]
            if len(self._unsent) > UNSENT_BYTES:
                self._give_up()
                return
            if len(self._unsent) > PAUSE_BYTES:
                self._conversation.paused(self._loop.time())
                self._arm()
            self._steer()

    def _send_unsent(self) -> None:
        """The socket has room again."""
        try:
            sent = self._socket.send(self._unsent, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            self._failed = True
            self._lose()
            return
        del self._unsent[:sent]
        if not self._unsent and self._closing:
            self._drop()
        elif len(self._unsent) <= RESUME_BYTES:
            if self._conversation.waits_for_reader:
                self._conversation.resumed(self._loop.time())
            self._turn()

    def _follow(self) -> None:
        """End or close, as the conversation says, now that everything is written."""
        phase = self._conversation.phase
        if phase is Phase.OVER:
            self._end()
        elif phase is Phase.LINGERING and not self._shut and not self._unsent:
            self._shut = True
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_WR)

    def _steer(self) -> None:
        """Read or pause reading, as the conversation says; wait for room where something is unsent."""
        if self._lost:
            return
        self.reading = not self._ended and self._conversation.reads(crowded=self._host.crowded)
        mask = (select.EPOLLIN if self.reading else 0) | (select.EPOLLOUT if self._unsent else 0)
        if mask != self._mask:
            self._mask = mask
            self._host.poll.modify(self.descriptor, mask)

    def _end(self) -> None:
        """Close. What is unsent has as long as ever to leave."""
        if self._conversation.unread:
            self._give_up()
            return
        self._closing = True
        if self._unsent:
            self._set_timer(self._loop.time() + self._host.unread)
        else:
            self._drop()

    def _give_up(self) -> None:
        self._closing = True
        self._host.gave_up(self, len(self._unsent))
        self._drop()

    # time

    def _arm(self) -> None:
        """Keep one timer, for the first thing that is due; one that fires early looks and goes on."""
        if self._closing:
            return
        wake = self._conversation.next_wake(self._loop.time())
        if wake is not None and (self._timer is None or wake < self._timer_at):
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
        # The loop's clock may say that this moment is a hair away.
        self._conversation.tick(max(self._loop.time(), self._timer_at))
        self._turn()

    # replies wait while the caller writes on

    @property
    def _writes_on(self) -> bool:
        """Has more input come than was read? Not asked while reading is paused."""
        if not self.reading:
            return False
        if self._loud:
            return True
        unread = bytearray(4)
        ioctl(self.descriptor, FIONREAD, unread)
        return any(unread)

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
