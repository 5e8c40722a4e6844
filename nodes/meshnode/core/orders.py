"""What a node and its worker say to each other, one datagram a message. Pure: docs/decisions/0002.

To the worker: `Orders`, jobs of one task, each the SUBMIT item as it came. From the worker: an array of `Ran`,
their outcomes as the items that their owner is to hear; the node passes both on without looking inside. The item
of a large body travels alone, its own place left empty: the body lies on the shelf that both share, or in a memory
file beside the datagram. Orders without jobs ask the worker to end; an empty array from it says that it is ready.
"""

from msgspec import Struct

from mesh.wire.messages import Failed, Result, Submit

End = Result | Failed
"""How a job ended in its worker: the item for its owner."""


class Place(Struct, array_like=True, gc=False):
    """Where on the shelf the body of the only item lies, from the start of its sender's half, and its key there."""

    at: int
    size: int
    key: int


class Orders(Struct, array_like=True, gc=False):
    """Run these. `first` is the number of the first of them, counted from 1 over the worker's life."""

    first: int
    jobs: list[Submit]
    place: Place | None = None


class Call(Struct, array_like=True, gc=False):
    """The job of this number calls another: worker to node, over a socket of its own."""

    seq: int
    job: Submit


class Ran(Struct, array_like=True, gc=False):
    """What came of orders with consecutive numbers: how long they ran together and the longest alone, in ns.

    `back`: so many orders behind them were read and not begun; they are given back.
    """

    first: int
    spent: int
    longest: int
    ends: list[End]
    back: int = 0
    place: Place | None = None
