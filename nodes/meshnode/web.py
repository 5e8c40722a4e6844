"""A node's pages for health checks and monitoring, over HTTP/1.1. Shell: `docs/metrics.md`.

Owns the listening socket. It answers on the node's own loop: who gets an answer knows that this loop turns. What is
asked is bounded in length and time, and nothing but GET and HEAD of a few pages is answered.
"""

import asyncio
import errno
import logging
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import NamedTuple

from mesh.errors import ConfigError
from meshnode.config import parse_address
from meshnode.front import PortTakenError
from meshnode.talks import Talks

log = logging.getLogger("meshnode")

REQUEST_BYTES = 8192
"""Bytes of the longest request, with its headers; a scraper's has some hundred."""

PATIENCE_S = 3.0
"""Seconds for a request to come and for its answer to be read, together."""

MOST_TALKS = 32
"""Connections at once; each takes moments."""

_ENDS = b"\r\n\r\n"


class Page(NamedTuple):
    """What is answered."""

    status: HTTPStatus
    body: bytes
    kind: str = "text/plain; charset=utf-8"


class Web:
    """Listens from `listen` to `close`. `pages`: what makes each page, by its path."""

    def __init__(self, address: str, pages: Mapping[str, Callable[[], Awaitable[Page]]]) -> None:
        self.address = ""
        self._wanted = address
        self._pages = pages
        self._server: asyncio.Server | None = None
        self._talks = Talks(MOST_TALKS)

    async def listen(self) -> None:
        """Begin to listen. Raises PortTakenError and ConfigError."""
        host, port = parse_address(self._wanted, what="--http")
        try:
            self._server = await asyncio.start_server(
                self._talk, None if host == "*" else host, port, limit=REQUEST_BYTES
            )
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise PortTakenError(f"--http {host}:{port} is in use") from None
            raise ConfigError(f"cannot bind --http {host}:{port}: {error.strerror}") from None
        host, port = self._server.sockets[0].getsockname()[:2]
        self.address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        log.info("http: %s (%s)", self.address, " ".join(self._pages))

    async def close(self) -> None:
        """Stop listening; requests under way are cut off."""
        if self._server is None:
            return
        self._server.close()
        self._server = None
        await self._talks.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._talks.hold(writer, self._exchange(reader, writer))

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with asyncio.timeout(PATIENCE_S):
            writer.write(await self._answer(reader))
            await writer.drain()

    async def _answer(self, reader: asyncio.StreamReader) -> bytes:
        if self._talks.crowded:
            return _response(_said(HTTPStatus.SERVICE_UNAVAILABLE, "too many requests at once"))
        try:
            request = await reader.readuntil(_ENDS)
        except asyncio.LimitOverrunError:
            text = f"a request has at most {REQUEST_BYTES} bytes"
            return _response(_said(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, text))
        words = request.partition(b"\r\n")[0].decode("latin-1").split(" ")
        if len(words) != 3 or not words[2].startswith("HTTP/1."):
            return _response(_said(HTTPStatus.BAD_REQUEST, "this port speaks HTTP/1.1"))
        method, target, _ = words
        if method not in ("GET", "HEAD"):
            return _response(_said(HTTPStatus.METHOD_NOT_ALLOWED, "GET and HEAD are answered"))
        return _response(await self._page(target.partition("?")[0]), bodiless=method == "HEAD")

    async def _page(self, path: str) -> Page:
        make = self._pages.get(path)
        if make is None:
            return _said(HTTPStatus.NOT_FOUND, f"there is {', '.join(self._pages)}")
        try:
            return await make()
        except Exception:
            log.exception("the page %s failed", path)
            return _said(HTTPStatus.INTERNAL_SERVER_ERROR, "it failed; the log says how")


def _said(status: HTTPStatus, text: str) -> Page:
    return Page(status, f"{text}\n".encode())


def _response(page: Page, *, bodiless: bool = False) -> bytes:
    head = [
        f"HTTP/1.1 {page.status.value} {page.status.phrase}",
        f"Content-Type: {page.kind}",
        f"Content-Length: {len(page.body)}",
        "Cache-Control: no-store",
        "Connection: close",
    ]
    if page.status is HTTPStatus.METHOD_NOT_ALLOWED:
        head.append("Allow: GET, HEAD")
    return "\r\n".join([*head, "", ""]).encode("latin-1") + (b"" if bodiless else page.body)
