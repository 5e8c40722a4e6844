"""The trace that a job belongs to: from client to worker, to what it calls, over the bridge, to another node; spans."""

import asyncio
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.support.clients import connected
from tests.support.documents import blocks
from tests.support.leaks import leak_check  # noqa: F401  # pytest finds it by its name
from tests.support.nodes import NodeProcess, write_tasks

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

TASKS = """
import time

@mesh.task(bridge=True)
def here() -> str | None:
    return mesh.context().traceparent

@mesh.task(bridge=True)
def inner() -> str | None:
    return mesh.context().call(here)

@mesh.task(bridge=True)
async def inner_async() -> str | None:
    return await here.call()

@mesh.task(bridge=True)
async def by_client(seed: str) -> str | None:
    async with mesh.Client(seeds=[seed], mdns=False) as client:
        return await client.call(here)

@mesh.task(bridge=True)
def nap(seconds: float) -> None:
    time.sleep(seconds)

@mesh.task(bridge=True)
def where() -> list[str | None]:
    import os
    return [os.environ["NODE"], mesh.context().traceparent]
"""

SPANS = '''
import os
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor

def trace_to(path):
    """Set OpenTelemetry up: a line of JSON for each span that ends."""
    out = open(path, "a", buffering=1)
    exporter = ConsoleSpanExporter(out=out, formatter=lambda span: span.to_json(indent=None) + "\\n")
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
'''

TRACED = """
from spans import trace_to

@mesh.lifespan
def traced(state):
    trace_to("worker.jsonl")
    yield

@mesh.task
def outer(n: int) -> int:
    return mesh.context().call(inner, n) + 1

@mesh.task
async def inner(n: int) -> int:
    if n < 0:
        raise ValueError("below zero")
    return n
"""

CALLER = """
import asyncio, sys
import mesh
from opentelemetry import trace
from spans import trace_to

async def main():
    trace_to("client.jsonl")
    async with mesh.Client(seeds=[sys.argv[1]], mdns=False) as client:
        with trace.get_tracer("app").start_as_current_span("site"):
            assert await client.call("outer", 1) == 2
            try:
                await client.call("outer", -1)
            except ValueError:
                pass

asyncio.run(main())
"""


def ask(bridge: str, **request: Any) -> Any:
    """Ask the bridge one thing."""
    host, _, port = bridge.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=20.0) as line, line.makefile("rb") as replies:
        line.sendall(json.dumps(request).encode() + b"\n")
        return json.loads(replies.readline())


def spans(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


async def test_a_trace_goes_from_a_plain_socket_through_workers_to_what_they_call(tmp_path: Path) -> None:
    write_tasks(tmp_path, TASKS)
    with NodeProcess(tmp_path, workers=2, bridge=True) as node:
        for function in ("here", "inner", "inner_async"):
            assert ask(node.bridge, function=function, traceparent=PARENT) == PARENT
            assert ask(node.bridge, function=function) is None
        assert ask(node.bridge, function="by_client", args=[node.seed], traceparent=PARENT) == PARENT
        async with connected(node) as client, asyncio.timeout(20):
            assert await client.call("here") is None
            assert await client.call("inner") is None


def test_lines_of_many_traces_on_one_connection_are_answered_in_their_order(tmp_path: Path) -> None:
    write_tasks(tmp_path, TASKS)
    parents = [f"00-{number:032x}-b7ad6b7169203331-01" for number in range(1, 200)]
    with NodeProcess(tmp_path, workers=2, bridge=True) as node:
        host, _, port = node.bridge.rpartition(":")
        with socket.create_connection((host, int(port)), timeout=20.0) as line, line.makefile("rb") as replies:
            line.sendall(b"".join(b'{"function":"here","traceparent":"%b"}\n' % parent.encode() for parent in parents))
            assert [json.loads(replies.readline()) for _ in parents] == parents


async def test_a_trace_goes_on_with_a_job_to_another_node(tmp_path: Path) -> None:
    write_tasks(tmp_path, TASKS)
    busy = ("--grace", "0.1", "--seed")
    with (
        NodeProcess(tmp_path, workers=2, environment={"NODE": "far"}) as far,
        NodeProcess(tmp_path, *busy, far.seed, bridge=True, environment={"NODE": "near"}) as near,
    ):
        host, _, port = near.bridge.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        async with asyncio.timeout(15):
            writer.write(b'{"function":"nap","args":[20.0],"id":0}\n')
            asked = {"function": "where", "traceparent": PARENT, "id": 1}
            writer.write(json.dumps(asked).encode() + b"\n")
            assert json.loads(await reader.readline())["result"] == ["far", PARENT]
        writer.close()
        await writer.wait_closed()


async def test_spans_of_a_job_and_of_what_it_calls_hang_together(tmp_path: Path) -> None:
    write_tasks(tmp_path, TRACED)
    (tmp_path / "spans.py").write_text(SPANS)
    (tmp_path / "caller.py").write_text(CALLER)
    with NodeProcess(tmp_path, workers=2) as node:
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "caller.py", node.seed],
            cwd=tmp_path, capture_output=True, text=True, timeout=30, env={**os.environ},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    handed, ran = spans(tmp_path / "client.jsonl"), spans(tmp_path / "worker.jsonl")
    (site,) = [span for span in handed if span["name"] == "site"]
    assert {span["context"]["trace_id"] for span in handed + ran} == {site["context"]["trace_id"]}
    sent = [span for span in handed if span["name"] == "send outer"]
    assert [(span["kind"], span["parent_id"]) for span in sent] == [
        ("SpanKind.PRODUCER", site["context"]["span_id"])
    ] * 2

    def below(parent: dict[str, Any]) -> list[dict[str, Any]]:
        return [span for span in ran if span["parent_id"] == parent["context"]["span_id"]]

    for number, first in enumerate(sent):
        (outer,) = below(first)
        (called,) = below(outer)
        (inner,) = below(called)
        assert [span["name"] for span in (outer, called, inner)] == ["process outer", "send inner", "process inner"]
        assert [span["kind"].removeprefix("SpanKind.") for span in (outer, called, inner)] == [
            "CONSUMER", "PRODUCER", "CONSUMER",
        ]  # fmt: skip
        assert inner["status"]["status_code"] == outer["status"]["status_code"] == ("ERROR" if number else "UNSET")
        assert outer["attributes"]["messaging.message.id"] == first["attributes"]["messaging.message.id"]


async def test_the_lifespan_that_the_documentation_shows_traces(tmp_path: Path) -> None:
    (code,) = [code for code in blocks("docs/metrics.md", "python") if "TracerProvider" in code]
    (tmp_path / "tasks.py").write_text(
        code.replace("ConsoleSpanExporter()", "ConsoleSpanExporter(out=open('out', 'w'))")
    )
    with NodeProcess(tmp_path) as node:
        async with connected(node) as client, asyncio.timeout(20):
            assert await client.call("charge", "x") is None
        node.stop()
    assert "process charge" in (tmp_path / "out").read_text()


async def test_a_worker_loads_no_opentelemetry_unless_its_application_does(tmp_path: Path) -> None:
    write_tasks(
        tmp_path, '@mesh.task\ndef loaded() -> bool:\n    import sys\n    return "opentelemetry" in sys.modules\n'
    )
    with NodeProcess(tmp_path) as node:
        async with connected(node) as client, asyncio.timeout(20):
            assert await client.call("loaded") is False
