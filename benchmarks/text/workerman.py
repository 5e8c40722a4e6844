"""The peer: Workerman, run by PHP from where the environment variable WORKERMAN points to. Shell."""

import os
import re
import shutil
import socket
from pathlib import Path

from benchmarks.server import Server

VARIABLE = "WORKERMAN"

# PHP's own cache and compiler, which its command line leaves off: a server wants them.
_TUNED = ["-d", "opcache.enable_cli=1", "-d", "opcache.jit=tracing", "-d", "opcache.jit_buffer_size=64M"]


def why_not() -> str | None:
    """Why it cannot be measured here, if so."""
    if not os.environ.get(VARIABLE):
        return f"not measured: {VARIABLE} names no checkout"
    if shutil.which("php") is None:
        return "not measured: there is no php (Debian: php-cli)"
    return None


class Workerman(Server):
    """So many processes of it, on a socket each with `reuse_port`, else on one."""

    def __init__(self, processes: int, folder: Path, *, reuse_port: bool = False) -> None:
        script = str(Path(__file__).with_suffix(".php"))
        checkout = str(Path(os.environ[VARIABLE]).expanduser().resolve())
        port = _free_port() if reuse_port else 0
        command = ["php", *_TUNED, script, checkout, str(processes), str(folder), str(port)]
        # It takes a second to stop, and there is nothing that it would have to finish.
        super().__init__(command, processes=processes, grace=0.1)

    @property
    def version(self) -> str:
        """What it calls itself, and its event loop: the extension `event` is faster than the built-in `select`."""
        return re.sub(r"(\S+ \S+) on (?:\w+\\)*(\w+),.*", r"\1 (\2)", self.greeting)


def _free_port() -> int:
    """Return a port that nobody has at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
