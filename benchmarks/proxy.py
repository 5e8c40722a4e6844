"""The reference: C `zmq.proxy` between plain Python ends, one message a job and fed with batches.

Client ── DEALER/ROUTER ── zmq.proxy (C) ── DEALER/REP-like workers. The ends are plain sockets drained without
waiting, no asyncio: the most that Python ends can get out of ZeroMQ.
"""

import multiprocessing
import time
from collections.abc import Callable

import msgpack
import zmq

WINDOW = 2048
"""Jobs under way, as many as the client of the mesh may have."""

BATCH = 64


def _proxy(front: str, back: str) -> None:
    context = zmq.Context()
    clients = context.socket(zmq.ROUTER)
    workers = context.socket(zmq.DEALER)
    for socket in (clients, workers):
        socket.set(zmq.SNDHWM, 0)
        socket.set(zmq.RCVHWM, 0)
    clients.bind(front)
    workers.bind(back)
    zmq.proxy(clients, workers)


def _worker(back: str, batched: bool) -> None:
    context = zmq.Context()
    socket = context.socket(zmq.DEALER)
    socket.set(zmq.RCVHWM, 0)
    socket.set(zmq.SNDHWM, 0)
    socket.connect(back)
    receive, send, result = socket.recv, socket.send, _result
    packb, unpackb = msgpack.Packer().pack, msgpack.unpackb
    while True:
        identity = receive()
        body = receive()
        if batched:
            answer = packb([[job_id, result(arguments)] for job_id, _, arguments in unpackb(body)])
        else:
            job_id, _, arguments = unpackb(body)
            answer = packb([job_id, result(arguments)])
        send(identity, zmq.SNDMORE)
        send(answer)


def _result(arguments: bytes) -> bytes:
    """What a worker does for a no-op: open the arguments, pack the result."""
    msgpack.unpackb(arguments)
    return b"\xc0"


def _drive(front: str, jobs: int, per_message: int) -> float:
    """Send and receive `jobs` jobs, `per_message` a message; return seconds.

    Both ends pack and unpack every job with an id of its own, as any protocol has to; nothing else.
    """
    context = zmq.Context()
    socket = context.socket(zmq.DEALER)
    socket.set(zmq.RCVHWM, 0)
    socket.set(zmq.SNDHWM, 0)
    socket.connect(front)
    packb, unpackb = msgpack.Packer().pack, msgpack.unpackb
    numbers = iter(range(jobs + per_message))

    def job() -> list[object]:
        return [next(numbers).to_bytes(16, "big"), "noop", packb([[]])]

    def message() -> bytes:
        packed: bytes = packb([job() for _ in range(per_message)] if per_message > 1 else job())
        return packed

    socket.send(message())  # the connection stands before the clock runs
    socket.recv()
    messages, window = jobs // per_message, max(1, WINDOW // per_message)
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
    seconds = time.perf_counter() - began
    context.destroy(linger=0)
    return seconds


class Proxy:
    """The proxy and its workers, in processes of their own, for as long as the block runs."""

    def __init__(self, folder: str, workers: int, *, batched: bool) -> None:
        name = "batched" if batched else "single"
        self._front = f"ipc://{folder}/{name}-front"
        self._per_message = BATCH if batched else 1
        back = f"ipc://{folder}/{name}-back"
        spawn = multiprocessing.get_context("spawn")
        started: list[tuple[Callable[..., None], tuple[object, ...]]] = [(_proxy, (self._front, back))]
        started += [(_worker, (back, batched))] * workers
        self._processes = [spawn.Process(target=target, args=args, daemon=True) for target, args in started]

    def __enter__(self) -> "Proxy":
        for process in self._processes:
            process.start()
        _drive(self._front, 64 * self._per_message, self._per_message)
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.kill()
            process.join()

    def rate(self, jobs: int) -> float:
        """Return jobs per second."""
        return jobs / _drive(self._front, jobs, self._per_message)
