"""A node's metrics, as Prometheus reads them. Shell over prometheus-client: `docs/metrics.md` lists all of them.

Nothing is kept here: each scrape looks at what the node knows anyway, and at its workers in /proc.
"""

import os
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from msgspec import Struct

from mesh.wire.reports import Status
from meshnode.core.counts import BOUNDS, Counts, Histogram

if TYPE_CHECKING:
    from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

STATES = ("starting", "running", "draining", "stopping", "unhealthy")
WORKER_STATES = ("starting", "idle", "busy")

_PAGE = os.sysconf("SC_PAGE_SIZE")


class BridgeSeen(Struct, frozen=True):
    """The bridge: connections that are open, and since the start connections, requests, and those it did not let in.

    `refused`: for want of room; `barred`: by their address; `strangers`: without header, handshake or token.
    """

    open: int = 0
    connections: int = 0
    requests: int = 0
    refused: int = 0
    barred: int = 0
    strangers: int = 0
    closed_unread: int = 0


class WorkersSeen(Struct, frozen=True):
    """Workers since the start: forked, dead by themselves, killed by their node, replaced for their age or size."""

    started: int = 0
    died: int = 0
    killed: int = 0
    recycled: int = 0


class Seen(Struct, frozen=True, kw_only=True):
    """All that is shown, as of now. `started`: seconds since 1970; `idle`: slots in which nothing runs.

    Nothing in it changes any more: it may be looked at from another thread.
    """

    status: Status
    version: str
    epoch: str
    started: float
    idle: int
    counts: Counts
    workers: WorkersSeen
    bridge: BridgeSeen
    malformed: int
    unknown: int


class Shown:
    """Makes the text of scrapes. `kind` is its media type. Raises ImportError where prometheus-client is missing."""

    kind = "text/plain; version=0.0.4; charset=utf-8"

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
        from prometheus_client.registry import Collector

        class Node(Collector):
            def __init__(self, seen: Seen) -> None:
                self._seen = seen

            def collect(self) -> "Iterator[Metric]":
                return families(self._seen)

        self._of_node = Node
        self._of_process = ProcessCollector(registry=None)
        self._registry = CollectorRegistry
        self._write = generate_latest

    def text(self, seen: Seen) -> bytes:
        """Return the exposition. With many tasks it takes some milliseconds: a thread's work."""
        registry = self._registry()
        registry.register(self._of_node(seen))
        registry.register(self._of_process)
        return self._write(registry)


def families(seen: Seen) -> "Iterator[Metric]":
    """Yield every metric of the node."""
    yield from _of_node(seen)
    yield from _of_workers(seen)
    yield from _of_jobs(seen)
    yield from _of_callers(seen)


def _of_node(seen: Seen) -> "Iterator[Metric]":
    from prometheus_client.metrics_core import InfoMetricFamily

    status = seen.status
    known = {
        "name": status.name, "mesh": status.mesh, "id": status.id, "epoch": seen.epoch, "version": seen.version,
    }  # fmt: skip
    yield InfoMetricFamily("meshnode", "Which node this is", value=known)
    state = _gauge("meshnode_state", "1 for the state that the node is in", "state")
    for name in STATES:
        state.add_metric([name], float(name == status.state))
    yield state
    yield _plain("meshnode_start_time_seconds", "When the node started, in seconds since 1970", seen.started)


def _of_workers(seen: Seen) -> "Iterator[Metric]":
    status, workers = seen.status, seen.workers
    yield _plain("meshnode_slots", "Workers that the node is to have", status.slots)
    yield _plain("meshnode_slots_idle", "Workers that do nothing", seen.idle)
    states = Counter("starting" if not one.ready else "busy" if one.outstanding else "idle" for one in status.workers)
    by_state = _gauge("meshnode_workers", "Workers by what they do", "state")
    for name in WORKER_STATES:
        by_state.add_metric([name], states[name])
    yield by_state
    yield _count("meshnode_worker_starts_total", "Workers forked", workers.started)
    deaths = _counter("meshnode_worker_deaths_total", "Workers that died", "cause")
    deaths.add_metric(["died"], workers.died)
    deaths.add_metric(["killed"], workers.killed)
    yield deaths
    yield _count("meshnode_workers_recycled_total", "Workers replaced for their jobs or their memory", workers.recycled)
    memory = _gauge("meshnode_worker_resident_memory_bytes", "Memory of a slot's workers", "slot")
    files = _gauge("meshnode_worker_open_fds", "Descriptors that a slot's workers have open", "slot")
    sizes: Counter[int] = Counter()
    opened: Counter[int] = Counter()
    for one in status.workers:  # during a reload a slot has two
        sizes[one.slot] += _resident(one.pid)
        opened[one.slot] += _descriptors(one.pid)
    for slot in sizes:
        memory.add_metric([str(slot)], sizes[slot])
        files.add_metric([str(slot)], opened[slot])
    yield memory
    yield files


