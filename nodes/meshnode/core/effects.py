"""What is to be done: everything the scheduler orders. Pure."""

from msgspec import Struct

from mesh.wire.messages import NodeItem, Submit
from meshnode.core.held import Held, Owner


class Dispatch(Struct, frozen=True):
    """Send jobs of one task to a worker, in one datagram where they fit; `first` is the number of the first."""

    worker: int
    first: int
    jobs: list[Submit]


class TakeBack(Struct, frozen=True):
    """Take out of a worker's socket what it has not read, and have it send what it has finished."""

    worker: int


class Interrupt(Struct, frozen=True):
    """Stop a job that runs: raise inside it. `on_loop`: it is one coroutine of several."""

    worker: int
    seq: int
    on_loop: bool


class Kill(Struct, frozen=True):
    """Kill a worker; its end is told as any other's."""

    worker: int


class Replace(Struct, frozen=True):
    """Start a worker's successor; it goes when that is ready."""

    worker: int


class Spare(Struct, frozen=True):
    """Start one worker more than the node has: all are at work, and some wait for what it is to do."""


class Dismiss(Struct, frozen=True):
    """A worker has done its last job: have it end."""

    worker: int


class Reply(Struct, frozen=True):
    """Tell an owner these items; one that keeps to a window also that and the node's load as of now."""

    owner: Owner
    items: list[NodeItem]
    window: int = 0
    free: int = 0
    free_async: int = 0
    seen: int = 0


class Forward(Struct, frozen=True):
    """Send a bridge caller's job on to another node, since no slot is free here and one is there."""

    held: Held


class Empty(Struct, frozen=True):
    """While draining: nothing is held any more."""


Effect = Dispatch | TakeBack | Interrupt | Kill | Replace | Spare | Dismiss | Reply | Forward | Empty
