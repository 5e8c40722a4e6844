"""The lab's grip on the machine it runs on: commands, processes and control groups."""

from __future__ import annotations

import errno
import os
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Self, TypeVar

Argument = str | os.PathLike[str]
T = TypeVar("T")


class LabError(Exception):
    """The lab cannot do what was asked; the message says why."""


def obstacle(*tools: str) -> str | None:
    """Why no lab that uses these programs can be made here; None if nothing is in the way."""
    if os.geteuid():
        return "making hosts out of namespaces needs root"
    if missing := [tool for tool in tools if not shutil.which(tool)]:
        return f"not installed: {', '.join(missing)} (see tests/hosts/lab/README.md)"
    try:
        groups = ControlGroups("lab")
    except LabError as error:
        return str(error)
    if not all(os.access(root, os.W_OK) for root in groups.roots):
        return "the control groups are mounted read-only"
    probe = subprocess.run(["unshare", "--net", "--mount", "true"], capture_output=True, text=True, check=False)
    return f"no namespaces: {probe.stderr.strip()}" if probe.returncode else None


def run(argv: Sequence[Argument], *, feed: str | None = None, check: bool = True) -> str:
    """Run a command to its end and return its stdout; on failure raise with its stderr."""
    done = subprocess.run(
        list(argv),
        stdin=subprocess.DEVNULL if feed is None else None,
        input=feed,
        capture_output=True,
        text=True,
        check=False,
    )
    if check and done.returncode:
        said = done.stderr.strip() or done.stdout.strip()
        raise LabError(f"{shlex.join(map(str, argv))}: exit {done.returncode}: {said}")
    return done.stdout


def wait_for(condition: Callable[[], T | None], timeout: float, what: str, *, interval: float = 0.02) -> T:
    """The condition's first true value; LabError if there is none within `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while True:
        if value := condition():
            return value
        if time.monotonic() > deadline:
            raise LabError(f"timed out after {timeout:g} s waiting for {what}")
        time.sleep(interval)


@dataclass(frozen=True)
class Process:
    """A process named for good: pids are used again, a pid with its start tick is not."""

    pid: int
    started: int | None

    @classmethod
    def of(cls, pid: int) -> Self:
        return cls(pid, _start_tick(pid))

    @classmethod
    def spawn(cls, argv: Sequence[Argument], log: Path, env: Mapping[str, str] | None = None) -> Self:
        """Start a process that is nobody's child but init's; what it says is added to `log`."""
        script = 'echo $$; exec >> "$0" 2>&1; exec "$@"'
        outcome = subprocess.run(
            ["setsid", "--fork", "/bin/sh", "-c", script, log, *argv],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            cwd="/",
            env=env,
            text=True,
            check=True,
        )
        return cls.of(int(outcome.stdout))

    @property
    def alive(self) -> bool:
        return self.started is not None and _start_tick(self.pid) == self.started


def _start_tick(pid: int) -> int | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else int(fields[19])


class ControlGroups:
    """One subtree of the cgroup2 hierarchy (and of v1 name=systemd, if there is any).

    Only the core of cgroup v2 is used (cgroup.procs, .kill, .freeze), which needs no controller.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        unified: list[Path] = []
        v1_systemd: list[Path] = []
        for line in Path("/proc/self/mounts").read_text().splitlines():
            _, point, kind, options, *_ = line.split()
            if kind == "cgroup2":
                unified.append(Path(point))
            elif kind == "cgroup" and "name=systemd" in options.split(","):
                v1_systemd.append(Path(point))
        if not unified:
            raise LabError("no cgroup2 file system is mounted")
        self.roots = [unified[-1], *v1_systemd[-1:]]

    def path(self, *parts: str) -> Path:
        """The group's directory in the cgroup2 hierarchy."""
        return self.roots[0].joinpath(self.name, *parts)

    def make(self, *parts: str) -> None:
        for root in self.roots:
            root.joinpath(self.name, *parts).mkdir(parents=True, exist_ok=True)

    def enter(self, *parts: str) -> list[Argument]:
        """Argv prefix: move into the group, then become the command."""
        files = [root.joinpath(self.name, *parts, "cgroup.procs") for root in self.roots]
        script = "".join(f"echo $$ > {shlex.quote(str(f))} || exit 125; " for f in files)
        return ["/bin/sh", "-c", script + 'exec "$@"', "lab"]

    def procs(self, *parts: str) -> list[int]:
        """The pids in the group and in those below it."""
        pids: list[int] = []
        for folder, _, _ in os.walk(self.path(*parts)):
            with suppress(OSError):  # the group has just been removed
                pids += map(int, Path(folder, "cgroup.procs").read_text().split())
        return pids

    def kill(self, *parts: str) -> None:
        """SIGKILL every process in the group and wait until it is empty."""
        base = self.path(*parts)
        if not base.exists():
            return
        self.freeze(*parts, frozen=False)
        if (base / "cgroup.kill").exists():  # Linux 5.14
            (base / "cgroup.kill").write_text("1")
        else:
            for pid in self.procs(*parts):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not self.procs(*parts), 10, f"{base} to empty")

    def freeze(self, *parts: str, frozen: bool) -> None:
        """Stop the group's processes where they are, or let them go on."""
        base = self.path(*parts)
        if not base.exists():
            return
        (base / "cgroup.freeze").write_text(str(int(frozen)))
        wanted = f"frozen {int(frozen)}"
        wait_for(lambda: wanted in (base / "cgroup.events").read_text(), 5, f"{base} to be {wanted}")

    def remove(self) -> None:
        for root in self.roots:
            for folder, _, _ in os.walk(root / self.name, topdown=False):
                group = Path(folder)
                wait_for(partial(removed, group), 10, f"{group} to be empty")


def removed(group: Path) -> bool:
    """Remove a group; False while a process that has just been killed is still in it."""
    try:
        group.rmdir()
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        return False
    return True
