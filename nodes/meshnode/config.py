"""A node's settings: flag > `MESHNODE_*` > meshnode.toml > default. Pure but for reading the file."""

import ipaddress
import os
import re
import secrets
import socket
import tomllib
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from mesh.errors import ConfigError
from mesh.keys import Keyring

DEFAULT_PORT = 5750
DEFAULT_BRIDGE_PORT = 12345
DEFAULT_BIND = f"tcp://127.0.0.1:{DEFAULT_PORT}"
OPEN_BIND = f"tcp://*:{DEFAULT_PORT}"
DEFAULT_BRIDGE = f"127.0.0.1:{DEFAULT_BRIDGE_PORT}"
FILES = (Path("meshnode.toml"), Path("/etc/meshnode/meshnode.toml"))

_SIZE = re.compile(r"(\d+)\s*([kKmMgG]?)(?:i?[bB])?")
_SCALE = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
BUILTIN = "meshnode.worker.builtin"
"""The module of the tasks that a node serves when it is given none."""

TOKEN_LEAST = 16
TOKEN_MOST = 1000
"""Bytes of a bridge's token: fewer could be guessed, more would not fit its line (core/preface.py)."""

_PORT = re.compile(r"[0-9]{1,5}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that a node is told. Lengths of time are seconds, sizes bytes."""

    targets: tuple[str, ...]
    folder: str
    workers: int
    concurrency: int = 1
    bind: str = DEFAULT_BIND
    bind_is_default: bool = True
    advertise: tuple[str, ...] = ()
    mesh: str = "default"
    name: str = ""
    node_id: str = field(default_factory=lambda: secrets.token_hex(16))
    seeds: tuple[str, ...] = ()
    mdns: bool = True
    max_message: int = 64 << 20
    bridge: str | None = DEFAULT_BRIDGE
    bridge_is_default: bool = True
    bridge_max_line: int = 10 * 1024 * 1024
    bridge_idle: float | None = None
    bridge_line_timeout: float = 10.0
    bridge_max_connections: int = 16_384
    bridge_max_per_address: int | None = None
    bridge_max_held: int = 256 << 20
    bridge_allow: tuple[str, ...] = ()
    bridge_tasks: tuple[str, ...] = ()
    bridge_token: str | None = None
    bridge_cert: str | None = None
    bridge_cert_key: str | None = None
    bridge_proxy: tuple[str, ...] = ()
    insecure: bool = False
    keys: Keyring | None = None
    allow_networks: tuple[str, ...] = ()
    grace: float = 30.0
    limit: float | None = None
    max_tasks_per_child: int | None = None
    max_tasks_jitter: int = 0
    max_memory_per_child: int | None = None
    http: str | None = None
    log_level: str = "info"
    log_json: bool = False

    @property
    def shown_name(self) -> str:
        """The name given, else the host's and part of the node's id, so that two never collide."""
        return self.name or f"{host_name()}-{self.node_id[:8]}"


def host_name() -> str:
    """Return the first part of this host's name, fit for a node's name."""
    first = socket.gethostname().split(".")[0]
    return re.sub(r"[^A-Za-z0-9_-]", "-", first)[:50].strip("-_") or "node"


def parse_size(text: str | int) -> int:
    """Read `64M`, `512k` or a number of bytes. Raises ConfigError."""
    match = _SIZE.fullmatch(str(text).strip())
    if match is None:
        raise ConfigError(f"{text!r} is no size: give bytes, or 512k, 64M, 1G")
    return int(match[1]) * _SCALE[match[2].lower()]


def parse_name(text: str) -> str:
    """Check a mesh's or node's name. Raises ConfigError."""
    if not _NAME.fullmatch(text):
        raise ConfigError(f"{text!r} is no name: 1 to 63 letters, digits, dots, hyphens and underscores")
    return text


def parse_address(text: str, *, what: str) -> tuple[str, int]:
    """Split `HOST:PORT`, `:PORT`, `PORT` or `[IPV6]:PORT`. Raises ConfigError."""
    host, _, port = text.rpartition(":")
    if text.endswith("]"):
        raise ConfigError(f"{what} {text!r}: a port is missing, as in {text}:PORT")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ConfigError(f"{what} {text!r}: write an IPv6 address in brackets, [::1]:{DEFAULT_PORT}")
    if not _PORT.fullmatch(port) or int(port) > 65535:
        raise ConfigError(f"{what} {text!r}: the part behind the last colon must be a port, 0 to 65535")
    return host or "127.0.0.1", int(port)


def endpoint(text: str) -> str:
    """Return `tcp://HOST:PORT` for what a user may write. Raises ConfigError."""
    plain = text.removeprefix("tcp://")
    if "://" in plain:
        raise ConfigError(f"--bind {text!r}: only tcp:// can be bound")
    if plain.startswith("*:"):
        host, port = "*", parse_address(plain[1:], what="--bind")[1]
    else:
        host, port = parse_address(plain, what="--bind")
    return f"tcp://[{host}]:{port}" if ":" in host else f"tcp://{host}:{port}"


def is_loopback(host: str) -> bool:
    """Does this host or address reach this machine only?"""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False  # a name, whatever it resolves to


def network(text: str) -> str:
    """Check addresses, written as `10.0.0.0/8`, `2001:db8::/32`, or one address. Raises ConfigError."""
    try:
        return str(ipaddress.ip_network(text))
    except ValueError as error:
        raise ConfigError(f"{text!r} is no network: {error}; give 10.0.0.0/8, 2001:db8::/32 or an address") from None


def read_token(name: str) -> bytes:
    """Return the first line of a file which is nobody else's to read. Raises ConfigError."""
    try:
        with Path(name).open("rb") as file:
            if os.fstat(file.fileno()).st_mode & 0o007:
                raise ConfigError(f"--bridge-token {name} can be read by everybody here: chmod o= {name}")
            token = file.readline(2 * TOKEN_MOST).rstrip(b"\r\n")
    except OSError as error:
        raise ConfigError(f"--bridge-token {name} cannot be read: {error.strerror}") from None
    if not TOKEN_LEAST <= len(token) <= TOKEN_MOST:
        raise ConfigError(
            f"--bridge-token {name}: its first line has {len(token)} bytes, and a token {TOKEN_LEAST} to {TOKEN_MOST}; "
            f"make one with: openssl rand -hex 32"
        )
    return token


def exposure_error(settings: Settings, *, keyed: bool) -> str | None:
    """Say why the bridge may not listen where it is told to, and what to give; None if it may. `keyed`: with keys."""
    bridge = settings.bridge
    if bridge is None or settings.insecure or is_loopback(parse_address(bridge, what="--bridge")[0]):
        return None
    if keyed and (settings.bridge_allow or settings.bridge_token):
        return None
    open_to_all = f"--bridge {bridge} listens on the network, where anybody could run tasks"
    if keyed:
        return f"{open_to_all}: say who may with --bridge-allow CIDR, --bridge-token FILE, or both"
    return (
        f"{open_to_all}: `meshctl keygen` makes keys, with which --bridge-allow CIDR or --bridge-token FILE opens it "
        "to some; --insecure does without"
    )


def find_file(named: str | None) -> Path | None:
    """Return the settings file: the one named, else the first of `FILES` that exists."""
    if named is not None:
        return Path(named)
    return next((path for path in FILES if path.is_file()), None)


def read_file(path: Path, known: set[str]) -> dict[str, Any]:
    """Read a TOML settings file whose keys are the flags' names. Raises ConfigError, naming what is wrong."""
    try:
        content = tomllib.loads(path.read_text())
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not TOML: {error}") from None
    return dict(_setting(path, written, value, known) for written, value in content.items())


def _setting(path: Path, written: str, value: Any, known: set[str]) -> tuple[str, Any]:
    """Return a setting under its flag's name: `no-mdns = true` is `mdns = false`."""
    key = written.replace("-", "_")
    if key in known:
        return key, value
    opposite = key.removeprefix("no_")
    if opposite in known and opposite != key and type(value) is bool:
        return opposite, not value
    near = get_close_matches(key, known, n=1)
    names = sorted(name.replace("_", "-") for name in known)
    hint = f"; did you mean {near[0].replace('_', '-')!r}?" if near else f"; known are {', '.join(names)}"
    raise ConfigError(f"{path} sets {written!r}, which is no setting{hint}")


def runtime_folder() -> Path:
    """Folder of this user's locks and control sockets: `$RUNTIME_DIRECTORY`, `$XDG_RUNTIME_DIR/meshnode` or /tmp."""
    given = os.environ.get("RUNTIME_DIRECTORY")
    if given:
        return Path(given.split(":")[0])
    user = os.environ.get("XDG_RUNTIME_DIR")
    if user and Path(user).is_dir():
        return Path(user) / "meshnode"
    return Path(f"/tmp/meshnode-{os.getuid()}")  # noqa: S108  # made with mode 0700 and checked to be ours
