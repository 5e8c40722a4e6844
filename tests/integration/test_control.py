"""A node's control socket: every verb, every signal, and what may go wrong on the way."""

import asyncio
import json
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

import mesh
from mesh.operator import Operator
from mesh.tables import length_of_time
from mesh.wire.reports import Connections, Jobs, Reach, Stack, Status
from meshdiscovery.directory import Directory
from meshdiscovery.mdns import Browser
from meshnode.control import LINE_BYTES, MOST_TALKS, Answer, Control, RefusedError, Request
from meshnode.core.lifecycle import Lifecycle, Word
from meshnode.steering import Reloads, Steering
from tests.support.clients import connected, until_started
from tests.support.gates import HELD, Gate
from tests.support.leaks import leak_check  # noqa: F401  # pytest finds it by its name
from tests.support.nodes import NodeProcess, run_meshnode, write_tasks
from tests.support.processes import suspended, workers_of
from tests.support.waiting import until


@pytest.fixture
def app(tmp_path: Path) -> Path:
    write_tasks(
        tmp_path,
        """
import os, time

@mesh.task(bridge=True)
def nap(seconds: float = 0.0) -> float:
    time.sleep(seconds)
    return seconds
"""
        + HELD,
    )
    return tmp_path


def a_node(app: Path, name: str = "web7", *arguments: str, workers: int = 1, bridge: bool = False) -> NodeProcess:
    """Return a node of its own name, not yet begun, whose control socket lies in the test's folder."""
    environment = {"XDG_RUNTIME_DIR": str(app)}
    return NodeProcess(app, "--name", name, *arguments, workers=workers, bridge=bridge, environment=environment)


def run_verb(app: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a verb on the nodes of the test."""
    return run_meshnode(app, *words, environment={"XDG_RUNTIME_DIR": str(app), "COLUMNS": "120"})


async def run_verb_beside(app: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a verb while the loop goes on."""
    return await asyncio.to_thread(run_verb, app, *words)


def status(app: Path, name: str = "web7") -> dict[str, Any]:
    done = run_verb(app, "status", "--json", "-n", name)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def path_of(app: Path, name: str = "web7") -> Path:
    return app / "meshnode" / f"{name}.sock"


@contextmanager
def a_line(app: Path, name: str = "web7") -> Iterator[socket.socket]:
    """Open a connection to a node's control socket."""
    with socket.socket(socket.AF_UNIX) as line:
        line.settimeout(10.0)
        line.connect(str(path_of(app, name)))
        yield line


# status


def test_status_tells_people_and_programs_how_a_node_is(app: Path) -> None:
    with a_node(app, "web7", "--mesh", "shop", workers=2, bridge=True) as node:
        found = status(app)
        assert {name: found[name] for name in ("name", "mesh", "state", "pid", "endpoint", "bridge")} == {
            "name": "web7",
            "mesh": "shop",
            "state": "running",
            "pid": node.pid,
            "endpoint": node.endpoint,
            "bridge": node.bridge,
        }
        assert (found["clients"], found["held"], found["waiting"], found["running"]) == (0, 0, 0, 0)
        assert [worker["slot"] for worker in found["workers"]] == [0, 1]
        assert {worker["pid"] for worker in found["workers"]} < {process.pid for process in node.family()}
        assert 0 < found["workers"][0]["age"] < found["uptime"] < 60
        shown = run_verb(app, "status")
        assert re.search(r"^node +web7 \(\w{8}\)", shown.stdout)
        for line in (r"state +running", r"jobs +0 held: 0 running, 0 waiting", r"workers +2 of 2 ready"):
            assert re.search(rf"^{line} *$", shown.stdout, re.MULTILINE)
        assert re.search(rf"^1 +{found['workers'][1]['pid']} +\d+ s +0 +0", shown.stdout, re.MULTILINE)


async def test_status_answers_although_every_worker_hangs_and_counts_what_runs_and_waits(app: Path, gate: Gate) -> None:
    with a_node(app, workers=2) as node:
        async with connected(node) as client:
            jobs = [client.submit("held", gate.path) for _ in range(2)]
            await until_started(client, *jobs)
            workers = workers_of(node)
            assert len(workers) == 2
            with suspended(workers):
                found = await asyncio.to_thread(status, app)
            assert (found["state"], found["clients"], found["held"], found["running"]) == ("running", 1, 2, 2)
            assert [worker["outstanding"] for worker in found["workers"]] == [1, 1]
            gate.open()
            await asyncio.gather(*jobs)


def test_a_node_that_still_imports_is_starting_and_can_be_stopped(app: Path) -> None:
    (app / "tasks.py").write_text("import time\ntime.sleep(60)\n")
    command = [sys.executable, "-m", "meshnode", "tasks", "--no-mdns", "--no-bridge", "-b", "127.0.0.1:0", "-n", "web7"]
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(app)}
    with subprocess.Popen(command, cwd=app, env=environment, stderr=subprocess.DEVNULL) as node:
        try:
            while not path_of(app).exists():
                assert node.poll() is None
                time.sleep(0.01)
            assert status(app)["state"] == "starting"
            assert "is starting" in run_verb(app, "drain").stderr
            assert "is starting" in run_verb(app, "reload").stderr
            assert run_verb(app, "stop").returncode == 0
            assert node.wait(20) == 0
        finally:
            node.kill()


