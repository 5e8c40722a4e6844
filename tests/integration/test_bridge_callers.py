"""The callers of `docs/text-protocol.md` against a real node: nc, telnet, socat, PHP, curl and plain sockets."""

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.nodes import NodeProcess

TASKS = "tests.integration.callers.tasks"
ROOT = str(Path(__file__).parents[2])
PATIENCE_S = 15.0


@pytest.fixture
def node(tmp_path: Path) -> Iterator[NodeProcess]:
    with NodeProcess(tmp_path, module=TASKS, workers=16, bridge=True, environment={"PYTHONPATH": ROOT}) as running:
        yield running


def place(node: NodeProcess) -> tuple[str, str]:
    host, _, port = node.bridge.rpartition(":")
    return host, port


def request(function: str, *args: Any, **more: Any) -> str:
    return json.dumps({"function": function, "args": args, **more}) + "\n"


def run(*command: str, text: str = "") -> str:
    """Run a caller to its end; return what it printed."""
    if shutil.which(command[0]) is None:
        pytest.fail(f"{command[0]} is not installed: `make test` installs it")
    return subprocess.run(
        command, input=text, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    ).stdout  # fmt: skip


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "it did not come to hold"
        time.sleep(0.01)


def test_nc_that_shuts_its_side_down_gets_every_reply(node: NodeProcess) -> None:
    text = request("sleep", 0.3) + request("add", 1, 2) + request("echo", "ü")
    replies = [json.loads(line) for line in run("nc", "-N", *place(node), text=text).splitlines()]
    assert replies == [0.3, 3, {"args": ["ü"], "kwargs": {}}]


def test_nc_that_keeps_its_side_open_gets_its_reply_too(node: NodeProcess) -> None:
    assert run("nc", "-q", "1", *place(node), text=request("add", 1, 2)) == "3\n"


def test_telnet_ends_its_lines_with_crlf(node: NodeProcess) -> None:
    with subprocess.Popen(
        ["telnet", *place(node)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as telnet:  # fmt: skip
        assert telnet.stdin is not None
        assert telnet.stdout is not None
        killer = threading.Timer(PATIENCE_S, telnet.kill)
        killer.start()
        telnet.stdin.write(request("add", 20, 22))  # it sends CR LF for the LF
        telnet.stdin.flush()
        lines = iter(telnet.stdout)
        assert any(line.strip() == "42" for line in lines)
        telnet.kill()
        killer.cancel()


def test_socat_gets_its_reply(node: NodeProcess) -> None:
    host, port = place(node)
    assert run("socat", "-t", "5", "-", f"TCP:{host}:{port}", text=request("add", 1, 2)) == "3\n"


def test_bash_needs_no_program_at_all(node: NodeProcess) -> None:
    host, port = place(node)
    script = (
        f"exec 3<>/dev/tcp/{host}/{port}; echo '{request('add', 1, 2).strip()}' >&3; read -r reply <&3; echo $reply"
    )
    assert run("bash", "-c", script) == "3\n"


def test_php_reads_a_long_reply_as_one_line(node: NodeProcess) -> None:
    script = f"""
        $socket = stream_socket_client('tcp://{node.bridge}', $code, $why, 5);
        fwrite($socket, json_encode(['function' => 'long', 'args' => ['size' => 100000]]) . "\\n");
        echo strlen(json_decode(fgets($socket))), "\\n";
        fwrite($socket, json_encode(['function' => 'send_mail', 'args' => ['from' => 'a', 'to' => 'b']]) . "\\n");
        echo json_decode(fgets($socket)), "\\n";
    """
    assert run("php", "-r", script) == "100000\na -> b: \n"


def test_what_php_wrote_line_by_line_runs_though_it_does_not_read(node: NodeProcess, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    script = f"""
        $socket = stream_socket_client('tcp://{node.bridge}', $code, $why, 5);
        $pad = str_repeat('p', 900);
        for ($n = 0; $n < 300; $n++)
            fwrite($socket, json_encode(['function' => 'note', 'args' => ['{notes}', "$n", $pad]]) . "\\n");
        fclose($socket);
    """
    run("php", "-r", script)
    until(lambda: notes.exists() and len(notes.read_text().splitlines()) == 300)
    assert notes.read_text().splitlines() == [str(n) for n in range(300)], "one after another, in their order"


def test_five_thousand_lines_written_at_once_run_though_nobody_reads(node: NodeProcess, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    script = (
        "import socket, sys; s = socket.create_connection((sys.argv[1], int(sys.argv[2]))); "
        "s.sendall(sys.stdin.buffer.read()); s.close()"
    )
    bare = request("note", str(notes), "n", "")
    line = request("note", str(notes), "n", "p" * (200 - len(bare)))
    run(sys.executable, "-c", script, *place(node), text=line * 5000)
    until(lambda: notes.exists() and notes.stat().st_size == 2 * 5000)


def test_a_browser_is_told_off_and_nothing_runs(node: NodeProcess, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    line = request("note", str(notes))
    answer = run("curl", "-s", "--http0.9", "--data-binary", line, f"http://{node.bridge}/")
    assert json.loads(answer)["error"]["type"] == "ProtocolError"
    assert len(answer.splitlines()) == 1
    assert run("nc", "-N", *place(node), text=request("add", 1, 2)) == "3\n", "the node goes on"
    assert not notes.exists()


def test_a_task_that_is_not_for_plain_sockets_is_refused_to_them(node: NodeProcess) -> None:
    error = json.loads(run("nc", "-N", *place(node), text=request("not_for_plain_sockets")))["error"]
    assert error["type"] == "NotAllowed"
    assert not error["started"]


def test_a_worker_that_dies_costs_its_caller_one_error_line(node: NodeProcess) -> None:
    text = request("die") + request("add", 1, 2)
    first, second = run("nc", "-N", *place(node), text=text).splitlines()
    assert json.loads(first)["error"]["type"] == "JobLost"
    assert json.loads(first)["error"]["started"]
    assert second == "3"


def test_sixteen_callers_at_once_are_served_by_sixteen_workers(node: NodeProcess) -> None:
    host, port = place(node)
    callers = [socket.create_connection((host, int(port)), timeout=PATIENCE_S) for _ in range(16)]
    began = time.monotonic()
    for caller in callers:
        caller.sendall(request("sleep", 1.0).encode())
    answers = [caller.makefile().readline() for caller in callers]
    seconds = time.monotonic() - began
    for caller in callers:
        caller.close()
    assert answers == ["1.0\n"] * 16
    print(f"16 callers of a 1 s task: {seconds:.3f} s, on {os.cpu_count()} cores")
    assert seconds < 1.3
