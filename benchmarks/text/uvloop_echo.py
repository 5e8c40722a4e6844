"""The reference for the bridge: one process that answers each JSON line itself, in a uvloop `Protocol`.

What anybody would write who runs tasks inline: no worker, no queue, no limit. Shell:
`python -m benchmarks.text.uvloop_echo`.
"""

import asyncio
import sys
from collections.abc import Callable
from typing import cast

import msgspec
import uvloop

from benchmarks.app import noop

TASKS: dict[str, Callable[..., object]] = {"noop": noop}


class Request(msgspec.Struct):
    """One line: which function, and with what."""

    function: str
    args: dict[str, object] | list[object] | None = None


def answer(request: Request) -> object:
    """Call what is asked for."""
    task, args = TASKS[request.function], request.args
    if isinstance(args, dict):
        return task(**args)
    return task(*args or ())


class Lines(asyncio.Protocol):
    """One connection."""

    def __init__(self) -> None:
        self._rest = b""
        self._decode = msgspec.json.Decoder(Request).decode
        self._encode = msgspec.json.Encoder().encode

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        if lines:
            self._transport.write(b"".join([self._encode(answer(self._decode(line))) + b"\n" for line in lines]))


async def main() -> None:
    """Serve on a free port until told to stop, and say on which."""
    server = await asyncio.get_running_loop().create_server(Lines, "127.0.0.1", 0, backlog=1024)
    print(f"listening: 127.0.0.1:{server.sockets[0].getsockname()[1]}", file=sys.stderr, flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
