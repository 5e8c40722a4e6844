"""What a node tells of itself, from what it knows anyway: it can be asked although all its workers hang. Shell.

What is in its books says `core/books`; here that is joined with what the kernel, the front and the bridge know.
"""

import asyncio
import os
import time
from collections import Counter
from collections.abc import Iterable

from mesh.core.grants import NODE
from mesh.wire.reports import (
    BridgeReport,
    ClientReport,
    Connections,
    Descriptors,
    Host,
    Jobs,
    Neighbour,
    Reach,
    Status,
    WorkerStatus,
)
from meshnode.bridge import Bridge
from meshnode.config import Settings, host_name
from meshnode.core import books
from meshnode.core.held import Owner
from meshnode.core.lifecycle import Lifecycle
from meshnode.core.peers import Peer, Peers
from meshnode.core.scheduler import Scheduler
from meshnode.forwarder import Forwarder
from meshnode.front import Front
from meshnode.generation import Link
from meshnode.supervisor import Supervisor
from meshnode.system import descriptors, host_memory, own_memory

ADDRESSES = 100
"""Addresses of bridge callers in one report at most: those with most connections."""

_OF_ITSELF = 64
"""Descriptors that a node has open with no worker and no client: logs, event loops, sockets for mDNS."""

_OF_A_WORKER = 5
"""Descriptors that a node has open for each worker: both ends of its link, of its calls, and its pidfd."""


def describe(
    settings: Settings,
    life: Lifecycle,
    scheduler: Scheduler | None,
    supervisor: Supervisor,
    *,
    version: str,
    uptime: float,
    endpoint: str,
    bridge: Bridge | None,
    clients: int,
) -> Status:
    """Tell how a node is."""
    held = 0 if scheduler is None else scheduler.held
    running = 0 if scheduler is None else books.begun(scheduler)
    pool = {} if scheduler is None else scheduler.pool.workers
    ready = sum(not worker.retired for worker in pool.values())
    state, why = life.shown(workers=ready, unhealthy=supervisor.unhealthy)
    memory, available = host_memory()
    callers = bridge.open if bridge else 0
    used, limit = descriptors()
    needed = _OF_ITSELF + 2 * _OF_A_WORKER * supervisor.slots + clients + callers  # a reload has two of each worker
    return Status(
        name=settings.shown_name,
        id=settings.node_id,
        mesh=settings.mesh,
        state=state,
        why=why,
        pid=os.getpid(),
        uptime=round(uptime, 3),
        endpoint=endpoint,
        bridge=bridge.address if bridge else "",
        clients=clients,
        connections=callers,
        held=held,
        waiting=held - running,
        running=running,
        done=0 if scheduler is None else scheduler.done,
        failed=0 if scheduler is None else scheduler.failed,
        lost=0 if scheduler is None else scheduler.lost,
        slots=supervisor.slots,
        concurrency=settings.concurrency,
        memory=own_memory(os.getpid()),
        version=version,
        clock=time.time(),
        announced=settings.mdns,
        host=Host(host_name(), memory, available),
        descriptors=Descriptors(used, limit, needed),
        workers=[_worker(link, scheduler, supervisor) for link in _by_slot(supervisor.links)],
    )


def _by_slot(links: Iterable[Link]) -> list[Link]:
    return sorted(links, key=lambda link: (link.slot, link.key))


def _worker(link: Link, scheduler: Scheduler | None, supervisor: Supervisor) -> WorkerStatus:
    now = asyncio.get_running_loop().time()
    worker = None if scheduler is None else scheduler.pool.workers.get(link.key)
    return WorkerStatus(
        slot=link.slot,
        pid=link.pid,
        ready=link.ready,
        age=round(now - link.born, 3),
        outstanding=len(worker.outstanding) if worker else 0,
        leaving=link.ending or (worker is not None and worker.retired),
        done=worker.done if worker else 0,
        failed=worker.failed if worker else 0,
        memory=own_memory(link.pid) if link.pid else 0,
        running=books.running(worker, now) if worker else [],
        last_exit=supervisor.exits.get(link.slot, ""),
    )


def jobs(scheduler: Scheduler | None, supervisor: Supervisor, peers: Peers | None, *, task: str, word: str) -> Jobs:
    """Tell which jobs a node holds."""
    if scheduler is None:
        return Jobs([])
    slots = {link.key: link.slot for link in supervisor.links}

    def name_of(owner: Owner) -> str:
        if owner.key < 0:
            return f"worker {slots.get(-owner.key, '?')}"
        peer = peers.of(owner) if peers is not None else None
        return peer.name if peer is not None else ("" if owner.windowed else "bridge")

    return books.jobs(
        scheduler,
        asyncio.get_running_loop().time(),
        task=task,
        word=word,
        name_of=name_of,
        slot_of=lambda key: slots.get(key, -1),
    )


def connections(peers: Peers | None, front: Front, bridge: Bridge | None) -> Connections:
    """Tell who is connected to a node."""
    now = asyncio.get_running_loop().time()
    everyone = [] if peers is None else peers.everyone()
    return Connections([_client(peer, front, now) for peer in everyone], None if bridge is None else _callers(bridge))


def _client(peer: Peer, front: Front, now: float) -> ClientReport:
    return ClientReport(
        name=peer.name,
        key=peer.grant.name,
        role="" if not peer.grant.name else NODE if peer.grant.kind == NODE else peer.grant.role,
        address=front.address(peer.routing_id),
        held=len(peer.owner.jobs),
        running=peer.owner.running,
        silent=round(max(0.0, now - peer.heard), 3),
    )


def _callers(bridge: Bridge) -> BridgeReport:
    return BridgeReport(
        bridge.address,
        bridge.open,
        bridge.connections,
        bridge.requests,
        dict(Counter(bridge.addresses()).most_common(ADDRESSES)),
    )


def reach(forwarder: Forwarder | None) -> Reach:
    """Tell which other nodes a node is connected to itself."""
    if forwarder is None:
        return Reach(looks=False)
    neighbours = [Neighbour(node.id, node.name, node.endpoint, node.state) for node in forwarder.nodes()]
    return Reach(True, neighbours)


def in_one_line(found: Status) -> str:
    """Tell how a node is in one line, for a service manager."""
    state = f"{found.state} ({found.why})" if found.why else found.state
    ready = sum(worker.ready for worker in found.workers)
    return (
        f"{state}: {found.running} jobs running, {found.waiting} waiting, "
        f"{ready} of {found.slots} workers ready, {found.clients} clients"
    )
