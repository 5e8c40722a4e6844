"""ZMTP spoken by hand over a plain socket: what no ZeroMQ library would let a peer do (RFC 37/ZMTP 3.1)."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterable
from types import TracebackType
from typing import Self

from mesh.wire.codec import encode_client
from mesh.wire.messages import MAGIC, VERSIONS, ClientMessage, Hello

SIGNATURE = b"\xff" + bytes(8) + b"\x7f"
GREETING = SIGNATURE + b"\x03\x01" + b"NULL".ljust(20, b"\0") + bytes(32)
"""Version 3.1, mechanism NULL, not a server."""

MORE = 1
LONG = 2
COMMAND = 4


def frame(content: bytes, flags: int = 0) -> bytes:
    """Write one frame, its length in one byte or in eight."""
    if len(content) < 256:
        return bytes((flags, len(content))) + content
    return struct.pack(">BQ", flags | LONG, len(content)) + content


def ready(**properties: bytes) -> bytes:
    """Write the command READY: what kind of socket this is, an underscore in a name standing for a hyphen."""
    content = b"\x05READY"
    for name, value in properties.items():
        spelt = name.replace("_", "-").encode()
        content += bytes((len(spelt),)) + spelt + struct.pack(">I", len(value)) + value
    return frame(content, COMMAND)


DEALER = ready(Socket_Type=b"DEALER", Identity=b"")


class RawPeer:
    """A connection to a ROUTER that has shaken hands as a DEALER would, and now says whatever it likes."""

    def __init__(self, endpoint: str, *, patience: float = 10.0) -> None:
        host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
        self.socket = socket.create_connection((host, int(port)), timeout=patience)
        try:
            self.socket.sendall(GREETING + DEALER)
            wanted = len(GREETING) + 2
            while wanted > 0:
                wanted -= self._heard(wanted)
        except BaseException:
            self.socket.close()
            raise

    def _heard(self, most: int) -> int:
        said = self.socket.recv(most)
        if not said:
            raise ConnectionError("it hung up while shaking hands")
        return len(said)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()

    def send(self, content: bytes) -> int:
        """Send bytes as they are; return how many."""
        self.socket.sendall(content)
        return len(content)

    def say(self, frames: Iterable[bytes], *, ends: bool = True) -> None:
        """Send the frames of one message; with `ends` false its end does not follow."""
        parts = list(frames)
        last = len(parts) - 1
        self.socket.sendall(b"".join(frame(part, 0 if ends and n == last else MORE) for n, part in enumerate(parts)))

    def greet(self) -> bool:
        """Say HELLO, and wait for the answer; True if it is WELCOME."""
        self.say(map(bytes, encode_client(ClientMessage(b"", 0, [Hello(MAGIC, *VERSIONS, "default", "raw")]))))
        said = b""
        while b"workers" not in said:
            try:
                piece = self.socket.recv(65_536)
            except ConnectionResetError:
                return False
            if not piece:
                return False
            said += piece
        return True

    def say_for_ever(self, content: bytes, *, most: int, rate: float | None = None) -> int:
        """Send frame after frame of a message that never ends; return the bytes that went, `most` if nobody objects.

        `rate`: bytes a second at most, whatever time was lost before; None for as many as go.
        """
        piece = frame(content, MORE) * max(1, 65_536 // (len(content) + 2))
        sent = 0
        try:
            while sent < most:
                self.socket.sendall(piece)
                sent += len(piece)
                if rate is not None:
                    time.sleep(len(piece) / rate)
        except (ConnectionError, TimeoutError):
            return sent
        return sent
