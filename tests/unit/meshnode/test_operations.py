"""What peers ask a node to tell or do: read, bounded, answered."""

import asyncio

import msgspec
import pytest

from mesh.core.grants import ANYBODY
from mesh.wire.messages import Answer as AnswerItem
from mesh.wire.messages import Operate
from mesh.wire.reports import Reach, Report, Wrong, decode_report, decode_wrong
from meshnode.control import Answer, RefusedError, Request
from meshnode.core.held import Owner
from meshnode.core.peers import Peer
from meshnode.operations import MOST, MOST_OF_ONE, OPEN, Operations


class Desk:
    """Operations whose verbs end when the test lets them."""

    def __init__(self) -> None:
        self.asked: list[Request] = []
        self.said: list[tuple[str, AnswerItem]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.wrong: Exception | None = None
        self.operations = Operations(self.answer, say=lambda peer, item: self.said.append((peer.name, item)))

    async def answer(self, request: Request) -> Answer:
        self.asked.append(request)
        await self.gate.wait()
        if self.wrong is not None:
            raise self.wrong
        return Answer(ok=True, reach=Reach(looks=True))

    async def ask(self, verb: str, args: bytes = b"", *, token: int = 1, by: Peer | None = None) -> None:
        self.operations.take(by or peer(1), Operate(token, verb, args))
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    def told(self) -> Wrong:
        (item,) = (item for _, item in self.said)
        assert not item.ok
        return decode_wrong(item.body)


def peer(number: int) -> Peer:
    return Peer(bytes([number]), f"client {number}", Owner(number), 0.0, ANYBODY)


async def test_a_question_is_answered_with_its_token_and_a_report() -> None:
    desk = Desk()
    await desk.ask("reach", token=9)
    ((name, item),) = desk.said
    assert (name, item.token, item.ok) == ("client 1", 9, True)
    assert decode_report(item.body) == Report(reach=Reach(looks=True))


async def test_what_goes_with_a_verb_is_read_and_what_is_not_known_passed_over() -> None:
    desk = Desk()
    await desk.ask("cancel", msgspec.msgpack.encode({"job": "d95f", "force": True, "later": 1, "verb": "stop"}))
    assert desk.asked == [Request("cancel", job="d95f", force=True)]


@pytest.mark.parametrize("verb", ["stop", "listen", "STATUS"])
async def test_a_verb_that_is_not_open_to_the_network_is_refused(verb: str) -> None:
    desk = Desk()
    await desk.ask(verb)
    assert desk.told() == Wrong("Refused", f"{verb!r} is no verb that this node hears from elsewhere")
    assert desk.asked == []


@pytest.mark.parametrize(
    "args", [b"\xc1", b"\x93\x01\x02\x03", msgspec.msgpack.encode({"workers": "many"}), b"\x91" * 9000]
)
async def test_what_cannot_be_read_is_refused(args: bytes) -> None:
    desk = Desk()
    await desk.ask("scale", args)
    assert "what goes with 'scale' cannot be read" in desk.told().message
    assert desk.asked == []


async def test_what_a_verb_refuses_and_what_fails_in_it_is_answered() -> None:
    desk = Desk()
    desk.wrong = RefusedError("this node is starting")
    await desk.ask("drain")
    assert desk.told() == Wrong("Refused", "this node is starting")
    desk.said.clear()
    desk.wrong = ZeroDivisionError("oh")
    await desk.ask("drain")
    assert desk.told() == Wrong("ZeroDivisionError", "the verb failed: oh")


async def test_only_so_many_questions_are_under_way_of_one_and_of_all() -> None:
    desk = Desk()
    desk.gate.clear()
    for _ in range(MOST_OF_ONE + 1):
        await desk.ask("reach", by=peer(1))
    assert desk.told().type == "MeshBusy"
    desk.said.clear()
    for n in range(MOST):
        await desk.ask("reach", by=peer(2 + n // MOST_OF_ONE))
    assert len(desk.asked) == MOST
    assert len(desk.said) == MOST_OF_ONE
    desk.said.clear()
    desk.gate.set()
    await asyncio.sleep(0.01)
    assert len(desk.said) == MOST
    await desk.ask("reach", by=peer(1))
    assert desk.said[-1][1].ok


async def test_what_is_under_way_is_given_up_at_the_end() -> None:
    desk = Desk()
    desk.gate.clear()
    await desk.ask("reload")
    await desk.operations.close()
    await desk.operations.close()
    assert desk.said == []


def test_to_stop_a_node_takes_somebody_on_its_host() -> None:
    assert "stop" not in OPEN
