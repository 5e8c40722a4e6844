"""What a node and its worker say to each other, one datagram a message. Pure: docs/architecture.md, Workers.

A datagram is a msgpack array of orders (to the worker) or of outcomes (from it). A body too large for a
datagram travels beside it in a memory file, alone, its `body` nil. An empty array asks the worker to end.
"""

from msgspec import Struct

RETURNED = 0
RAISED = 1


class Order(Struct, array_like=True, gc=False):
    """Run this. `seq` counts a worker's orders from 1; `task` is an index into the node's catalogue."""

    seq: int
    task: int
    form: int
    id: bytes
    attempt: int
    body: bytes | None


class Outcome(Struct, array_like=True, gc=False):
    """It ran for `micros` µs and returned or raised; `body` is the packed result or failure."""

    seq: int
    code: int
    micros: int
    body: bytes | None
