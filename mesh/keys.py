"""Key files, and where a mesh's keys are found. Pure but for reading files.

A mesh's folder holds `allowed` (`mesh.core.grants`), which is public and the same on every host, and secrets, of which
a host has its own only: `node-NAME.key`, `client-NAME.key`. `docs/security.md` shows how to make and carry them.
"""

import getpass
import os
import socket
import stat
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mesh.core.grants import ALLOWED, CLIENT, NAME, NODE, Allowed, check_key
from mesh.errors import ConfigError

NO_KEYS = "none"
"""Said instead of a path: use no keys, even where a folder is there."""

SYSTEM = Path("/etc/mesh")
"""Where a host's keys lie, a folder for each mesh."""

_MOST_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class KeyFile:
    """One member's own keys, as `node-NAME.key` and `client-NAME.key` hold them."""

    mesh: str
    kind: str
    name: str
    public: str
    secret: str = field(repr=False)
    path: Path

    @property
    def file_name(self) -> str:
        """The file's name."""
        return f"{self.kind}-{self.name}.key"

    def written(self) -> str:
        """Return the file's text."""
        return (
            f"# The secret key of the {self.kind} {self.name} in the mesh {self.mesh}: for its host alone, mode 0400.\n"
            f'mesh = "{self.mesh}"\nkind = "{self.kind}"\nname = "{self.name}"\n'
            f'public = "{self.public}"\nsecret = "{self.secret}"\n'
        )

    @classmethod
    def read(cls, path: Path) -> "KeyFile":
        """Read a key file. Raises ConfigError, which never shows the secret."""
        try:
            if path.stat().st_mode & stat.S_IRWXO:
                raise ConfigError(f"{path} is open to every user of this host: chmod 0400 {path}")
            content = tomllib.loads(_text(path))
        except tomllib.TOMLDecodeError:
            raise ConfigError(f"{path} is no key file: meshctl keygen makes them") from None
        except OSError as error:
            raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
        fields = [content.get(field) for field in ("mesh", "kind", "name", "public", "secret")]
        if not all(isinstance(field, str) for field in fields):
            raise ConfigError(f"{path} is no key file: it needs mesh, kind, name, public and secret")
        try:
            check_key(content["public"])
            check_key(content["secret"])
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from None
        mesh, kind, name, public, secret = map(str, fields)
        return cls(mesh, kind, name, public, secret, path)


def _text(path: Path) -> str:
    with path.open("rb") as file:
        content = file.read(_MOST_BYTES + 1)
    if len(content) > _MOST_BYTES:
        raise ConfigError(f"{path} is larger than {_MOST_BYTES >> 20} MiB")
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not text") from None


class Keyring:
    """The keys of one node or client: its own, and those of `allowed` as of now.

    `refresh` reads `allowed` again if it has changed; one that cannot be read leaves the former list in force. It is
    to be called once a second: a change is taken in by the second call that sees the file the same, since scp and
    editors write in place, and half a list would cut everybody off who stands in the other half.
    """

    def __init__(self, folder: Path, own: KeyFile) -> None:
        self.folder = folder
        self.own = own
        self.flaw = ""
        self._seen = self._changing = self._state()  # before it is read, so that no change in between is missed
        self.allowed = Allowed.parse(self._read(), path=str(self._path))

    @property
    def _path(self) -> Path:
        return self.folder / ALLOWED

    def _read(self) -> str:
        try:
            return _text(self._path)
        except OSError as error:
            raise ConfigError(
                f"{self._path} cannot be read ({error.strerror}): it lists who may speak in the mesh, and lies beside "
                "the key on every host"
            ) from None

    def _state(self) -> tuple[int, int, int] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino

    def refresh(self) -> bool:
        """Read `allowed` again if it has changed; True if another list is in force. `flaw` says what is wrong."""
        state = self._state()
        if state == self._seen or state != self._changing:
            self._changing = state
            return False
        self._seen = state
        try:
            self.allowed = Allowed.parse(self._read(), path=str(self._path))
        except ConfigError as error:
            self.flaw = str(error)
            return False
        self.flaw = ""
        return True