# which node


def test_without_a_node_a_verb_says_so_and_ends_with_1(app: Path) -> None:
    for verb in ("status", "stop", "drain", "undrain", "reload"):
        done = run_verb(app, verb)
        assert done.returncode == 1
        assert f"no node of yours runs here (looked in {app}/meshnode" in done.stderr


def test_of_two_nodes_one_has_to_be_named(app: Path) -> None:
    with a_node(app, "web7"), a_node(app, "web8") as other:
        unclear = run_verb(app, "status")
        assert unclear.returncode == 1
        assert "several nodes run here; say which one:\n  -n web7\n  -n web8\n" in unclear.stderr
        wrong = run_verb(app, "status", "-n", "web9")
        assert wrong.returncode == 1
        assert "no node named 'web9' runs here; there are: web7, web8" in wrong.stderr
        assert "web8" in run_verb(app, "-n", "web8", "status").stdout
        assert run_verb(app, "stop", "--name", "web8").returncode == 0
        assert other.wait() == 0
        assert "web7" in run_verb(app, "status").stdout


def test_a_node_without_a_name_of_its_own_has_a_socket_too_and_leaves_nothing(app: Path) -> None:
    with NodeProcess(app, environment={"XDG_RUNTIME_DIR": str(app)}) as node:
        shown = re.search(r"node (\S+) is ready", node.log)
        assert shown is not None
        assert run_verb(app, "status", "-n", shown[1]).returncode == 0
        assert run_verb(app, "status").returncode == 0
        assert node.stop() == 0
    assert list((app / "meshnode").iterdir()) == []


def test_what_a_killed_node_left_is_removed_and_its_name_is_free(app: Path) -> None:
    with a_node(app) as node:
        node.kill()
    assert path_of(app).exists()
    assert "no node named 'web7' runs here, nor any other" in run_verb(app, "status", "-n", "web7").stderr
    assert list((app / "meshnode").iterdir()) == []
    with a_node(app) as node:
        node.kill()
    with a_node(app, "web8"):
        assert sorted(path.name for path in (app / "meshnode").iterdir()) == ["web8.lock", "web8.sock"]
    with a_node(app) as node:
        assert status(app)["pid"] == node.pid


