"""A small cluster of test hosts on one Linux machine, made of namespaces.

Every host has its own Ethernet card on a shared switch, so TCP, multicast, ARP and IPv6 behave
as they do between servers. Nothing is made in the machine's own network namespace, and no
system-wide setting is changed. Read README.md beside this file first.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Network
from pathlib import Path
from typing import IO, Literal, Self, TypedDict, Unpack

from tests.hosts.lab import systemd as debian
from tests.hosts.lab.host import Host
from tests.hosts.lab.machine import Argument, ControlGroups, LabError, obstacle
from tests.hosts.lab.switch import Switch

PLAIN_TOOLS = ("ip", "nft", "nsenter", "unshare", "setsid")
SYSTEMD_TOOLS = (*PLAIN_TOOLS, "systemd-nspawn", "mmdebstrap", "ssh", "ssh-keygen")
# Each host learns the addresses of all others, and the kernel has room for 1024 learned
# neighbours in all namespaces together (net.ipv4.neigh.default.gc_thresh3).
MAX_HOSTS = 20


class Disturbance(TypedDict, total=False):
    """What `netem` does to a host's frames, each way."""

    delay: float  # milliseconds
    jitter: float  # milliseconds, plus or minus
    loss: float  # per cent, as are the next three
    dup: float
    corrupt: float  # one bit is flipped
    reorder: float  # overtake the delayed ones
    rate: float  # bit/s
    limit: int  # frames held at most
    only: Literal["in", "out"]  # one direction, seen from the host
    seed: int  # for the same disturbances again


