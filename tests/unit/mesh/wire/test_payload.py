"""Bodies: what arrives as the type it left as, what cannot travel, and what malformed bytes become."""

import collections
import dataclasses
import datetime as dt
import decimal
import enum
import struct
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import msgpack
import pytest

from mesh.errors import BadArguments, Failure, JobTimeout, ResultNotSerializable
from mesh.wire.payload import (
    pack,
    pack_arguments,
    pack_failure,
    pack_result,
    unpack,
    unpack_arguments,
    unpack_failure,
)

NOON = dt.datetime(2026, 2, 3, 12, 0, 0, 123456, tzinfo=dt.UTC)
SOME_UUID = uuid.UUID("12345678-1234-5678-1234-567812345678")
DEEPEST = 32  # tuples and sets within each other


class Colour(enum.Enum):
    RED = 1


class Level(enum.IntEnum):
    HIGH = 9


class Mode(enum.StrEnum):
    FAST = "fast"


class Bits(enum.IntFlag):
    A = 1
    B = 2


class Point(NamedTuple):
    x: int
    y: int


@dataclasses.dataclass
class Order:
    item: str
    places: tuple[int, ...]


@dataclasses.dataclass
class Parcel:
    order: Order
    weight: decimal.Decimal


@dataclasses.dataclass
class Unfinished:
    never_set: int = dataclasses.field(init=False)


class Text(str):
    __slots__ = ()


class Number(float):
    pass


class Blob(bytes):
    pass


class Row(list[Any]):
    pass


class Tags(set[Any]):
    pass


class Opaque:
    pass


class Grudging(dict[str, Any]):
    """A dict that cannot be read."""

    def __iter__(self) -> Iterator[str]:
        raise LookupError("the lender is closed")

    def keys(self) -> Any:
        return iter(self)


class Recursing(dict[str, Any]):
    """A dict that packs something else while it is itself packed."""

    def __iter__(self) -> Iterator[str]:
        assert unpack(pack({"inner": (1, {2})})) == {"inner": (1, {2})}
        return super().__iter__()

    def keys(self) -> Any:
        return list(self)


def same(value: Any) -> Any:
    return unpack(pack(value))


def assert_same(value: Any) -> None:
    again = same(value)
    assert again == value
    assert type(again) is type(value)


def nested_in(wrap: Callable[[Any], Any], times: int, core: Any = 1) -> Any:
    value = core
    for _ in range(times):
        value = wrap(value)
    return value


# What arrives as it left


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        False,
        0,
        -1,
        1.5,
        float("inf"),
        -0.0,
        "",
        "Grüße, 世界 \x00 🐐",
        b"",
        b"\x00\xff",
        [],
        [1, [2, [3]]],
        {},
        {"a": 1, "b": {"c": None}},
        {1: "one", None: 0, b"k": 1.5, False: []},
        {(1, "a"): "tuples as keys", frozenset({1}): 2, SOME_UUID: 3, NOON: 4},
        (),
        (1, "a"),
        ((), ((1,), [(2,)])),
        set(),
        {1, "a", (2, 3)},
        frozenset(),
        frozenset({frozenset({1}), (2,)}),
        NOON,
        NOON.replace(tzinfo=None),
        NOON.replace(tzinfo=dt.timezone(dt.timedelta(hours=-3, minutes=-30))),
        dt.datetime.min.replace(tzinfo=dt.UTC),
        dt.datetime.max.replace(tzinfo=dt.UTC),
        dt.date(2026, 2, 3),
        dt.date.min,
        dt.time(12, 30, 0, 5),
        dt.time(12, 30, tzinfo=dt.UTC),
        dt.timedelta(days=-1, seconds=5, microseconds=7),
        dt.timedelta.max,
        dt.timedelta.min,
        SOME_UUID,
        decimal.Decimal("1.10"),
        decimal.Decimal("-0E+5"),
        decimal.Decimal("1e999999"),
        decimal.Decimal("Infinity"),
        {"all": [{(dt.date.max, decimal.Decimal(1))}, {"at": (SOME_UUID, None)}]},
    ],
    ids=repr,
)
def test_a_value_arrives_as_the_type_it_left_as(value: object) -> None:
    assert_same(value)
    assert_same([value])
    assert_same((value,))


