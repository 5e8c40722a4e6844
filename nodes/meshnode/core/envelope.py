"""A line's envelope, as msgspec reads it. Pure: `docs/text-protocol.md`.

Apart from what is done with it, since that is compiled and the shape of a struct is not.
"""

from typing import Annotated, Final

import msgspec
from msgspec import Meta, Raw, Struct

ID_LIMIT: Final = 200
"""Characters of a request's `id`: it is held as long as its job and sent back, so it is a name and no payload."""

_NOTHING: Final = Raw(b"")

_Id = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | Annotated[str, Meta(max_length=ID_LIMIT)] | None


class Envelope(Struct):
    """A line as its caller wrote it. A key that is null counts as absent; one that is unknown is ignored."""

    function: str
    args: Raw = _NOTHING
    id: _Id = None
    timeout: Annotated[float, Meta(gt=0)] | None = None
    priority: Annotated[int, Meta(ge=0, le=9)] | None = None
    cancel_on_disconnect: bool | None = None
    traceparent: Raw = _NOTHING


class Plain(Struct, forbid_unknown_fields=True, gc=False):
    """A line that asks for a task and says nothing else."""

    function: str
    args: Raw = _NOTHING


class Identity(Struct):
    """What can still be told of a line that is wrong in another place."""

    id: _Id = None


class Request(Struct, gc=False):
    """One line that asks for a job. `tag` is its id as ASCII JSON, None without one; `args` is JSON or empty.

    `trace` is the traceparent that it belongs to, None without one or if it is none.
    """

    function: str
    args: bytes
    tag: bytes | None
    timeout: float | None
    priority: int | None
    cancel_on_disconnect: bool
    trace: str | None = None


class BadRequest(Struct, gc=False):
    """One line that asks for nothing that could be run, and why."""

    tag: bytes | None
    message: str


read_envelope: Final = msgspec.json.Decoder(Envelope).decode
read_plain: Final = msgspec.json.Decoder(Plain).decode_lines
"""Reads one value after another; a line may hold several, and one may go on over several lines."""

read_identity: Final = msgspec.json.Decoder(Identity).decode
