"""What `docs/protocol.md` says is what the code does: golden frames, types, reasons, keys and limits."""

import datetime as dt
import decimal
import json
import re
import uuid
from pathlib import Path
from typing import Any, NamedTuple

import msgpack
import msgspec
import pytest

from mesh.wire import codec, messages, payload
from mesh.wire.codec import Buffer, Oddities, decode_client, decode_node, encode_client, encode_node
from mesh.wire.messages import (
    FORM_MSGPACK,
    About,
    ClientItem,
    ClientMessage,
    Failed,
    NodeItem,
    NodeMessage,
    Options,
    Result,
    RetrySpec,
    Submit,
    TaskSpec,
    Welcome,
)

DOCUMENT = (Path(__file__).parents[4] / "docs" / "protocol.md").read_text()

BODY = b"b" * codec.OUT_OF_BAND
"""Stands for the body that a golden header names as frame 1; as large as the encoder sends apart."""


class Golden(NamedTuple):
    """A golden line: who says it, its header, and what the document says about it."""

    speaker: str
    header: bytes
    text: str


class Row(NamedTuple):
    """A row of a table of item types."""

    type: int
    name: str
    elements: str


def section(title: str) -> str:
    """The text below a heading, up to the next one of any level."""
    _, _, rest = DOCUMENT.partition(f"\n{title}\n")
    assert rest, f"the document has no heading {title!r}"
    return re.split(r"^#+ ", rest, maxsplit=1, flags=re.MULTILINE)[0]


def table(text: str) -> list[list[str]]:
    """The rows of the first table in a text, without its head and rule."""
    found = re.search(r"(?:^\|.*\n)+", text, flags=re.MULTILINE)
    assert found, "the text has no table"
    return [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in found[0].splitlines()[2:]]


def golden_lines() -> list[Golden]:
    blocks = re.findall(r"^```golden\n(.*?)^```$", DOCUMENT, flags=re.MULTILINE | re.DOTALL)
    assert len(blocks) == 1
    lines = []
    for line in blocks[0].splitlines():
        speaker, header, text = line.split(" ", 2)
        lines.append(Golden(speaker, bytes.fromhex(header), text))
    return lines


def items_from(speaker: str) -> list[Row]:
    return [Row(int(kind), name, text) for kind, name, text in table(section(f"### From a {speaker}"))]


def in_use(rows: list[Row]) -> list[Row]:
    return [row for row in rows if "*kept free" not in row.elements]


def decoded(golden: Golden) -> tuple[ClientMessage | NodeMessage, list[Buffer]]:
    """A golden header as a message, and that message as frames again; nothing may be odd about it."""
    oddities = Oddities()
    message: ClientMessage | NodeMessage
    match golden.speaker:
        case "client":
            message = decode_client([golden.header, BODY], oddities)
            frames = encode_client(message)
        case "node":
            message = decode_node([golden.header, BODY], oddities)
            frames = encode_node(message)
        case _:
            pytest.fail(f"neither client nor node: {golden.speaker}")
    assert (oddities.unknown, oddities.malformed) == (0, 0)
    return message, frames


def names(text: str) -> list[str]:
    """The words in backticks."""
    return re.findall(r"`([a-z_]+)`", text)


GOLDEN = golden_lines()


@pytest.mark.parametrize("golden", GOLDEN, ids=[f"{line.speaker}: {line.text}" for line in GOLDEN])
def test_a_golden_frame_is_decoded_and_encoded_to_the_same_bytes(golden: Golden) -> None:
    message, frames = decoded(golden)
    assert message.items
    assert bytes(frames[0]).hex() == golden.header.hex()
    names_a_frame = "body is frame 1" in golden.text
    assert frames[1:] == ([BODY] if names_a_frame else [])


@pytest.mark.parametrize("golden", GOLDEN, ids=[f"{line.speaker}: {line.text}" for line in GOLDEN])
def test_the_bodies_in_a_golden_frame_can_be_opened(golden: Golden) -> None:
    for item in decoded(golden)[0].items:
        match item:
            case Submit() | Result() if item.body == BODY:
                pass
            case Submit() if item.form == FORM_MSGPACK:
                payload.unpack_arguments(item.body)
            case Submit():
                json.loads(bytes(item.body))
            case Result():
                payload.unpack(item.body)
            case Failed():
                assert not payload.unpack_failure(item.body).mesh
            case _:
                pass


@pytest.mark.parametrize("speaker", ["client", "node"])
def test_every_type_in_use_occurs_in_a_golden_frame(speaker: str) -> None:
    shown = {
        item[0] for golden in GOLDEN if golden.speaker == speaker for item in msgspec.msgpack.decode(golden.header)[-1]
    }
    assert shown == {row.type for row in in_use(items_from(speaker))}


@pytest.mark.parametrize(("speaker", "union"), [("client", ClientItem), ("node", NodeItem)])
def test_the_types_in_the_tables_are_those_of_the_structs(speaker: str, union: Any) -> None:
    written = {(row.type, row.name) for row in in_use(items_from(speaker))}
    coded = {(item.__struct_config__.tag, written_name(item)) for item in union.__args__}
    assert written == coded


