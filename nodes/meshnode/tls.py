"""TLS on a plain socket. Shell: `docs/text-protocol.md`, Beyond this host.

Looks like the socket that it is on to whoever reads and writes it. Each `recv_into` takes all that came with it out of
TLS, so that nothing is left which the descriptor would not tell of.
"""

import socket
import ssl
from contextlib import suppress
from typing import Protocol

from mesh.errors import ConfigError

_RAW_BYTES = 128 * 1024
"""Bytes read from the socket at once. With a record begun before they are less than what callers read into."""

_CHUNK = 64 * 1024
"""Bytes that are encrypted before the socket is asked whether it takes them."""

_HANDSHAKE = 0x16
"""The first byte of whoever speaks TLS (RFC 8446, 5.1)."""

_raw = bytearray(_RAW_BYTES)
_view = memoryview(_raw)


def server_context(certificate: str, key: str | None) -> ssl.SSLContext:
    """Read a certificate and its key (PEM), which may stand in one file. Raises ConfigError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except OSError as error:  # ssl.SSLError is one
        read = certificate if key is None else f"{certificate} and {key}"
        why = error.reason if isinstance(error, ssl.SSLError) else f"{error.filename or ''} {error.strerror}".strip()
        raise ConfigError(f"--bridge-cert: {read} cannot be used: {why}") from None
    return context


def _no_password() -> str:
    raise ConfigError("--bridge-cert-key has a passphrase, which nobody could type while a node starts")


class Line(Protocol):
    """What a connection asks of its socket, which may have TLS on it; each call does what can be done at once."""

    def fileno(self) -> int:
        """Return the descriptor to wait for."""

    def recv_into(self, buffer: bytearray, nbytes: int, flags: int, /) -> int:
        """Read. Raises BlockingIOError where nothing has come, OSError where nothing will."""

    def send(self, data: bytes | bytearray, flags: int, /) -> int:
        """Write; what was not taken is to be offered again. Raises BlockingIOError where nothing was, OSError."""

    def shutdown(self, how: int, /) -> None:
        """Say that nothing more will be written."""

    def close(self) -> None:
        """Let go of the descriptor."""


class TlsSocket:
    """The server's end. `handshake` comes first; `before` is what was already read from the socket.

    A chunk counts as sent once the socket has taken all that came of it, so that whoever waits for room goes on
    waiting; he then offers the same bytes again, as they stood. The end of the other's side is close_notify, or the end
    of the stream without it: a line that was cut off has no LF, and is not run.
    """

    def __init__(self, accepted: socket.socket, context: ssl.SSLContext, before: bytes = b"") -> None:
        self._socket = accepted
        self._in = ssl.MemoryBIO()
        self._out = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_side=True)
        self._in.write(before)
        self._first = before[:1]
        self._unsent = b""
        self._taken = 0
        self._shut = False

    @property
    def begun(self) -> bool:
        """Has anything come?"""
        return bool(self._first)

    @property
    def foreign(self) -> bool:
        """Is the first byte none of TLS?"""
        return self.begun and self._first[0] != _HANDSHAKE

    @property
    def waits(self) -> bool:
        """Is there something of the handshake that the socket did not take?"""
        return bool(self._unsent)

    def handshake(self) -> bool:
        """Go on with it; True once it is done. Raises OSError, of which ssl.SSLError is one."""
        self._flush()
        if not self._in.pending and not self._pull():
            raise ConnectionResetError("the stream ended before the handshake did")
        if self.foreign:
            raise ssl.SSLError("it does not speak TLS")
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        finally:
            self._flush()
        return True

    # as a socket

    def fileno(self) -> int:
        return self._socket.fileno()

    def recv_into(self, buffer: bytearray, _nbytes: int = 0, _flags: int = 0, /) -> int:
        """Read all that there is. Raises BlockingIOError, OSError."""
        if self._shut:  # what comes now is nothing to anybody
            return self._socket.recv_into(buffer, 0, socket.MSG_DONTWAIT)
        size = self._decrypt(buffer)
        if size is not None and not size:
            size = self._decrypt(buffer) if self._pull() else None
        if self._out.pending:
            self._flush()
        if size is None:
            return 0
        if not size:
            raise BlockingIOError
        return size

    def send(self, data: bytes | bytearray, _flags: int = 0, /) -> int:
        """Write as much as the socket takes. Raises BlockingIOError, OSError."""
        self._flush()
        done = 0
        if not self._unsent:
            done, self._taken = self._taken, 0
        while not self._unsent and done < len(data):
            chunk = bytes(data[done : done + _CHUNK])
            self._tls.write(chunk)
            self._flush()
            if self._unsent:
                self._taken = len(chunk)
            else:
                done += len(chunk)
        if not done and data:
            raise BlockingIOError
        return done

    def shutdown(self, how: int, /) -> None:
        """Say that nothing more will be written; only that can be shut down here."""
        assert how == socket.SHUT_WR
        self._say_goodbye()
        self._socket.shutdown(how)

    def close(self) -> None:
        """Say goodbye where nothing is left half said, and let go of the descriptor."""
        with suppress(OSError):  # nobody may be there to hear it
            if not self._unsent and not self._shut:
                self._say_goodbye()
        self._socket.close()

    # what lies behind

    def _pull(self) -> bool:
        """Take from the socket what has come; False at its end. Raises BlockingIOError, OSError."""
        size = self._socket.recv_into(_raw, 0, socket.MSG_DONTWAIT)
        if size and not self._first:
            self._first = bytes(_view[:1])
        self._in.write(_view[:size])
        return bool(size)

    def _decrypt(self, buffer: bytearray) -> int | None:
        """Read what can be read, and return how much it is; None at the end."""
        size = 0
        view = memoryview(buffer)
        try:
            while size < len(view):
                room = view[size:]
                more: int = self._tls.read(len(room), room)  # type: ignore[assignment]  # as it is documented
                if not more:
                    return self._end(size)
                size += more
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            return self._end(size)
        return size

    def _end(self, size: int) -> int | None:
        """The other side writes no more. Where something came before that, the descriptor will tell again."""
        if not size:
            return None
        with suppress(OSError):  # it is gone altogether, which the descriptor tells as well
            self._socket.shutdown(socket.SHUT_RD)
        return size

    def _flush(self) -> None:
        """Send what TLS has to say, as far as the socket takes it. Raises OSError."""
        unsent = self._unsent + self._out.read()
        if not unsent:
            return
        try:
            sent = self._socket.send(unsent, socket.MSG_DONTWAIT)
        except BlockingIOError:
            sent = 0
        self._unsent = unsent[sent:]

    def _say_goodbye(self) -> None:
        self._shut = True
        with suppress(ssl.SSLWantReadError):  # the other side's goodbye is not waited for
            self._tls.unwrap()
        self._flush()
