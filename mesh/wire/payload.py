"""Arguments, results and failures as bytes. Pure: `docs/protocol.md`, Bodies.

msgpack, with extension types for what Python has and msgpack has not, so that a value arrives as the
type it left as. Never pickle: decoding builds plain values and calls nothing of the sender's choice.
Only the two ends open a body: the client and the worker.
"""

import dataclasses
import datetime as dt
import decimal
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgpack

from mesh.errors import BadArguments, Failure, ResultNotSerializable

DATETIME, UUID, DECIMAL, SET, TUPLE, BIGINT, DATE, TIME, TIMEDELTA, FROZENSET = range(1, 11)

_BIGINT_BYTES = 64 * 1024
"""Bytes of an integer beyond 64 bits: large enough for cryptography, too small to burn a minute on."""


def pack(value: Any) -> bytes:
    """Encode one value.

    Raises TypeError, ValueError, OverflowError or RecursionError for what cannot travel.
    """
    return _pack(value)


def unpack(body: bytes | memoryview) -> Any:
    """Decode one value. Raises ValueError, whatever is wrong with the bytes.

    Maps may have keys that are not strings, since Python's results do; a body is opened by one worker or
    by the caller who asked for it, so a flood of colliding keys costs nobody else (docs/decisions).
    """
    try:
        return _unpackb(body, ext_hook=_from_ext, strict_map_key=False)
    except ValueError:
        raise
    except Exception as error:  # noqa: BLE001  # msgpack raises a dozen types for malformed input
        raise ValueError(f"malformed body: {error}") from None


def pack_arguments(args: Sequence[Any], kwargs: Mapping[str, Any]) -> bytes:
    """Encode the arguments of a call: `[[positional…], {name: value}]`, the map only if it has any.

    Raises BadArguments naming the value's type for what cannot travel.
    """
    try:
        if not kwargs:
            return pack([list(args)])
        return pack([list(args), dict(kwargs)])
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise BadArguments(
            f"the arguments cannot be sent: {_why(error)}. Plain values travel (None, bool, int, float, "
            "str, bytes, list, tuple, dict, set, datetime, date, time, timedelta, UUID, Decimal, "
            "dataclass); convert others first"
        ) from None


def unpack_arguments(body: bytes | memoryview) -> tuple[list[Any], dict[str, Any]]:
    """Decode the arguments of a call. Raises BadArguments."""
    try:
        value = unpack(body)
    except ValueError as error:
        raise BadArguments(f"the arguments cannot be decoded: {error}") from None
    if type(value) is list:
        if len(value) == 1 and type(value[0]) is list:
            return value[0], {}
        if len(value) == 2 and type(value[0]) is list and _is_named(value[1]):
            return value[0], value[1]
    raise BadArguments("arguments are [[positional…]] or [[positional…], {name: value}]")


def _is_named(value: Any) -> bool:
    return type(value) is dict and all(type(key) is str for key in value)


def pack_result(value: Any) -> bytes:
    """Encode what a task returned. Raises ResultNotSerializable naming its type."""
    try:
        return pack(value)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise ResultNotSerializable(
            f"the task ran, but its result cannot be sent: {_why(error)}. Return plain values"
        ) from None


def pack_failure(failure: Failure) -> bytes:
    """Encode a failure; its exception's arguments only where they are plain values."""
    fields: dict[str, Any] = {"type": failure.type, "message": failure.message}
    if failure.traceback:
        fields["traceback"] = failure.traceback
    if failure.mesh:
        fields["mesh"] = True
    if not failure.started:
        fields["started"] = False
    if failure.args is not None:
        try:
            arguments = pack(failure.args)
        except (TypeError, ValueError, OverflowError, RecursionError):
            arguments = b""
        if 0 < len(arguments) <= _ARGUMENTS_LIMIT:
            fields["args"] = failure.args
    return pack(fields)