@pytest.mark.parametrize(
    "value",
    [
        2**63 - 1, 2**63, 2**64 - 1, 2**64, 2**71 - 1, 2**71, 2**4000 + 1,
        -(2**63), -(2**63) - 1, -(2**64), -(2**71), -(2**71) - 1, -(2**4000),
    ],
    ids=lambda value: f"{value:+.3e}" if abs(value) < 10**300 else f"{value.bit_length()} bits",
)  # fmt: skip
def test_integers_of_any_size_arrive(value: int) -> None:
    assert_same(value)


def test_a_tuple_keeps_the_types_within_it() -> None:
    value = (1, ("a", [NOON, (SOME_UUID,)]), {decimal.Decimal(1)})
    again = same(value)
    assert again == value
    assert [type(part) for part in again] == [int, tuple, set]
    assert type(again[1][1][1]) is tuple


def test_values_that_compare_with_nothing_arrive_as_well() -> None:
    assert str(same(float("nan"))) == "nan"
    assert str(same(decimal.Decimal("sNaN123"))) == "sNaN123"


def test_a_moment_in_a_named_zone_arrives_as_the_same_moment() -> None:
    moment = NOON.replace(tzinfo=ZoneInfo("Europe/Berlin"))
    again = same(moment)
    assert again == moment
    assert again.utcoffset() == dt.timedelta(hours=1)


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (Level.HIGH, 9),
        (Bits.A | Bits.B, 3),
        (Mode.FAST, "fast"),
        (Text("text"), "text"),
        (Number(1.5), 1.5),
        (Blob(b"blob"), b"blob"),
        (bytearray(b"bytes"), b"bytes"),
        (memoryview(b"bytes"), b"bytes"),
        (Row([1, (2,)]), [1, (2,)]),
        (Tags({1}), {1}),
        (Point(1, 2), (1, 2)),
        (collections.OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
        (collections.defaultdict(list, a=[1]), {"a": [1]}),
        (collections.Counter("aa"), {"a": 2}),
        (Order("pear", (1, 2)), {"item": "pear", "places": (1, 2)}),
        (
            [Parcel(Order("pear", ()), decimal.Decimal("0.5"))],
            [{"order": {"item": "pear", "places": ()}, "weight": decimal.Decimal("0.5")}],
        ),
        ({Mode.FAST: Level.HIGH}, {"fast": 9}),
        ((Level.HIGH, Order("pear", ())), (9, {"item": "pear", "places": ()})),
    ],
    ids=repr,
)
def test_a_subclass_or_a_dataclass_arrives_as_its_plain_type(value: object, plain: object) -> None:
    again = same(value)
    assert again == plain
    assert type(again) is type(plain)


def test_an_enum_of_integers_beyond_64_bits_arrives_as_its_number() -> None:
    class Mass(enum.IntEnum):
        SUN = 2**100

    again = same(Mass.SUN)
    assert again == 2**100
    assert type(again) is int


def test_the_plain_type_of_a_key_is_the_key() -> None:
    (key,) = same({Text("name"): 1})
    assert type(key) is str


def test_the_timestamp_of_msgpack_arrives_as_a_moment() -> None:
    assert unpack(b"\xd6\xff\x00\x00\x00\x01") == dt.datetime(1970, 1, 1, 0, 0, 1, tzinfo=dt.UTC)
    assert unpack(msgpack.packb(NOON, datetime=True)) == NOON


def test_a_body_may_be_a_view() -> None:
    assert unpack(memoryview(pack((1, {"a": b"b"})))) == (1, {"a": b"b"})


def test_the_documented_extensions_are_those_that_are_sent() -> None:
    values = [
        NOON, SOME_UUID, decimal.Decimal(1), set(), (), 2**64, NOON.date(), NOON.time(), NOON - NOON, frozenset(),
    ]  # fmt: skip
    codes = [msgpack.unpackb(pack(value)).code for value in values]
    assert codes == list(range(1, 11))


# What cannot travel