def test_only_its_user_reaches_the_socket(app: Path) -> None:
    with a_node(app):
        assert (app / "meshnode").stat().st_mode & 0o777 == 0o700
        assert path_of(app).stat().st_mode & 0o777 == 0o600


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be another user")
async def test_whoever_gets_at_the_socket_as_another_user_is_not_heard() -> None:
    heard: list[str] = []

    async def answer(request: Request) -> Answer:
        heard.append(request.verb)
        return Answer(ok=True)

    program = (
        "import os, socket, sys; os.setgroups([]); os.setuid(int(sys.argv[2])); line = socket.socket(socket.AF_UNIX);"
        "line.connect(sys.argv[1]); line.sendall(sys.argv[3].encode()); print(line.recv(100))"
    )
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name)
        control = Control(folder, "web7", answer=answer)
        await control.listen()
        os.chmod(folder, 0o711)
        os.chmod(folder / "web7.sock", 0o666)
        for uid, verb in ((65534, "stop"), (0, "status")):
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", program, str(folder / "web7.sock"), str(uid), f'{{"verb":"{verb}"}}\n',
                stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
            )  # fmt: skip
            said, _ = await process.communicate()
            assert (b'{"ok":true}' in said) == (uid == 0), said
        assert heard == ["status"]
        await control.close()


def test_a_folder_whose_path_is_too_long_for_a_socket_does_as_well(app: Path) -> None:
    deep = app / ("x" * 100)
    deep.mkdir()
    environment = {"XDG_RUNTIME_DIR": str(deep)}
    with NodeProcess(app, "--name", "web7", environment=environment):
        assert run_meshnode(app, "status", environment=environment).returncode == 0
        assert (deep / "meshnode" / "web7.sock").is_socket()


def test_a_node_without_a_usable_folder_runs_all_the_same_unless_it_has_a_name(app: Path) -> None:
    (app / "meshnode").write_text("")
    environment = {"XDG_RUNTIME_DIR": str(app)}
    with NodeProcess(app, environment=environment) as node:
        assert "cannot hold locks and control sockets: File exists: only signals reach this node" in node.log
        assert node.stop() == 0
    named = ("--name", "web7", "--bind", "127.0.0.1:0", "--no-mdns", "--no-bridge")
    done = run_meshnode(app, "tasks", *named, environment=environment)
    assert done.returncode == 1
    assert "cannot hold locks and control sockets: File exists" in done.stderr


# the command line


@pytest.mark.parametrize("verb", ["status", "stop", "drain", "undrain", "reload"])
def test_every_verb_has_its_help_and_stands_in_that_of_meshnode(app: Path, verb: str) -> None:
    done = run_verb(app, verb, "--help")
    assert done.returncode == 0
    assert done.stdout.startswith(f"Usage: meshnode {verb} [OPTIONS]")
    assert "-n, --name NAME" in done.stdout
    assert re.search(rf"^ +meshnode {verb}\b", run_verb(app, "--help").stdout, re.MULTILINE)


def test_a_verb_wins_over_a_module_of_its_name_but_not_over_a_value(app: Path) -> None:
    (app / "stop.py").write_text("")
    assert "no node of yours runs here" in run_verb(app, "stop").stderr
    assert "no node named 'stop' runs here" in run_verb(app, "--name", "stop", "stop").stderr
    assert '"drain"' in run_verb(app, "config", "--name", "drain").stdout
    assert "No such option" in run_verb(app, "status", "--workers", "3").stderr


# stop


async def test_stop_waits_until_the_node_is_gone_and_says_what_for(app: Path, gate: Gate) -> None:
    with a_node(app) as node:
        async with connected(node) as client:
            job = client.submit("held", gate.path)
            await until_started(client, job)
            stop = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "meshnode", "stop", cwd=app, env={**os.environ, "XDG_RUNTIME_DIR": str(app)},
                stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            )  # fmt: skip
            assert stop.stderr is not None
            assert await stop.stderr.readline() == b"stopping: 1 running, 0 waiting\n"
            gate.open()
            stdout, stderr = await stop.communicate()
            assert stop.returncode == 0, stderr
            assert b"the node web7 has stopped" in stdout
            assert node.wait(0.5) == 0
            assert await job == gate.path


