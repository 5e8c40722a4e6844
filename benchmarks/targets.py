"""What the mesh must reach, and what we are after: ratios against a limit or a peer in the same run. Pure."""

from dataclasses import dataclass
from enum import Enum

PROXY = "C zmq.proxy, one message a job"
BODIES = "C zmq.proxy, copy=False"
WORKERMAN = "Workerman, 2 processes"
WORKERMAN_64 = "Workerman, 64 processes"
ECHO = "uvloop echo, one process"
KEYLESS = "the same without keys"

SUSPECT = 200_000
"""Jobs/s of the one-message proxy with two workers; below, two idle cores are not what this ran on."""


class Verdict(Enum):
    """What a figure says of a target."""

    WANTED = "as wanted"
    HELD = "held"
    MISSED = "missed"
    NOTHING = "proves nothing"
    UNMEASURED = "not measured"


@dataclass(frozen=True)
class Target:
    """A bound on a figure's value, which is a ratio to what it stands `against`, or in `unit` where there is none."""

    key: str
    what: str
    must: float
    want: float | None
    against: str = ""
    lower: bool = False
    unit: str = "×"

    @property
    def benchmark(self) -> str:
        """The benchmark that measures it."""
        return self.key.partition(".")[0]

    def reached(self, bound: float, value: float) -> bool:
        """Is the value at least as good as the bound?"""
        return value <= bound if self.lower else value >= bound

    def verdict(self, value: float) -> Verdict:
        """Judge a value."""
        if not self.reached(self.must, value):
            return Verdict.MISSED
        return Verdict.WANTED if self.want is not None and self.reached(self.want, value) else Verdict.HELD


TARGETS = [
    Target("throughput.submit", "no-op jobs, a future a job, 2 workers", 0.5, 1.2, PROXY),
    Target("throughput.map", "no-op jobs, client.map, 2 workers", 0.7, 1.5, PROXY),
    Target("throughput.submit_64", "no-op jobs, a future a job, 64 workers", 1.0, 2.0, PROXY),
    Target("throughput.map_64", "no-op jobs, client.map, 64 workers", 1.0, 2.0, PROXY),
    Target("peers.nats", "no-op jobs, 2 workers", 4, 6, "NATS"),
    Target("peers.celery", "no-op jobs, 2 workers", 100, 200, "Celery, Redis"),
    Target("latency.p50", "one job at a time, p50", 1.4, 1.1, PROXY, lower=True),
    Target("latency.p99", "one job at a time, p99", 2.0, 1.5, PROXY, lower=True),
    Target("naps.share", "10 ms jobs on 64 workers, share of the ideal", 0.95, 0.97, unit="share"),
    Target("costs.client", "CPU a no-op job, window full: client", 8, 3, lower=True, unit="µs"),
    Target("costs.node", "CPU a no-op job, window full: node", 5, 2, lower=True, unit="µs"),
    Target("bodies.64k", "bodies of 64 KiB, bytes/s", 0.6, 0.75, BODIES),
    Target("bodies.1m", "bodies of 1 MiB, bytes/s", 0.8, 1.0, BODIES),
    Target("keys.throughput", "jobs of 200 bytes with keys, 2 workers", 0.8, 0.9, KEYLESS),
    Target("bridge.persistent.2", "bridge, persistent connections, 2 workers", 0.4, 0.55, WORKERMAN),
    Target("bridge.pipelined.2", "bridge, pipelined without id, 2 workers", 1.2, 1.8, WORKERMAN),
    Target("bridge.connection.2", "bridge, a connection a job, 2 workers", 0.5, 1.0, WORKERMAN),
    Target("bridge.persistent.64", "bridge, persistent connections, 64 workers", 0.8, 1.0, WORKERMAN_64),
    Target("bridge.pipelined.64", "bridge, pipelined without id, 64 workers", 1.2, 1.5, WORKERMAN_64),
    Target("bridge.connection.64", "bridge, a connection a job, 64 workers", 0.5, 1.0, WORKERMAN_64),
    Target("bridge.persistent.echo", "bridge beside an echo, persistent connections", 0.5, None, ECHO),
    Target("bridge.pipelined.echo", "bridge beside an echo, pipelined", 0.6, None, ECHO),
    Target("bridge.connection.echo", "bridge beside an echo, a connection a job", 0.4, None, ECHO),
    Target("startup.ready", "64 workers, from start to a client's first answer", 1.0, 0.5, lower=True, unit="s"),
    Target("startup.pss", "node and 64 idle workers, PSS", 200, 150, lower=True, unit="MB"),
    Target("startup.idle", "idle node, CPU", 0.5, 0.2, lower=True, unit="%"),
    Target("naps.nodes", "10 ms jobs on 2 nodes × 32 workers", 0.98, 1.0, "1 node × 64 workers"),
    Target("growth.million", "10⁶ jobs through one client, jobs/s", 0.95, 0.98, "10⁴ jobs"),
    Target("growth.memory", "a no-op job that waits in the client", 1024, 512, lower=True, unit="bytes"),
]