NOT_PLAIN: list[tuple[Any, str]] = [
    (Opaque(), "'Opaque'"),
    (Opaque, "'type'"),
    (Order, "'type'"),
    (Colour.RED, "'Colour'"),
    (1j, "'complex'"),
    (print, "'builtin_function_or_method'"),
    (range(3), "'range'"),
    (collections.deque(), "'deque'"),
    (ValueError("no"), "'ValueError'"),
    ([1, {"a": (2, [Opaque()])}], "'Opaque'"),
    ({Opaque(): 1}, "'Opaque'"),
    ((Opaque(),), "'Opaque'"),
    ({Opaque()}, "'Opaque'"),
    (Order("pear", (Opaque(),)), "'Opaque'"),  # type: ignore[arg-type]
    ("\ud800", "surrogates not allowed"),
    (memoryview(b"abcd")[::2], "not C-contiguous"),
    (2 ** (8 * 64 * 1024), "an integer of 65537 bytes cannot travel, at most 65536"),
    (Unfinished(), "never_set"),
    (Grudging(a=1), "the lender is closed"),
]


@pytest.mark.parametrize(("value", "why"), NOT_PLAIN, ids=[why for _, why in NOT_PLAIN])
def test_what_cannot_travel_is_named(value: Any, why: str) -> None:
    with pytest.raises(BadArguments, match=why) as sent:
        pack_arguments([1, value], {})
    assert sent.value.started is False
    with pytest.raises(BadArguments, match=why):
        pack_arguments([], {"name": value})
    with pytest.raises(ResultNotSerializable, match=why) as returned:
        pack_result(value)
    assert returned.value.started is True


def test_the_largest_integer_that_travels_has_64_kib() -> None:
    assert_same(2 ** (8 * 64 * 1024 - 1) - 1)
    assert_same(-(2 ** (8 * 64 * 1024 - 1)) + 1)


@pytest.mark.parametrize(
    "wrap",
    [
        pytest.param(lambda value: (value,), id="tuples"),
        pytest.param(lambda value: [value], id="lists"),
        pytest.param(lambda value: {"a": value}, id="maps"),
        pytest.param(lambda value: frozenset({value}), id="frozen sets"),
        pytest.param(lambda value: [(value,)], id="tuples in lists"),
    ],
)
def test_what_is_nested_too_deep_is_refused_and_says_so(wrap: Callable[[Any], Any]) -> None:
    for times in (1100, 20_000):
        value = nested_in(wrap, times)
        with pytest.raises(BadArguments, match="nested too deep"):
            pack_arguments([value], {})
        with pytest.raises(ResultNotSerializable, match="nested too deep"):
            pack_result(value)


def test_what_holds_itself_is_refused() -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(ResultNotSerializable, match="nested too deep"):
        pack_result(endless)
    endless[0] = (endless,)
    with pytest.raises(ResultNotSerializable, match="nested too deep"):
        pack_result(endless)


def test_whatever_depth_is_sent_can_be_received() -> None:
    body = pack(nested_in(lambda value: [value], 1024))
    assert pack(unpack(body)) == body
    assert_same(nested_in(lambda value: (value,), DEEPEST))
    assert_same(nested_in(lambda value: frozenset({value}), DEEPEST))
    with pytest.raises(RecursionError):
        pack(nested_in(lambda value: (value,), DEEPEST + 1))


# The packer stays usable


@pytest.mark.parametrize(
    "value",
    [
        pytest.param([1, [2, "x" * 1000, Opaque()]], id="in a list"),
        pytest.param({"a": "x" * 1000, "b": Opaque()}, id="in a map"),
        pytest.param([1, (2, ("x" * 1000, Opaque()))], id="in a tuple"),
        pytest.param([1, {("x" * 1000, Opaque())}], id="in a set"),
        pytest.param(["x" * 1000, "\ud800"], id="text"),
        pytest.param([1, nested_in(lambda value: [value], 1100)], id="depth"),
        pytest.param([1, nested_in(lambda value: (value,), 600)], id="depth of tuples"),
        pytest.param([1, 2**600_000], id="size"),
        pytest.param([1, Grudging(a=1)], id="code of the value's own"),
    ],
)
def test_an_error_in_the_middle_of_a_value_leaves_nothing_behind(value: Any) -> None:
    before = pack([1, (2, {3})])
    for _ in range(3):
        with pytest.raises(ResultNotSerializable):
            pack_result(value)
        assert pack([1, (2, {3})]) == before