async def test_stop_f_ends_a_running_job_at_once(app: Path) -> None:
    with a_node(app) as node:
        async with connected(node) as client:
            job = client.submit("nap", 60.0)
            await until_started(client, job)
            began = time.monotonic()
            done = await run_verb_beside(app, "stop", "-f")
            assert done.returncode == 0, done.stderr
            assert node.wait() == 5
            assert time.monotonic() - began < 20.0  # and not when the grace is over, after 30 s
            with pytest.raises(mesh.JobLost):
                await job


async def test_a_second_stop_hurries_nobody_and_f_does(app: Path) -> None:
    with a_node(app) as node:
        async with connected(node) as client:
            job = client.submit("nap", 60.0)
            await until_started(client, job)
            with a_line(app) as line:
                for _ in range(2):
                    line.sendall(b'{"verb":"stop"}\n')
                    assert json.loads(line.recv(1000)) == {"ok": True}
            assert (await asyncio.to_thread(status, app))["state"] == "stopping"
            assert "is stopping" in (await run_verb_beside(app, "drain")).stderr
            assert (await run_verb_beside(app, "stop", "-f")).returncode == 0
            assert node.wait() == 5
            with pytest.raises(mesh.JobLost):
                await job


def test_an_idle_bridge_connection_does_not_hold_a_stop_up(app: Path) -> None:
    with a_node(app, bridge=True) as node:
        host, _, port = node.bridge.rpartition(":")
        with (
            socket.create_connection((host, int(port)), timeout=10) as used,
            socket.create_connection((host, int(port)), timeout=10) as silent,
            socket.create_connection((host, int(port)), timeout=10) as begun,
        ):
            used.sendall(b'{"function":"$ping"}\n')
            assert used.recv(1000) == b'{"ok":true}\n'
            begun.sendall(b'{"func')
            began = time.monotonic()
            assert run_verb(app, "stop").returncode == 0
            assert time.monotonic() - began < 20.0  # and not when the grace is over, after 30 s
            assert [one.recv(1000) for one in (used, silent, begun)] == [b"", b"", b""]
        assert node.wait() == 0


# drain and undrain


async def until_joined(client: mesh.Client, nodes: int) -> None:
    await client.wait_ready("nap", nodes=nodes, timeout=10)


async def nodes_of(client: mesh.Client, jobs: int = 12) -> set[str | None]:
    """Return the names of the nodes that some jobs ran on, all of which must end well."""
    submitted = [client.submit("nap", 0.02) for _ in range(jobs)]
    await asyncio.gather(*submitted)
    return {job.node for job in submitted}


async def test_while_a_node_drains_its_jobs_go_elsewhere_and_none_fails(app: Path) -> None:
    with a_node(app, "web7", workers=2) as one, a_node(app, "web8", workers=2) as other:
        async with connected(one, other) as client:
            await until_joined(client, 2)
            assert await nodes_of(client) == {"web7", "web8"}
            under_way = [client.submit("nap", 0.05) for _ in range(40)]
            done = await run_verb_beside(app, "drain", "-n", "web7", "--wait")
            assert done.returncode == 0, done.stderr
            assert "the node web7 is drained" in done.stdout
            assert (await asyncio.to_thread(status, app))["held"] == 0
            await asyncio.gather(*under_way)
            assert await nodes_of(client) == {"web8"}
            async with connected(one, other) as newcomer:
                await until(lambda: len(newcomer.nodes()) == 2)
                assert await nodes_of(newcomer) == {"web8"}
                assert {node.name: node.state for node in newcomer.nodes()}["web7"] == "draining"
                await run_verb_beside(app, "undrain", "-n", "web7")
                await until(lambda: {node.state for node in client.nodes() + newcomer.nodes()} == {"alive"})
                assert await nodes_of(newcomer) == await nodes_of(client) == {"web7", "web8"}


