"""The zygote: imports the application once and forks a worker whenever its node asks for one.

Shell: owns the control socket to the node and the workers as its children. It is started by exec, so it
shares nothing with the node but the socket and one page of memory; it dies with the node, and its
workers die with it.
"""

import ctypes
import gc
import mmap
import os
import select
import signal
import socket
import sys
import traceback
from contextlib import suppress
from typing import NoReturn

import msgspec
import setproctitle

from mesh.errors import ConfigError
from mesh.wire.messages import TaskSpec
from meshnode.worker.catalogue import Application, load
from meshnode.worker.journal import Journal, install
from meshnode.worker.loop import WorkerLoop, ignore_signal
from meshnode.worker.shelf import Shelf

PR_SET_PDEATHSIG = 1
"""prctl(2): the signal that the kernel sends when the thread that forked us ends."""


WORDS = 2
"""Words of shared memory for each worker: the number of the order taken up last, and of one to stop."""


class Config(msgspec.Struct):
    """What the node tells its zygote first. `places`: workers that there may be at a time, each with its words."""

    node: str
    targets: list[str]
    folder: str
    places: int
    concurrency: int
    limit: float | None = None
    mesh: str = ""
    log_level: str = "info"
    log_json: bool = False


class Order(msgspec.Struct, array_like=True):
    """Node → zygote: fork the worker of a slot; its words are those of a place. Its sockets come with the datagram."""

    slot: int
    place: int


class Loaded(msgspec.Struct, tag="loaded"):
    """Zygote → node: the application is imported, and this is what it serves. `shelves`: its workers have theirs."""

    tasks: list[TaskSpec]
    shelves: bool = False


class LoadFailed(msgspec.Struct, tag="failed"):
    """Zygote → node: the application does not import; why, for people."""

    text: str


class Forked(msgspec.Struct, tag="forked"):
    """Zygote → node: the worker of this slot is this process. Its pidfd comes with the datagram."""

    slot: int
    pid: int


class NotForked(msgspec.Struct, tag="not-forked"):
    """Zygote → node: the worker of this slot could not be forked; why."""

    slot: int
    text: str


class Exited(msgspec.Struct, tag="exited"):
    """Zygote → node: a worker ended, with this wait status."""

    pid: int
    status: int


Report = Loaded | LoadFailed | Forked | NotForked | Exited

_encode = msgspec.msgpack.Encoder().encode
decode_report = msgspec.msgpack.Decoder(Report).decode
decode_config = msgspec.msgpack.Decoder(Config).decode
_decode_order = msgspec.msgpack.Decoder(Order).decode


