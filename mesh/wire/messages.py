"""What travels between client and node, one struct an item. Pure: `docs/protocol.md`, Items.

Items are msgpack arrays whose first element is their type; msgspec decodes and checks them in C
(0.18 µs a job, as fast as an unchecked decode). Fields behind the last one known are ignored, so that
a later version may add some.
"""

from typing import TYPE_CHECKING, Annotated, Final

import msgspec
from msgspec import Meta, Struct

MAGIC: Final = "mesh"
VERSIONS: Final = (1, 1)
"""Lowest and highest protocol version spoken here."""

JobId = Annotated[bytes, Meta(min_length=16, max_length=16)]
TaskName = Annotated[str, Meta(min_length=1, max_length=200)]
Epoch = Annotated[bytes, Meta(max_length=8)]
Reason = Annotated[str, Meta(max_length=32)]
Text = Annotated[str, Meta(max_length=2000)]
Count = Annotated[int, Meta(ge=0, le=2**53)]
Attempt = Annotated[int, Meta(ge=1, le=2**31)]
Priority = Annotated[int, Meta(ge=0, le=9)]
Verb = Annotated[str, Meta(min_length=1, max_length=32)]

if TYPE_CHECKING:
    Body = bytes | memoryview
else:
    Body = bytes
"""What msgspec decodes to bytes; a view where the body came in a frame or a memory file of its own, or lies in the
memory that a node and its worker share."""

ARGS_BYTES: Final = 64 * 1024
ANSWER_BYTES: Final = 192 * 1024
"""Bytes of what goes with a verb, and of its answer: room for a thousand jobs, within one message of a node."""

ITEM_LIMIT: Final = 65_536
"""Items of one message, and ids of one QUERY: each costs its receiver more to hold than its sender to say."""

FORM_MSGPACK: Final = 0
FORM_JSON: Final = 1

# Reasons of REJECT: the job surely did not run.
BUSY: Final = "busy"
DRAINING: Final = "draining"
EPOCH: Final = "epoch"
STALE: Final = "stale"
UNKNOWN_TASK: Final = "unknown-task"
EXPIRED: Final = "expired"
CANCELLED: Final = "cancelled"
TOO_BIG: Final = "too-big"
QUARANTINED: Final = "quarantined"
NOT_ALLOWED: Final = "not-allowed"

# Reasons of LOST: the job was handed to a worker. EXPIRED and CANCELLED are among them too.
CRASH: Final = "crash"
WORKER: Final = "worker"
GRACE: Final = "grace"
LIMIT: Final = "limit"
POISON: Final = "poison"

# How far a CANCEL goes.
UNSTARTED: Final = 0
RUNNING: Final = 1
FORCED: Final = 2

# Reasons of REFUSE: no connection comes of it.
WRONG_MESH: Final = "mesh"
WRONG_VERSION: Final = "version"
WRONG_KEY: Final = "key"


TRACE_CHARACTERS: Final = 55
STATE_CHARACTERS: Final = 512
"""Characters of a traceparent and of a tracestate (W3C Trace Context, 2.2 and 3.3.1.5)."""

Trace = tuple[str, str | None]
"""A traceparent and, if there is one, a tracestate."""


class Parameter(Struct, array_like=True, frozen=True):
    """One parameter of a task: its name, its kind (`inspect.Parameter.kind`, 0–4), if it must be given."""

    name: str
    kind: Annotated[int, Meta(ge=0, le=4)]
    required: bool


class RetrySpec(Struct, frozen=True):
    """How often a job is tried again, and how long to wait: seconds before the first time, and at most."""

    n: Annotated[int, Meta(ge=0, le=1_000_000)]
    backoff: Annotated[float, Meta(ge=0)]
    cap: Annotated[float, Meta(ge=0)]


class TaskSpec(Struct, frozen=True, omit_defaults=True):
    """A task as its node describes it in WELCOME. Lengths of time are seconds."""

    name: TaskName
    parameters: list[Parameter] = []
    signature: str = "()"
    fingerprint: str = ""
    is_async: bool = False
    bridge: bool = False
    timeout: float | None = None
    priority: Priority = 5
    doc: str = ""
    idempotent: bool = False
    retry: RetrySpec | None = None
    limit: float | None = None
    limit_kill: float | None = None


