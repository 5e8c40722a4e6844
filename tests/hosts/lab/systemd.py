"""A host with systemd as PID 1 and sshd: a Debian image booted by systemd-nspawn."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Network
from pathlib import Path

from tests.hosts.lab.host import Host
from tests.hosts.lab.machine import (
    Argument,
    ControlGroups,
    LabError,
    Process,
    run,
    wait_for,
)

SUITE = "bookworm"
IMAGE_PACKAGES = (
    "systemd",
    "systemd-sysv",
    "dbus",
    "openssh-server",
    "sudo",
    "python3",
    "python3-venv",
    "iproute2",
    "iputils-ping",
    "procps",
)
# no console, no disks and no mirror here: these would only cost time
MASKED_UNITS = (
    "console-getty.service",
    "getty@.service",
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "dpkg-db-backup.timer",
    "systemd-pstore.service",
)
HOST_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
BOOT_TIMEOUT = 60.0  # seconds; a boot takes 1 to 3
SSHD_PROBE = (
    "import socket, sys; s = socket.create_connection((sys.argv[1], 22), 2);s.settimeout(2); sys.exit(not s.recv(4))"
)


def image(packages: Iterable[str] = (), *, suite: str = SUITE) -> Path:
    """The directory with the Debian system, bookworm or trixie, that all systemd hosts start from.

    Built when it is not there, with `packages` besides the usual ones; kept in $LAB_IMAGES.
    """
    wanted = sorted({*IMAGE_PACKAGES, *packages})
    recipe = json.dumps([suite, wanted, MASKED_UNITS]).encode()
    cache = Path(os.environ.get("LAB_IMAGES", "/var/cache/meshnode-lab")).absolute()
    cache.mkdir(parents=True, exist_ok=True)
    target = cache / f"{suite}-{hashlib.sha256(recipe).hexdigest()[:8]}"
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            building = target.with_suffix(".building")
            shutil.rmtree(building, ignore_errors=True)
            included = f"--include={','.join(wanted)}"
            run(["mmdebstrap", "--mode=root", "--variant=minbase", included, suite, building])
            _customise(building)
            building.rename(target)
    return target


def _customise(root: Path) -> None:
    for pattern in ("etc/ssh/ssh_host_*", "etc/apt/sources.list.d/*", "etc/hostname"):
        for path in root.glob(pattern):
            path.unlink()
    (root / "etc/resolv.conf").unlink(missing_ok=True)
    (root / "etc/apt/sources.list").write_text("# the lab's hosts reach no mirror\n")
    run(["chroot", root, "useradd", "-m", "-u", "1000", "-s", "/bin/bash", "deploy"])
    sudoers = root / "etc/sudoers.d/deploy"
    sudoers.write_text("deploy ALL=(ALL) NOPASSWD:ALL\n")
    sudoers.chmod(0o440)
    (root / "etc/ssh/sshd_config.d/lab.conf").write_text(
        "HostKey /etc/ssh/ssh_host_ed25519_key\nPasswordAuthentication no\nUseDNS no\n"
    )
    for unit in MASKED_UNITS:
        (root / "etc/systemd/system" / unit).symlink_to("/dev/null")
    journald = root / "etc/systemd/journald.conf.d/lab.conf"
    journald.parent.mkdir(exist_ok=True)
    journald.write_text("[Journal]\nStorage=persistent\nSystemMaxUse=64M\nRateLimitIntervalSec=0\n")


class Keys:
    """The operator's ssh key and client settings, in a folder that only root reads."""

    def __init__(self, folder: Path) -> None:
        self.private = folder / "id_ed25519"
        self.config = folder / "config"
        self.known_hosts = folder / "known_hosts"

    def make(self) -> None:
        self.private.parent.mkdir(mode=0o700, parents=True)
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "lab", "-f", self.private])
        self.config.write_text(
            f"Host *\n  IdentityFile {self.private}\n  IdentitiesOnly yes\n"
            f"  UserKnownHostsFile {self.known_hosts}\n"
            "  StrictHostKeyChecking yes\n  BatchMode yes\n  ConnectTimeout 5\n"
        )
        self.known_hosts.touch()

    def trust(self, host: Host, public: str) -> None:
        line = f"{host.name},{host.ip} {' '.join(public.split()[:2])}\n"
        with self.known_hosts.open("a") as known:
            known.write(line)


