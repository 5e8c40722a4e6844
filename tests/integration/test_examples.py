"""Every example does what its first lines say: real nodes, a real SMTP server, plain sockets."""

import asyncio
import json
import os
import re
import secrets
import smtplib
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from websockets.asyncio.client import connect

import mesh
from tests.support.leaks import leak_check
from tests.support.nodes import free_port
from tests.support.tools import need

__all__ = ["leak_check"]

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
PATIENCE_S = 30.0


class Program:
    """A module that runs as a process, and what it says."""

    def __init__(self, *words: str, environment: Mapping[str, str] | None = None) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-u", "-m", *words],
            cwd=ROOT,
            env=os.environ | dict(environment or {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def says(self, pattern: str) -> str:
        """Read up to the first line that matches; return the match's group."""
        assert self._process.stdout is not None
        lines = []
        for line in self._process.stdout:
            lines.append(line)
            if match := re.search(pattern, line):
                return match[1]
        pytest.fail(f"it never said {pattern!r}:\n{''.join(lines)}")

    def stop(self) -> None:
        """End it in order."""
        self._process.terminate()
        self._process.communicate(timeout=PATIENCE_S)


@contextmanager
def running(*words: str, environment: Mapping[str, str] | None = None) -> Iterator[Program]:
    """Run a module as a process as long as the block lasts."""
    program = Program(*words, environment=environment)
    try:
        yield program
    finally:
        program.stop()


@contextmanager
def smtp_server(port: int = 0) -> Iterator[tuple[Program, int]]:
    """Run the SMTP server; gives it and its port."""
    with running("examples.smtp_server", f"{port}", "0") as server:
        yield server, int(server.says(r"^smtp: 127\.0\.0\.1:(\d+)"))


@contextmanager
def node(module: str, name: str, *words: str, **environment: str) -> Iterator[Program]:
    """Run a node of the mesh `name`, which is found by mDNS."""
    options = ("--mesh", name, "--name", name, "--workers", "2", "--bind", "127.0.0.1:0")
    with running("meshnode", module, *options, *(words or ("--no-bridge",)), environment=environment) as program:
        yield program


def mesh_name() -> str:
    """A mesh that is nobody else's."""
    return f"examples-{secrets.token_hex(4)}"


@dataclass(frozen=True)
class Ground:
    """What most examples stand on: an SMTP server, and a node with a bridge that serves `examples.tasks`."""

    smtp: Program
    smtp_port: int
    mesh: str
    bridge: str


@pytest.fixture(scope="module")
def ground() -> Iterator[Ground]:
    name = mesh_name()
    with (
        smtp_server() as (smtp, port),
        node("examples.tasks", name, "--bridge", "127.0.0.1:0", SMTP_PORT=f"{port}") as program,
    ):
        yield Ground(smtp, port, name, program.says(r"bridge: (\S+:\d+) "))


@pytest.fixture(scope="module")
def site(ground: Ground) -> Iterator[str]:
    """The address of the WebSocket site."""
    environment = {"MESHNODE_MESH": ground.mesh, "SITE_PORT": "0", "SMTP_PORT": f"{ground.smtp_port}"}
    with running("examples.websocket_app", environment=environment) as program:
        yield program.says(r"^site: (\S+)")


def run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a program to its end."""
    return subprocess.run(
        words, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )


# quickstart.py


def test_the_quickstart_calls_submits_and_maps() -> None:
    name = mesh_name()
    with node("examples.quickstart", name) as program:
        program.says("(is ready)")
        done = run(sys.executable, "-m", "examples.quickstart", MESHNODE_MESH=name)
    assert done.stderr == ""
    assert done.stdout.splitlines() == ["144", f"169 from node {name}", "0", "1", "4", "9", "16"]


# tasks.py and smtp_server.py


async def test_a_mail_carries_its_jobs_id(ground: Ground) -> None:
    async with mesh.Client(ground.mesh, discovery_grace=PATIENCE_S) as client:
        job = client.submit("send_mail", to="ada@example.org", contents="Héllo", from_="ben@example.org")
        assert await job == {"to": "ada@example.org", "message_id": job.id.hex()}
    assert ground.smtp.says(r"accepted (\d+), recipients \d+, duplicates 0")


async def test_an_async_task_runs_beside_the_others(ground: Ground) -> None:
    async with mesh.Client(ground.mesh, discovery_grace=PATIENCE_S) as client:
        assert (await client.call("smtp_greeting")).startswith("220 localhost")


async def test_an_address_that_breaks_the_header_is_the_callers_error(ground: Ground) -> None:
    async with mesh.Client(ground.mesh, discovery_grace=PATIENCE_S) as client:
        with pytest.raises(ValueError, match="linefeed"):
            await client.call("send_mail", to="ada@example.org\nBcc: everybody@example.org")


async def test_a_worker_connects_anew_after_the_smtp_server_was_away() -> None:
    name = mesh_name()
    port = free_port()
    with node("examples.tasks", name, SMTP_PORT=f"{port}", MESHNODE_WORKERS="1"):
        async with mesh.Client(name, discovery_grace=PATIENCE_S) as client:
            with smtp_server(port):
                await client.call("send_mail", to="ada@example.org")
            with pytest.raises(ConnectionRefusedError):
                await client.call("send_mail", to="ben@example.org")
            with smtp_server(port) as (again, _):
                await client.call("send_mail", to="cleo@example.org")
                assert again.says(r"accepted (\d+)") == "1"


def test_the_smtp_server_counts_what_came_twice() -> None:
    with smtp_server() as (server, port), smtplib.SMTP("127.0.0.1", port, local_hostname="localhost") as smtp:
        for ident, to in [("one", "ada"), ("two", "ben"), ("one", "ada")]:
            smtp.sendmail("site@example.org", f"{to}@example.org", f"Message-ID: <{ident}@example.org>\r\n\r\nHi!\r\n")
        assert server.says(r"accepted 3, recipients 2, duplicates (\d+)") == "1"


# websocket_app.py


async def test_the_site_answers_others_while_it_sends_mails(site: str) -> None:
    async with connect(site) as one, connect(site) as other:
        await asyncio.gather(one.send("mail 200"), one.send("still there?"))  # with nothing between the two
        await other.send("hello")
        assert await other.recv() == "hello"
        assert await one.recv() == "still there?"
        assert await one.recv() == "task complete: 200 mails"


async def test_the_site_tells_which_nodes_sent_mails_and_how_long_it_stood_still(site: str, ground: Ground) -> None:
    async with connect(site) as visitor:
        await visitor.send("stats")
        before = json.loads(await visitor.recv())
        await visitor.send("mail 10")
        assert await visitor.recv() == "task complete: 10 mails"
        await visitor.send("stats")
        after = json.loads(await visitor.recv())
    assert after["nodes"] == [ground.mesh]
    assert after["sent_by"][ground.mesh] - before["sent_by"].get(ground.mesh, 0) == 10
    assert 0 <= after["longest_stall_ms"] < 10_000  # the demo, which sends more, judges how long it may be


async def test_the_site_stands_still_while_it_sends_mails_itself(site: str) -> None:
    async with connect(site) as visitor:
        await visitor.send("stats")
        await visitor.recv()
        await visitor.send("inline 50")
        assert await visitor.recv() == "task complete: 50 mails"
        await visitor.send("stats")
        assert json.loads(await visitor.recv())["longest_stall_ms"] > 20


async def test_the_site_says_so_where_there_is_no_node() -> None:
    with running("examples.websocket_app", environment={"MESHNODE_MESH": mesh_name(), "SITE_PORT": "0"}) as program:
        async with connect(program.says(r"^site: (\S+)")) as visitor:
            await visitor.send("mail 1")
            assert str(await visitor.recv()).startswith("task failed: ")


# send_mail.php and call.sh


def test_php_sends_a_mail(ground: Ground) -> None:
    need("php")
    done = run("php", "examples/send_mail.php", "ada@example.org", "Hello Ada", BRIDGE=ground.bridge)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"sent to ada@example\.org as [0-9a-f]{32}\n", done.stdout)


def test_php_tells_why_a_mail_was_not_sent(ground: Ground) -> None:
    need("php")
    done = run("php", "examples/send_mail.php", "ada@example.org\nBcc: x@example.org", "Hello", BRIDGE=ground.bridge)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("ValueError: ")


def test_php_tells_where_no_node_listens() -> None:
    need("php")
    done = run("php", "examples/send_mail.php", BRIDGE="127.0.0.1:1")
    assert done.returncode == 1
    assert done.stderr == "no node listens at 127.0.0.1:1: Connection refused\n"


def test_a_shell_calls_tasks_by_name(ground: Ground) -> None:
    need("nc")
    arguments = '{"to": "ben@example.org", "contents": "Hello Ben"}'
    sent = run("sh", "examples/call.sh", "send_mail", arguments, BRIDGE=ground.bridge)
    assert json.loads(sent.stdout)["to"] == "ben@example.org", sent
    greeted = run("sh", "examples/call.sh", "smtp_greeting", BRIDGE=ground.bridge)
    assert json.loads(greeted.stdout).startswith("220 localhost"), greeted


def test_a_shell_reads_an_error_as_a_line(ground: Ground) -> None:
    need("nc")
    done = run("sh", "examples/call.sh", "send_male", BRIDGE=ground.bridge)
    assert json.loads(done.stdout)["error"]["type"] == "UnknownTask", done


# README.md


def test_the_readme_knows_every_example() -> None:
    linked = {name.rstrip("/") for name in re.findall(r"\]\(([\w./-]+)\)", (EXAMPLES / "README.md").read_text())}
    there = {path.name for path in EXAMPLES.iterdir() if path.name not in ("README.md", "__init__.py", "__pycache__")}
    assert linked == there
