import asyncio
from typing import cast

import pytest
from zeroconf import DNSQuestionType, Zeroconf
from zeroconf.asyncio import AsyncServiceInfo

from meshdiscovery.resolver import Resolver

ZEROCONF = cast("Zeroconf", None)


class FakeInfo:
    """An instance whose question is answered when the test says so."""

    under_way = 0

    def __init__(self, key: str) -> None:
        self.key = key
        self.answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    async def async_request(self, zeroconf: Zeroconf, timeout: float, question_type: DNSQuestionType) -> bool:
        FakeInfo.under_way += 1
        try:
            return await self.answer
        finally:
            FakeInfo.under_way -= 1


class Taken:
    """A resolver and what it has taken so far."""

    def __init__(self) -> None:
        self.keys: list[str] = []
        self.resolver = Resolver(lambda info: self.keys.append(info.key))

    def ask(self, *keys: str) -> list[FakeInfo]:
        infos = [FakeInfo(key) for key in keys]
        for info in infos:
            self.resolver.ask(ZEROCONF, cast("AsyncServiceInfo", info))
        return infos


async def turns() -> None:
    """Let everything happen that is due."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_completed_instance_is_taken_and_an_incomplete_one_not() -> None:
    taken = Taken()
    good, bad = taken.ask("good", "bad")
    good.answer.set_result(True)
    bad.answer.set_result(False)
    await turns()
    assert taken.keys == ["good"]


async def test_an_instance_is_asked_for_once_at_a_time() -> None:
    taken = Taken()
    first, second = taken.ask("one", "one")
    first.answer.set_result(True)
    await turns()
    assert taken.keys == ["one"]
    assert not second.answer.done()
    third = taken.ask("one")[0]
    third.answer.set_result(True)
    await turns()
    assert taken.keys == ["one", "one"]


async def test_questions_under_way_and_waiting_are_bounded() -> None:
    taken = Taken()
    infos = taken.ask(*(f"n{number}" for number in range(600)))
    await turns()
    assert FakeInfo.under_way == 16
    assert taken.resolver.passed_over == 600 - 16 - 512
    infos[3].answer.set_result(False)
    await turns()
    assert FakeInfo.under_way == 16
    await taken.resolver.close()
    assert FakeInfo.under_way == 0
    assert taken.keys == []


async def test_what_said_goodbye_is_not_asked_for_any_more() -> None:
    taken = Taken()
    infos = taken.ask(*(f"n{number}" for number in range(17)))
    await turns()
    taken.resolver.forget("N0")
    taken.resolver.forget("n16")
    taken.resolver.forget("unknown")
    await turns()
    assert infos[0].answer.cancelled()
    assert FakeInfo.under_way == 15
    await taken.resolver.close()


async def test_what_is_forgotten_at_once_can_be_asked_for_again() -> None:
    taken = Taken()
    taken.ask("one")
    taken.resolver.forget("one")
    await turns()
    again = taken.ask("one")[0]
    again.answer.set_result(True)
    await turns()
    assert taken.keys == ["one"]


async def test_a_failing_question_is_logged_and_makes_room(
    caplog: pytest.LogCaptureFixture,
) -> None:
    taken = Taken()
    infos = taken.ask(*(f"n{number}" for number in range(17)))
    infos[0].answer.set_exception(OSError("no network"))
    infos[16].answer.set_result(True)
    await turns()
    assert taken.keys == ["n16"]
    assert "asking for 'n0' failed" in caplog.text
    await taken.resolver.close()
