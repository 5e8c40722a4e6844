"""Arguments, results and failures as bytes. Pure: `docs/protocol.md`, Bodies.

msgpack, with extension types for what Python has and msgpack has not, so that a value arrives as the
type it left as. Never pickle: decoding builds plain values and calls nothing of the sender's choice.
Only the two ends open a body: the client and the worker.
"""

import dataclasses
import datetime as dt
import decimal
import functools
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgpack

from mesh.errors import BadArguments, Failure, ResultNotSerializable

DATETIME, UUID, DECIMAL, SET, TUPLE, BIGINT, DATE, TIME, TIMEDELTA, FROZENSET = range(1, 11)

_BIGINT_BYTES: Final = 64 * 1024
"""Bytes of an integer beyond 64 bits: large enough for cryptography, too small to burn a minute on."""

_EXTENSION_DEPTH: Final = 32
"""Tuples and sets within each other. msgpack puts 40 KiB on the C stack for each that it opens, and a
stack that is used up ends the process: this is 1.3 MiB of the usual 8."""


def pack(value: Any) -> bytes:
    """Encode one value; any number of threads may do so at a time.

    Raises TypeError, ValueError, OverflowError, BufferError or RecursionError for what cannot travel, and
    whatever a value's own class raises when it is read.
    """
    try:
        packer = _idle.pop()
    except IndexError:
        packer = _packer(0)
    packed = packer(value)
    _idle.append(packer)  # one that has raised is not used again
    return packed


def unpack(body: bytes | memoryview) -> Any:
    """Decode one value. Raises ValueError, whatever is wrong with the bytes.

    Maps may have keys that are not strings, since Python's results do; a body is opened by one worker or
    by the caller who asked for it, so a flood of colliding keys costs nobody else (docs/decisions).
    """
    try:
        return _unpackb(body, ext_hook=_outermost, strict_map_key=False, timestamp=3)
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
            if len(args) == 1 and type(args[0]) is bytes and _HEAVY <= len(args[0]) < _MOST_BYTES:
                return b"".join((b"\x91\x91", _bin_head(args[0]), args[0]))
            return pack([list(args)]) if args else _NO_ARGUMENTS
        return pack([list(args), dict(kwargs)])
    except Exception as error:  # noqa: BLE001  # a value's own class may run here and raise anything
        raise BadArguments(
            f"the arguments cannot be sent: {_why(error)}. Plain values travel (None, bool, int, float, "
            "str, bytes, list, tuple, dict, set, datetime, date, time, timedelta, UUID, Decimal, "
            "dataclass); convert others first"
        ) from None


def unpack_arguments(body: bytes | memoryview) -> tuple[list[Any], dict[str, Any]]:
    """Decode the arguments of a call. Raises BadArguments."""
    if body == _NO_ARGUMENTS:
        return [], {}
    try:
        value = unpack(body)
    except ValueError as error:
        why = str(error) or "they are no msgpack, or nested too deep"  # msgpack's own errors have no text
        raise BadArguments(f"the arguments cannot be decoded: {why}") from None
    if type(value) is list:
        if len(value) == 1 and type(value[0]) is list:
            return value[0], {}
        if len(value) == 2 and type(value[0]) is list and _is_named(value[1]):
            return value[0], value[1]
    raise BadArguments("arguments are [[positional…]] or [[positional…], {name: value}]")


_NO_ARGUMENTS: Final = b"\x91\x90"
"""`[[]]`, packed: so common that it is not packed and opened anew each time."""


def _is_named(value: Any) -> bool:
    return type(value) is dict and all(type(key) is str for key in value)


def pack_result(value: Any) -> bytes:
    """Encode what a task returned. Raises ResultNotSerializable naming its type."""
    if value is None:
        return NIL
    if type(value) is bytes and _HEAVY <= len(value) < _MOST_BYTES:
        return _bin_head(value) + value
    try:
        return pack(value)
    except Exception as error:  # noqa: BLE001  # a value's own class may run here and raise anything
        raise ResultNotSerializable(
            f"the task ran, but its result cannot be sent: {_why(error)}. Return plain values"
        ) from None


_HEAVY, _MOST_BYTES = 64 * 1024, 2**32
"""Lengths of byte strings alone that are copied once instead of through a packer's buffer: it takes half the time."""


def _bin_head(value: bytes) -> bytes:
    return b"\xc6" + len(value).to_bytes(4, "big")


NIL: Final = b"\xc0"
"""None, packed: what most tasks return."""