def test_a_value_may_pack_another_while_it_is_packed() -> None:
    assert same([1, Recursing(a=(1, 2)), "after"]) == [1, {"a": (1, 2)}, "after"]
    assert same((1, Recursing(a=(1, 2)), "after")) == (1, {"a": (1, 2)}, "after")


@pytest.fixture
def eager_threads() -> Iterator[None]:
    """Threads take turns as often as they can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("eager_threads")
def test_threads_that_pack_at_a_time_do_not_mix_their_values() -> None:
    wrong: list[Any] = []

    def pack_own(number: int) -> None:
        value = [[number, {1, 2}, (number, "x" * 10)] for _ in range(20)]
        expected = msgpack.unpackb(pack(value))
        for _ in range(200):
            packed = pack(value)
            try:
                got = msgpack.unpackb(packed)
            except ValueError as error:
                got = error
            if got != expected:
                wrong.append(got)

    threads = [threading.Thread(target=pack_own, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


# Arguments


@pytest.mark.parametrize(
    ("args", "kwargs", "plain"),
    [
        ((), {}, [[]]),
        ((1, "a"), {}, [[1, "a"]]),
        ([1], {"b": 2}, [[1], {"b": 2}]),
        ((), {"b": None}, [[], {"b": None}]),
    ],
)
def test_arguments_are_an_array_and_a_map_only_if_there_are_names(
    args: Any, kwargs: dict[str, Any], plain: object
) -> None:
    body = pack_arguments(args, kwargs)
    assert msgpack.unpackb(body) == plain
    assert unpack_arguments(body) == (list(args), kwargs)


def test_arguments_keep_their_types() -> None:
    assert unpack_arguments(pack_arguments([(1,)], {"at": NOON})) == ([(1,)], {"at": NOON})


@pytest.mark.parametrize(
    "value",
    [
        None,
        1,
        "text",
        [],
        {},
        {"a": 1},
        [1],
        [{}],
        [(1,)],
        ([1],),
        [[1], []],
        [[1], None],
        [[1], {1: 2}],
        [[1], {b"a": 2}],
        [1, {}],
        [[1], {}, {}],
    ],
    ids=repr,
)
def test_other_shapes_are_no_arguments(value: object) -> None:
    with pytest.raises(BadArguments, match=r"arguments are \[\[positional"):
        unpack_arguments(pack(value))


# Malformed bytes


def ext(code: int, content: bytes) -> bytes:
    return b"\xc9" + struct.pack(">Ib", len(content), code) + content


def nested_ext(code: int, times: int) -> bytes:
    body = b"\x90"
    for _ in range(times):
        body = b"\x91" + ext(code, body)
    return body


MALFORMED = [
    pytest.param(b"", id="nothing"),
    pytest.param(b"\xc1", id="a byte that msgpack never uses"),
    pytest.param(b"\x93\x01", id="cut"),
    pytest.param(b"\x01\x02", id="two values"),
    pytest.param(b"\xa4\xff\xfe\xfd\xfc", id="text that is not UTF-8"),
    pytest.param(b"\x91" * 100_000, id="depth of arrays"),
    pytest.param(b"\x81\x01" * 100_000, id="depth of maps"),
    pytest.param(nested_ext(5, DEEPEST + 1), id="depth of tuples by one"),
    pytest.param(nested_ext(5, 5000), id="depth of tuples"),
    pytest.param(nested_ext(10, 5000), id="depth of frozen sets"),
    pytest.param(b"\xdd\xff\xff\xff\xff", id="length of an array"),
    pytest.param(b"\xdf\xff\xff\xff\xff", id="length of a map"),
    pytest.param(b"\xc6\xff\xff\xff\xff", id="length of bytes"),
    pytest.param(b"\xc9\xff\xff\xff\xff\x05", id="length of an extension"),
    pytest.param(b"\x81\x90\x01", id="a list as a key"),
    pytest.param(b"\x81" + ext(4, b"\x90") + b"\x01", id="a set as a key"),
    *(pytest.param(ext(code, b"\x90"), id=f"extension {code}") for code in (0, 11, 127, -2, -128)),
    pytest.param(b"\xc7\x00\xff", id="an empty timestamp"),
    pytest.param(b"\xc7\x0c\xff" + b"\x7f" * 12, id="a timestamp of too many nanoseconds"),
    pytest.param(b"\xc7\x0c\xff\x00\x00\x00\x00" + b"\x7f" * 8, id="a timestamp beyond all years"),
    pytest.param(ext(1, b""), id="no moment"),
    pytest.param(ext(1, b"2026-02-30T00:00:00"), id="a moment that never was"),
    pytest.param(ext(1, b"noon"), id="a moment in words"),
    pytest.param(ext(1, b"\xff\xfe"), id="a moment that is not text"),
    pytest.param(ext(2, b"x" * 15), id="a UUID too short"),
    pytest.param(ext(3, b""), id="no decimal"),
    pytest.param(ext(3, b"1.1.1"), id="a decimal of two points"),
    pytest.param(ext(3, b"\xff"), id="a decimal that is not text"),
    pytest.param(ext(3, b"1e99999999999999999999"), id="a decimal beyond its exponent"),
    pytest.param(ext(4, b"\x91\x90"), id="a set of a list"),
    pytest.param(ext(4, b"\x91\x80"), id="a set of a map"),
    pytest.param(ext(10, b"\x91" + ext(4, b"\x90")), id="a frozen set of a set"),
    *(pytest.param(ext(code, b"\xa3abc"), id=f"text in extension {code}") for code in (4, 5, 9, 10)),
    pytest.param(ext(5, b""), id="nothing in a tuple"),
    pytest.param(ext(5, b"\x80"), id="a map in a tuple"),
    pytest.param(ext(5, b"\x90\x90"), id="two arrays in a tuple"),
    pytest.param(ext(6, b"\x01" * (64 * 1024 + 1)), id="an integer too large"),
    pytest.param(ext(7, b"2026-13-01"), id="a date that never was"),
    pytest.param(ext(8, b"25:00"), id="a time that never is"),
    pytest.param(ext(9, b"\x92\x01\x02"), id="a length of two parts"),
    pytest.param(ext(9, b"\x93\x01\x02\xa1x"), id="a length of text"),
    pytest.param(ext(9, b"\x93\xce\xff\xff\xff\xff\x00\x00"), id="a length beyond all years"),
    pytest.param(ext(9, b"\x93\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00\x00\x00"), id="a length that is no number"),
]


@pytest.mark.parametrize("body", MALFORMED)
def test_malformed_bytes_are_a_value_error_and_nothing_else(body: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # the texts are msgpack's; that nothing else comes counts
        unpack(body)
    with pytest.raises(BadArguments, match="cannot be decoded"):
        unpack_arguments(body)
    failure = unpack_failure(body)
    assert (failure.type, failure.mesh) == ("ProtocolError", True)


def test_a_malformed_value_deep_within_spoils_its_body() -> None:
    for code in (5, 4, 10):
        with pytest.raises(ValueError, match="unknown extension type 42"):
            unpack(b"\x91" + ext(code, b"\x91" + ext(42, b"")))


def test_an_extension_as_deep_as_allowed_is_opened() -> None:
    assert unpack(nested_ext(5, DEEPEST)) == [nested_in(lambda value: (value,), DEEPEST - 1, ())]


def test_a_decimal_of_a_huge_exponent_costs_nothing() -> None:
    assert unpack(ext(3, b"1e999999999")) == decimal.Decimal("1e999999999")


# Results and failures


def test_a_result_is_its_value() -> None:
    assert pack_result((1, "a")) == pack((1, "a"))
    assert pack_result(None) == b"\xc0"


def told(failure: Failure) -> tuple[Any, ...]:
    return (
        failure.type, failure.message, failure.traceback, failure.args, failure.mesh, failure.started,
    )  # fmt: skip


@pytest.mark.parametrize(
    "failure",
    [
        Failure("ValueError", "no"),
        Failure("ValueError", "no", traceback="Traceback …", args=("no",)),
        Failure("KeyError", "'x'", args=("x",)),
        Failure("OSError", "[Errno 2] gone", args=(2, "gone", None, (NOON, {1}))),
        Failure("JobTimeout", "30 s are up", mesh=True, started=False),
        Failure("", "", args=()),
    ],
    ids=lambda failure: failure.type,
)
def test_a_failure_arrives_as_it_left(failure: Failure) -> None:
    assert told(unpack_failure(pack_failure(failure))) == told(failure)


def test_a_failure_says_only_what_applies() -> None:
    assert msgpack.unpackb(pack_failure(Failure("ValueError", "no"))) == {
        "type": "ValueError",
        "message": "no",
    }
    assert msgpack.unpackb(pack_failure(Failure("JobLost", "gone", mesh=True, started=False))) == {
        "type": "JobLost",
        "message": "gone",
        "mesh": True,
        "started": False,
    }


@pytest.mark.parametrize(
    "args",
    [
        pytest.param((Opaque(),), id="no plain values"),
        pytest.param((ValueError("inner"),), id="an exception"),
        pytest.param(("\ud800",), id="no text"),
        pytest.param((nested_in(lambda value: (value,), 600),), id="too deep"),
        pytest.param((2**600_000,), id="too large a number"),
        pytest.param(("x" * 4096,), id="too large"),
        pytest.param((memoryview(b"abcd")[::2],), id="no plain buffer"),
        pytest.param((Grudging(a=1),), id="code of the value's own"),
    ],
)
def test_arguments_of_an_exception_that_cannot_travel_stay_behind(args: tuple[Any, ...]) -> None:
    failure = unpack_failure(pack_failure(Failure("ValueError", "no", args=args)))
    assert told(failure) == ("ValueError", "no", "", None, False, True)


def test_arguments_of_an_exception_just_small_enough_travel() -> None:
    args = ("x" * (4096 - 10),)
    assert 4090 < len(pack(args)) <= 4096
    assert unpack_failure(pack_failure(Failure("ValueError", "no", args=args))).args == args


def test_a_message_about_an_undecodable_file_name_travels_with_an_escape() -> None:
    failure = Failure("FileNotFoundError", "no \udcff.txt", traceback="  open('\udcff.txt')", args=(2, "\udcff"))
    again = unpack_failure(pack_failure(failure))
    assert again.message == "no \\udcff.txt"
    assert again.traceback == "  open('\\udcff.txt')"
    assert again.args is None


@pytest.mark.parametrize(
    "body",
    [
        None,
        1,
        "text",
        [],
        (),
        {},
        NOON,
        {"type": "ValueError"},
        {"message": "no"},
        {"type": 1, "message": "no"},
        {"type": "ValueError", "message": None},
        pytest.param(
            {"type": "ValueError", "message": nested_in(lambda value: [value], 500)},
            id="a message that is nested deep",
        ),
        pytest.param({"type": "ValueError", "message": 10**5000}, id="a message that is a huge number"),
        {"type": "ValueError", "message": "no", "traceback": ["…"]},
    ],
    ids=repr,
)
def test_a_malformed_failure_is_a_failure_all_the_same(body: object) -> None:
    failure = unpack_failure(pack(body))
    assert told(failure) == ("ProtocolError", "the node sent a malformed failure", "", None, True, True)


def test_what_a_failure_need_not_say_is_left_aside_where_it_is_odd() -> None:
    body = {"type": "ValueError", "message": "no", "args": ["no"], "mesh": 1, "started": 0, "later": True}
    assert told(unpack_failure(pack(body))) == ("ValueError", "no", "", None, False, True)


def test_a_failure_makes_the_whole_way_to_the_exception() -> None:
    raised = OSError(28, "No space left on device")
    failure = Failure("OSError", str(raised), traceback="Traceback …", args=raised.args)
    error = unpack_failure(pack_failure(failure)).to_exception()
    assert isinstance(error, OSError)
    assert error.errno == 28
    failure = Failure("JobTimeout", "30 s are up", mesh=True, started=False)
    error = unpack_failure(pack_failure(failure)).to_exception()
    assert isinstance(error, JobTimeout)
    assert error.started is False
