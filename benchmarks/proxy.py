"""The reference: C `zmq.proxy` between plain Python ends, one message a job, fed with batches, and with bodies.

Client ── DEALER/ROUTER ── zmq.proxy (C) ── DEALER, workers. The ends are plain sockets drained without waiting, no
asyncio: the most that Python ends can get out of ZeroMQ. Both pack and unpack every job with an id of its own, as
any protocol has to, and do nothing else.
"""

import itertools
import os
import socket as sockets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Self

import msgpack
import zmq

from benchmarks.mesh_client import percentiles
from benchmarks.processes import Child, Places, die_with_parent, in_child, pinned

NAME = "C zmq.proxy"

WINDOW = 2048
"""Jobs under way, as many as the client of the mesh keeps by default."""

BATCH = 64

UP = b"up"
"""A worker's first answer, whatever it was asked: the reference is warm once each has given it."""

Socket = zmq.Socket[bytes]


# the processes behind the front


def _proxy(front: str, back: str, workers: int, serve: Callable[[Socket], None], places: Places | None) -> None:
    """Fork the workers, before there is a context to fork, and be the proxy."""
    if places is not None:
        os.sched_setaffinity(0, places.middle)
    for _ in range(workers):
        if os.fork() == 0:
            die_with_parent()
            if places is not None:
                os.sched_setaffinity(0, places.ends)
            serve(_open(back))
            os._exit(1)
    context = zmq.Context()
    clients = context.socket(zmq.ROUTER)
    servants = context.socket(zmq.DEALER)
    for socket in (clients, servants):
        socket.set(zmq.SNDHWM, 0)
        socket.set(zmq.RCVHWM, 0)
    servants.bind(back)
    clients.bind(front)
    zmq.proxy(clients, servants)


def _open(endpoint: str) -> Socket:
    socket = zmq.Context().socket(zmq.DEALER)
    socket.set(zmq.RCVHWM, 0)
    socket.set(zmq.SNDHWM, 0)
    socket.set(zmq.LINGER, 0)
    socket.connect(endpoint)
    return socket


def _say_up(socket: Socket) -> None:
    """Answer the first message, whatever it has in it."""
    identity = socket.recv_multipart()[0]
    socket.send_multipart([identity, UP])


def _serve_jobs(socket: Socket) -> None:
    _say_up(socket)
    receive, send = socket.recv, socket.send
    packb, unpackb = msgpack.Packer().pack, msgpack.unpackb
    while True:
        identity = receive()
        job_id, _, arguments = unpackb(receive())
        send(identity, zmq.SNDMORE)
        send(packb([job_id, _result(arguments)]))


def _serve_batches(socket: Socket) -> None:
    _say_up(socket)
    receive, send, result = socket.recv, socket.send, _result
    packb, unpackb = msgpack.Packer().pack, msgpack.unpackb
    while True:
        identity = receive()
        answer = packb([[job_id, result(arguments)] for job_id, _, arguments in unpackb(receive())])
        send(identity, zmq.SNDMORE)
        send(answer)


def _result(arguments: bytes) -> bytes:
    """What a worker does for a no-op: open the arguments, pack the result."""
    msgpack.unpackb(arguments)
    return b"\xc0"


def _serve_bodies(socket: Socket) -> None:
    """Take bodies in frames of their own, which no socket copies, open them, and return those of one task."""
    _say_up(socket)
    packb, unpackb = msgpack.Packer().pack, msgpack.unpackb
    while True:
        identity = socket.recv()
        job_id, task = unpackb(socket.recv())
        ((body,),) = unpackb(socket.recv(copy=False).buffer)
        socket.send(identity, zmq.SNDMORE)
        if task == "give_back":
            socket.send(packb([job_id]), zmq.SNDMORE)
            socket.send(packb(body), copy=False)
        else:
            socket.send(packb([job_id, b"\xc0"]))


# the client, in a process of its own for each measurement


def _jobs() -> Iterator[list[object]]:
    packb = msgpack.Packer().pack
    for number in itertools.count():
        yield [number.to_bytes(16, "big"), "noop", packb([[]])]


