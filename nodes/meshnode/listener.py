"""The listening socket of the bridge. Shell: how plain sockets are accepted, how many, and what those inherit."""

import errno
import resource
import socket

from mesh.errors import ConfigError
from meshnode.config import Settings
from meshnode.core.guests import Guests
from meshnode.front import PortTakenError

BACKLOG = 1024
"""Connections that the kernel keeps until they are accepted; it may allow fewer (net.core.somaxconn)."""

KEEPALIVE_IDLE_S = 55
"""Seconds of silence before the kernel looks whether a caller is still there, as in the original."""

RECEIVE_BYTES = 1 << 20
"""Bytes that the kernel here takes from one caller before they are read, if net.core.rmem_max allows: what it has
taken is not lost by a caller's close. Linux begins with 128 KiB, which 100 lines of 1 KiB fill."""


class _Listener(socket.socket):
    """A listening socket that does not make enumerations of plain numbers for each connection that it accepts."""

    family = 0  # type: ignore[assignment]  # for accept() an integer is as good
    type = 0  # type: ignore[assignment]

    def __init__(self, family: int, kind: int, protocol: int) -> None:
        super().__init__(family, kind, protocol)
        self.family, self.type = int(family), int(kind)


def bind(host: str, port: int) -> socket.socket:
    """Bind a listening socket; the sockets it accepts inherit its options. Raises PortTakenError or ConfigError."""
    plain = "0.0.0.0" if host == "*" else host  # noqa: S104  # asked for in so many words
    try:
        found = socket.getaddrinfo(plain, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        listener = _Listener(family, kind, protocol)
    except OSError as error:
        raise ConfigError(f"--bridge {host}:{port}: {error.strerror}") from None
    try:
        for level, option, value in (
            (socket.SOL_SOCKET, socket.SO_REUSEADDR, 1),
            (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
            (socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES),
            (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE_S),
            (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
        ):
            listener.setsockopt(level, option, value)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise PortTakenError(f"--bridge {host}:{port} is in use") from None
        raise ConfigError(f"cannot bind --bridge {host}:{port}: {error.strerror}") from None
    return listener


def shown(listener: socket.socket) -> str:
    """Write the address that it listens at."""
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def room(settings: Settings) -> Guests:
    """Say how many it lets in: three quarters of this process's descriptors at most, and of one address half of all."""
    most = min(settings.bridge_max_connections, resource.getrlimit(resource.RLIMIT_NOFILE)[0] * 3 // 4)
    of_one = settings.bridge_max_per_address
    return Guests(most=most, most_of_one=max(1, most // 2) if of_one is None else of_one)
