"""TLS on a real socket, told to send more than it takes and to read all that there is."""

import select
import socket
import ssl
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

import pytest

from meshnode.tls import TlsSocket, server_context
from tests.support.leaks import leak_check
from tests.support.tools import need

__all__ = ["leak_check"]

PATIENCE_S = 15.0


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One file with a certificate for localhost and its key."""
    need("openssl")
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    words = "req -x509 -newkey rsa:2048 -nodes -days 9 -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    made = ["openssl", *words.split(), "-keyout", str(path), "-out", "-"]
    done = subprocess.run(made, check=True, capture_output=True, timeout=PATIENCE_S)
    path.write_bytes(path.read_bytes() + done.stdout)
    return str(path)


def wait_for(line: TlsSocket, *, room: bool = False) -> None:
    poll = select.epoll()
    try:
        poll.register(line.fileno(), select.EPOLLOUT if room else select.EPOLLIN)
        assert poll.poll(PATIENCE_S), "nothing happens to the descriptor"
    finally:
        poll.close()


@contextmanager
def ends(certificate: str) -> Iterator[tuple[TlsSocket, ssl.SSLSocket]]:
    """Both ends after their handshake, with little room between them."""
    here, there = socket.socketpair()
    here.setblocking(False)
    here.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    there.settimeout(PATIENCE_S)
    context = ssl.create_default_context(cafile=certificate)
    line = TlsSocket(here, server_context(certificate, None))
    with ThreadPoolExecutor(1) as threads:
        shaking = threads.submit(context.wrap_socket, there, server_hostname="localhost", suppress_ragged_eofs=False)
        done = False
        while not done:
            wait_for(line)
            done = line.handshake()
            while line.waits:
                wait_for(line, room=True)
                try:
                    done = line.handshake() or done
                except BlockingIOError:
                    continue
        with shaking.result() as other:
            try:
                yield line, other
            finally:
                line.close()


def read_all(line: TlsSocket) -> bytes:
    """What can be read without waiting."""
    buffer = bytearray(1 << 18)
    got = b""
    while True:
        try:
            size = line.recv_into(buffer)
        except BlockingIOError:
            return got
        got += buffer[:size]
        if not size:
            return got


def test_what_a_socket_does_not_take_is_offered_again_and_arrives_once(certificate: str) -> None:
    data = b"".join(b"%09d\n" % n for n in range(100_000))
    with ends(certificate) as (line, other), ThreadPoolExecutor(1) as threads:
        left, waits = bytearray(data), 0
        reading = threads.submit(lambda: b"".join(iter(lambda: other.recv(5000), b"")))
        while left:
            try:
                del left[: line.send(left)]
            except BlockingIOError:
                waits += 1
                wait_for(line, room=True)
        line.shutdown(socket.SHUT_WR)
        assert reading.result() == data
    assert waits > 10


def test_a_socket_that_takes_nothing_takes_nothing_twice(certificate: str) -> None:
    with ends(certificate) as (line, other):
        for _ in range(3):
            with pytest.raises(BlockingIOError):
                line.send(b"x" * 500_000)
        line.close()
        with other.makefile("rb") as stream, pytest.raises(ssl.SSLError):  # no goodbye where a record is not whole
            stream.read()


def test_all_that_came_is_read_at_once_and_the_end_is_told_after_it(certificate: str) -> None:
    with ends(certificate) as (line, other):
        read_all(line)
        for size in (1, 20_000, 100_000):
            data = bytes(n % 251 for n in range(size))
            other.sendall(data)
            got = b""
            while len(got) < size:
                wait_for(line)
                got += read_all(line)
            assert got == data
        with ThreadPoolExecutor(1) as threads:
            other.sendall(b"the last words")
            ending = threads.submit(other.unwrap)
            buffer = bytearray(1 << 18)
            got, size = b"", 1
            while size:  # the end may come with the words, behind them, or between two reads
                wait_for(line)
                with suppress(BlockingIOError):
                    size = line.recv_into(buffer)
                    got += buffer[:size]
            assert got == b"the last words"
            line.shutdown(socket.SHUT_WR)
            ending.result().close()


def test_a_stream_that_ends_without_a_goodbye_has_ended_too(certificate: str) -> None:
    with ends(certificate) as (line, other):
        other.sendall(b"half a line")
        socket.socket.shutdown(other, socket.SHUT_WR)
        wait_for(line)
        assert read_all(line) == b"half a line"


def test_garbage_raises_and_leaves_nothing_behind(certificate: str) -> None:
    with ends(certificate) as (line, other), socket.socket(fileno=other.detach()) as raw:
        raw.sendall(b"garbage" * 10)
        wait_for(line)
        with pytest.raises(OSError, match="SSL"):
            read_all(line)
