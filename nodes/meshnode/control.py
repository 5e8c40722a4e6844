"""A node's control socket: one JSON object a line each way, for the verbs of `meshnode`. Shell.

Owns the listening socket `NAME.sock` in the folder of this user's locks. What is asked is bounded in length and time,
and only this user and root are heard; what a verb does is `steering`'s.
"""

import asyncio
import logging
import os
import socket
import struct
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from mesh.errors import ConfigError
from mesh.wire.reports import Report
from meshnode.talks import Talks

log = logging.getLogger(__name__)

LINE_BYTES = 4096
"""Bytes of the longest request."""

PATIENCE_S = 5.0
"""Seconds that a peer may be silent, or may leave an answer unread."""

MOST_TALKS = 32
"""Connections at once; a verb needs one, for moments."""

_LONGEST_PATH = 107
"""Bytes of a path in sockaddr_un, without the zero behind it (unix(7): 108)."""

_CREDENTIALS = struct.Struct("3i")
"""struct ucred: pid, uid, gid (unix(7))."""


class RefusedError(Exception):
    """A verb cannot be done now; the text says why."""


class Request(Struct, frozen=True, omit_defaults=True):
    """What is asked. `now` belongs to `stop`; `job`, an id or its beginning, to `cancel`, `stack` and `jobs`.

    `force` belongs to `cancel`, `task` to `jobs`, `workers` to `scale`; `wait`, until it is done, to `reload`.
    """

    verb: str
    now: bool = False
    job: Annotated[str, Meta(max_length=64)] = ""
    force: bool = False
    task: Annotated[str, Meta(max_length=200)] = ""
    workers: int = 0
    wait: bool = True


class Answer(Report, frozen=True, omit_defaults=True, kw_only=True):
    """What came of it: a report, or `error` where `ok` is false."""

    ok: bool
    error: str = ""


@contextmanager
def socket_path(folder: Path, name: str) -> Iterator[str]:
    """A path by which a node's socket can be bound or reached: a long one goes by way of its folder's descriptor."""
    path = str(folder / f"{name}.sock")
    if len(os.fsencode(path)) <= _LONGEST_PATH:
        yield path
        return
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{name}.sock"
    finally:
        os.close(descriptor)


def peer_of(connection: socket.socket) -> tuple[int, int]:
    """Return pid and uid of the process at the other end, as the kernel says."""
    pid, uid, _ = _CREDENTIALS.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return pid, uid


class Control:
    """Listens from `listen` to `close`. `answer` does what is asked; it may take its time, and raise RefusedError.

    The caller holds the name's lock: a socket that is there is a dead node's.
    """

    def __init__(self, folder: Path, name: str, *, answer: Callable[[Request], Awaitable[Answer]]) -> None:
        self._folder = folder
        self._name = name
        self._answer = answer
        self._server: asyncio.AbstractServer | None = None
        self._talks = Talks(MOST_TALKS)

    async def listen(self) -> None:
        """Begin to listen. Raises ConfigError."""
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._path.unlink(missing_ok=True)
            with socket_path(self._folder, self._name) as path:
                listener.bind(path)
            self._path.chmod(0o600)
            self._server = await asyncio.start_unix_server(self._talk, sock=listener, limit=LINE_BYTES)
        except OSError as error:
            listener.close()
            raise ConfigError(f"the control socket {self._path} cannot be made: {error.strerror}") from None

    @property
    def _path(self) -> Path:
        return self._folder / f"{self._name}.sock"

    async def close(self) -> None:
        """Stop listening; verbs under way are cut off."""
        if self._server is None:
            return
        self._server.close()
        self._server = None
        self._path.unlink(missing_ok=True)
        await self._talks.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._talks.hold(writer, self._converse(reader, writer))

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if peer_of(writer.get_extra_info("socket"))[1] not in (os.getuid(), 0):
            return
        if self._talks.crowded:
            await _say(writer, Answer(ok=False, error=f"this node already hears {MOST_TALKS} verbs"))
            return
        while await self._exchange(reader, writer):
            pass

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one line; False when there is no more to come."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                line = await reader.readline()
        except ValueError:
            await _say(writer, Answer(ok=False, error=f"a request has at most {LINE_BYTES} bytes"))
            return False
        if not line:
            return False
        await _say(writer, await self._answer_to(line))
        return True

    async def _answer_to(self, line: bytes) -> Answer:
        try:
            return await self._answer(msgspec.json.decode(line, type=Request))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            return Answer(ok=False, error=f'a request is a line like {{"verb":"status"}}: {error}')
        except RefusedError as error:
            return Answer(ok=False, error=str(error))
        except Exception as error:
            log.exception("a verb failed")
            return Answer(ok=False, error=f"the verb failed: {type(error).__name__}: {error}")


async def _say(writer: asyncio.StreamWriter, answer: Answer) -> None:
    writer.write(msgspec.json.encode(answer) + b"\n")
    async with asyncio.timeout(PATIENCE_S):
        await writer.drain()


def ask(connection: socket.socket, request: Request, *, timeout: float | None = PATIENCE_S) -> Answer:
    """Ask a node, and return its answer. Raises OSError (TimeoutError too), and EOFError where it ends meanwhile."""
    connection.settimeout(timeout)
    with suppress(BrokenPipeError):  # what it said before it closed can still be read
        connection.sendall(msgspec.json.encode(request) + b"\n")
    said = bytearray()
    while not said.endswith(b"\n"):
        piece = connection.recv(65536)
        if not piece:
            raise EOFError("the node closed the connection")
        said += piece
    return msgspec.json.decode(said, type=Answer)
