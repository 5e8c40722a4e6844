"""What happened: everything a client's session is told. Pure."""

from collections.abc import Sequence

from msgspec import Struct

from mesh.core.record import JobRecord
from mesh.wire.messages import RUNNING, NodeMessage


class Opening(Struct, frozen=True):
    """A link to a node is being made; HELLO is on its way."""

    key: int


class Heard(Struct, frozen=True):
    """A node spoke."""

    key: int
    message: NodeMessage


class LinkLost(Struct, frozen=True):
    """A link is gone; everything that had arrived over it has been heard before."""

    key: int
    why: str


class KeyDenied(Struct, frozen=True):
    """A node of the mesh, of this name, does not let this client in, since it has no key or another one."""

    node: str
    why: str


class Submitted(Struct, frozen=True):
    """The application handed in jobs."""

    records: Sequence[JobRecord]


class CancelAsked(Struct, frozen=True):
    """The application no longer wants a job; `how` far that goes if it runs: UNSTARTED, RUNNING or FORCED."""

    record: JobRecord
    how: int = RUNNING


class KeepAsked(Struct, frozen=True):
    """A job is to outlive its client."""

    record: JobRecord


class OperateAsked(Struct, frozen=True):
    """A node is asked to tell of itself, or to do something to itself."""

    key: int
    token: int
    verb: str
    args: bytes


class Tick(Struct, frozen=True):
    """Time has passed."""


Event = Opening | Heard | LinkLost | KeyDenied | Submitted | CancelAsked | KeepAsked | OperateAsked | Tick