class Lab:
    """Hosts h1, h2, ... and ctl, the operator's; a context manager that leaves nothing behind.

    >>> with Lab(folder) as lab:
    ...     node = lab.up(3).popen("h1", ["meshnode"])
    ...     lab.cut("h1")
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        name = "lab-" + hashlib.sha256(str(self.folder).encode()).hexdigest()[:8]
        self.groups = ControlGroups(name)
        self.hosts: dict[str, Host] = {}
        self.started: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.down()

    def up(
        self,
        count: int,
        *,
        systemd: bool = False,
        plain: int = 0,
        suite: str = debian.SUITE,
        packages: Sequence[str] = (),
        subnet: str = "10.77.0.0/24",
    ) -> Self:
        """Make `count` hosts.

        With `systemd` they are Debian systems of that `suite`, with those `packages` besides, but for the last `plain`.
        """
        if why := obstacle(*(SYSTEMD_TOOLS if systemd else PLAIN_TOOLS)):
            raise LabError(why)
        if self.hosts:
            raise LabError("the lab is up")
        if not 1 <= count <= MAX_HOSTS:
            raise LabError(f"cannot make {count} hosts: 1 to {MAX_HOSTS} it is")
        net = IPv4Network(subnet)
        self.groups.make()
        self.switch = Switch("switch", self.folder / "switch", self.groups)
        self.switch.make()
        operator = Host("ctl", net.num_addresses - 2, net, self.folder / "ctl", self.groups)
        self._add(operator)
        if systemd:
            self.keys = debian.Keys(self.folder / "ssh")
            self.keys.make()
            image = debian.image(packages, suite=suite)
        for number in range(1, count + 1):
            name = f"h{number}"
            where = (name, number, net, self.folder / name, self.groups)
            self._add(
                debian.SystemdHost(*where, image=image, keys=self.keys, operator=operator)
                if systemd and number <= count - plain
                else Host(*where)
            )
        everyone = list(self.hosts.values())
        for host in everyone:
            host.name_all(everyone)
        for host in everyone:
            host.boot()
        return self

    def _add(self, host: Host) -> None:
        host.make()
        self.switch.connect(host)
        self.hosts[host.name] = host

    def tidy(self) -> None:
        """Heal all, end what tests started, reap it. Changed files stay changed."""
        self.heal()
        for host in self.hosts.values():
            host.end_tests()
        self._reap()

    def down(self) -> None:
        """End the lab: no process, namespace, mount, cgroup or file is left (images apart)."""
        self.groups.kill()
        self.groups.remove()
        self._reap()
        self.hosts.clear()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _reap(self) -> None:
        for process in self.started:
            process.kill()
            with process:
                pass
        self.started.clear()

    # ---- hosts

    def names(self) -> list[str]:
        """The test hosts, without ctl."""
        return [name for name in self.hosts if name != "ctl"]

    def host(self, name: str) -> Host:
        """The host of that name, or LabError."""
        try:
            return self.hosts[name]
        except KeyError:
            raise LabError(f"no host {name!r}; there are: {', '.join(self.hosts)}") from None

    def ip(self, name: str) -> str:
        """The host's IPv4 address."""
        return self.host(name).ip

    def root(self, name: str) -> Path:
        """A host's root directory as seen from this machine, to read and write files."""
        return self.host(name).root

    def popen(
        self,
        name: str,
        command: Sequence[Argument],
        *,
        stdin: int | IO[str] = subprocess.DEVNULL,
        stdout: int | IO[str] | None = None,
        stderr: int | IO[str] | None = None,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.Popen[str]:
        """A subprocess.Popen in a host; `tidy` and `down` reap it and close its pipes.

        In a plain host the process is the command itself: its pid, signals and exit status.
        """
        argv = self.host(name).argv(command)
        process = subprocess.Popen(argv, stdin=stdin, stdout=stdout, stderr=stderr, env=env, text=True)
        self.started.append(process)
        return process

    def run(self, name: str, command: Sequence[Argument], *, timeout: float = 30) -> subprocess.CompletedProcess[str]:
        """subprocess.run in a host, with its output, its exit status unchecked."""
        return subprocess.run(
            self.host(name).argv(command),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def check_output(self, name: str, command: Sequence[Argument], *, timeout: float = 30) -> str:
        """The stdout of a command in a host; LabError with its stderr if it fails."""
        done = self.run(name, command, timeout=timeout)
        if done.returncode:
            said = done.stderr.strip() or done.stdout.strip()
            raise LabError(f"{command} in {name}: exit {done.returncode}: {said}")
        return done.stdout

    def inventory(self, user: str = "deploy") -> dict[str, object]:
        """An Ansible inventory of the systemd hosts, for a playbook run in ctl."""
        # /run is ctl's own; a path under the lab's folder may be too long for a socket
        options = f"-F {self.keys.config} -o ControlMaster=auto -o ControlPersist=60s -o ControlPath=/run/%C"
        return {
            "all": {
                "hosts": {name: {"ansible_host": self.ip(name)} for name in self.names()},
                "vars": {
                    "ansible_user": user,
                    "ansible_become": user != "root",
                    "ansible_ssh_private_key_file": str(self.keys.private),
                    "ansible_ssh_args": options,
                    "ansible_python_interpreter": "/usr/bin/python3",
                },
            }
        }

    # ---- faults

    def cut(self, name: str, *, silent: bool = False) -> None:
        """Take a host off the network.

        As if its cable was pulled: the host sees the carrier go. With `silent` the switch drops
        its frames instead, both ways, and nobody is told.
        """
        host = self.host(name)
        if silent:
            self.switch.silent.add(name)
            self.switch.apply_rules()
        else:
            self.switch.port_down(host)

    def block(self, source: str, target: str) -> None:
        """Drop what source sends to target; the other way still works."""
        self.switch.blocks.add((self.host(source).name, self.host(target).name))
        self.switch.apply_rules()

    def partition(self, *groups: Sequence[str]) -> None:
        """Let no frame pass between the groups of hosts.

        Replaces what block and partition said before; hosts in no group, as ctl, reach all.
        """
        sides = [[self.host(name).name for name in group] for group in groups]
        self.switch.blocks = {
            (a, b) for one in sides for other in sides if one is not other for a in one for b in other
        }
        self.switch.apply_rules()

    def netem(self, name: str, **settings: Unpack[Disturbance]) -> None:
        """Delay, lose, repeat, damage or slow down all frames from and to a host."""
        self.switch.disturb(self.host(name), dict[str, float | str](**settings))

    def netem_stats(self, name: str) -> dict[str, dict[str, int]]:
        """What became of the frames "in" and "out"; brought up to date twice a second."""
        stats: dict[str, dict[str, int]] = json.loads(self.switch.relay_stats(self.host(name)).read_text())
        return stats

    def heal(self, *names: str) -> None:
        """Undo cut, block, partition, netem and pause: for these hosts, or all."""
        chosen = names or tuple(self.hosts)
        for host in map(self.host, chosen):
            self.switch.end_disturbance(host)
            host.freeze(frozen=False)
            if host.is_on:
                self.switch.port_up(host)
        self.switch.silent.difference_update(chosen)
        self.switch.blocks = {b for b in self.switch.blocks if not set(b) & set(chosen)}
        self.switch.apply_rules()

    def pause(self, name: str) -> None:
        """Freeze every process of a host at once; its kernel still answers."""
        self.host(name).freeze(frozen=True)

    def resume(self, name: str) -> None:
        """Let the processes of a paused host go on."""
        self.host(name).freeze(frozen=False)

    def poweroff(self, name: str) -> None:
        """Pull a host's plug: the link goes first, so no FIN or RST is sent."""
        host = self.host(name)
        self.switch.port_down(host)
        host.kill()

    def shutdown(self, name: str, *, timeout: float = 30) -> None:
        """Stop a host in order: SIGTERM, or systemd's own shutdown, and time to say goodbye."""
        host = self.host(name)
        host.stop(timeout)
        self.switch.port_down(host)

    def boot(self, name: str) -> None:
        """Start a host that is off; its files are as it left them."""
        host = self.host(name)
        self.switch.port_up(host)
        host.boot()
