"""Only one node of a name runs on a host for one user: a lock file, released by the kernel when the node ends.

The lock also tells who is alive: what a node that was killed left in the folder goes when somebody looks.
"""

import fcntl
import os
import stat
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from mesh.errors import ConfigError
from meshnode.config import runtime_folder

PATIENCE_S = 0.5
"""Seconds for which a name that is held is tried again: who looks whether a node is alive holds it for a moment."""

_AGAIN_S = 0.05


class NameTakenError(ConfigError):
    """A node of this name runs here already."""


class NameLock:
    """Holds a node's name for as long as its block runs. `folder` is then where its control socket belongs.

    A node that was not given a name (`given`) also runs where no folder can be had; `why_not` then says why.
    """

    def __init__(self, name: str, *, given: bool) -> None:
        self.folder: Path | None = None
        self.why_not = ""
        self._name = name
        self._given = given
        self._descriptor = -1

    def __enter__(self) -> Self:
        """Take the name. Raises NameTakenError, or ConfigError where the folder for locks is not ours."""
        try:
            folder = own_folder()
            descriptor = _take_patiently(folder, self._name)
        except ConfigError as error:
            if self._given:
                raise
            self.why_not = str(error)
            return self
        if descriptor is None:
            raise NameTakenError(
                f"a node named {self._name!r} already runs here; choose another --name, or leave it out"
            )
        self.folder, self._descriptor = folder, descriptor
        running(folder)  # a node that is killed again and again, each time under a new name, must not fill the folder
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let the name go."""
        if self.folder is not None:
            _clear(self.folder, self._name, self._descriptor)


def own_folder() -> Path:
    """Return the folder of this user's locks and control sockets, made if need be. Raises ConfigError."""
    folder = runtime_folder()
    told = bool(os.environ.get("RUNTIME_DIRECTORY"))
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        facts = folder.stat() if told else folder.lstat()
        trusted = facts.st_uid == os.getuid() or (told and os.getuid() == 0)
        if not trusted or not stat.S_ISDIR(facts.st_mode):
            raise ConfigError(f"{folder} belongs to somebody else; set XDG_RUNTIME_DIR to a folder of yours")
        if not told and facts.st_mode & 0o077:
            folder.chmod(0o700)
    except OSError as error:
        raise ConfigError(f"{folder} cannot hold locks and control sockets: {error.strerror}") from None
    return folder


def running(folder: Path) -> list[str]:
    """Return the names of the nodes that are alive, and remove what others left behind. Raises ConfigError."""
    names = sorted({path.stem for kind in ("*.lock", "*.sock") for path in folder.glob(kind)})
    return [name for name in names if _is_held(folder, name)]


def _is_held(folder: Path, name: str) -> bool:
    descriptor = _take(folder, name)
    if descriptor is not None:
        _clear(folder, name, descriptor)
    return descriptor is None


def _take_patiently(folder: Path, name: str) -> int | None:
    deadline = time.monotonic() + PATIENCE_S
    while (descriptor := _take(folder, name)) is None and time.monotonic() < deadline:
        time.sleep(_AGAIN_S)
    return descriptor


def _take(folder: Path, name: str) -> int | None:
    """Lock a name, and return the lock's descriptor; None if somebody holds it. Raises ConfigError."""
    path = folder / f"{name}.lock"
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise ConfigError(f"{path} cannot be locked: {error.strerror}") from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        if _is_at(descriptor, path):
            return descriptor
        os.close(descriptor)  # its last holder removed it after we had opened it


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False


def _clear(folder: Path, name: str, descriptor: int) -> None:
    """Remove what is in the folder under a name whose lock we hold, and let go of it."""
    for kind in ("sock", "lock"):
        (folder / f"{name}.{kind}").unlink(missing_ok=True)
    os.close(descriptor)