async def test_a_node_that_drains_finishes_what_it_holds_stays_and_can_be_stopped(app: Path, gate: Gate) -> None:
    with a_node(app) as node:
        async with connected(node) as client:
            job = client.submit("held", gate.path)
            await until_started(client, job)
            assert (await run_verb_beside(app, "drain")).returncode == 0
            assert not job.done(), "it does not wait"
            found = await asyncio.to_thread(status, app)
            assert (found["state"], found["why"]) == ("draining", "told by drain; undrain takes it back")
            gate.open()
            assert await job == gate.path
            assert (await run_verb_beside(app, "stop")).returncode == 0
            assert node.wait() == 0


async def test_a_node_that_was_drained_and_undrained_still_finishes_what_it_holds_at_its_end(app: Path) -> None:
    with a_node(app) as node:
        async with connected(node) as client:
            await until_joined(client, 1)
            await run_verb_beside(app, "drain", "--wait")
            await run_verb_beside(app, "undrain")
            job = client.submit("nap", 1.0)
            await until_started(client, job)
            assert (await run_verb_beside(app, "stop")).returncode == 0
            assert await job == 1.0
            assert node.wait() == 0


def ask_bridge(node: NodeProcess, line: bytes) -> bytes:
    host, _, port = node.bridge.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=10) as caller:
        caller.sendall(line + b"\n")
        return caller.recv(1000)


def test_the_bridge_of_a_node_that_drains_says_meshbusy(app: Path) -> None:
    ping, nap = b'{"function":"$ping"}', b'{"function":"nap"}'
    with a_node(app, bridge=True) as node:
        assert run_verb(app, "drain").returncode == 0
        for line in (ping, nap):
            assert json.loads(ask_bridge(node, line))["error"]["type"] == "MeshBusy"
        assert run_verb(app, "undrain").returncode == 0
        assert ask_bridge(node, ping) == b'{"ok":true}\n'
        assert ask_bridge(node, nap) == b"0.0\n"


async def test_mdns_tells_of_a_node_that_drains_until_it_stops(app: Path) -> None:
    name = f"drain-{secrets.token_hex(8)}"
    directory = Directory(name)
    browser = Browser(directory, lambda _: None, interfaces=["127.0.0.1"])
    await browser.start()
    with a_node(app, "web7", "--mdns", "--mesh", name) as node:
        await until(lambda: len(directory) == 1)
        assert (await run_verb_beside(app, "drain", "--wait")).returncode == 0
        async with Operator(name) as operator:
            await until(lambda: len(operator.nodes()) == 1)
            (found,) = operator.nodes()
            assert found.state == "draining"
            await operator.ask(found, "undrain")
            until_state(app, "running")
        assert (await run_verb_beside(app, "drain")).returncode == 0
        assert len(directory) == 1
        assert node.stop() == 0
        await until(lambda: len(directory) == 0)
    await browser.close()


# reload


def version(app: Path, number: str) -> None:
    write_tasks(app, f"@mesh.task\ndef version() -> int:\n    return {number}\n")


async def test_reload_returns_when_all_workers_run_the_new_code(app: Path) -> None:
    version(app, "1")
    with a_node(app, workers=2) as node:
        async with connected(node) as client:
            assert await client.call("version") == 1
            version(app, "22")
            done = await run_verb_beside(app, "reload")
            assert (done.returncode, done.stderr) == (0, "reloading\n")
            assert {await client.call("version") for _ in range(8)} == {22}
            version(app, "333")
            node.signal(signal.SIGHUP)
            await until(lambda: len(re.findall(r"reloaded after \d+\.\d s", node.log)) == 2)
            assert {await client.call("version") for _ in range(8)} == {333}


async def test_reload_of_code_that_does_not_import_says_why_and_the_old_code_stays(app: Path) -> None:
    version(app, "1")
    with a_node(app) as node:
        async with connected(node) as client:
            (app / "tasks.py").write_text("1 / 0\n")
            done = await run_verb_beside(app, "reload")
            assert done.returncode == 1
            assert "ZeroDivisionError" in done.stderr
            node.wait_for_log("not reloaded: ")
            assert await client.call("version") == 1


