"""What happened: everything the scheduler is told. Pure."""

from msgspec import Struct

from mesh.wire.messages import NodeItem, Submit
from meshnode.core.held import Held, Owner
from meshnode.core.orders import Ran


class Submitted(Struct, frozen=True):
    """An owner handed in jobs; `stale` if it did so on word from the node that is too old."""

    owner: Owner
    jobs: list[Submit]
    stale: bool = False


class CancelAsked(Struct, frozen=True):
    """An owner no longer wants a job started."""

    owner: Owner
    id: bytes


class Spoken(Struct, frozen=True):
    """An owner is owed these items beside the outcomes of its jobs (WELCOME, PONG)."""

    owner: Owner
    items: list[NodeItem]


class Left(Struct, frozen=True):
    """An owner is gone: what it queued is dropped, what runs ends unheard."""

    owner: Owner


class WorkerReady(Struct, frozen=True):
    """A worker has set up and waits for orders."""

    worker: int


class Ended(Struct, frozen=True):
    """A worker's jobs ended."""

    worker: int
    ran: list[Ran]


class TakenBack(Struct, frozen=True):
    """These orders were taken out of a worker's socket before it read them."""

    worker: int
    seqs: list[int]


class WorkerLost(Struct, frozen=True):
    """A worker died; it had taken up every order up to `started`. `text` says how it died."""

    worker: int
    started: int
    text: str


class ForwardEnded(Struct, frozen=True):
    """What came of a job sent on to another node: an item for its owner, or None if none took it."""

    held: Held
    item: NodeItem | None


class Draining(Struct, frozen=True):
    """Take nothing new, finish what is held."""


class GraceOver(Struct, frozen=True):
    """What is still held ends now: the unstarted is given back, the running is lost."""


class Tick(Struct, frozen=True):
    """Time has passed."""


Event = (
    Submitted | CancelAsked | Spoken | Left | WorkerReady | Ended | TakenBack | WorkerLost | ForwardEnded
    | Draining | GraceOver | Tick
)  # fmt: skip
