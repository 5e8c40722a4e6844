"""What happened: everything the scheduler is told. Pure."""

from msgspec import Struct

from mesh.wire.messages import UNSTARTED, NodeItem, Submit, TaskSpec
from meshnode.core.held import Held, Owner
from meshnode.core.orders import Ran


class Submitted(Struct, frozen=True):
    """An owner handed in jobs; `stale` if it did so on word from the node that is too old.

    `alike`: they are new, of one task, and have the same options and the same time.
    """

    owner: Owner
    jobs: list[Submit]
    stale: bool = False
    alike: bool = False


class CancelAsked(Struct, frozen=True):
    """An owner no longer wants a job; `how` far that goes if it runs: UNSTARTED, RUNNING or FORCED."""

    owner: Owner
    id: bytes
    how: int = UNSTARTED


class KeepAsked(Struct, frozen=True):
    """A job is to outlive its owner."""

    owner: Owner
    id: bytes


class Queried(Struct, frozen=True):
    """An owner asks what became of jobs of an earlier life of its own."""

    owner: Owner
    ids: list[bytes]


class Spoken(Struct, frozen=True):
    """An owner is owed these items beside the outcomes of its jobs (WELCOME, PONG)."""

    owner: Owner
    items: list[NodeItem]


class Left(Struct, frozen=True):
    """An owner is gone: what it queued is dropped but for what it kept, what runs ends unheard.

    `revoked`: it may nothing more, and what it kept is dropped too.
    """

    owner: Owner
    revoked: bool = False


class Paused(Struct, frozen=True):
    """An owner does not read what it is told: until it does, none of its jobs is started."""

    owner: Owner


class Resumed(Struct, frozen=True):
    """An owner has read what it was told."""

    owner: Owner


class WorkerReady(Struct, frozen=True):
    """A worker has set up. `lease`: jobs after which it is to be replaced. `spare`: it is beyond the node's slots."""

    worker: int
    lease: int | None = None
    spare: bool = False


class Called(Struct, frozen=True):
    """The job of this number, which a worker runs, calls another one."""

    worker: int
    seq: int
    job: Submit


class SpareLost(Struct, frozen=True):
    """A worker that was to be one more did not come."""


class Retired(Struct, frozen=True):
    """A worker's successor is there: it gets nothing more, and ends when it has done what it has."""

    worker: int


class Ended(Struct, frozen=True):
    """A worker's jobs ended; what it said of them has so many bytes."""

    worker: int
    ran: list[Ran]
    size: int = 0


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
    """What came of a job sent on to another node: an item for its owner, or None if none took it.

    `began`: it may have run there all the same; `crashes`: workers that died of it so far.
    """

    held: Held
    item: NodeItem | None
    began: bool = False
    crashes: int = 0


class Draining(Struct, frozen=True):
    """Take nothing new, finish what is held."""


class Undraining(Struct, frozen=True):
    """Take work again."""


class Served(Struct, frozen=True):
    """The application serves these tasks from now on."""

    tasks: list[TaskSpec]


class Resized(Struct, frozen=True):
    """The node is to have so many workers from now on; those that are too many are retired on their own."""

    slots: int


class Stalled(Struct, frozen=True):
    """This node stood still for so long that clients have given it up: what has not started is theirs again."""


class GraceOver(Struct, frozen=True):
    """What is still held ends now: the unstarted is given back, the running is lost."""


class Tick(Struct, frozen=True):
    """Time has passed."""


Event = (
    Submitted | CancelAsked | KeepAsked | Queried | Spoken | Left | Paused | Resumed | WorkerReady | Called | SpareLost
    | Retired | Ended | TakenBack | WorkerLost | ForwardEnded | Draining | Undraining | Served | Resized | Stalled
    | GraceOver | Tick
)  # fmt: skip