def default_folder(mesh: str) -> Path:
    """Return the folder of a mesh's keys for this user."""
    base = os.environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "mesh" / mesh


def find(mesh: str, given: str | os.PathLike[str] | None) -> Path | None:
    """Return the folder or key file to use; None for no keys.

    Raises ConfigError for one given that is not there, and for one in /etc that this user may not look into.

    In this order: `given`, `$MESH_KEYS`, `~/.config/mesh/NAME`, `/etc/mesh/NAME`.
    """
    named = given if given is not None else os.environ.get("MESH_KEYS")
    if named is not None and os.fspath(named) == NO_KEYS:
        return None
    if named:
        path = Path(os.path.expanduser(named))
        if not _is_there(path):
            raise ConfigError(
                f"there are no keys at {path}: `meshctl --mesh {mesh} keygen --keys {path}` makes them, and the word "
                "none does without"
            )
        return path
    if not NAME.fullmatch(mesh):
        return None
    try:
        own = default_folder(mesh)
        if (own / ALLOWED).exists():
            return own
    except (OSError, RuntimeError):  # no home, as in containers, or another user's, as with sudo: no keys are there
        pass
    folder = SYSTEM / mesh
    return folder if _is_there(folder / ALLOWED) else None


def _is_there(path: Path) -> bool:
    """Is there such a file or folder? Raises ConfigError where this user may not even know."""
    try:
        return path.exists()
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be looked at ({error.strerror}): keys have to be readable by the user {user_name()}; the "
            "word none does without"
        ) from None


def node_keyring(mesh: str, given: str | os.PathLike[str] | None, name: str) -> Keyring | None:
    """Return a node's keys; None if it is to have none. Raises ConfigError.

    Of several keys it takes the one named as the node (`name`, if it has one) or else as this host.
    """
    return _keyring(mesh, given, NODE, (name, host_name()))


def client_keyring(mesh: str, given: str | os.PathLike[str] | None) -> Keyring | None:
    """Return a client's keys; None if it is to have none. Raises ConfigError.

    Of several keys it takes the one named as this user. `given` may also be the very key file.
    """
    return _keyring(mesh, given, CLIENT, (user_name(),))


def _keyring(mesh: str, given: str | os.PathLike[str] | None, kind: str, names: Sequence[str]) -> Keyring | None:
    path = find(mesh, given)
    if path is None:
        return None
    folder = path if path.is_dir() else path.parent
    own = KeyFile.read(_own(folder, kind, names, mesh) if path.is_dir() else path)
    if own.kind != kind:
        raise ConfigError(f"{own.path} is the key of a {own.kind}, not of a {kind}")
    if own.mesh != mesh:
        raise ConfigError(f"{own.path} is a key of the mesh {own.mesh!r}, not of {mesh!r} (--mesh)")
    return Keyring(folder, own)


def _own(folder: Path, kind: str, names: Sequence[str], mesh: str) -> Path:
    """Return the key file of a member among those of its kind."""
    found: list[Path] = []
    for place in (os.environ.get("CREDENTIALS_DIRECTORY"), folder):
        if place:
            found = sorted(Path(place).glob(f"{kind}-*.key"))
        if found:
            break
    for name in filter(None, names):
        for path in found:
            if path.name == f"{kind}-{name}.key":
                return path
    if len(found) == 1:
        return found[0]
    if not found:
        example = f"{kind} {names[-1]}"
        raise ConfigError(
            f"{folder} holds no {kind} key: `meshctl --mesh {mesh} keygen {example}`, where the mesh's keys are made, "
            f"makes {kind}-{names[-1]}.key; carry it here"
        )
    several = ", ".join(path.name for path in found)
    how = "name the node as its key (-n)" if kind == NODE else f"name one: {folder}/{found[0].name}"
    raise ConfigError(f"{folder} holds several {kind} keys ({several}): {how}")


def host_name() -> str:
    """Return the first part of this host's name."""
    return socket.gethostname().split(".")[0] or "node"


def user_name() -> str:
    """Return this user's name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user without an entry, as in containers
        return str(os.getuid())
