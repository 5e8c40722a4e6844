"""The same seed makes the same input, and what it makes is worth its time: neither all rubbish nor all well-formed."""

import json
import random
from collections.abc import Callable
from typing import Any

import pytest

from mesh.errors import ProtocolError
from mesh.wire.codec import Oddities, decode_client
from meshnode.core import text
from meshnode.core.envelope import BadRequest
from tests.fuzz.corpus import FOLDER, entries
from tests.fuzz.inputs import BridgeLines, FrontMessages, RawBytes, owed

NAMES = ["front", "bridge", "tcp_front", "tcp_bridge"]


def made(name: str, seed: int, count: int) -> list[Any]:
    rng = random.Random(seed)
    makers: dict[str, Callable[[], Any]] = {
        "front": FrontMessages(rng, epoch=b"an epoch", stamp=7).next,
        "bridge": BridgeLines(rng).next,
        "tcp_front": RawBytes(rng, "tcp_front").next,
        "tcp_bridge": RawBytes(rng, "tcp_bridge").next,
    }
    return [makers[name]() for _ in range(count)]


def test_the_corpus_is_what_is_in_its_folder() -> None:
    assert sorted(path.stem for path in FOLDER.iterdir()) == sorted(NAMES)
    assert all(len(entries(name)) >= 9 for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_one_seed_makes_the_same_and_another_something_else(name: str) -> None:
    assert made(name, 1, 200) == made(name, 1, 200)
    assert made(name, 1, 200) != made(name, 2, 200)


def test_of_messages_some_are_whole_some_lack_items_and_some_are_none() -> None:
    whole = partly = none = 0
    for frames in made("front", 1, 3000):
        oddities = Oddities()
        try:
            message = decode_client(frames, oddities)
        except ProtocolError:
            none += 1
            continue
        if oddities.malformed or oddities.unknown:
            partly += 1
        elif message.items:
            whole += 1
    assert min(whole, partly, none) > 250


def test_of_lines_some_are_requests_and_some_are_none() -> None:
    read = [text.parse(line) for line in made("bridge", 1, 3000) if line]
    wrong = sum(isinstance(request, BadRequest) for request in read)
    assert 600 < wrong < len(read) - 600


def test_an_answer_is_owed_for_each_line_that_says_anything() -> None:
    assert owed(b"a\nb\r\n\r\n\n\xef\xbb\xbf\n\xef\xbb\xbf{}\n\x00\nrest") == 4
    assert owed(json.dumps("\n").encode()) == 0
