"""Whatever a task returns or raises: a value or a typed error, for each kind of caller; and its worker lives."""

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.clients import connected
from tests.support.leaks import leak_check
from tests.support.nodes import NodeProcess, write_tasks

__all__ = ["leak_check"]

KINDS = """
import datetime, decimal, os, sys, threading, uuid


class Odd:
    pass


class LyingMap(dict):
    def __iter__(self):
        raise OSError("no items")

    items = keys = __len__ = __iter__


class Silent(Exception):
    def __str__(self):
        raise OSError("no text")

    __repr__ = __str__


class Gone(BaseException):
    pass


def deep(levels, kind):
    value = kind()
    for _ in range(levels):
        value = [value] if kind is list else (value,) if kind is tuple else {"a": value}
    return value


def recursive():
    value = []
    value.append(value)
    return value


def recursive_map():
    value = {}
    value["self"] = (value,)
    return value


def raise_(error):
    raise error


RESULTS = {
    "object": Odd,
    "class": lambda: Odd,
    "generator": lambda: (n for n in range(3)),
    "function": lambda: print,
    "module": lambda: os,
    "lock": threading.Lock,
    "file": lambda: sys.stdout,
    "recursive list": recursive,
    "recursive map": recursive_map,
    "deep list": lambda: deep(100_000, list),
    "deep tuple": lambda: deep(100_000, tuple),
    "deep map": lambda: deep(100_000, dict),
    "huge integer": lambda: 1 << 10**7,
    "surrogate": lambda: "\\ud800",
    "complex": lambda: 1j,
    "coroutine": lambda: later(),
    "exception": lambda: ValueError("returned"),
}
JSON_ONLY = {
    "NaN": lambda: float("nan"),
    "infinity": lambda: [float("-inf")],
    "odd keys": lambda: {(1, 2): 3},
}
RAISED = {
    "silent": lambda: raise_(Silent()),
    "gone": lambda: raise_(Gone("x")),
    "exit": lambda: raise_(SystemExit(3)),
    "interrupt": lambda: raise_(KeyboardInterrupt()),
    "stop": lambda: raise_(StopIteration(1)),
    "generator exit": lambda: raise_(GeneratorExit()),
    "group": lambda: raise_(ExceptionGroup("several", [ValueError(1)])),
    "odd arguments": lambda: raise_(ValueError(Odd(), recursive())),
    "surrogate": lambda: raise_(ValueError("\\ud800")),
    "recursion": lambda: raise_(RecursionError()),
    "memory": lambda: raise_(MemoryError()),
    "made up": lambda: raise_(type("A" * 10_000, (Exception,), {})("x")),
}


async def later():
    pass


@mesh.task(bridge=True)
def rich() -> object:
    date = datetime.datetime(2026, 2, 3, 12, tzinfo=datetime.timezone.utc)
    return [b"\\xff", (1, 2), {3}, date, date.date(), uuid.UUID(int=1), decimal.Decimal("1.50"), 10**30, LyingMap(a=1)]


def make(group, name):
    return {"results": RESULTS, "json": JSON_ONLY, "raised": RAISED}[group][name]()


@mesh.task(bridge=True)
def sync(group: str, name: str) -> object:
    return make(group, name)


@mesh.task(bridge=True)
async def coroutine(group: str, name: str) -> object:
    return make(group, name)


@mesh.task(bridge=True)
def names(group: str) -> list[str]:
    return list({"results": RESULTS, "json": JSON_ONLY, "raised": RAISED}[group])


@mesh.task(bridge=True)
def pid() -> int:
    return os.getpid()
"""


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    folder = tmp_path_factory.mktemp("odd")
    write_tasks(folder, KINDS)
    with NodeProcess(folder, "-c", "2", bridge=True) as made:
        yield made
        assert "another starts" not in made.log


async def from_client(node: NodeProcess, task: str, group: str) -> dict[str, str]:
    async with connected(node) as client:
        before = await client.call("pid")
        found: dict[str, str] = {}
        for name in await client.call("names", group):
            try:
                await asyncio.wait_for(client.call(task, group, name), 20)
                found[name] = ""
            except BaseException as error:  # noqa: BLE001  # a task raises what it likes
                found[name] = type(error).__name__
        assert await client.call("pid") == before
        return found


async def from_socket(node: NodeProcess, task: str, group: str) -> dict[str, str]:
    host, _, port = node.bridge.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))

    async def ask(function: str, *args: str) -> object:
        writer.write(json.dumps({"function": function, "args": args}).encode() + b"\n")
        line = await asyncio.wait_for(reader.readline(), 20)
        assert line.isascii()
        answer: object = json.loads(line)
        return answer

    before = await ask("pid")
    names = await ask("names", group)
    assert isinstance(names, list)
    found: dict[str, str] = {}
    for name in names:
        answer = await ask(task, group, name)
        found[name] = answer["error"]["type"] if isinstance(answer, dict) and "error" in answer else ""
    assert await ask("pid") == before
    writer.close()
    await writer.wait_closed()
    return found


@pytest.mark.parametrize("task", ["sync", "coroutine"])
@pytest.mark.parametrize("ask", [from_client, from_socket])
async def test_a_result_that_cannot_travel_is_a_typed_error_and_its_worker_lives(
    node: NodeProcess, ask: Callable[..., Any], task: str
) -> None:
    found = await ask(node, task, "results")
    assert {name: error for name, error in found.items() if error != "ResultNotSerializable"} == {}


@pytest.mark.parametrize("task", ["sync", "coroutine"])
async def test_what_json_has_not_is_a_typed_error_for_sockets_and_a_value_for_clients(
    node: NodeProcess, task: str
) -> None:
    assert {name: error for name, error in (await from_client(node, task, "json")).items() if error} == {}
    found = await from_socket(node, task, "json")
    assert {name: error for name, error in found.items() if error != "ResultNotSerializable"} == {}


@pytest.mark.parametrize("task", ["sync", "coroutine"])
@pytest.mark.parametrize("ask", [from_client, from_socket])
async def test_whatever_a_task_raises_is_told_and_its_worker_lives(
    node: NodeProcess, ask: Callable[..., Any], task: str
) -> None:
    found = await ask(node, task, "raised")
    assert [name for name, error in found.items() if not error] == []


async def test_what_json_can_carry_in_another_form_arrives_in_that(node: NodeProcess) -> None:
    host, _, port = node.bridge.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b'{"function":"rich"}\n')
    assert json.loads(await asyncio.wait_for(reader.readline(), 20)) == [
        "/w==", [1, 2], [3], "2026-02-03T12:00:00Z", "2026-02-03", "00000000-0000-0000-0000-000000000001", "1.50",
        10**30, {"a": 1},
    ]  # fmt: skip
    writer.close()
    await writer.wait_closed()
