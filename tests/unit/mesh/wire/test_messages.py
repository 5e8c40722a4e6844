"""What the structs let in: the bounds of each field, and what may be left out."""

import inspect
from typing import Any

import msgspec
import pytest

from mesh.wire import messages
from mesh.wire.messages import (
    About,
    Accepted,
    Answer,
    Bye,
    Cancel,
    ClientItem,
    Drain,
    Failed,
    Hello,
    Keep,
    Lost,
    NodeItem,
    Operate,
    Options,
    Parameter,
    Ping,
    Pong,
    Query,
    Refuse,
    Reject,
    Result,
    ResultLarge,
    Started,
    Stranger,
    Submit,
    SubmitLarge,
    TaskSpec,
    Unknown,
    Welcome,
)

JOB = bytes(range(16))
NODE = "0" * 32
ABOUT = About(NODE, b"epoch-01", "web7", "default", 64, 1, 2**24, [TaskSpec("add")])

EVERY_ITEM: list[tuple[msgspec.Struct, list[Any]]] = [
    (Hello("mesh", 1, 1, "default", "shop"), [1, "mesh", 1, 1, "default", "shop"]),
    (Submit(JOB, 1, "add", 0, None, None, b"b"), [3, JOB, 1, "add", 0, None, None, b"b"]),
    (Submit(JOB, 1, "add", 1, 30, Options(9), b""), [3, JOB, 1, "add", 1, 30, {"priority": 9}, b""]),
    (SubmitLarge(JOB, 1, "add", 0, None, None, 2), [4, JOB, 1, "add", 0, None, None, 2]),
    (Cancel(JOB, 1), [5, JOB, 1]),
    (Query([JOB]), [6, [JOB]]),
    (Ping(7), [7, 7]),
    (Bye(), [8]),
    (Keep(JOB), [9, JOB]),
    (Operate(7, "drain", b"\x80"), [10, 7, "drain", b"\x80"]),
    (Refuse("mesh", "another"), [16, "mesh", "another"]),
    (Pong(7), [17, 7]),
    (Accepted([JOB]), [18, [JOB]]),
    (Started([]), [19, []]),
    (Result(JOB, 1, b"b"), [21, JOB, 1, b"b"]),
    (ResultLarge(JOB, 1, 2), [22, JOB, 1, 2]),
    (Failed(JOB, 1, b"b", 0.5), [23, JOB, 1, b"b", 0.5]),
    (Reject(JOB, 1, "busy", "full"), [24, JOB, 1, "busy", "full"]),
    (Lost(JOB, 1, "crash", True, "killed"), [25, JOB, 1, "crash", True, "killed"]),
    (Drain(), [26]),
    (Stranger(), [27]),
    (Unknown([JOB]), [28, [JOB]]),
    (Answer(7, True, b"\x80"), [29, 7, True, b"\x80"]),
]


@pytest.mark.parametrize(("item", "array"), EVERY_ITEM)
def test_an_item_is_an_array_that_begins_with_its_type(item: msgspec.Struct, array: list[Any]) -> None:
    encoded = msgspec.msgpack.encode(item)
    assert msgspec.msgpack.decode(encoded) == array
    assert msgspec.msgpack.decode(encoded, type=type(item)) == item


def test_every_item_is_shown_above() -> None:
    items = {*ClientItem.__args__, *NodeItem.__args__}
    assert {type(item) for item, _ in EVERY_ITEM} == items - {Welcome}


def test_a_welcome_is_a_version_and_a_map() -> None:
    encoded = msgspec.msgpack.encode(Welcome(1, ABOUT))
    assert msgspec.msgpack.decode(encoded) == [
        2,
        1,
        {
            "node": NODE,
            "epoch": b"epoch-01",
            "name": "web7",
            "mesh": "default",
            "workers": 64,
            "concurrency": 1,
            "max_body": 2**24,
            "tasks": [{"name": "add"}],
        },
    ]
    assert msgspec.msgpack.decode(encoded, type=Welcome) == Welcome(1, ABOUT)


