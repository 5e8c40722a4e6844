"""Whether mDNS works here, tried on loopback; whether addresses can be reached."""

import socket
from contextlib import ExitStack

import pytest

from meshdiscovery import probe as module
from meshdiscovery.addresses import LOOPBACK
from meshdiscovery.probe import Survey, probe, reachable
from meshdiscovery.record import Record
from tests.support.leaks import leak_check  # noqa: F401  # pytest finds it by its name
from tests.support.nodes import free_port


async def test_our_own_question_is_heard_on_loopback() -> None:
    found = {one.address: one for one in await probe()}
    assert (found[LOOPBACK].name, found[LOOPBACK].error, found[LOOPBACK].heard) == ("lo", "", True)


async def test_an_interface_that_is_not_there_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOPBACK", "192.0.2.1")  # for documentation only (RFC 5737): nobody has it
    found = {one.address: one for one in await probe()}
    assert found["192.0.2.1"].error.startswith("cannot listen on UDP 5353: ")
    assert not found["192.0.2.1"].heard


async def test_a_question_that_cannot_be_sent_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_ask", lambda address, token: "Network is unreachable")
    assert {one.error for one in await probe()} == {"Network is unreachable"}


async def test_a_question_that_nobody_hears_is_waited_for_no_longer_than_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_ask", lambda address, token: "")
    monkeypatch.setattr(module, "HEARD_S", 0.05)
    assert {one.heard for one in await probe()} == {False}


async def test_an_address_is_reachable_or_says_why_not() -> None:
    with socket.create_server((LOOPBACK, 0)) as server:
        assert await reachable(LOOPBACK, server.getsockname()[1]) == ""
    assert "refused" in await reachable(LOOPBACK, free_port())
    with socket.socket() as full, ExitStack() as stack:
        full.bind((LOOPBACK, 0))
        full.listen(0)
        for _ in range(8):  # beyond its backlog the kernel answers nobody
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        assert await reachable(LOOPBACK, full.getsockname()[1], timeout=0.1) == "no answer"


def record(number: int, mesh: str) -> Record:
    return Record(mesh, f"{number:032x}", "0" * 16, f"web{number}", 5750, (1, 1), (LOOPBACK,))


def test_a_survey_remembers_the_nodes_of_other_meshes_too() -> None:
    survey = Survey("shop")
    assert len(survey.seen("mdns", record(1, "shop"), 1.0)) == 1
    assert survey.seen("mdns", record(2, "stock"), 1.0) == []
    assert [one.name for one in survey.records()] == ["web1"]
    assert [one.name for one in survey.others.values()] == ["web2"]
