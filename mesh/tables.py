"""What nodes tell, as people read it: tables, lengths of time, sizes. For `meshctl`, and the verbs of `meshnode`."""

import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from mesh.wire.messages import TaskSpec
from mesh.wire.reports import Connections, JobReport, Stack, Status, WorkerStatus, short

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from mesh.seen import NodeInfo

WIDTH = 160
"""Characters of a line where nobody says how wide a screen is: in files and pipes."""


def console() -> "Console":
    """Return where tables go: standard output."""
    import os

    from rich.console import Console

    found = Console(highlight=False)
    return found if found.is_terminal or "COLUMNS" in os.environ else Console(highlight=False, width=WIDTH)


def table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> "Table":
    """Make a table of plain text; `–` for what is empty."""
    from rich.markup import escape
    from rich.table import Table

    made = Table(*heads, box=None, pad_edge=False, show_header=any(heads))
    for row in rows:
        made.add_row(*(escape(plain(str(value))) if value != "" else "–" for value in row))
    return made


def plain(text: str) -> str:
    """Write a text without what a terminal would obey: clients, nodes and tasks choose their own names."""
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def length_of_time(seconds: float) -> str:
    """Write a length of time: `42 s`, `3:07 min`, `5:01 h`, `12 days`."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02} min"
    if whole < 2 * 86400:
        return f"{whole // 3600}:{whole % 3600 // 60:02} h"
    return f"{whole // 86400} days"


def elapsed(seconds: float) -> str:
    """Write how long something takes that may be over in a moment: `0.3 s`, then as `length_of_time`."""
    return f"{seconds:.1f} s" if seconds < 10 else length_of_time(seconds)


def size(count: int) -> str:
    """Write a number of bytes: `12 MiB`; nothing for none."""
    if count >= 10 << 30:
        return f"{count >> 30} GiB"
    return f"{count / (1 << 20):.0f} MiB" if count else ""


def counted(number: int, noun: str) -> str:
    """Write `1 job`, `2 jobs`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


# tables


def nodes(found: "Sequence[NodeInfo]") -> "Table":
    """Make the table of nodes."""
    heads = ("node", "host", "state", "workers", "busy", "free", "version", "up for", "endpoint", "tasks")
    return table(heads, (_node(node) for node in found))


def _node(node: "NodeInfo") -> Sequence[object]:
    workers = f"{node.workers} × {node.concurrency}" if node.concurrency > 1 else node.workers
    up = length_of_time(max(0.0, time.time() - node.started)) if node.started else ""
    tasks = ", ".join(node.tasks[:6]) + (" …" if len(node.tasks) > 6 else "")
    busy = max(0, node.workers - node.free)
    return node.name, node.host, node.state, workers, busy, node.free, node.version, up, node.endpoint, tasks


def tasks(found: Iterable[TaskSpec]) -> "Table":
    """Make the table of tasks."""
    rows = ((spec.name, spec.signature, "yes" if spec.bridge else "no", spec.doc) for spec in found)
    return table(("task", "signature", "bridge", "what it does"), rows)


def status(found: Status) -> "Sequence[Table]":
    """Make the tables that show how one node is."""
    slots = f"{found.slots} × {found.concurrency}" if found.concurrency > 1 else str(found.slots)
    rows: dict[str, Any] = {
        "node": f"{found.name} ({found.id[:8]})",
        "mesh": found.mesh,
        "state": f"{found.state}: {found.why}" if found.why else found.state,
        "process": found.pid,
        "version": found.version,
        "up for": length_of_time(found.uptime),
        "clients at": found.endpoint,
        "bridge at": found.bridge,
        "clients": found.clients,
        "callers": found.connections,
        "jobs": f"{found.held} held: {found.running} running, {found.waiting} waiting",
        "ended": f"{found.done} done, {found.failed} failed, {found.lost} lost",
        "memory": size(found.memory + sum(worker.memory for worker in found.workers)),
        "workers": f"{sum(worker.ready and not worker.leaving for worker in found.workers)} of {slots} ready",
    }
    heads = ("slot", "process", "up for", "done", "failed", "owes", "memory", "runs", "job", "for", "last exit")
    workers = table(heads, (_worker(worker) for worker in found.workers))
    return [table(("", ""), rows.items()), workers] if found.workers else [table(("", ""), rows.items())]


def _worker(worker: WorkerStatus) -> Sequence[object]:
    first = worker.running[0] if worker.running else None
    age = length_of_time(worker.age) if worker.ready else "starting"
    more = f" +{len(worker.running) - 1}" if len(worker.running) > 1 else ""
    return (
        worker.slot,
        worker.pid or "",
        "leaving" if worker.leaving else age,
        worker.done,
        worker.failed,
        worker.outstanding,
        size(worker.memory),
        first.task + more if first else "",
        short(first.id) if first else "",
        elapsed(first.elapsed) if first else "",
        worker.last_exit,
    )


def connections(found: "Sequence[tuple[str, Connections]]") -> "Sequence[Table]":
    """Make the tables of who is connected to which node."""
    clients = table(
        ("node", "client", "key", "role", "address", "jobs", "running", "silent for"),
        (
            (node, c.name, c.key, c.role, c.address, c.held, c.running, elapsed(c.silent))
            for node, report in found
            for c in report.clients
        ),
    )
    bridges = [(node, report.bridge) for node, report in found if report.bridge is not None]
    callers = table(
        ("node", "bridge", "open", "accepted", "requests", "from"),
        (
            (node, bridge.address, bridge.open, bridge.accepted, bridge.requests, _from(bridge.addresses))
            for node, bridge in bridges
        ),
    )
    return [clients, callers] if bridges else [clients]


def _from(addresses: dict[str, int]) -> str:
    return ", ".join(f"{address} ({count})" for address, count in list(addresses.items())[:8])


def jobs(found: "Sequence[tuple[str, JobReport]]") -> "Table":
    """Make the table of jobs at nodes."""
    heads = ("job", "task", "node", "worker", "for", "state", "attempt", "client")
    return table(
        heads,
        (
            (short(job.id), job.task, node, job.worker if job.worker >= 0 else "", elapsed(job.elapsed), job.state,
             job.attempt, job.client)
            for node, job in found
        ),
    )  # fmt: skip


def stack(found: Stack, node: str) -> str:
    """Write where a job hangs."""
    head = f"{found.task} {short(found.id)} at {node}, worker {found.worker}, process {found.pid}"
    parts = [head]
    if found.awaits:
        parts.append(f"its coroutine awaits (most recent call last):\n{found.awaits.rstrip()}")
    parts.append(found.text.rstrip())
    return "\n\n".join(parts)