class Options(Struct, frozen=True, omit_defaults=True):
    """What a job may ask for, or brings along, beside its task, arguments and time.

    `forwarded`: a node sent it on. `crashes`: workers that have died of it. `resent`: this very attempt may have been
    handed in before: it is to be found again rather than run again. `trace`, `state`: the traceparent and the
    tracestate that it belongs to (W3C Trace Context).
    """

    priority: Priority = 5
    forwarded: bool = False
    crashes: Annotated[int, Meta(ge=0, le=1000)] = 0
    resent: bool = False
    trace: Annotated[str, Meta(max_length=TRACE_CHARACTERS)] | None = None
    state: Annotated[str, Meta(max_length=STATE_CHARACTERS)] | None = None


def trace_of(options: Options | None) -> Trace | None:
    """Return the trace that a job belongs to, None if it belongs to none."""
    return None if options is None or options.trace is None else (options.trace, options.state)


class Hello(Struct, array_like=True, tag=1):
    """Client → node, first: who speaks, for which mesh, which versions."""

    magic: Annotated[str, Meta(pattern="^mesh$")]
    lowest: int
    highest: int
    mesh: Annotated[str, Meta(max_length=63)]
    name: Annotated[str, Meta(max_length=200)]


class Welcome(Struct, array_like=True, tag=2):
    """Node → client: the answer that means alive. `about` is a map, so that it may grow."""

    version: int
    about: "About"


class About(Struct, omit_defaults=True):
    """The node that answers: identity, what it serves, and its limits (bytes).

    `version` is the product's, `host` the machine's name, `started` Unix seconds by its own clock: for people.
    """

    node: Annotated[str, Meta(min_length=32, max_length=32)]
    epoch: Epoch
    name: str
    mesh: str
    workers: int
    concurrency: int
    max_body: int
    tasks: list[TaskSpec]
    version: Annotated[str, Meta(max_length=64)] = ""
    host: Annotated[str, Meta(max_length=255)] = ""
    started: float = 0.0


class Submit(Struct, array_like=True, tag=3, gc=False):
    """Client → node: run this. `remaining` is milliseconds from arrival, never a wall-clock moment."""

    id: JobId
    attempt: Attempt
    task: TaskName
    form: Annotated[int, Meta(ge=0, le=1)]
    remaining: Count | None
    options: Options | None
    body: Body


class SubmitLarge(Struct, array_like=True, tag=4):
    """As `Submit`, with its body in a frame of its own (index ≥ 1)."""

    id: JobId
    attempt: Attempt
    task: TaskName
    form: Annotated[int, Meta(ge=0, le=1)]
    remaining: Count | None
    options: Options | None
    frame: Count


class Cancel(Struct, array_like=True, tag=5):
    """Client → node: do not start this; `how` far that goes if it runs: `UNSTARTED`, `RUNNING` or `FORCED`."""

    id: JobId
    how: Annotated[int, Meta(ge=0, le=2)] = UNSTARTED


class Query(Struct, array_like=True, tag=6):
    """Client → node: what became of these? Asked after the node had forgotten who we are."""

    ids: Annotated[list[JobId], Meta(max_length=ITEM_LIMIT)]


class Ping(Struct, array_like=True, tag=7):
    """Client → node: are you there? Answered in the node's main loop."""

    token: Count


class Bye(Struct, array_like=True, tag=8):
    """Either way: I am leaving; nothing follows."""


class Keep(Struct, array_like=True, tag=9):
    """Client → node: this job outlives me: it is not dropped when I leave."""

    id: JobId


class Operate(Struct, array_like=True, tag=10):
    """Client → node: tell of yourself, or do something to yourself; `args` is a map, in msgpack."""

    token: Count
    verb: Verb
    args: Annotated[bytes, Meta(max_length=ARGS_BYTES)]


class Refuse(Struct, array_like=True, tag=16):
    """Node → client: no connection comes of this, and why."""

    reason: Reason
    text: Text