def written_name(item: type[msgspec.Struct]) -> str:
    if item is Failed:
        return "FAILURE"
    name = item.__name__
    return name.removesuffix("Large").upper() + (", large" if name.endswith("Large") else "")


@pytest.mark.parametrize(("speaker", "union"), [("client", ClientItem), ("node", NodeItem)])
def test_an_item_has_as_many_elements_as_its_table_lists(speaker: str, union: Any) -> None:
    fields = {item.__struct_config__.tag: len(item.__struct_fields__) for item in union.__args__}
    for row in in_use(items_from(speaker)):
        listed = 0 if row.elements == "–" else len(row.elements.split(", "))
        assert listed == fields[row.type], row.name


def test_a_number_kept_free_is_no_type_of_either_side() -> None:
    every = [*items_from("client"), *items_from("node")]
    free = {row.type for row in every} - {row.type for row in in_use(every)}
    assert free == {20}
    assert not free & {item.__struct_config__.tag for item in (*ClientItem.__args__, *NodeItem.__args__)}


def test_the_fields_of_a_frame_are_those_of_the_messages() -> None:
    text = section("## Frames")
    for speaker, message in (("client", ClientMessage), ("node", NodeMessage)):
        (listed,) = re.findall(rf"from a {speaker}: +\[(.*)\]", text)
        assert tuple(listed.split(", ")) == message.__struct_fields__
    listed_fields = {row[0].strip("`") for row in table(text)}
    assert listed_fields == {*ClientMessage.__struct_fields__, *NodeMessage.__struct_fields__}


def test_the_reasons_in_the_document_are_the_constants() -> None:
    flat = " ".join(section("### From a node").split())

    def reasons(start: str) -> set[str]:
        (listed,) = re.findall(rf"Reasons of {start}(?: \([^)]*\))?: ([^.]*)\.", flat)
        return {word for quoted in re.findall(r"`([^`]*)`", listed) for word in quoted.split()}

    rejects = {
        messages.BUSY, messages.DRAINING, messages.EPOCH, messages.STALE, messages.UNKNOWN_TASK,
        messages.EXPIRED, messages.CANCELLED, messages.TOO_BIG, messages.QUARANTINED, messages.NOT_ALLOWED,
    }  # fmt: skip
    losses = {messages.CRASH, messages.WORKER, messages.GRACE, messages.LIMIT, messages.POISON, messages.CANCELLED}
    refusals = {messages.WRONG_MESH, messages.WRONG_VERSION, messages.BUSY, messages.WRONG_KEY}
    assert reasons("REJECT") == rejects
    assert reasons("LOST") == losses
    assert reasons("REFUSE") == refusals
    constants = {value for name, value in vars(messages).items() if name.isupper() and type(value) is str}
    assert constants == {messages.MAGIC} | rejects | losses | refusals


def test_the_keys_of_the_maps_are_those_of_the_structs() -> None:
    text = section("### From a node")
    (options,) = re.findall(r"^\* \*\*options\*\*:(.*?)^\*", text, flags=re.MULTILINE | re.DOTALL)
    assert names(options) == list(Options.__struct_fields__)
    about = table(text.partition("`about` in WELCOME:")[2])
    keys = {key for row in about for key in names(row[0])}
    assert keys == set(About.__struct_fields__)
    (tasks,) = (row[2] for row in about if row[0] == "`tasks`")
    assert set(names(tasks)) - {"inspect"} == {*TaskSpec.__struct_fields__, *RetrySpec.__struct_fields__}


def test_the_golden_welcome_shows_every_key_that_is_not_optional() -> None:
    welcomes = [item for golden in GOLDEN for item in decoded(golden)[0].items if isinstance(item, Welcome)]
    assert len(welcomes) == 1
    assert [task.name for task in welcomes[0].about.tasks] == ["add"]


def test_the_limits_in_the_document_are_those_of_the_code() -> None:
    assert f"at most {codec.HEADER_LIMIT // 2**20} MiB" in section("## Transport")
    assert f"at most {codec.FRAME_LIMIT:,} frames" in section("## Transport")
    assert f"at most {payload._BIGINT_BYTES // 2**10} KiB" in section("## Bodies")
    (version,) = re.findall(r"^# The wire protocol, version (\d+)$", DOCUMENT, flags=re.MULTILINE)
    assert int(version) == messages.VERSIONS[1]


def test_the_extension_codes_in_the_document_are_those_that_are_sent() -> None:
    values = {
        "date and time": dt.datetime.min.replace(tzinfo=dt.UTC),
        "UUID": uuid.UUID(int=0),
        "decimal": decimal.Decimal(0),
        "set": set[int](),
        "frozen set": frozenset[int](),
        "tuple": (),
        "integer beyond 64 bits": 2**64,
        "date": dt.date.min,
        "time": dt.time.min,
        "length of time": dt.timedelta(0),
    }
    listed = {
        name: int(code)
        for codes, kinds, _ in table(section("## Bodies"))
        for code, name in zip(codes.split(", "), kinds.split(", "), strict=True)
    }
    assert listed == {name: msgpack.unpackb(payload.pack(value)).code for name, value in values.items()}
