"""A plain host: namespaces for network, host name, IPC and mounts, held open by one process.

It has its own Ethernet card, /etc (an overlay) and /run; all other files are the machine's.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import uuid
from collections.abc import Sequence
from contextlib import suppress
from ipaddress import IPv4Network
from pathlib import Path

from tests.hosts.lab.machine import Argument, ControlGroups, LabError, Process, run, wait_for


class Namespaces:
    """A process that keeps namespaces alive, and the way into them."""

    FLAGS: tuple[str, ...] = ("--net", "--mount", "--uts", "--ipc")

    def __init__(self, name: str, folder: Path, groups: ControlGroups) -> None:
        self.name = name
        self.folder = folder
        self.groups = groups

    def hold(self, setup: str, then: str) -> None:
        """Make the namespaces, run `setup` in them, and let `then` (a shell command) hold them."""
        self.groups.make(self.name, "hold")
        self.groups.make(self.name, "run")
        self.folder.mkdir(parents=True)
        log = self.folder / "setup.log"
        script = f"set -e\n{setup}\necho ready\nexec > /dev/null 2>&1\n{then}"
        enter = self.groups.enter(self.name, "hold")
        unshare = ["unshare", *self.FLAGS, "--propagation", "private", "/bin/sh", "-c", script]
        self.holder = Process.spawn([*enter, *unshare], log)

        def ready() -> bool:
            ended = not self.holder.alive
            said = log.read_text()
            if ended and not said.endswith("ready\n"):
                raise LabError(f"cannot make {self.name}: {said.strip()}")
            return said.endswith("ready\n")

        wait_for(ready, 10, f"{self.name}'s namespaces", interval=0.002)

    def inside(self, *flags: str) -> list[Argument]:
        """Argv prefix: enter these namespaces (nsenter's flags), then become the command."""
        return ["nsenter", "-t", str(self.holder.pid), *flags, "--"]

    def in_net(self, argv: Sequence[Argument], *, feed: str | None = None) -> str:
        """Run a tool of this machine in the network namespace only."""
        return run([*self.inside("-n"), *argv], feed=feed)

    def is_operational(self, device: str) -> bool:
        """Whether the kernel has noticed the carrier; that can take it a second."""
        links = json.loads(self.in_net(["ip", "-j", "link", "show", "dev", device]))
        return bool(links[0]["operstate"] == "UP")


class Host(Namespaces):
    """A plain host, and what a host of another kind answers differently."""

    def __init__(self, name: str, number: int, net: IPv4Network, folder: Path, groups: ControlGroups) -> None:
        super().__init__(name, folder, groups)
        self.net = net
        self.ip = str(net.network_address + number)
        self.ip6 = f"fd77::{number:x}"
        self.mac = f"02:4c:41:00:00:{number:02x}"

    def make(self) -> None:
        self.hold(self.setup(), "exec sleep infinity")

    def setup(self) -> str:
        """Shell lines that furnish fresh namespaces."""
        folder = shlex.quote(str(self.folder))
        layers = f"lowerdir=/etc,upperdir={folder}/upper,workdir={folder}/work"
        return (
            f"hostname {self.name}\n"
            # in memory, since a container's own file system can be no upper layer
            f"mount -t tmpfs lab-{self.name} {folder}\n"
            f"mkdir {folder}/upper {folder}/work\n"
            f"mount -t overlay lab-{self.name} -o {layers} /etc\n"
            "mount -t tmpfs -o mode=755 lab-run /run\n"
            "mount -t sysfs sysfs /sys\n"
            f"echo {self.name} > /etc/hostname\n"
            f"echo {uuid.uuid4().hex} > /etc/machine-id\n"
            "rm -f /etc/resolv.conf\n"
            "echo '# no DNS in the lab' > /etc/resolv.conf\n"
        )

    def plug_in(self) -> None:
        """Give addresses to the card that the switch has put in."""
        lines = (
            "echo 0 > /proc/sys/net/ipv6/conf/eth0/accept_dad\n"
            "ip link set lo up\nip link set eth0 up\n"
            f"ip addr add {self.ip}/{self.net.prefixlen} brd + dev eth0\n"
            f"ip addr add {self.ip6}/64 dev eth0 nodad\n"
            "ip route add 224.0.0.0/4 dev eth0\n"
        )
        self.in_net(["/bin/sh", "-ec", lines])

    def name_all(self, hosts: Sequence[Host]) -> None:
        """Write /etc/hosts.

        A host's own name is 127.0.1.1 there, as Debian's installer has it: a node that
        advertises that address must fail its tests.
        """
        lines = ["127.0.0.1 localhost", "::1 localhost ip6-localhost"]
        for host in hosts:
            own = [f"127.0.1.1 {host.name}"]
            lines += own if host is self else [f"{host.ip} {host.name}", f"{host.ip6} {host.name}"]
        (self.root / "etc/hosts").write_text("\n".join(lines) + "\n")

    @property
    def root(self) -> Path:
        """The root directory as seen from this machine, to read and write files."""
        return Path(f"/proc/{self.holder.pid}/root")

    @property
    def is_on(self) -> bool:
        return True

    def argv(self, command: Sequence[Argument]) -> list[Argument]:
        """The command line that runs a command here; its process is the command's own."""
        # entering the mount namespace resets the working directory
        shell = 'cd "$0" 2>/dev/null || cd /; exec "$@"'
        enter = [*self.groups.enter(self.name, "run"), *self.inside("-n", "-u", "-i", "-m")]
        return [*enter, "/bin/sh", "-c", shell, os.getcwd(), *command]

    def freeze(self, *, frozen: bool) -> None:
        self.groups.freeze(self.name, "run", frozen=frozen)

    def kill(self) -> None:
        """SIGKILL all processes at once."""
        self.groups.kill(self.name, "run")

    def end_tests(self) -> None:
        """End what tests started and left."""
        self.kill()

    def boot(self) -> None:
        """Start what a host starts by itself: nothing here."""

    def stop(self, timeout: float) -> None:
        """Ask all processes to end, and wait until they have."""
        self.ask_to_stop()
        wait_for(lambda: not self.groups.procs(self.name, "run"), timeout, f"{self.name} to stop")

    def ask_to_stop(self) -> None:
        for pid in self.groups.procs(self.name, "run"):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
