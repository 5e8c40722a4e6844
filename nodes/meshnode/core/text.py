"""The Text protocol: bytes to lines, lines to requests, outcomes to lines. Pure: `docs/text-protocol.md`.

Only a line's envelope is read here; `args` stays as the bytes that came and is decoded by the worker. Whatever
comes in becomes a `Request` or a `BadRequest`; nothing here raises.
"""

import json
import re
from typing import Any, Final

import msgspec
from msgspec import Raw

from mesh.errors import MeshError
from mesh.wire.messages import Body
from meshnode.core.envelope import BadRequest, Plain, Request, read_envelope, read_identity, read_plain

_BOM: Final = b"\xef\xbb\xbf"


class Lines:
    """Cuts a stream into lines, however its pieces fall; the work is linear in the bytes that come.

    A line ends with LF. CR and LF at its end and one UTF-8 BOM at its start are taken off, and what is then
    empty is left out. A line must be shorter than `limit` bytes with its LF (10,485,760 in the original, whose
    longest line thus has 10,485,759); the first that is not sets `stopped`, and nothing is read after it.
    """

    __slots__ = ("_limit", "_rest", "stopped")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._rest = bytearray()
        self.stopped = False

    @property
    def pending(self) -> int:
        """Bytes of the line that has begun and not ended."""
        return len(self._rest)

    def feed(self, piece: bytes) -> list[bytes]:
        """Take the next piece of the stream, and return the lines that it ends."""
        if self.stopped:
            return []
        if not self._rest and piece[-1:] == b"\n" and len(piece) < self._limit and not _to_be_stripped(piece):
            return [line for line in piece.split(b"\n") if line]
        most = len(self._rest) + len(piece) + 1
        lines = piece.split(b"\n")
        tail = lines.pop()
        if lines and self._rest:
            self._rest += lines[0]
            lines[0] = bytes(self._rest)
            self._rest = bytearray()
        self._rest += tail
        if most >= self._limit:
            lines = self._checked(lines)
        return [line for raw in lines if (line := _stripped(raw))]

    def stop(self) -> None:
        """Read no further, and let go of the line that has begun."""
        self.stopped = True
        self._rest = bytearray()

    def _checked(self, lines: list[bytes]) -> list[bytes]:
        """Return the lines before the first that is too long."""
        for n, line in enumerate(lines):
            if len(line) + 1 >= self._limit:
                self.stop()
                return lines[:n]
        if len(self._rest) + 1 >= self._limit:
            self.stop()
        return lines


def _to_be_stripped(piece: bytes) -> bool:
    return b"\r" in piece or _BOM in piece


def _stripped(line: bytes) -> bytes:
    line = line.rstrip(b"\r\n")
    return line[3:] if line.startswith(_BOM) else line


# requests


def parse(line: bytes) -> Request | BadRequest:
    """Read one line's envelope. The body of `args` is passed over at about 2 ns a byte, not decoded."""
    try:
        asked = read_envelope(line)
    except RecursionError:
        return BadRequest(None, "the line is nested too deep")
    except msgspec.ValidationError as error:
        return BadRequest(_tag_of_wrong(line), f"the line is no request: {error}")
    except ValueError as error:  # DecodeError, UnicodeDecodeError
        return BadRequest(None, f"the line is not JSON: {_why(error, line)}")
    args = bytes(asked.args)
    return Request(
        asked.function,
        b"" if args == b"null" else args,
        None if asked.id is None else tag(asked.id),
        asked.timeout,
        asked.priority,
        bool(asked.cancel_on_disconnect),
        _traceparent(asked.traceparent) if asked.traceparent else None,
    )


def plain(piece: bytes) -> list[Plain] | None:
    """Read a piece of whole lines if each asks for a task and says nothing else, else None.

    All are read at once. Each end of a line but the last stands between two objects, which inside of one it cannot, so
    where there are as many objects as lines each line is one.
    """
    try:
        asked = read_plain(piece)
    except (ValueError, RecursionError):
        return None
    count = len(asked)
    return asked if piece.count(b"\n") == count and piece.count(b"}\n{") == count - 1 else None


_TRACEPARENT: Final = re.compile(rb'"((?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2})"')
"""A traceparent of any version that has no more than those of version 00 (W3C Trace Context, 2.2)."""


def _traceparent(raw: Raw) -> str | None:
    """Read a traceparent; what is none is ignored, as its specification says."""
    found = _TRACEPARENT.fullmatch(raw)
    return found[1].decode() if found else None


def _tag_of_wrong(line: bytes) -> bytes | None:
    try:
        found = read_identity(line).id
    except (ValueError, RecursionError):
        return None
    return None if found is None else tag(found)


def _why(error: ValueError, line: bytes) -> str:
    if "truncated" in str(error) and b"\\u" in line:
        return "it ends too early, or holds half of a surrogate pair"
    return str(error)


def tag(identity: int | str) -> bytes:
    """Write a request's id as ASCII JSON."""
    return str(identity).encode() if isinstance(identity, int) else _ascii(identity)


_STRANGERS: Final = re.compile(
    rb"(?:GET|HEAD|POST|PUT|DELETE|CONNECT|OPTIONS|TRACE|PATCH|PRI)[ \t]|[A-Z][A-Z0-9-]*:|[A-Z]+[ \t].*[ \t]HTTP/\d",
    re.IGNORECASE,
)
_TLS_HANDSHAKE: Final = b"\x16\x03"


def stranger(line: bytes) -> str | None:
    """Say what a connection's first line speaks instead of this protocol; None if nothing known.

    A browser can be made to send lines to any port of its host. What it sends first is a method or the start
    of a TLS handshake, and what follows is a page's choice: so after such a line nothing may run.
    """
    if line.startswith(_TLS_HANDSHAKE):
        return "TLS"
    return "HTTP" if _STRANGERS.match(line[:2048]) else None


# replies


def error(kind: type[MeshError], message: str, *, started: bool | None = None) -> bytes:
    """Write an error object as ASCII JSON. `started` is the error's own unless it is given."""
    fields = {
        "type": kind.__name__,
        "message": message,
        "retryable": kind.retryable,
        "started": bool(kind.started) if started is None else started,
    }
    return _ascii(fields)


def success(tag: bytes | None, result: Body) -> bytes:
    """Write the line that answers a request whose job returned `result`, which is ASCII JSON."""
    if tag is None:
        return b"".join((result, b"\n"))
    return b"".join((b'{"id":', tag, b',"ok":true,"result":', result, b"}\n"))


def failure(tag: bytes | None, reason: Body) -> bytes:
    """Write the line that answers a request which failed; `reason` is an error object as ASCII JSON."""
    if tag is None:
        return b"".join((b'{"error":', reason, b"}\n"))
    return b"".join((b'{"id":', tag, b',"ok":false,"error":', reason, b"}\n"))


def _ascii(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode("ascii")