# signals


def until_state(app: Path, wanted: str) -> None:
    deadline = time.monotonic() + 20
    while status(app)["state"] != wanted:
        assert time.monotonic() < deadline


def test_tstp_drains_and_cont_takes_it_back(app: Path) -> None:
    with a_node(app) as node:
        node.signal(signal.SIGTSTP)
        until_state(app, "draining")
        assert status(app)["why"] == "told by TSTP; CONT or undrain takes it back"
        node.signal(signal.SIGCONT)
        until_state(app, "running")
        node.signal(signal.SIGTSTP)
        until_state(app, "draining")
        assert run_verb(app, "undrain").returncode == 0
        until_state(app, "running")


def test_cont_after_a_stop_does_not_undo_the_verb(app: Path) -> None:
    with a_node(app) as node:
        assert run_verb(app, "drain").returncode == 0
        psutil.Process(node.pid).suspend()
        psutil.Process(node.pid).resume()
        node.wait_for_log("CONT: still draining, as the verb drain asked for")
        assert status(app)["state"] == "draining"


def test_a_node_whose_terminal_is_closed_ends_with_it(app: Path) -> None:
    program = (
        "import fcntl, os, sys, termios; os.setsid(); fcntl.ioctl(0, termios.TIOCSCTTY, 0);"
        "os.execv(sys.executable, [sys.executable, '-m', 'meshnode', *sys.argv[1:]])"
    )
    ours, theirs = os.openpty()
    words = ["tasks", "-w", "1", "--no-mdns", "--no-bridge", "-b", "127.0.0.1:0", "-n", "web7"]
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(app)}
    node = subprocess.Popen(
        [sys.executable, "-c", program, *words], cwd=app, env=environment, stdin=theirs, stderr=subprocess.DEVNULL
    )
    os.close(theirs)
    try:
        while not path_of(app).exists():
            assert node.poll() is None
            time.sleep(0.01)
        until_state(app, "running")
        os.close(ours)
        assert node.wait(20) == 0
    finally:
        node.kill()
        node.wait()


# garbage and silence on the socket


GARBAGE = [
    b"\n",
    b"status\n",
    b"{}\n",
    b'{"verb":1}\n',
    b"\xff\xfe\n",
    b"[" * 3000 + b"\n",
    b'{"verb":"stop","now":"yes"}\n',
]


def test_garbage_is_answered_with_an_error_and_hurts_nobody(app: Path) -> None:
    with a_node(app), a_line(app) as line:
        for piece in GARBAGE:
            line.sendall(piece)
            answer = json.loads(line.recv(1000))
            assert answer["ok"] is False
            assert 'a request is a line like {"verb":"status"}' in answer["error"]
        line.sendall(b'{"verb":"dance"}\n')
        assert json.loads(line.recv(1000)) == {"ok": False, "error": "this node knows no verb 'dance'"}
        assert status(app)["state"] == "running"


def test_a_line_that_is_too_long_ends_its_connection_only(app: Path) -> None:
    with a_node(app), a_line(app) as line:
        line.sendall(b"x" * (LINE_BYTES + 1))
        assert "has at most 4096 bytes" in json.loads(line.recv(1000))["error"]
        assert line.recv(1000) == b""
        assert status(app)["state"] == "running"


def test_the_silent_hold_up_neither_verbs_nor_a_stop(app: Path) -> None:
    with a_node(app) as node, a_line(app) as half, a_line(app):
        half.sendall(b'{"verb":')
        assert status(app)["state"] == "running"
        assert run_verb(app, "stop").returncode == 0
        assert node.wait() == 0


# the pieces


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


async def refuse(_: Request) -> Answer:
    raise RefusedError("not now")


