"""What a seed makes, given to the decoders themselves: each ends in what it promises, and in no other error."""

import random
from contextlib import suppress
from contextvars import copy_context
from typing import Any

import msgpack
import pytest

from mesh.errors import BadArguments, ProtocolError, ResultNotSerializable
from mesh.tasks import Settings, Task
from mesh.wire.codec import Oddities, decode_client, decode_node, encode_client, encode_node
from mesh.wire.messages import (
    FORM_JSON,
    About,
    Accepted,
    Bye,
    Drain,
    Failed,
    Lost,
    NodeItem,
    NodeMessage,
    Pong,
    Refuse,
    Reject,
    Result,
    Started,
    Stranger,
    Submit,
    TaskSpec,
    Unknown,
    Welcome,
)
from mesh.wire.payload import pack, pack_result, unpack, unpack_arguments, unpack_failure
from meshdiscovery.record import BadRecord, Record, flaw, from_txt, from_txt_bytes, to_txt
from meshnode.core import text
from meshnode.core.envelope import BadRequest, Request
from meshnode.core.request import Desk
from meshnode.core.text import Lines
from meshnode.worker.runner import Runner, arguments, json_result
from tests.fuzz.inputs import BridgeLines, FrontMessages
from tests.fuzz.mutate import Mutator, packed
from tests.support.faults import sized

ROUNDS = sized(4_000, 400_000)
JOB = bytes(range(16))
ABOUT = About("0" * 32, b"epoch-01", "web7", "default", 64, 1, 2**24, [TaskSpec("add")])
ITEMS: list[list[NodeItem]] = [
    [Welcome(1, ABOUT), Drain(), Bye(), Stranger(), Refuse("mesh", "another")],
    [Result(JOB, 1, b"\x01"), Failed(JOB, 1, b"\x80", 0.5), Reject(JOB, 1, "busy", "full"), Pong(7)],
    [Lost(JOB, 1, "crash", True, "killed"), Accepted([JOB]), Started([JOB]), Unknown([JOB])],
]
FROM_NODE = [bytes(encode_node(NodeMessage(1, 1, 1, 1, 1500, items))[0]) for items in ITEMS]


def rng_of(name: str, seed: int) -> random.Random:
    return random.Random(f"{seed}/decoders/{name}")


@pytest.fixture(params=range(sized(1, 4)))
def seed(request: pytest.FixtureRequest) -> int:
    number: int = request.param
    return number


def test_a_clients_message_ends_in_a_message_or_a_protocol_error(seed: int) -> None:
    messages = FrontMessages(rng_of("client", seed), epoch=b"epoch-01", stamp=1500)
    for _ in range(ROUNDS):
        with suppress(ProtocolError):
            message = decode_client(messages.next(), Oddities())
            assert decode_client(encode_client(message), Oddities()) == message


def test_a_nodes_message_ends_in_a_message_or_a_protocol_error(seed: int) -> None:
    mutator = Mutator(rng_of("node", seed), spare=FROM_NODE)
    trees = [msgpack.unpackb(header) for header in FROM_NODE]
    for n in range(ROUNDS):
        frame = packed(mutator.tree(mutator.rng.choice(trees))) if n % 2 else mutator.bytes(FROM_NODE[n % 3])
        with suppress(ProtocolError):
            message = decode_node([frame, b"body"][: mutator.rng.randint(1, 2)], Oddities())
            assert repr(decode_node(encode_node(message), Oddities())) == repr(message)


def test_a_body_ends_in_values_or_the_error_that_stands_for_it(seed: int) -> None:
    mutator = Mutator(rng_of("body", seed))
    bodies = [pack([[1, "a", (2, [3.5])], {"name": {b"x", None}}]), pack({"type": "OSError", "message": "no"}), b"\xc0"]
    for n in range(ROUNDS):
        body = packed(mutator.value()) if n % 3 == 0 else mutator.bytes(mutator.rng.choice(bodies))
        with suppress(ValueError):
            value = unpack(body)
            with suppress(ResultNotSerializable):
                pack_result(value)
            with suppress(ResultNotSerializable):
                assert json_result(value).isascii()
        with suppress(BadArguments):
            unpack_arguments(body)
        assert isinstance(unpack_failure(body).to_exception(), Exception)


class NoTasks:
    """A catalogue of one task."""

    tasks: dict[str, Any] = {}  # noqa: RUF012  # what the protocol of catalogues asks for

    def knows(self, task: str) -> TaskSpec | None:
        return TaskSpec("echo", bridge=True) if task == "echo" else None


def echo(value: object = None, *rest: object, **named: object) -> object:
    return value


def test_a_line_ends_in_a_request_or_one_that_is_bad_and_its_arguments_in_an_outcome(seed: int) -> None:
    made = BridgeLines(rng_of("line", seed))
    desk = Desk(NoTasks(), lambda: JOB, draining=False)
    task: Task[..., Any] = Task(echo, "echo", Settings(bridge=True))
    runner = Runner([task])
    for _ in range(ROUNDS):
        line = made.next()
        text.stranger(line)
        request = text.parse(line)
        assert isinstance(request, Request | BadRequest)
        asked = desk.take(line, 1.0, open_tags=())
        assert (asked.answer is None) is (asked.submit is not None)
        desk.plain(line + b"\n", limit=10_000)
        if isinstance(request, Request):
            job = Submit(JOB, 1, "echo", FORM_JSON, None, None, request.args)
            with suppress(BadArguments):
                arguments(task, Submit(JOB, 1, "echo", FORM_JSON, None, None, request.args))
            end = copy_context().run(runner.run, task, job)
            told = bytes(end.body)
            assert told.isascii()
            assert b"\n" not in told


def test_lines_are_the_same_however_the_stream_is_cut(seed: int) -> None:
    rng = rng_of("lines", seed)
    made = BridgeLines(rng)
    for _ in range(ROUNDS // 40):
        stream = b"\n".join(made.next() for _ in range(20)) + b"\n"
        whole = Lines(4000)
        expected = whole.feed(stream)
        cut = Lines(4000)
        found: list[bytes] = []
        at = 0
        while at < len(stream):
            size = rng.choice((1, 2, 7, 100, 5000))
            found += cut.feed(stream[at : at + size])
            at += size
        assert (found, cut.stopped) == (expected, whole.stopped)


def test_an_announcement_ends_in_a_record_without_flaw_or_a_bad_one(seed: int) -> None:
    mutator = Mutator(rng_of("record", seed))
    good = Record("default", "0" * 32, "0" * 16, "web7", 5750, (1, 1), ("192.0.2.1",))
    pairs = {key.encode(): value.encode() for key, value in to_txt(good).items()}
    txt = b"".join(bytes((len(key) + 1 + len(value),)) + key + b"=" + value for key, value in pairs.items())
    addresses = ["192.0.2.1", "::1", "fe80::1%eth0", "", "x", "255.255.255.255", "::ffff:192.0.2.1", "1.2.3.4.5"]
    for _ in range(ROUNDS):
        near = mutator.rng.sample(addresses, mutator.rng.randrange(4))
        damaged = {mutator.bytes(k) if mutator.rng.random() < 0.1 else k: mutator.bytes(v) for k, v in pairs.items()}
        some = {key: damaged[key] if mutator.rng.random() < 0.15 else pairs.get(key, b"") for key in damaged}
        for found in (
            from_txt_bytes(mutator.bytes(txt), port=5750, addresses=near),
            from_txt(some, port=mutator.rng.choice((5750, 0, 65_536)), addresses=near),
        ):
            assert isinstance(found, BadRecord) or flaw(found) is None
