"""Only one node of a name runs on a host for one user: a lock file, released by the kernel when the node ends."""

import fcntl
import os
from types import TracebackType
from typing import Self

from mesh.errors import ConfigError
from meshnode.config import runtime_folder


class NameTakenError(ConfigError):
    """A node of this name runs here already."""


class NameLock:
    """Holds a node's name for as long as its block runs; a node without a name of its own needs none."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._descriptor = -1

    def __enter__(self) -> Self:
        """Take the name. Raises NameTakenError, or ConfigError where the folder for locks is not ours."""
        if not self._name:
            return self
        folder = runtime_folder()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder.stat().st_uid != os.getuid():
            raise ConfigError(f"{folder} belongs to somebody else; set XDG_RUNTIME_DIR to a folder of yours")
        self._descriptor = os.open(folder / f"{self._name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._descriptor)
            raise NameTakenError(
                f"a node named {self._name!r} already runs here; choose another --name, or leave it out"
            ) from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let the name go."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