async def test_who_does_not_read_its_answers_is_let_go(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("meshnode.control.PATIENCE_S", 0.2)
    long = Status(name="x" * 500_000, id="", mesh="", state="", pid=0, uptime=0.0)

    async def answer(_: Request) -> Answer:
        return Answer(ok=True, status=long)

    control = Control(folder, "web7", answer=answer)
    await control.listen()
    _, writer = await asyncio.open_unix_connection(folder / "web7.sock", limit=1)
    writer.write(b'{"verb":"status"}\n' * 20)
    await until(lambda: bool(control._talks))
    await until(lambda: not control._talks)
    writer.close()
    await control.close()
    assert not (folder / "web7.sock").exists()


async def test_the_silent_are_let_go(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("meshnode.control.PATIENCE_S", 0.1)
    control = Control(folder, "web7", answer=refuse)
    await control.listen()
    silent, one = await asyncio.open_unix_connection(folder / "web7.sock")
    half, other = await asyncio.open_unix_connection(folder / "web7.sock")
    other.write(b'{"verb":')
    assert await silent.read() == await half.read() == b""
    one.close()
    other.close()
    await control.close()


async def test_more_connections_than_a_node_hears_at_once_are_told_so(folder: Path) -> None:
    control = Control(folder, "web7", answer=refuse)
    await control.listen()
    lines = [await asyncio.open_unix_connection(folder / "web7.sock") for _ in range(MOST_TALKS + 1)]
    assert json.loads(await lines[-1][0].readline())["error"] == f"this node already hears {MOST_TALKS} verbs"
    lines[0][1].write(b'{"verb":"status"}\n')
    assert json.loads(await lines[0][0].readline())["error"] == "not now"
    for _, writer in lines:
        writer.close()
    await control.close()


async def test_a_verb_that_fails_is_answered_and_logged(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def answer(_: Request) -> Answer:
        raise ZeroDivisionError("oh")

    control = Control(folder, "web7", answer=answer)
    await control.listen()
    reader, writer = await asyncio.open_unix_connection(folder / "web7.sock")
    writer.write(b'{"verb":"status"}\n')
    assert json.loads(await reader.readline())["error"] == "the verb failed: ZeroDivisionError: oh"
    assert "a verb failed" in caplog.text
    writer.close()
    await control.close()


class SteeredNode:
    """A node that only notes what it is to do; `wrong` is what comes of a reload."""

    def __init__(self, *words: Word) -> None:
        self.lifecycle = Lifecycle()
        for word in words:
            assert self.lifecycle.hear(word)
        self.did: list[str] = []
        self.wrong: str | Exception | None = None

    def turn_away(self) -> None:
        self.did.append("turn away")

    def welcome_again(self) -> None:
        self.did.append("welcome again")

    def begin_stop(self, *, now: bool) -> None:
        self.did.append("stop now" if now else "stop")

    async def reload(self) -> str | None:
        self.did.append("reload")
        if isinstance(self.wrong, Exception):
            raise self.wrong
        return self.wrong

    def status(self) -> Status:
        return Status(name="", id="", mesh="", state="", pid=0, uptime=0.0)

    workers = 2

    def resize(self, workers: int) -> None:
        self.did.append(f"{workers} workers")
        self.workers = workers

    def connections(self) -> Connections:
        return Connections([])

    def jobs(self, task: str, word: str) -> Jobs:
        self.did.append(f"jobs {task} {word}")
        return Jobs([])

    def cancel(self, word: str, *, force: bool) -> Jobs:
        self.did.append(f"{'kill' if force else 'cancel'} {word}")
        return Jobs([])

    async def stack(self, word: str) -> Stack:
        return Stack(id=word, task="", worker=0, pid=0, text="")

    def reach(self) -> Reach:
        return Reach(looks=False)


@pytest.mark.parametrize(
    ("words", "verbs", "did"),
    [
        ([], ["drain", "undrain", "drain"], ["turn away", "welcome again", "turn away"]),
        ([], ["drain", "drain", "undrain", "undrain"], ["turn away", "welcome again"]),
        ([Word.PAUSE], ["drain"], []),
        ([Word.PAUSE], ["undrain"], ["welcome again"]),
        ([], ["stop", "stop"], ["stop"]),
        ([Word.DRAIN], ["stop"], ["stop"]),
        ([], ["reload", "reload"], ["reload", "reload"]),
        ([Word.DRAIN], ["reload"], ["reload"]),
    ],
)
async def test_what_is_so_already_is_not_done_again(words: list[Word], verbs: list[str], did: list[str]) -> None:
    node = SteeredNode(Word.READY, *words)
    steering = Steering(node, grace=1.0)
    for verb in verbs:
        assert await steering.answer(Request(verb)) == Answer(ok=True)
    assert node.did == did
    await steering.close()


async def test_only_now_is_said_again_to_a_node_that_stops() -> None:
    node = SteeredNode(Word.READY)
    steering = Steering(node, grace=1.0)
    for now in (False, True, True, False):
        await steering.answer(Request("stop", now=now))
    assert node.did == ["stop", "stop now", "stop now"]


@pytest.mark.parametrize("verb", ["drain", "undrain", "reload"])
@pytest.mark.parametrize("words", [(), (Word.READY, Word.STOP)], ids=["starting", "stopping"])
async def test_a_node_that_starts_or_stops_refuses_what_it_cannot_do(verb: str, words: tuple[Word, ...]) -> None:
    node = SteeredNode(*words)
    with pytest.raises(RefusedError, match=r"this node is (starting|stopping)"):
        await Steering(node, grace=1.0).answer(Request(verb))
    assert node.did == []


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("no such module", "no such module"),
        (ZeroDivisionError("oh"), "reloading failed: ZeroDivisionError: oh"),
    ],
)
async def test_what_went_wrong_in_a_reload_is_answered_and_logged(
    wrong: str | Exception, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    node = SteeredNode(Word.READY)
    node.wrong = wrong
    steering = Steering(node, grace=1.0)
    with pytest.raises(RefusedError) as refused:
        await steering.answer(Request("reload"))
    assert str(refused.value) == said
    assert "reloading failed" in caplog.text or f"not reloaded: {said}" in caplog.text
    await steering.close()


class Slow:
    """Reloads that end when they are told to."""

    def __init__(self) -> None:
        self.begun: list[asyncio.Future[str | None]] = []

    async def reload(self) -> str | None:
        self.begun.append(asyncio.get_running_loop().create_future())
        return await self.begun[-1]

    def has_begun(self, times: int) -> Callable[[], bool]:
        return lambda: len(self.begun) == times


async def test_one_reload_runs_at_a_time_and_all_that_ask_meanwhile_share_the_next() -> None:
    slow = Slow()
    reloads = Reloads(slow.reload)
    first = reloads.ask()
    await until(slow.has_begun(1))
    second, third = reloads.ask(), reloads.ask()
    assert second is third
    assert second is not first
    await asyncio.sleep(0)
    assert len(slow.begun) == 1
    slow.begun[0].set_result("the first did not work")
    assert await first == "the first did not work"
    await until(slow.has_begun(2))
    slow.begun[1].set_result(None)
    assert await second is None
    assert not second.cancelled()
    await reloads.close()


async def test_reloads_under_way_are_given_up_at_the_end() -> None:
    slow = Slow()
    reloads = Reloads(slow.reload)
    tasks = [reloads.ask()]
    await until(slow.has_begun(1))
    tasks.append(reloads.ask())
    await reloads.close()
    assert all(task.cancelled() for task in tasks)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.9, "0 s"), (59.9, "59 s"), (187.0, "3:07 min"), (18_060.0, "5:01 h"), (12.5 * 86400, "12 days")],
)
def test_people_read_lengths_of_time_in_the_unit_that_fits(seconds: float, words: str) -> None:
    assert length_of_time(seconds) == words