class SystemdHost(Host):
    """A whole Debian system; its files outlive a power cut."""

    FLAGS = ("--net", "--mount")

    def __init__(
        self,
        name: str,
        number: int,
        net: IPv4Network,
        folder: Path,
        groups: ControlGroups,
        *,
        image: Path,
        keys: Keys,
        operator: Host,
    ) -> None:
        super().__init__(name, number, net, folder, groups)
        self.image = image
        self.keys = keys
        self.operator = operator

    def make(self) -> None:
        super().make()
        self.groups.make(self.name, "run", "commands")
        self._furnish()

    def setup(self) -> str:
        folder = shlex.quote(str(self.folder))
        layers = f"lowerdir={shlex.quote(str(self.image))},upperdir={folder}/upper,workdir={folder}/work"
        return (
            f"mkdir {folder}/upper {folder}/work {folder}/root\n"
            f"mount -t overlay lab-{self.name} -o {layers} {folder}/root\n"
            "mount -t tmpfs -o mode=755 lab-run /run"  # for nspawn's own files
        )

    @property
    def root(self) -> Path:
        return Path(f"{super().root}{self.folder}/root")

    def _furnish(self) -> None:
        """Make this copy of the image a host of its own: identity and ssh keys."""
        (self.root / "etc/hostname").write_text(f"{self.name}\n")
        (self.root / "etc/machine-id").write_text(f"{uuid.uuid4().hex}\n")
        public = self.keys.private.with_suffix(".pub").read_text()
        for home, owner in (("root", 0), ("home/deploy", 1000)):
            folder = self.root / home / ".ssh"
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            (folder / "authorized_keys").write_text(public)
            for path in (folder, folder / "authorized_keys"):
                os.chown(path, owner, owner)
        own = self.root / "etc/ssh/ssh_host_ed25519_key"
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", self.name, "-f", own])
        self.keys.trust(self, own.with_suffix(".pub").read_text())

    @property
    def is_on(self) -> bool:
        return self._init() is not None

    def _init(self) -> int | None:
        """The pid, on this machine, of the host's PID 1; None if it is off."""
        for pid in self.groups.procs(self.name, "run", "payload", "init.scope"):
            try:
                status = Path(f"/proc/{pid}/status").read_text()
            except OSError:
                continue
            if status.partition("NSpid:")[2].split("\n")[0].split()[-1] == "1":
                return pid
        return None

    def argv(self, command: Sequence[Argument]) -> list[Argument]:
        """The command line that runs a command here as root; it dies with its starter."""
        init = self._init()
        if not init:
            raise LabError(f"{self.name} is powered off")
        enter = [*self.groups.enter(self.name, "run", "commands"), "nsenter", "-t", str(init)]
        inside = ["-m", "-u", "-i", "-n", "-p", "-C", "-r", "-w", "--", "/usr/bin/env", "-i"]
        env = [f"PATH={HOST_PATH}", "HOME=/root", "TERM=dumb", "LANG=C.UTF-8"]
        return [*enter, *inside, *env, "setpriv", "--pdeathsig", "KILL", "--", *command]

    def end_tests(self) -> None:
        """End the commands that tests started; the system goes on."""
        self.groups.kill(self.name, "run", "commands")

    def boot(self) -> None:
        """Start the system, if it is off, and wait until sshd answers."""
        if not self.is_on:
            self._start()
        self.wait_booted()

    def _start(self) -> None:
        nspawn: list[Argument] = [
            "systemd-nspawn",
            "--quiet",
            "--boot",
            f"--directory={self.folder}/root",
            f"--machine={self.groups.name}-{self.name}",
            f"--hostname={self.name}",
            "--register=no",
            "--keep-unit",
            f"--network-namespace-path=/proc/{self.holder.pid}/ns/net",
            "--capability=CAP_NET_ADMIN,CAP_NET_RAW",
            "--system-call-filter=bpf",
            "--resolv-conf=off",
            "--timezone=off",
            "--link-journal=no",
            "--console=read-only",
        ]
        log = self.folder / "console.log"
        enter = [*self.groups.enter(self.name, "run"), *self.inside("-m")]
        machine = Process.spawn(
            [*enter, *nspawn],
            log,
            # as servers of today: the unified cgroup hierarchy only
            env={"PATH": HOST_PATH, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
        )

        def started() -> int | None:
            if not machine.alive:
                raise LabError(f"{self.name} did not boot: {log.read_text().strip()[-500:]}")
            return self._init()

        wait_for(started, 15, f"{self.name} to start its PID 1")

    def wait_booted(self) -> None:
        """Wait until systemd has started everything and sshd answers the operator."""

        def settled() -> bool:
            state = run(self.argv(["systemctl", "is-system-running"]), check=False)
            return state.strip() in ("running", "degraded")

        def sshd_answers() -> bool:
            probe = self.operator.argv([sys.executable, "-c", SSHD_PROBE, self.ip])
            return subprocess.run(probe, capture_output=True, check=False).returncode == 0

        wait_for(settled, BOOT_TIMEOUT, f"{self.name} to boot", interval=0.05)
        wait_for(sshd_answers, BOOT_TIMEOUT, f"{self.name}'s sshd", interval=0.1)

    def ask_to_stop(self) -> None:
        run(self.argv(["systemctl", "poweroff"]), check=False)
