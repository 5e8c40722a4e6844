"""A plain socket before its first line: PROXY header, TLS handshake, token. Shell.

`docs/text-protocol.md`, Beyond this host. Made only where one of these is asked for. It has the socket until all is
well, and then hands it over to a connection.
"""

import asyncio
import select
import socket
import ssl

from mesh.errors import MeshError, NotAllowed, ProtocolError
from meshnode.core.preface import PREFACE_S, ProxyHeader, TokenLine, Verdict
from meshnode.host import Door
from meshnode.tls import Line, TlsSocket

_piece = bytearray(256 * 1024)
_view = memoryview(_piece)
"""Input is read into this, a piece at a time."""


class Entrance:
    """One caller that is not let in yet. `address` is the proxy's until that has said whom it speaks for.

    `guest` is under which address it is counted.
    """

    reading = True

    def __init__(
        self,
        door: Door,
        accepted: socket.socket,
        address: str,
        *,
        proxied: bool,
        context: ssl.SSLContext | None,
        token: bytes | None,
    ) -> None:
        self.address = address
        self.guest = None if proxied else address
        self.descriptor = accepted.fileno()
        self._door = door
        self._socket = accepted
        self._line: Line = accepted
        self._header = ProxyHeader() if proxied else None
        self._context = context
        self._tls: TlsSocket | None = None
        self._token = None if token is None else TokenLine(token)
        self._before = b""
        self._mask = select.EPOLLIN
        self._over = False
        self._timer: asyncio.TimerHandle | None = None

    # what happens to the socket

    def begin(self) -> None:
        """Wait for what is to come, for so long."""
        self._door.poll.register(self.descriptor, self._mask)
        self._timer = self._door.loop.call_later(PREFACE_S, self._late)
        self.read(0.0)

    def ready(self, _what: int, now: float) -> None:
        """Do what the socket is ready for."""
        self.read(now)

    def read(self, _now: float) -> None:
        """Take what has come."""
        try:
            if self._went_through():
                self._end()
                self._door.admitted(self, self._line, self._before)
        except BlockingIOError:
            self._steer()
        except EOFError:
            self._missed("the connection ended")
        except OSError as error:
            self._broke(error)

    def close(self, *, force: bool = True) -> None:
        """Close without a word, whatever `force` says: nothing is owed."""
        del force
        if not self._over:
            self._end()
            self._line.close()

    # what has to be gone through

    def _went_through(self) -> bool:
        """Go on with what is next. Raises BlockingIOError where more has to come, EOFError, OSError."""
        return self._header_read() and self._hands_shaken() and self._token_read()

    def _header_read(self) -> bool:
        header = self._header
        if header is None:
            return True
        match header.feed(self._read()):
            case Verdict.MORE:
                return False
            case Verdict.REFUSED:
                self._turn_away(ProtocolError, "from this address a connection begins with a PROXY header here")
                return False
            case Verdict.PASSED:
                self._header, self._before = None, header.rest
        if self._door.known(self, header.address, local=header.local):
            return True
        self.close()
        return False

    def _hands_shaken(self) -> bool:
        if self._context is None:
            return True
        if self._tls is None:
            self._line = self._tls = TlsSocket(self._socket, self._context, self._before)
            self._before = b""
        if self._tls.handshake():
            self._context = None
            return True
        self._steer()
        return False

    def _token_read(self) -> bool:
        token = self._token
        if token is None:
            return True
        piece, self._before = self._before, b""
        match token.feed(piece or self._read()):
            case Verdict.REFUSED:
                self._turn_away(NotAllowed, "the first line is not this bridge's token")
            case Verdict.PASSED:
                self._before = token.rest
                return True
            case Verdict.MORE:
                pass
        return False

    def _read(self) -> bytes:
        size = self._line.recv_into(_piece, 0, socket.MSG_DONTWAIT)
        if not size:
            raise EOFError
        return bytes(_view[:size])

    # what can go wrong

    def _late(self) -> None:
        self._timer = None
        self._missed(f"it took longer than {PREFACE_S:g} s")

    def _missed(self, why: str) -> None:
        """What was to come did not. Who has said nothing at all was a health check."""
        if self._header is not None:
            self._give_up(f"no PROXY header, {why}", begun=self._header.begun)
        elif self._context is not None:
            self._give_up(f"no TLS handshake, {why}", begun=self._tls is not None and self._tls.begun)
        elif self._token is not None and (self._token.begun or self._timer is None):
            self._turn_away(NotAllowed, f"no token, {why}")
        else:
            self.close()

    def _broke(self, error: OSError) -> None:
        if self._tls is None or self._context is None or not isinstance(error, ssl.SSLError):
            self.close()  # it left: a health check may end in the middle of a handshake
        elif self._tls.foreign:
            self._line = self._socket
            self._turn_away(ProtocolError, "this port speaks TLS")
        else:
            self._give_up(f"no TLS handshake, {error.reason or error}", begun=True)

    def _turn_away(self, kind: type[MeshError], why: str) -> None:
        self._end()
        if self._context is not None and self._tls is None:
            self._line.close()  # it would not understand a line
            self._door.turned_away(self, None, kind, why)
        else:
            self._door.turned_away(self, self._line, kind, why)

    def _give_up(self, why: str, *, begun: bool) -> None:
        self.close()
        if begun:
            self._door.turned_away(self, None, ProtocolError, why)

    def _steer(self) -> None:
        """Wait for room too, where something of the handshake is unsent."""
        mask = select.EPOLLIN | (select.EPOLLOUT if self._tls is not None and self._tls.waits else 0)
        if mask != self._mask:
            self._mask = mask
            self._door.poll.modify(self.descriptor, mask)

    def _end(self) -> None:
        self._over = True
        if self._timer is not None:
            self._timer.cancel()
        self._door.poll.unregister(self.descriptor)
        self._door.gone(self)
