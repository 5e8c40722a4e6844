"""A disturbed link: what sch_netem does, for kernels built without it.

``wire.py relay PORT TAP CONFIG STATS`` carries the Ethernet frames between
PORT (one end of a host's veth pair) and TAP (a tap device it makes, to be put
on the bridge) and loses, delays, repeats, damages or slows them down.  CONFIG
is a JSON object, read again on SIGHUP; all keys are optional:

    delay, jitter                 milliseconds, each way
    loss, dup, corrupt, reorder   per cent of the frames
    rate                          bit/s
    limit                         frames held at most, each way (1000)
    only                          "out" or "in", seen from the host
    seed                          for the same disturbances again

STATS is a JSON file with what was done so far.  ``wire.py offload DEV on|off``
switches checksum and segmentation offload of a device.  lab.py runs both in
the right namespaces; there is no need to call this by hand.
"""

from __future__ import annotations

import ctypes
import fcntl
import heapq
import json
import os
import random
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

# from the kernel's headers, for what Python's socket module does not name
ETH_P_ALL = 3
PACKET_OUTGOING, PACKET_IGNORE_OUTGOING, SOL_PACKET, SO_RCVBUFFORCE = 4, 23, 263, 33
TUNSETIFF, IFF_TAP, IFF_NO_PI = 0x400454CA, 0x0002, 0x1000
SIOCETHTOOL = 0x8946
ETHTOOL_STXCSUM, ETHTOOL_STSO, ETHTOOL_SGSO = 0x17, 0x1F, 0x24
ETHERNET_HEADER = 14


class Wire:
    """One direction of the link."""

    COUNTS = ("frames", "lost", "duplicated", "corrupted", "reordered", "overflowed")

    def __init__(self) -> None:
        self.queue: list[tuple[float, int, bytes]] = []  # heap of (due, number, frame)
        self.last = 0.0  # when the newest frame in order is due
        self.free = 0.0  # when the line will have sent what it has (rate)
        self.number = 0
        self.stats = dict.fromkeys(self.COUNTS, 0)

    def configure(self, settings: dict[str, Any]) -> None:
        self.random = random.Random(settings.get("seed"))
        self.delay = settings.get("delay", 0) / 1000
        self.jitter = settings.get("jitter", 0) / 1000
        self.rate = settings.get("rate", 0)
        self.limit = settings.get("limit", 1000)
        self.chance = {k: settings.get(k, 0) / 100 for k in ("loss", "dup", "corrupt", "reorder")}

    def happens(self, what: str) -> bool:
        chance: float = self.chance[what]
        return chance > 0 and self.random.random() < chance

    def put(self, frame: bytes, now: float) -> None:
        self.stats["frames"] += 1
        if self.happens("loss"):
            self.stats["lost"] += 1
            return
        copies = 1
        if self.happens("dup"):
            self.stats["duplicated"] += 1
            copies = 2
        if len(frame) > ETHERNET_HEADER and self.happens("corrupt"):
            self.stats["corrupted"] += 1
            damaged = bytearray(frame)
            place = self.random.randrange(ETHERNET_HEADER, len(frame))
            damaged[place] ^= 1 << self.random.randrange(8)
            frame = bytes(damaged)
        for _ in range(copies):
            self.schedule(frame, now)

    def schedule(self, frame: bytes, now: float) -> None:
        if len(self.queue) >= self.limit:
            self.stats["overflowed"] += 1
            return
        due = now + self.delay
        if self.jitter:
            due += self.random.uniform(-self.jitter, self.jitter)
        if self.rate:
            self.free = max(self.free, now) + len(frame) * 8 / self.rate
            due += self.free - now
        if self.happens("reorder"):
            self.stats["reordered"] += 1
            due = now  # overtakes whatever is under way
        else:
            due = self.last = max(due, self.last)
        self.number += 1
        heapq.heappush(self.queue, (due, self.number, frame))

    def due(self) -> float:
        return self.queue[0][0] if self.queue else float("inf")

    def take(self) -> bytes:
        return heapq.heappop(self.queue)[2]


def relay(port: str, tap: str, config: str, stats_file: str) -> None:
    """Carry frames until SIGTERM."""
    to_host = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    to_host.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
    to_host.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 8 << 20)
    to_host.bind((port, 0))
    to_host.setblocking(False)
    to_net = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(to_net, TUNSETIFF, struct.pack("16sH", tap.encode(), IFF_TAP | IFF_NO_PI))
    Path(f"/proc/sys/net/ipv6/conf/{tap}/disable_ipv6").write_text("1")
    subprocess.run(["ip", "link", "set", tap, "up"], check=True)

    wires = {"out": Wire(), "in": Wire()}
    asked = {"reload": True, "stop": False}
    signal.signal(signal.SIGHUP, lambda *_: asked.update(reload=True))
    signal.signal(signal.SIGTERM, lambda *_: asked.update(stop=True))
    wake, wake_write = os.pipe()
    os.set_blocking(wake, False)
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write)

    def configure() -> None:
        settings = json.loads(Path(config).read_text())
        for name, wire in wires.items():
            wire.configure(settings if settings.get("only") in (None, name) else {})

    def write_stats() -> None:
        temporary = Path(f"{stats_file}.new")
        temporary.write_text(json.dumps({k: w.stats for k, w in wires.items()}))
        temporary.replace(stats_file)

    host_end = to_host.fileno()
    ends = (  # wire, where its frames come from, where they go
        (wires["out"], host_end, to_net),
        (wires["in"], to_net, host_end),
    )
    next_stats = 0.0
    while not asked["stop"]:
        if asked["reload"]:
            asked["reload"] = False
            configure()
        now = time.monotonic()
        if now >= next_stats:
            write_stats()
            next_stats = now + 0.5
        until = min(next_stats, *(w.due() for w in wires.values()))
        ready, _, _ = select.select([host_end, to_net, wake], [], [], max(0.0, until - now))
        if wake in ready:
            os.read(wake, 64)
        for wire, source, target in ends:
            for _ in range(64 if source in ready else 0):
                try:
                    frame = os.read(source, 65536)
                except OSError:  # nothing more, or the port is down
                    break
                wire.put(frame, time.monotonic())
            now = time.monotonic()
            while wire.due() <= now:
                with suppress(OSError):  # port down or buffer full: the frame is lost
                    os.write(target, wire.take())
    write_stats()


def offload(device: str, *, on: bool) -> None:
    """Switch a device's checksum and segmentation offload.

    Off, every frame is what a real card would send: whole checksums, none
    larger than the MTU.  On is how veth devices are made.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for command in (ETHTOOL_STXCSUM, ETHTOOL_STSO, ETHTOOL_SGSO):
            value = ctypes.create_string_buffer(struct.pack("II", command, int(on)), 8)
            request = struct.pack("16sP16x", device.encode(), ctypes.addressof(value))
            fcntl.ioctl(sock, SIOCETHTOOL, request)


if __name__ == "__main__":
    if sys.argv[1:2] == ["relay"] and len(sys.argv) == 6:
        relay(*sys.argv[2:])
    elif sys.argv[1:2] == ["offload"] and sys.argv[3:] in (["on"], ["off"]):
        offload(sys.argv[2], on=sys.argv[3] == "on")
    else:
        sys.exit(__doc__)