def _of_jobs(seen: Seen) -> "Iterator[Metric]":
    from prometheus_client.metrics_core import HistogramMetricFamily

    status, counts = seen.status, seen.counts
    yield _plain("meshnode_jobs_held", "Jobs taken in and not ended", status.held)
    yield _plain("meshnode_jobs_running", "Jobs that run", status.running)
    yield _plain("meshnode_jobs_waiting", "Jobs that wait for a slot", status.waiting)
    ended = _counter("meshnode_jobs_total", "Jobs by how they ended", "task", "outcome", "reason")
    retries = _counter("meshnode_job_retries_total", "Jobs that were run once more here", "task")
    waits = HistogramMetricFamily("meshnode_job_wait_seconds", "From taken in to given to a worker", labels=["task"])
    runs = HistogramMetricFamily("meshnode_job_run_seconds", "How long jobs ran", labels=["task"])
    for task, count in counts.tasks.items():
        for (how, reason), jobs in count.ended.items():
            ended.add_metric([task, how, reason], jobs)
        retries.add_metric([task], count.retries)
        waits.add_metric([task], _buckets(count.wait), count.wait.total)
        runs.add_metric([task], _buckets(count.run), count.run.total)
    yield from (ended, retries, waits, runs)
    yield _count("meshnode_late_outcomes_total", "Outcomes of jobs that were over", counts.late)
    sent_on = _counter("meshnode_forwarded_jobs_total", "Jobs sent on to another node, by what came of it", "outcome")
    for how in ("ok", "failed", "back"):
        sent_on.add_metric([how], counts.forwarded[how])
    yield sent_on


def _of_callers(seen: Seen) -> "Iterator[Metric]":
    bridge = seen.bridge
    yield _plain("meshnode_clients", "Clients connected", seen.status.clients)
    yield _count("meshnode_malformed_total", "Messages and items dropped as malformed", seen.malformed)
    yield _count("meshnode_unknown_items_total", "Items ignored since their type is not known", seen.unknown)
    yield _plain("meshnode_bridge_connections_open", "Plain sockets connected", bridge.open)
    yield _count("meshnode_bridge_connections_total", "Plain sockets that have connected", bridge.connections)
    yield _count("meshnode_bridge_requests_total", "Lines that plain sockets asked with", bridge.requests)
    yield _count("meshnode_bridge_refused_total", "Plain sockets turned away for want of room", bridge.refused)
    yield _count("meshnode_bridge_barred_total", "Plain sockets closed for their address", bridge.barred)
    yield _count("meshnode_bridge_strangers_total", "Plain sockets without header, TLS or token", bridge.strangers)
    yield _count("meshnode_bridge_closed_unread_total", "Plain sockets that did not read", bridge.closed_unread)


def _gauge(name: str, text: str, *labels: str) -> "GaugeMetricFamily":
    from prometheus_client.metrics_core import GaugeMetricFamily

    return GaugeMetricFamily(name, text, labels=labels)


def _counter(name: str, text: str, *labels: str) -> "CounterMetricFamily":
    from prometheus_client.metrics_core import CounterMetricFamily

    return CounterMetricFamily(name, text, labels=labels)


def _plain(name: str, text: str, value: float) -> "GaugeMetricFamily":
    family = _gauge(name, text)
    family.add_metric([], value)
    return family


def _count(name: str, text: str, value: float) -> "CounterMetricFamily":
    family = _counter(name, text)
    family.add_metric([], value)
    return family


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    buckets: list[tuple[str, float]] = []
    so_far = 0
    for bound, count in zip((*map(str, BOUNDS), "+Inf"), histogram.counts, strict=True):
        so_far += count
        buckets.append((bound, so_far))
    return buckets


def _resident(pid: int) -> int:
    """Return the bytes of a process that lie in memory, shared ones too; 0 if it is gone."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            return int(file.read().split()[1]) * _PAGE
    except OSError:
        return 0


def _descriptors(pid: int) -> int:
    """Return how many descriptors a process has open; 0 if it is gone or not ours to look at."""
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return 0