def drive(front: str, jobs: int, per_message: int) -> float:
    """Keep the window full; jobs/s."""
    socket = _open(front)
    packb, unpackb = msgpack.Packer().pack, msgpack.unpackb
    numbered = _jobs()

    def message() -> bytes:
        packed: bytes = packb(list(itertools.islice(numbered, per_message)) if per_message > 1 else next(numbered))
        return packed

    def run(messages: int) -> float:
        window = WINDOW // per_message
        sent = received = 0
        began = time.perf_counter()
        while received < messages:
            while sent < messages and sent - received < window:
                socket.send(message())
                sent += 1
            unpackb(socket.recv())
            received += 1
            while True:
                try:
                    answer = socket.recv(zmq.NOBLOCK)
                except zmq.Again:
                    break
                unpackb(answer)
                received += 1
        return time.perf_counter() - began

    run(WINDOW // per_message)
    messages = max(1, jobs // per_message)
    return messages * per_message / run(messages)


def drive_one_at_a_time(front: str, jobs: int) -> dict[str, float]:
    """Send one, wait for its answer, again and again; p50 and p99 in µs."""
    socket = _open(front)
    packb, unpackb = msgpack.Packer().pack, msgpack.unpackb
    taken: list[float] = []
    warm_up = max(1, jobs // 10)
    for job in itertools.islice(_jobs(), jobs + warm_up):
        began = time.perf_counter()
        socket.send(packb(job))
        unpackb(socket.recv())
        taken.append(time.perf_counter() - began)
    return percentiles(taken[warm_up:])


def drive_bodies(front: str, size: int, jobs: int, window: int, task: str) -> float:
    """Keep a window of jobs with a body of `size` each under way; bytes/s of arguments."""
    socket = _open(front)
    packb, unpackb = msgpack.Packer().pack, msgpack.unpackb
    body = os.urandom(size)

    def run(jobs: int) -> float:
        sent = received = 0
        began = time.perf_counter()
        while received < jobs:
            while sent < jobs and sent - received < window:
                socket.send(packb([sent.to_bytes(16, "big"), task]), zmq.SNDMORE)
                socket.send(packb([[body]]), copy=False)
                sent += 1
            unpackb(socket.recv())
            if task == "give_back":
                unpackb(socket.recv(copy=False).buffer)
            received += 1
        return time.perf_counter() - began

    run(window)
    return size * jobs / run(jobs)


def _wait_for_workers(front: str, workers: int, probe: list[bytes]) -> None:
    """Go round until every worker has said that it is there."""
    socket = _open(front)
    there = 0
    while there < workers:
        socket.send_multipart(probe)
        there += socket.recv_multipart() == [UP]


@dataclass(frozen=True)
class Kind:
    """What the workers behind a proxy do, and a job that they all understand."""

    name: str
    serve: Callable[[Socket], None]
    probe: list[bytes]
    per_message: int = 1


_JOB = [b"0", "noop", msgpack.packb([[]])]
SINGLE = Kind("single", _serve_jobs, [msgpack.packb(_JOB)])
BATCHED = Kind("batched", _serve_batches, [msgpack.packb([_JOB])], BATCH)
BODIES = Kind("bodies", _serve_bodies, [msgpack.packb([b"0", "swallow"]), msgpack.packb([[b""]])])


def free_port() -> int:
    """Find a port of this host that nobody listens at."""
    with sockets.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class Proxy:
    """The proxy and its workers, in processes of their own, for as long as the block runs.

    `tcp`: the client reaches it as it reaches a node of the mesh, and not by the faster way within one host. `places`:
    where they stay.
    """

    def __init__(
        self, folder: str, workers: int, kind: Kind, *, tcp: bool = False, places: Places | None = None
    ) -> None:
        self._workers = workers
        self._kind = kind
        self._places = places
        self.front = f"tcp://127.0.0.1:{free_port()}" if tcp else f"ipc://{folder}/{kind.name}-{workers}-front"
        self._back = f"ipc://{folder}/{kind.name}-{workers}-{'tcp' if tcp else 'ipc'}-back"

    def __enter__(self) -> Self:
        self._proxy = Child(_proxy, self.front, self._back, self._workers, self._kind.serve, self._places)
        try:
            in_child(_wait_for_workers, self.front, self._workers, self._kind.probe)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._proxy.__exit__()  # the workers end with it

    def rate(self, jobs: int) -> float:
        """Return jobs/s with the window full."""
        return in_child(drive, self.front, jobs, self._kind.per_message)

    def one_at_a_time(self, jobs: int, *, cpus: frozenset[int]) -> dict[str, float]:
        """Return p50 and p99 of one job after the other, in µs; the caller stays on some CPUs."""
        return in_child(pinned, cpus, drive_one_at_a_time, self.front, jobs)

    def bodies(self, size: int, jobs: int, window: int, task: str) -> float:
        """Return bytes/s of arguments, with `window` jobs under way."""
        return in_child(drive_bodies, self.front, size, jobs, window, task)