class Pong(Struct, array_like=True, tag=17):
    """Node → client: the token of the ping."""

    token: Count


class Accepted(Struct, array_like=True, tag=18):
    """Node → client: held here, not ended yet; sent only for jobs that do not end at once."""

    ids: list[JobId]


class Started(Struct, array_like=True, tag=19):
    """Node → client: handed to user code; sent only for jobs that do not end at once."""

    ids: list[JobId]


class Result(Struct, array_like=True, tag=21, gc=False):
    """Node → client: the task returned."""

    id: JobId
    attempt: Attempt
    body: Body


class ResultLarge(Struct, array_like=True, tag=22):
    """As `Result`, with its body in a frame of its own (index ≥ 1)."""

    id: JobId
    attempt: Attempt
    frame: Count


class Failed(Struct, array_like=True, tag=23, gc=False):
    """Node → client: the task raised, or its arguments or result were no good.

    `again`: the task wants it tried again, after so many seconds or later; nil if not.
    """

    id: JobId
    attempt: Attempt
    body: Body
    again: Annotated[float, Meta(ge=0)] | None = None


class Reject(Struct, array_like=True, tag=24):
    """Node → client: not taken, or given back; surely not run."""

    id: JobId
    attempt: Attempt
    reason: Reason
    text: Text


class Lost(Struct, array_like=True, tag=25):
    """Node → client: it ended without an outcome. `started` False means surely not run."""

    id: JobId
    attempt: Attempt
    reason: Reason
    started: bool
    text: Text


class Drain(Struct, array_like=True, tag=26):
    """Node → client: send nothing new; what is held will be finished. A WELCOME takes it back."""


class Stranger(Struct, array_like=True, tag=27):
    """Node → client: I do not know you (any more). Greet again, then ask what became of your jobs."""


class Unknown(Struct, array_like=True, tag=28):
    """Node → client: the answer to QUERY for jobs that it knows nothing of."""

    ids: list[JobId]


class Answer(Struct, array_like=True, tag=29):
    """Node → client: what came of an OPERATE; `body` is a map, in msgpack: a report, or what is wrong."""

    token: Count
    ok: bool
    body: Annotated[bytes, Meta(max_length=ANSWER_BYTES)]


ClientItem = Submit | SubmitLarge | Cancel | Query | Ping | Hello | Bye | Keep | Operate
NodeItem = (
    Result | ResultLarge | Failed | Accepted | Started | Reject | Lost | Pong | Welcome | Refuse
    | Drain | Bye | Stranger | Unknown | Answer
)  # fmt: skip


class ClientMessage(Struct, array_like=True):
    """Frame 0 of a message from a client. `stamp`: the newest one heard from this node, ms."""

    epoch: Epoch
    stamp: Count
    items: Annotated[list[ClientItem], Meta(max_length=ITEM_LIMIT)]


class NodeMessage(Struct, array_like=True):
    """Frame 0 of a message from a node: its load as of now, then the items.

    `free`: idle workers; `free_async`: places for coroutines; `window`: how many jobs this client may
    have outstanding here; `seen`: jobs taken in from this client so far, so that it knows how many of
    its own the load does not count yet; `stamp`: the node's clock in ms.
    """

    free: Count
    free_async: Count
    window: Count
    seen: Count
    stamp: Count
    items: Annotated[list[NodeItem], Meta(max_length=ITEM_LIMIT)]


class LooseClientMessage(Struct, array_like=True):
    """As `ClientMessage`, its items still undecoded."""

    epoch: Epoch
    stamp: Count
    items: Annotated[list[msgspec.Raw], Meta(max_length=ITEM_LIMIT)]


class LooseNodeMessage(Struct, array_like=True):
    """As `NodeMessage`, its items still undecoded."""

    free: Count
    free_async: Count
    window: Count
    seen: Count
    stamp: Count
    items: Annotated[list[msgspec.Raw], Meta(max_length=ITEM_LIMIT)]


class ItemHead(Struct, array_like=True):
    """The first element of any item, to tell an unknown type from a malformed item."""

    type: int
