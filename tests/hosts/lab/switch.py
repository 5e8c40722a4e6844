"""The switch between the hosts: a bridge in a namespace of its own, where frames get lost."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

from tests.hosts.lab.host import Host, Namespaces
from tests.hosts.lab.machine import Process, wait_for

BRIDGE = "br0"
WIRE = Path(__file__).resolve().with_name("wire.py")


class Switch(Namespaces):
    """Ports that can be pulled, rules that drop, and relays that disturb."""

    FLAGS = ("--net", "--mount", "--uts")

    def make(self) -> None:
        """Start the switch; when the process that made it is gone, all of the lab is killed."""
        self.silent: set[str] = set()
        self.blocks: set[tuple[str, str]] = set()
        self.relays: dict[str, Process] = {}
        self.hold(
            "hostname switch\nip link set lo up\n"
            f"ip link add {BRIDGE} type bridge stp_state 0 mcast_snooping 0\n"
            f"echo 1 > /proc/sys/net/ipv6/conf/{BRIDGE}/disable_ipv6\n"
            f"ip link set {BRIDGE} up",
            f"tail --pid={os.getpid()} -s 0.2 -f /dev/null\necho 1 > {self.groups.path('cgroup.kill')}",
        )

    def connect(self, host: Host) -> None:
        """Lay a cable from a port of the switch to a new card eth0 of the host."""
        port = f"p-{host.name}"
        self.in_net(
            ["ip", "-batch", "-"],
            feed=f"link add {port} type veth peer name eth0 address {host.mac} "
            f"netns {host.holder.pid}\nlink set {port} master {BRIDGE}\n",
        )
        self.in_net(["/bin/sh", "-c", f"echo 1 > /proc/sys/net/ipv6/conf/{port}/disable_ipv6"])
        host.plug_in()
        self.port_up(host)

    def port_up(self, host: Host) -> None:
        """Bring the port up and wait until frames pass."""
        port = f"p-{host.name}"
        self.in_net(["ip", "link", "set", port, "up"])
        wait_for(
            lambda: host.is_operational("eth0") and self.is_operational(port),
            5,
            f"{host.name}'s link",
        )

    def port_down(self, host: Host) -> None:
        self.in_net(["ip", "link", "set", f"p-{host.name}", "down"])

    def apply_rules(self) -> None:
        """Make the kernel drop what `silent` and `blocks` say, and nothing else."""

        def ports(name: str) -> str:
            return f'{{ "p-{name}", "t-{name}" }}'

        rules = [f"iifname {ports(a)} oifname {ports(b)} drop" for a, b in sorted(self.blocks)]
        for name in sorted(self.silent):
            rules += [f"iifname {ports(name)} drop", f"oifname {ports(name)} drop"]
        lines = [
            "table bridge lab",
            "delete table bridge lab",
            "table bridge lab {",
            "chain forward {",
            "type filter hook forward priority 0; policy accept;",
            *rules,
            "}",
            "}",
        ]
        self.in_net(["nft", "-f", "-"], feed="\n".join(lines) + "\n")

    def disturb(self, host: Host, settings: dict[str, float | str]) -> None:
        """Put a relay between the host's port and the bridge, or tell it other settings."""
        config = self.folder / f"{host.name}.netem.json"
        config.write_text(json.dumps(settings))
        relay = self.relays.get(host.name)
        if relay and relay.alive:
            os.kill(relay.pid, signal.SIGHUP)
            return
        port, tap = f"p-{host.name}", f"t-{host.name}"
        stats = self.relay_stats(host)
        stats.unlink(missing_ok=True)
        host.in_net([sys.executable, WIRE, "offload", "eth0", "off"])
        self.groups.make(self.name, "relay")
        enter = [*self.groups.enter(self.name, "relay"), *self.inside("-n")]
        log = self.folder / f"{host.name}.netem.log"
        argv = [*enter, sys.executable, WIRE, "relay", port, tap, config, stats]
        self.relays[host.name] = Process.spawn(argv, log)
        wait_for(stats.exists, 10, f"{host.name}'s relay, see {log}")
        self.in_net(
            ["ip", "-batch", "-"],
            feed=f"link set {port} nomaster\nlink set {tap} master {BRIDGE}\n",
        )

    def relay_stats(self, host: Host) -> Path:
        return self.folder / f"{host.name}.netem.stats"

    def end_disturbance(self, host: Host) -> None:
        relay = self.relays.pop(host.name, None)
        if not relay:
            return
        if relay.alive:
            os.kill(relay.pid, signal.SIGTERM)
            wait_for(lambda: not relay.alive, 5, "the relay to end")
        self.in_net(["ip", "link", "set", f"p-{host.name}", "master", BRIDGE])
        host.in_net([sys.executable, WIRE, "offload", "eth0", "on"])
