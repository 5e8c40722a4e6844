"""What a node tells of itself when it is asked, by its control socket or by ANSWER. Pure: `docs/protocol.md`.

Lengths of time are seconds, sizes bytes, moments Unix seconds by the node's clock. Maps, so that they may grow.
"""

from typing import Any

import msgspec
from msgspec import Struct

from mesh.wire.messages import ANSWER_BYTES

TEXT_BYTES = 64 * 1024
"""Bytes of a stack's text at most."""


class RunningJob(Struct, frozen=True):
    """A job that a worker runs; `elapsed` since it began."""

    id: str
    task: str
    elapsed: float


class WorkerStatus(Struct, frozen=True, kw_only=True):
    """One worker. `outstanding`: orders it was given and owes; `done` ended well here, `failed` otherwise.

    `leaving`: it gets nothing more. `memory` is its own, in no file; `last_exit`: how the one before it ended.
    """

    slot: int
    pid: int
    ready: bool
    age: float
    outstanding: int
    leaving: bool = False
    done: int = 0
    failed: int = 0
    memory: int = 0
    running: list[RunningJob] = []
    last_exit: str = ""


class Host(Struct, frozen=True):
    """The machine of a node: its name, and its memory."""

    name: str
    memory: int = 0
    available: int = 0


class Descriptors(Struct, frozen=True):
    """What the node's process has open, may open, and needs with all its workers, clients and callers."""

    used: int
    limit: int
    needed: int


class Status(Struct, frozen=True, kw_only=True):
    """How a node is. `held` counts jobs: those `waiting` and those `running`; `done` and `failed` those of its life.

    `clock` is the moment of the answer; `announced` whether it announces itself by mDNS. `left_out`: workers that
    found no room in the answer.
    """

    name: str
    id: str
    mesh: str
    state: str
    why: str = ""
    pid: int
    uptime: float
    endpoint: str = ""
    bridge: str = ""
    clients: int = 0
    connections: int = 0
    held: int = 0
    waiting: int = 0
    running: int = 0
    done: int = 0
    failed: int = 0
    lost: int = 0
    slots: int = 0
    concurrency: int = 1
    memory: int = 0
    version: str = ""
    clock: float = 0.0
    announced: bool = False
    host: Host | None = None
    descriptors: Descriptors | None = None
    workers: list[WorkerStatus] = []
    left_out: int = 0


class ClientReport(Struct, frozen=True, kw_only=True):
    """A client of the front. `key`: the name of its key; `silent`: how long it has said nothing."""

    name: str
    key: str = ""
    role: str = ""
    address: str = ""
    held: int = 0
    running: int = 0
    silent: float = 0.0


class BridgeReport(Struct, frozen=True):
    """The callers of the bridge: how many are connected, from where, and what they have asked in all."""

    address: str
    open: int
    accepted: int
    requests: int
    addresses: dict[str, int] = {}


class Connections(Struct, frozen=True):
    """Who is connected to a node."""

    clients: list[ClientReport]
    bridge: BridgeReport | None = None
    left_out: int = 0


class JobReport(Struct, frozen=True, kw_only=True):
    """A job that a node holds: `running`; `sent`, behind another one of its worker; `waiting`; or `forwarded`.

    `worker` is its slot, -1 for none; `elapsed` since it began, or since it came if it has not.
    """

    id: str
    task: str
    state: str
    elapsed: float
    worker: int = -1
    attempt: int = 1
    client: str = ""


class Jobs(Struct, frozen=True):
    """Jobs that a node holds, those that run first."""

    jobs: list[JobReport]
    left_out: int = 0


class Stack(Struct, frozen=True, kw_only=True):
    """Where a job hangs: the stacks of its worker's threads as `text`, and what its coroutine awaits."""

    id: str
    task: str
    worker: int
    pid: int
    text: str
    awaits: str = ""


class Neighbour(Struct, frozen=True):
    """Another node, as this one sees it."""

    id: str
    name: str
    endpoint: str
    state: str


class Reach(Struct, frozen=True):
    """The nodes that a node itself is connected to; one that does not forward does not `look`."""

    looks: bool
    neighbours: list[Neighbour] = []
    left_out: int = 0


class Report(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What an answer holds: one of these, or nothing. `workers`: how many there are to be from now on."""

    status: Status | None = None
    connections: Connections | None = None
    jobs: Jobs | None = None
    stack: Stack | None = None
    reach: Reach | None = None
    workers: int | None = None


class Wrong(Struct, frozen=True):
    """Why a node has not done it: the type of the error, and its text."""

    type: str
    message: str


_encode = msgspec.msgpack.Encoder().encode
decode_report = msgspec.msgpack.Decoder(Report).decode
decode_wrong = msgspec.msgpack.Decoder(Wrong).decode


def packed(report: Report | Wrong, *, most: int = ANSWER_BYTES) -> bytes:
    """Encode a report; where it is larger than an answer may be, its lists are cut, and say how much is left out."""
    body = _encode(report)
    while len(body) > most and isinstance(report, Report):
        report, body = _shortened(report, most / len(body)), b""
        body = _encode(report)
    return body


_LISTS = {"status": "workers", "connections": "clients", "jobs": "jobs", "reach": "neighbours"}


def _shortened(report: Report, share: float) -> Report:
    changed: dict[str, Any] = {}
    for name, field in _LISTS.items():
        part = getattr(report, name)
        entries = [] if part is None else getattr(part, field)
        if entries:
            stay = entries[: int(len(entries) * share * 0.9)]
            changed[name] = msgspec.structs.replace(
                part, **{field: stay, "left_out": part.left_out + len(entries) - len(stay)}
            )
    if not changed:  # no list is to blame
        return Report()
    return msgspec.structs.replace(report, **changed)


def cut(text: str, *, most: int = TEXT_BYTES) -> str:
    """Return a text of so many bytes at most; one that was longer says so at its end."""
    raw = text.encode(errors="replace")
    if len(raw) <= most:
        return text
    return raw[:most].decode(errors="ignore") + "\n… (cut)"


# what people say for a job


def short(job_id: str) -> str:
    """Return a job's id as people read it: ids of one client differ in their ends only."""
    return f"{job_id[:6]}-{job_id[16:].lstrip('0') or '0'}"


def is_meant(word: str, job_id: str) -> bool:
    """Does this word mean the job: its id, the beginning of that, or its `short` form?"""
    head, dash, tail = word.lower().partition("-")
    if not dash:
        return bool(head) and job_id.startswith(head)
    return job_id.startswith(head) and (job_id[16:].lstrip("0") or "0") == tail