def pack_failure(failure: Failure) -> bytes:
    """Encode a failure; its exception's arguments only where they are plain values."""
    fields: dict[str, Any] = {"type": _sendable(failure.type), "message": _sendable(failure.message)}
    if failure.traceback:
        fields["traceback"] = _sendable(failure.traceback)
    if failure.mesh:
        fields["mesh"] = True
    if not failure.started:
        fields["started"] = False
    if failure.args is not None:
        try:
            arguments = pack(failure.args)
        except Exception:  # noqa: BLE001  # a value's own class may run here and raise anything
            arguments = b""
        if 0 < len(arguments) <= _ARGUMENTS_LIMIT:
            fields["args"] = failure.args
    return pack(fields)


def _sendable(text: str) -> str:
    """Escape lone surrogates, as messages about undecodable file names hold them; UTF-8 has no such."""
    return text.encode("utf-8", "backslashreplace").decode()


_ARGUMENTS_LIMIT: Final = 4096
"""Bytes of an exception's arguments that travel with it; beyond, its message alone does."""


def unpack_failure(body: bytes | memoryview) -> Failure:
    """Decode a failure; one that is malformed is a failure all the same, and says so."""
    try:
        fields = unpack(body)
        arguments = fields.get("args")
        return Failure(
            _text(fields["type"]),
            _text(fields["message"]),
            traceback=_text(fields.get("traceback", "")),
            args=arguments if type(arguments) is tuple else None,
            mesh=fields.get("mesh") is True,
            started=fields.get("started") is not False,
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return Failure("ProtocolError", "the node sent a malformed failure", mesh=True)


def _text(value: Any) -> str:
    if type(value) is not str:
        raise TypeError("not a text")
    return value


def _why(error: Exception) -> str:
    if isinstance(error, RecursionError) or "recursion limit" in str(error):
        return "it is nested too deep"
    return str(error)


def _packer(depth: int) -> Callable[[Any], bytes]:
    pack_one: Callable[[Any], bytes] = msgpack.Packer(default=functools.partial(_to_ext, depth), strict_types=True).pack
    return pack_one


_idle: list[Callable[[Any], bytes]] = []
"""Packers at rest. Making one each time costs 0.3 µs a job more; sharing one mixes the values of two
threads, since a packer may let another thread run in the middle of a value."""


def _ext(code: int, value: list[Any], depth: int) -> msgpack.ExtType:
    # A packer of its own: the outer one is in the middle of the value around this one.
    if depth >= _EXTENSION_DEPTH:
        raise RecursionError("recursion limit of the wire exceeded")
    return msgpack.ExtType(code, _packer(depth + 1)(value))


def _to_ext(depth: int, value: Any) -> Any:  # noqa: C901  # one flat match over the types that travel
    """Turn what msgpack does not know into an extension, or a subclass into its plain type."""
    match value:
        case tuple():
            return _ext(TUPLE, list(value), depth)
        case dt.datetime():
            return msgpack.ExtType(DATETIME, value.isoformat().encode())
        case dt.date():
            return msgpack.ExtType(DATE, value.isoformat().encode())
        case dt.time():
            return msgpack.ExtType(TIME, value.isoformat().encode())
        case dt.timedelta():
            return _ext(TIMEDELTA, [value.days, value.seconds, value.microseconds], depth)
        case uuid.UUID():
            return msgpack.ExtType(UUID, value.bytes)
        case decimal.Decimal():
            return msgpack.ExtType(DECIMAL, str(value).encode())
        case set():
            return _ext(SET, list(value), depth)
        case frozenset():
            return _ext(FROZENSET, list(value), depth)
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


def _from_ext(depth: int, code: int, content: bytes) -> Any:  # one flat match over our extensions
    match code:
        case 5:
            return tuple(_array(content, depth))
        case 1:
            return dt.datetime.fromisoformat(content.decode())
        case 7:
            return dt.date.fromisoformat(content.decode())
        case 8:
            return dt.time.fromisoformat(content.decode())
        case 9:
            days, seconds, microseconds = _array(content, depth)
            return dt.timedelta(days, seconds, microseconds)
        case 2:
            return uuid.UUID(bytes=content)
        case 3:
            return decimal.Decimal(content.decode())
        case 4:
            return set(_array(content, depth))
        case 10:
            return frozenset(_array(content, depth))
        case 6 if len(content) <= _BIGINT_BYTES:
            return int.from_bytes(content, "big", signed=True)
    raise ValueError(f"unknown extension type {code}")


def _array(content: bytes, depth: int) -> list[Any]:
    if depth >= _EXTENSION_DEPTH:
        raise ValueError("tuples and sets are nested too deep")
    hook = functools.partial(_from_ext, depth + 1)
    value = _unpackb(content, ext_hook=hook, strict_map_key=False, timestamp=3)
    if type(value) is not list:
        raise ValueError(f"an extension holds {type(value).__name__!r} where an array belongs")
    return value


_outermost: Final = functools.partial(_from_ext, 0)

# msgpack decodes its own timestamp (-1) without asking the hook; timestamp=3 makes a datetime of it.
_unpackb: Callable[..., Any] = msgpack.unpackb
