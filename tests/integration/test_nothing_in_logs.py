"""No log holds what a job is given, returns or raises, whatever becomes of it; and the texts of errors have an end."""

import asyncio
import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

import mesh
from mesh.errors import MESSAGE_LIMIT, TRACEBACK_LIMIT
from tests.support.clients import connected, until_started
from tests.support.leaks import leak_check
from tests.support.nodes import NodeProcess, write_tasks

__all__ = ["leak_check"]

SECRET = "s3ntinel-of-a-payload"

TASKS = """
import asyncio, os, time


class Shown(Exception):
    pass


class Stubborn:
    def __init__(self, secret):
        self.secret = secret

    def __repr__(self):
        return self.secret


@mesh.task(bridge=True)
def echo(secret: str) -> str:
    return secret


@mesh.task(bridge=True)
def fail(secret: str) -> None:
    raise ValueError(secret)


@mesh.task(bridge=True)
async def fail_later(secret: str) -> None:
    await asyncio.sleep(0)
    raise Shown(secret, {secret: secret})


@mesh.task(bridge=True)
def leave(secret: str) -> None:
    raise SystemExit(secret)


@mesh.task(bridge=True)
def crash(secret: str) -> None:
    os._exit(3)


@mesh.task(idempotent=True)
def poison(secret: str) -> None:
    os._exit(4)


@mesh.task(bridge=True)
def unsendable(secret: str) -> object:
    return Stubborn(secret)


@mesh.task(bridge=True)
async def unsendable_later(secret: str) -> object:
    return [Stubborn(secret)]


@mesh.task(bridge=True, limit=0.3)
def drag(secret: str) -> None:
    while True:
        time.sleep(0.01)


@mesh.task(timeout=0.3)
def doze(secret: str) -> None:
    time.sleep(1)


@mesh.task
def nap(secret: str) -> None:
    time.sleep(30)


@mesh.task(bridge=True)
def shout(count: int) -> None:
    raise ValueError("x" * count)
"""

STDOUT_TOO = ("-c", "import os; os.dup2(2, 1); from meshnode.cli import main; main()")
"""What is printed goes where the log goes, the workers' own too."""


@pytest.fixture
def node(tmp_path: Path) -> Iterator[NodeProcess]:
    write_tasks(tmp_path, TASKS)
    with NodeProcess(
        tmp_path, "--log-level", "debug", "--max-message", "1M", "-c", "2", workers=2, bridge=True, program=STDOUT_TOO
    ) as made:
        yield made


async def ended(job: mesh.Job[object]) -> str:
    """The name of the error that a job ended with, or nothing."""
    try:
        await asyncio.wait_for(job.result(), 20)
    except Exception as error:  # noqa: BLE001  # whatever it ends with is what is asked for
        return type(error).__name__
    return ""


async def asked(node: NodeProcess, *requests: Mapping[str, object]) -> list[str]:
    """Ask the bridge; return the name of each answer's error, or nothing."""
    host, _, port = node.bridge.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"".join(json.dumps(request).encode() + b"\n" for request in requests))
    found = []
    for _ in requests:
        answer = json.loads(await asyncio.wait_for(reader.readline(), 20))
        found.append(answer["error"]["type"] if isinstance(answer, dict) else "")
    writer.close()
    await writer.wait_closed()
    return found


async def test_no_log_quotes_what_a_job_is_given_returns_or_raises(
    node: NodeProcess, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        async with connected(node) as client:
            ends = {
                name: await ended(client.submit(name, SECRET))
                for name in ("echo", "fail", "fail_later", "leave", "crash", "unsendable", "unsendable_later", "drag")
            }
            assert ends == {
                "echo": "",
                "fail": "ValueError",
                "fail_later": "RemoteError",
                "leave": "RemoteError",
                "crash": "JobLost",
                "unsendable": "ResultNotSerializable",
                "unsendable_later": "ResultNotSerializable",
                "drag": "JobTimeout",
            }
            assert await ended(client.submit("poison", SECRET)) == "PoisonTask"
            assert await ended(client.submit("doze", SECRET)) == "JobTimeout"
            with pytest.raises(mesh.BadArguments):
                await client.call("echo", **{SECRET: SECRET})
            with pytest.raises(mesh.PayloadTooLarge):
                await client.call("echo", SECRET * 100_000)
            job = client.submit("nap", SECRET)
            await until_started(client, job)
            job.cancel(force=True)
            assert await ended(job) == "JobCancelled"
            unasked = client.submit("fail", SECRET)
            while not unasked.over:
                await client.changed()
            del unasked
        requests = [{"function": name, "args": [SECRET]} for name in ends]
        assert await asked(node, *requests) == [
            "",
            "ValueError",
            "tasks.Shown",
            "SystemExit",
            "JobLost",
            "ResultNotSerializable",
            "ResultNotSerializable",
            "JobTimeout",
        ]
        wrong: list[dict[str, object]] = [
            {"function": SECRET, "args": [SECRET]},
            {"function": "echo", "args": {SECRET: SECRET}},
            {"function": "nap", "args": [SECRET]},
            {"function": "echo", "args": SECRET},
            {"function": "echo", "args": [SECRET], "priority": SECRET},
        ]
        assert await asked(node, *wrong) == [
            "UnknownTask", "BadArguments", "NotAllowed", "BadArguments", "ProtocolError"
        ]  # fmt: skip
        assert node.stop() == 0
    assert "ended: " in node.log, "the workers' deaths are told"
    assert SECRET not in node.log
    told = [record.getMessage() for record in caplog.records]
    assert any("nobody asked for its outcome" in text for text in told)
    assert not [text for text in told if SECRET in text]
    assert not [record for record in caplog.records if SECRET in str(record.exc_text)]


async def test_the_text_of_an_error_has_an_end(node: NodeProcess) -> None:
    async with connected(node) as client:
        with pytest.raises(ValueError, match="left out") as caught:
            await client.call("shout", 900_000)
        assert len(str(caught.value)) < MESSAGE_LIMIT + 100
        assert isinstance(caught.value.__cause__, mesh.RemoteError)
        assert len(str(caught.value.__cause__)) < MESSAGE_LIMIT + TRACEBACK_LIMIT + 1000
        with pytest.raises(mesh.BadArguments) as misfit:
            await client.call("echo", **{"n" * 500_000: 1})
        assert len(str(misfit.value)) < MESSAGE_LIMIT + 100
    host, _, port = node.bridge.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=1 << 20)
    for request in (
        {"function": "shout", "args": [900_000]},
        {"function": "x" * 900_000},
        {"function": "echo", "args": {"n" * 900_000: 1}},
        {"function": "echo", "args": [], "id": "i" * 900_000},
        {"function": "echo", "args": [], "timeout": "t" * 900_000},
    ):
        writer.write(json.dumps(request).encode() + b"\n")
        line = await asyncio.wait_for(reader.readline(), 20)
        assert "error" in json.loads(line)
        assert len(line) < MESSAGE_LIMIT + 1000
    writer.close()
    await writer.wait_closed()