def test_a_task_that_says_only_its_name_has_the_usual_rest() -> None:
    spec = msgspec.msgpack.decode(b"\x81\xa4name\xa3add", type=TaskSpec)
    assert spec == TaskSpec("add")
    assert (spec.parameters, spec.signature, spec.timeout, spec.priority) == ([], "()", None, 5)
    assert not spec.is_async
    assert not spec.bridge


def test_a_parameter_is_an_array_and_its_kinds_are_those_of_inspect() -> None:
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(Parameter("a", 1, True))) == ["a", 1, True]
    kinds = [kind.value for kind in inspect._ParameterKind]
    assert kinds == [0, 1, 2, 3, 4]
    for kind in kinds:
        assert msgspec.convert(["a", kind, False], Parameter).kind == kind


def test_options_travel_only_where_they_differ_from_the_usual() -> None:
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(Options())) == {}
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(Options(0, True))) == {
        "priority": 0,
        "forwarded": True,
    }
    assert msgspec.convert({"forwarded": True, "later": 1}, Options) == Options(5, True)


@pytest.mark.parametrize(
    ("array", "cls"),
    [
        ([5, JOB, 2], Cancel),
        ([6, [JOB] * 200], Query),
        ([7, 0], Ping),
        ([7, 2**53], Ping),
        ([3, JOB, 1, "t" * 200, 1, 2**53, {"priority": 0}, b""], Submit),
        ([16, "r" * 32, "t" * 2000], Refuse),
        ([1, "mesh", 0, 9, "m" * 63, "n" * 200], Hello),
    ],
)
def test_a_field_may_be_as_large_as_its_bound(array: list[Any], cls: type[msgspec.Struct]) -> None:
    item = msgspec.msgpack.decode(msgspec.msgpack.encode(array), type=cls)
    assert msgspec.to_builtins(item, builtin_types=[bytes]) == array


@pytest.mark.parametrize(
    ("array", "cls"),
    [
        ([5, JOB[:15]], Cancel),
        ([5, JOB + b"x"], Cancel),
        ([5, JOB, 3], Cancel),
        ([6, [JOB[:15]]], Query),
        ([23, JOB, 1, b"", -0.5], Failed),
        ([7, -1], Ping),
        ([7, 2**53 + 1], Ping),
        ([7, 1.5], Ping),
        ([8, 7], Ping),
        ([3, JOB, 1, "", 0, None, None, b""], Submit),
        ([3, JOB, 1, "t" * 201, 0, None, None, b""], Submit),
        ([3, JOB, 1, "add", 2, None, None, b""], Submit),
        ([3, JOB, 1, "add", 0, None, {"priority": -1}, b""], Submit),
        ([4, JOB, 1, "add", 0, None, None, -1], SubmitLarge),
        ([16, "r" * 33, ""], Refuse),
        ([16, "mesh", "t" * 2001], Refuse),
        ([1, "meshes", 1, 1, "default", "shop"], Hello),
        ([1, "mesh", 1, 1, "default", "n" * 201], Hello),
        ([25, JOB, 1, "crash", None, ""], Lost),
        ([2, 1, {"node": NODE[1:], "epoch": b"", "name": "", "mesh": ""}], Welcome),
    ],
    ids=repr,
)
def test_a_field_beyond_its_bound_is_refused(array: list[Any], cls: type[msgspec.Struct]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.msgpack.decode(msgspec.msgpack.encode(array), type=cls)


def test_the_versions_spoken_are_a_range() -> None:
    lowest, highest = messages.VERSIONS
    assert 1 <= lowest <= highest


def test_items_that_come_by_the_thousand_are_left_to_reference_counting() -> None:
    for cls in (Submit, Result, Failed):
        assert cls.__struct_config__.gc is False