def die_with_parent(parent: int) -> None:
    """Be killed when the parent dies; end now if it is dead already."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


class Zygote:
    """Forks workers on demand and reports their ends."""

    def __init__(
        self, control: socket.socket, words: "memoryview[int]", config: Config, *, journal: Journal, shelves: int
    ) -> None:
        self._control = control
        self._words = words
        self._shelves = shelves
        self._config = config
        self._journal = journal
        self._pid = os.getpid()

    def serve(self, application: Application) -> None:
        """Fork and report until the node is gone."""
        wake, wakened = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.signal(signal.SIGCHLD, ignore_signal)
        signal.set_wakeup_fd(wakened, warn_on_full_buffer=False)
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        poll.register(wake, select.POLLIN)
        while True:
            for descriptor, _ in poll.poll():
                if descriptor == wake:
                    with suppress(BlockingIOError):
                        os.read(wake, 4096)
                    self._report_ends()
                elif not self._obey(application):
                    return

    def _obey(self, application: Application) -> bool:
        """Fork the worker that the node asks for; False when the node is gone."""
        message, descriptors, _, _ = socket.recv_fds(self._control, 4096, 2)
        if not message:
            return False
        order = _decode_order(message)
        link, calls = (socket.socket(fileno=descriptor) for descriptor in descriptors)
        try:
            pid = os.fork()
        except OSError as error:  # no process or no memory is left: the workers that are there go on
            link.close()
            calls.close()
            self._control.send(_encode(NotForked(order.slot, f"it cannot be forked: {error.strerror}")))
            return True
        if pid == 0:
            self._become_worker(order, link, calls, application)
        link.close()
        calls.close()
        pidfd = os.pidfd_open(pid)
        socket.send_fds(self._control, [_encode(Forked(order.slot, pid))], [pidfd])
        os.close(pidfd)
        return True

    def _report_ends(self) -> None:
        while True:
            try:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if ended is None:
                return
            # Programs that its tasks started and left: before the wait, so that the number is surely theirs.
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(ended.si_pid, signal.SIGKILL)
            pid, status = os.waitpid(ended.si_pid, 0)
            self._control.send(_encode(Exited(pid, status)))

    def _become_worker(
        self, order: Order, link: socket.socket, calls: socket.socket, application: Application
    ) -> NoReturn:
        status = 1
        try:
            die_with_parent(self._pid)
            os.setpgid(0, 0)
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                signal.signal(number, ignore_signal)
            self._control.close()
            self._journal.slot = order.slot
            words = self._words[order.place * WORDS : (order.place + 1) * WORDS]
            WorkerLoop(
                link,
                application,
                words,
                Shelf.of_worker(self._shelves, order.place) if self._shelves >= 0 else None,
                calls=calls,
                title=f"meshnode {self._config.node} worker {order.slot}",
                concurrency=self._config.concurrency,
                limit=self._config.limit,
            ).serve()
            status = 0
        except BaseException:  # noqa: BLE001  # the top of this process: print it and end
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)


def load_or_explain(config: Config) -> Application | LoadFailed:
    """Import the application, or say why that is not possible, with the traceback of user code."""
    try:
        return load(config.targets, config.folder)
    except ConfigError as error:
        return LoadFailed(str(error))
    except BaseException as error:  # noqa: BLE001  # user code: importing it may raise anything
        return LoadFailed(_explain(error, config))


def _explain(error: BaseException, config: Config) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "importlib" not in frame.filename and __file__ != frame.filename]
    own = [frame for frame in own if not frame.filename.endswith("worker/catalogue.py")]
    lines = ["Traceback (most recent call last):\n", *traceback.format_list(own)]
    lines += traceback.format_exception_only(error)
    text = "".join(lines) if own else "".join(traceback.format_exception_only(error))
    return f"{' '.join(config.targets)} does not import (looked in {config.folder} first):\n{text.rstrip()}"


def main() -> int:
    """Run as `python -m meshnode.worker.zygote CONTROL WORDS PARENT [SHELVES]`: descriptors, PARENT a process id.

    SHELVES is -1 where there are none, and missing where the node is of a version without.
    """
    control_fd, words_fd, parent, shelves_fd = (int(word) for word in [*sys.argv[1:5], "-1"][:4])
    die_with_parent(parent)
    if shelves_fd >= 0:
        os.set_inheritable(shelves_fd, False)  # nothing for the programs that tasks start
    control = socket.socket(fileno=control_fd)
    config = decode_config(control.recv(1 << 20))
    setproctitle.setproctitle(f"meshnode {config.node} zygote")
    shared = mmap.mmap(words_fd, 8 * WORDS * config.places)
    os.close(words_fd)
    loaded = load_or_explain(config)
    if isinstance(loaded, LoadFailed):
        control.send(_encode(loaded))
        return 1
    control.send(_encode(Loaded([task.spec() for task in loaded.tasks], shelves=shelves_fd >= 0)))
    journal = Journal(node=config.node, mesh=config.mesh, as_json=config.log_json)
    install(journal, config.log_level)
    gc.collect()
    gc.freeze()  # what was imported stays shared between the workers: no collection touches it
    Zygote(control, memoryview(shared).cast("Q"), config, journal=journal, shelves=shelves_fd).serve(loaded)
    return 0


if __name__ == "__main__":
    sys.exit(main())
