"""What is to be done: everything a client's session orders. Pure."""

from msgspec import Struct

from mesh.core.record import JobRecord
from mesh.core.roster import NodeView
from mesh.errors import MeshError
from mesh.wire.messages import ClientMessage, Failed, Result

Outcome = tuple[JobRecord, Result | Failed | MeshError]
"""A job and how it ended: with an item of its node, or an error of the mesh."""


class Send(Struct, frozen=True):
    """Send this over a link."""

    key: int
    message: ClientMessage


class Settle(Struct, frozen=True):
    """These jobs are over: with an item of the node, or an error of the mesh."""

    outcomes: list[Outcome]


class Progress(Struct, frozen=True):
    """The state of these jobs changed without their end."""

    records: list[JobRecord]


class Joined(Struct, frozen=True):
    """A node greeted back."""

    view: NodeView


class Parted(Struct, frozen=True):
    """A node is no longer one of ours."""

    view: NodeView


class Answered(Struct, frozen=True):
    """A node answers what it was asked to tell or do."""

    key: int
    token: int
    ok: bool
    body: bytes


class Greet(Struct, frozen=True):
    """Say HELLO once more over a link whose node has forgotten us."""

    key: int


class Close(Struct, frozen=True):
    """Close a link.

    `same_as`: the key of another link to the same node; `refused`: the node wants none; `goodbye`: it took its leave.
    """

    key: int
    why: str
    same_as: int = 0
    refused: bool = False
    goodbye: bool = False


Effect = Send | Settle | Progress | Joined | Parted | Answered | Greet | Close
