"""avahi in a plain host of the lab: what other software sees of the mesh by mDNS."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tests.hosts.lab.lab import Lab
from tests.hosts.lab.machine import LabError, wait_for

# dbus-daemon becomes the user messagebus, so its folder is made before
BUS = "mkdir -p /run/dbus && exec dbus-daemon --system --nofork --nopidfile"
# root in a namespace keeps its rights, and its limits are those of the machine
DAEMON = "rm -rf /run/avahi-daemon && exec avahi-daemon --no-drop-root --no-chroot --no-rlimits"
START_TIMEOUT = 10.0  # seconds; probing for the host's own name takes about one


@dataclass(frozen=True)
class Listing:
    """One service as avahi resolved it: a row for each of its addresses."""

    instance: str
    host: str
    address: str
    port: int
    txt: str  # as avahi prints it: "key=value" "key=value"


class Avahi:
    """A running avahi-daemon; the lab ends it with the test."""

    def __init__(self, lab: Lab, host: str) -> None:
        self.lab = lab
        self.host = host

    @classmethod
    def start(cls, lab: Lab, host: str, *, log: Path) -> Self:
        """Start the system bus and the daemon, and wait until it answers."""
        bus = lab.root(host) / "run/dbus/system_bus_socket"
        bus.unlink(missing_ok=True)  # of an earlier test: /run outlives it, and the daemon would find nobody there
        with log.open("w") as out:
            lab.popen(host, ["sh", "-c", BUS], stdout=out, stderr=out)
            wait_for(bus.is_socket, START_TIMEOUT, "the system bus")
            daemon = lab.popen(host, ["sh", "-c", DAEMON], stdout=out, stderr=out)

        def complete() -> bool:
            if daemon.poll() is not None:
                raise LabError(f"avahi-daemon ended: {log.read_text()}")
            return "Server startup complete" in log.read_text()

        wait_for(complete, START_TIMEOUT, "avahi-daemon")
        return cls(lab, host)

    def browse(self, service: str) -> list[Listing]:
        """What `avahi-browse` resolves of a type like `_meshnode._tcp` now: about a second."""
        said = self.lab.check_output(self.host, ["avahi-browse", "--resolve", "--parsable", "--terminate", service])
        rows = [line.split(";", 9) for line in said.splitlines() if line.startswith("=")]
        return [Listing(instance=row[3], host=row[6], address=row[7], port=int(row[8]), txt=row[9]) for row in rows]