_ARGUMENTS_LIMIT = 4096
"""Bytes of an exception's arguments that travel with it; beyond, its message alone does."""


def unpack_failure(body: bytes | memoryview) -> Failure:
    """Decode a failure; one that is malformed is a failure all the same, and says so."""
    try:
        fields = unpack(body)
        arguments = fields.get("args")
        return Failure(
            str(fields["type"]),
            str(fields["message"]),
            traceback=str(fields.get("traceback", "")),
            args=arguments if type(arguments) is tuple else None,
            mesh=fields.get("mesh") is True,
            started=fields.get("started") is not False,
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return Failure("ProtocolError", "the node sent a malformed failure", mesh=True)


def _why(error: Exception) -> str:
    if isinstance(error, RecursionError) or "recursion limit" in str(error):
        return "it is nested too deep"
    return str(error)


def _ext(code: int, value: Any) -> msgpack.ExtType:
    # A packer of its own: the shared one is in the middle of the value around this one.
    return msgpack.ExtType(code, msgpack.packb(value, default=_to_ext, strict_types=True))


def _to_ext(value: Any) -> Any:  # noqa: C901  # one flat match over the types that travel
    """Turn what msgpack does not know into an extension, or a subclass into its plain type."""
    match value:
        case tuple():
            return _ext(TUPLE, list(value))
        case dt.datetime():
            return msgpack.ExtType(DATETIME, value.isoformat().encode())
        case dt.date():
            return msgpack.ExtType(DATE, value.isoformat().encode())
        case dt.time():
            return msgpack.ExtType(TIME, value.isoformat().encode())
        case dt.timedelta():
            return _ext(TIMEDELTA, [value.days, value.seconds, value.microseconds])
        case uuid.UUID():
            return msgpack.ExtType(UUID, value.bytes)
        case decimal.Decimal():
            return msgpack.ExtType(DECIMAL, str(value).encode())
        case set():
            return _ext(SET, list(value))
        case frozenset():
            return _ext(FROZENSET, list(value))
        case int():
            return _plain_int(value)
        case str():
            return str.__str__(value)
        case float():
            return float.__float__(value)
        case bytes() | bytearray() | memoryview():
            return bytes(value)
        case dict():
            return dict(value)
        case list():
            return list(value)
        case _ if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        case _:
            pass
    raise TypeError(f"a value of type {type(value).__qualname__!r} cannot travel")


def _plain_int(value: int) -> Any:
    if -(2**63) <= value < 2**64:
        return int(value)
    size = value.bit_length() // 8 + 1
    if size > _BIGINT_BYTES:
        raise OverflowError(f"an integer of {size} bytes cannot travel, at most {_BIGINT_BYTES}")
    return msgpack.ExtType(BIGINT, value.to_bytes(size, "big", signed=True))


def _from_ext(code: int, content: bytes) -> Any:  # one flat match over our extensions
    match code:
        case 5:
            return tuple(unpack(content))
        case 1:
            return dt.datetime.fromisoformat(content.decode())
        case 7:
            return dt.date.fromisoformat(content.decode())
        case 8:
            return dt.time.fromisoformat(content.decode())
        case 9:
            days, seconds, microseconds = unpack(content)
            return dt.timedelta(days, seconds, microseconds)
        case 2:
            return uuid.UUID(bytes=content)
        case 3:
            return decimal.Decimal(content.decode())
        case 4:
            return set(unpack(content))
        case 10:
            return frozenset(unpack(content))
        case 6 if len(content) <= _BIGINT_BYTES:
            return int.from_bytes(content, "big", signed=True)
    raise ValueError(f"unknown extension type {code}")


_pack: Callable[[Any], bytes] = msgpack.Packer(default=_to_ext, strict_types=True).pack
"""One packer for all (0.25 µs a job; making one each time costs 0.3 µs more)."""

_unpackb: Callable[..., Any] = msgpack.unpackb
