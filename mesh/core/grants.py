"""Which keys are allowed in a mesh, and what each may do: the file `allowed`, read and written. Pure.

    node    web7     <public key>
    client  billing  <public key>  role=submit  tasks=send_*,report
    client  ops      <public key>  role=operate

A name may stand there twice: both keys are accepted while one replaces the other. `docs/security.md`.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Final

from mesh.errors import ConfigError

NODE: Final = "node"
CLIENT: Final = "client"
SUBMIT: Final = "submit"
OPERATE: Final = "operate"
ROLES: Final = (SUBMIT, OPERATE)
ALLOWED: Final = "allowed"

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_KEY: Final = re.compile(r"[0-9A-Za-z.\-:+=^!/*?&<>()\[\]{}@%$#]{40}")
"""32 bytes in Z85 (ZeroMQ RFC 32), as CURVE keys are written."""

_Z85: Final = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"

_GLOB: Final = re.compile(r"[^\s,]{1,200}")


@dataclass(frozen=True, slots=True)
class Grant:
    """What a key may do: a node's may forward and hand in any job; a client's what its role and task globs say.

    `public`: the key itself, where it comes from a list.
    """

    kind: str
    name: str
    role: str = SUBMIT
    tasks: tuple[str, ...] = ("*",)
    public: str = field(default="", compare=False)

    @property
    def operates(self) -> bool:
        """May it drain, reload and scale nodes, and end others' jobs?"""
        return self.role == OPERATE

    @property
    def member(self) -> str:
        """Who it is, whichever of his keys he has; empty where there are no keys."""
        return f"{self.kind} {self.name}" if self.name else ""

    @property
    def any_task(self) -> bool:
        """May it run every task?"""
        return self.kind == NODE or self.operates or "*" in self.tasks

    def may(self, task: str) -> bool:
        """May it run this task?"""
        return self.any_task or _matches(self.tasks, task)


ANYBODY: Final = Grant(CLIENT, "", OPERATE)
"""Who speaks to a node without keys: whoever reaches its port may do everything."""


@lru_cache(4096)
def _matches(globs: tuple[str, ...], task: str) -> bool:
    return any(fnmatchcase(task, glob) for glob in globs)


class Allowed:
    """The keys that are accepted, and what each may do."""

    def __init__(self, entries: Iterable[tuple[str, Grant]] = ()) -> None:
        self.entries = list(entries)
        self._by_key = dict(self.entries)

    def grant(self, public: str) -> Grant | None:
        """Return what a key may do; None if it is not accepted."""
        return self._by_key.get(public)

    def node_keys(self) -> dict[str, str]:
        """Return the nodes' names by their keys."""
        return {public: grant.name for public, grant in self.entries if grant.kind == NODE}

    def keys_of(self, kind: str, name: str) -> list[str]:
        """Return the keys of a name, the oldest first."""
        return [public for public, grant in self.entries if (grant.kind, grant.name) == (kind, name)]

    @classmethod
    def parse(cls, text: str, *, path: str = ALLOWED) -> "Allowed":
        """Read the file. Raises ConfigError with the line that is wrong."""
        entries: list[tuple[str, Grant]] = []
        seen: set[str] = set()
        for number, line in enumerate(text.splitlines(), 1):
            words = line.split()
            if not words or words[0].startswith("#"):
                continue
            try:
                public, grant = _entry(words)
            except ConfigError as error:
                raise ConfigError(f"{path}, line {number}: {error}") from None
            if public in seen:
                raise ConfigError(f"{path}, line {number}: this key stands in another line too")
            seen.add(public)
            entries.append((public, grant))
        return cls(entries)

    def written(self, mesh: str) -> str:
        """Return the file's text."""
        lines = [
            f"# Who may speak in the mesh {mesh!r}: the same file on every host. No secrets.",
            "# Nodes and clients read it again when it changes; who is taken out is cut off within seconds.",
        ]
        for public, grant in self.entries:
            line = f"{grant.kind:6}  {grant.name:20}  {public}"
            if grant.kind == CLIENT:
                line += f"  role={grant.role}"
                if grant.tasks != ("*",):
                    line += f"  tasks={','.join(grant.tasks)}"
            lines.append(line)
        return "\n".join(lines) + "\n"


def _entry(words: Sequence[str]) -> tuple[str, Grant]:
    if len(words) < 3:
        raise ConfigError("a line is: node NAME KEY, or client NAME KEY role=submit tasks=GLOB,GLOB")
    kind, name, public, *options = words
    if kind not in (NODE, CLIENT):
        raise ConfigError(f"it begins with {kind!r}, not with node or client")
    check_name(name)
    check_key(public)
    if kind == NODE:
        if options:
            raise ConfigError("a node has no options")
        return public, Grant(NODE, name, public=public)
    role = SUBMIT
    tasks: tuple[str, ...] = ("*",)
    for option in options:
        word, _, value = option.partition("=")
        if word == "role" and value in ROLES:
            role = value
        elif word == "tasks" and value:
            tasks = tuple(value.split(","))
        else:
            raise ConfigError(f"{option!r} is neither role={'|'.join(ROLES)} nor tasks=GLOB,GLOB")
    return public, Grant(CLIENT, name, role, check_globs(tasks), public)


def check_name(name: str) -> str:
    """Check a node's or client's name. Raises ConfigError."""
    if not NAME.fullmatch(name):
        raise ConfigError(f"{name!r} is no name: 1 to 63 letters, digits, dots, hyphens and underscores")
    return name


def check_key(text: str) -> str:
    """Check a key. Raises ConfigError."""
    if not _KEY.fullmatch(text):
        raise ConfigError("a key has 40 characters of the Z85 alphabet")
    for start in range(0, len(text), 5):
        value = 0
        for character in text[start : start + 5]:
            value = value * 85 + _Z85.index(character)
        if value >= 2**32:  # ZeroMQ raises for such a one, and much later
            raise ConfigError("this is no key: five of its characters say more than 32 bits hold")
    return text


def check_globs(globs: Iterable[str]) -> tuple[str, ...]:
    """Check globs of task names. Raises ConfigError."""
    checked = tuple(globs)
    for glob in checked:
        if not _GLOB.fullmatch(glob):
            raise ConfigError(f"{glob!r} is no glob of task names, as in send_*")
    return checked
