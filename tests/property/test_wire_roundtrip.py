"""Whatever is sent arrives: messages equal, values equal and of the type they left as."""

import datetime as dt
import decimal
import uuid
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.errors import Failure
from mesh.wire.codec import OUT_OF_BAND, Oddities, decode_client, decode_node, encode_client, encode_node
from mesh.wire.messages import (
    About,
    Accepted,
    Answer,
    Bye,
    Cancel,
    ClientMessage,
    Drain,
    Failed,
    Hello,
    Lost,
    NodeMessage,
    Operate,
    Options,
    Parameter,
    Ping,
    Pong,
    Refuse,
    Reject,
    Result,
    Started,
    Submit,
    TaskSpec,
    Welcome,
)
from mesh.wire.payload import (
    pack,
    pack_arguments,
    pack_failure,
    pack_result,
    unpack,
    unpack_arguments,
    unpack_failure,
)

WIRE = settings(deadline=None, max_examples=150)

# Messages

counts = st.integers(0, 2**53)
attempts = st.integers(1, 2**31)
ids = st.binary(min_size=16, max_size=16)
epochs = st.sampled_from([b"", b"epoch-01"])
reasons = st.text(max_size=32)
texts = st.text(max_size=60)
task_names = st.text(min_size=1, max_size=60)
priorities = st.integers(0, 9)
bodies = st.binary(max_size=60) | st.integers(OUT_OF_BAND - 1, OUT_OF_BAND + 1).map(bytes)

submits = st.builds(
    Submit,
    ids,
    attempts,
    task_names,
    st.integers(0, 1),
    st.none() | counts,
    st.none() | st.builds(Options, priorities, st.booleans()),
    bodies,
)
hellos = st.builds(
    Hello, st.just("mesh"), st.integers(0, 99), st.integers(0, 99), st.text(max_size=63), st.text(max_size=90)
)
client_items = st.one_of(
    submits,
    submits,
    st.builds(Cancel, ids),
    st.builds(Ping, counts),
    hellos,
    st.builds(Bye),
    st.builds(Operate, counts, st.text(min_size=1, max_size=32), st.binary(max_size=60)),
)
client_messages = st.builds(ClientMessage, epochs, counts, st.lists(client_items, max_size=8))

specs = st.builds(
    TaskSpec,
    task_names,
    st.lists(st.builds(Parameter, texts, st.integers(0, 4), st.booleans()), max_size=3),
    texts,
    texts,
    st.booleans(),
    st.booleans(),
    st.none() | st.floats(allow_nan=False),
    priorities,
    texts,
)
abouts = st.builds(
    About,
    st.text(min_size=32, max_size=32),
    epochs,
    texts,
    texts,
    counts,
    counts,
    counts,
    st.lists(specs, max_size=3),
)
node_items = st.one_of(
    st.builds(Result, ids, attempts, bodies),
    st.builds(Failed, ids, attempts, st.binary(max_size=60)),
    st.builds(Accepted, st.lists(ids, max_size=4)),
    st.builds(Started, st.lists(ids, max_size=4)),
    st.builds(Reject, ids, attempts, reasons, texts),
    st.builds(Lost, ids, attempts, reasons, st.booleans(), texts),
    st.builds(Pong, counts),
    st.builds(Welcome, st.integers(0, 99), abouts),
    st.builds(Refuse, reasons, texts),
    st.builds(Drain),
    st.builds(Bye),
    st.builds(Answer, counts, st.booleans(), st.binary(max_size=60)),
)
node_messages = st.builds(NodeMessage, counts, counts, counts, counts, counts, st.lists(node_items, max_size=8))


@WIRE
@given(client_messages)
def test_a_message_from_a_client_arrives_as_it_left(message: ClientMessage) -> None:
    oddities = Oddities()
    frames = encode_client(message)
    assert decode_client(frames, oddities) == message
    assert decode_client([memoryview(frame) for frame in frames], oddities) == message
    assert (oddities.unknown, oddities.malformed) == (0, 0)
    assert encode_client(decode_client(frames, oddities)) == frames


@WIRE
@given(node_messages)
def test_a_message_from_a_node_arrives_as_it_left(message: NodeMessage) -> None:
    oddities = Oddities()
    frames = encode_node(message)
    assert decode_node(frames, oddities) == message
    assert decode_node([memoryview(frame) for frame in frames], oddities) == message
    assert (oddities.unknown, oddities.malformed) == (0, 0)
    assert encode_node(decode_node(frames, oddities)) == frames


# Values

offsets = st.integers(-1439, 1439).map(lambda minutes: dt.timezone(dt.timedelta(minutes=minutes)))
zones = st.none() | offsets
leaves: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(2**700), 2**700),
    st.floats(allow_nan=False),
    st.text(max_size=20),
    st.binary(max_size=20),
    st.datetimes(timezones=zones).map(lambda moment: moment.replace(fold=0)),
    st.dates(),
    st.times(timezones=zones).map(lambda time: time.replace(fold=0)),
    st.timedeltas(),
    st.uuids(),
    st.decimals(allow_nan=False),
)
keys = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3).map(tuple) | st.frozensets(inner, max_size=3) | st.tuples(inner, inner),
    max_leaves=4,
)
values: st.SearchStrategy[Any] = st.recursive(
    leaves | keys,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(keys, inner, max_size=4),
        st.sets(keys, max_size=4),
        st.frozensets(keys, max_size=4),
    ),
    max_leaves=12,
)


def shape(value: Any) -> Any:
    """A value with the type of each of its parts, so that 1, True and Decimal(1) differ."""
    match value:
        case list() | tuple():
            return type(value), tuple(shape(part) for part in value)
        case set() | frozenset():
            return type(value), frozenset(shape(part) for part in value)
        case dict():
            return dict, tuple((shape(key), shape(part)) for key, part in value.items())
        case _:
            return type(value), repr(value)


@WIRE
@given(values)
def test_a_value_arrives_equal_and_of_its_type(value: Any) -> None:
    again = unpack(pack(value))
    assert again == value
    assert shape(again) == shape(value)
    assert shape(unpack(memoryview(pack_result(value)))) == shape(value)


def test_shape_tells_values_apart_that_compare_equal() -> None:
    alike = [1, True, 1.0, decimal.Decimal(1), decimal.Decimal("1.0")]
    assert len({shape(value) for value in alike}) == len(alike)
    assert shape([]) != shape(())
    assert shape(uuid.UUID(int=1)) == shape(uuid.UUID(int=1))


@WIRE
@given(st.lists(values, max_size=4), st.dictionaries(st.text(max_size=10), values, max_size=4))
def test_arguments_arrive_as_they_were_given(args: list[Any], kwargs: dict[str, Any]) -> None:
    again = unpack_arguments(pack_arguments(args, kwargs))
    assert shape(again) == shape((args, kwargs))


failures = st.builds(
    Failure,
    texts,
    texts,
    traceback=texts,
    args=st.none() | st.lists(values, max_size=3).map(tuple),
    mesh=st.booleans(),
    started=st.booleans(),
)


@WIRE
@given(failures)
def test_a_failure_arrives_as_it_left_and_becomes_an_exception(failure: Failure) -> None:
    again = unpack_failure(pack_failure(failure))
    for name in Failure.__slots__:
        assert shape(getattr(again, name)) == shape(getattr(failure, name))
    assert isinstance(again.to_exception(), Exception)
