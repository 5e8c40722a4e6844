"""The bridge of a real node as other people's programs find it: nc, telnet, socat, PHP, bash, curl, Python."""

import json
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.documents import ROOT, blocks
from tests.support.leaks import leak_check
from tests.support.nodes import NodeProcess
from tests.support.tools import need

__all__ = ["leak_check"]

CALLERS = Path(__file__).parent / "callers"
PATIENCE_S = 25.0
BIG = 300_000
"""Characters of a reply that no buffer of a caller holds in one piece: PHP's has 8,192."""


@pytest.fixture(scope="module")
def node() -> Iterator[NodeProcess]:
    """One worker: what is answered last ran last."""
    with NodeProcess(CALLERS, bridge=True) as process:
        yield process


@pytest.fixture
def place(node: NodeProcess) -> tuple[str, str]:
    host, _, port = node.bridge.rpartition(":")
    return host, port


@pytest.fixture
def ran(tmp_path: Path) -> Path:
    """Where the task `note` writes."""
    return tmp_path / "ran"


def request(function: str, *args: Any, **kwargs: Any) -> str:
    return json.dumps({"function": function, "args": kwargs or args}) + "\n"


def run(*words: str, given: str = "", folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run a caller to its end."""
    need(words[0])
    return subprocess.run(
        words, cwd=folder, input=given, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )


@contextmanager
def talking(*words: str) -> Iterator[subprocess.Popen[str]]:
    """Run a caller whose input stays open as long as the block lasts; its output ends within bounds."""
    need(words[0])
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, bufsize=1
    ) as process:
        watch = threading.Timer(PATIENCE_S, process.kill)
        watch.start()
        try:
            yield process
        finally:
            watch.cancel()
            process.kill()
            watch.join()


def say(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(line)


def hear(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def php(code: str, *words: str) -> str:
    """Run PHP code that fails at the first warning; return what it printed."""
    strict = "set_error_handler(function ($n, $text) { fwrite(STDERR, $text); exit(9); });"
    done = run("php", "-r", strict + code, "--", *words)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def wait_for_lines(path: Path, number: int) -> list[str]:
    """Wait until a file has so many lines, and return what it has."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        lines = path.read_text().splitlines() if path.exists() else []
        if len(lines) >= number or time.monotonic() > deadline:
            return lines
        time.sleep(0.01)


# nc


def test_nc_that_ends_its_input_reads_every_reply(place: tuple[str, str]) -> None:
    done = run("nc", "-N", *place, given=request("add", 1, 2) + request("sleep", 0.3) + request("add", a=3))
    assert (done.returncode, done.stdout) == (0, "3\n0.3\n3\n")


@pytest.mark.parametrize("option", [("-q", "3"), ("-w", "3")], ids=" ".join)  # a busy machine may need more than one
def test_nc_that_closes_some_seconds_later_reads_the_reply(place: tuple[str, str], option: tuple[str, str]) -> None:
    assert run("nc", *option, *place, given=request("add", 1, 2)).stdout == "3\n"


def test_nc_that_keeps_its_input_open_is_answered_line_by_line(place: tuple[str, str]) -> None:
    with talking("nc", *place) as nc:
        for n in range(3):
            say(nc, request("add", n, 10))
            assert hear(nc) == f"{n + 10}\n"


def test_nc_with_carriage_returns_is_understood(place: tuple[str, str]) -> None:
    done = run("nc", "-C", "-N", *place, given=request("echo", "hi") + "\n" + request("add", 1))
    assert done.stdout == '{"args":["hi"],"kwargs":{}}\n1\n'


def test_nc_reads_a_big_reply_whole(place: tuple[str, str]) -> None:
    assert run("nc", "-N", *place, given=request("long", BIG)).stdout == f'"{"x" * BIG}"\n'


# telnet, socat, bash


def test_telnet_is_answered_line_by_line(place: tuple[str, str]) -> None:
    with talking("telnet", *place) as telnet:
        while not hear(telnet).startswith("Escape character"):
            assert telnet.poll() is None
        say(telnet, request("send_mail", **{"from": "a@x", "to": "b@y"}))
        assert hear(telnet) == '"a@x -> b@y: "\n'
        say(telnet, "nonsense\n")
        assert json.loads(hear(telnet))["error"]["type"] == "ProtocolError"
        say(telnet, request("add", 1, 2))
        assert hear(telnet) == "3\n"


def test_socat_that_ends_its_input_reads_every_reply(place: tuple[str, str]) -> None:
    given = request("add", 1, 2) + request("sleep", 0.3) + request("long", BIG)
    done = run("socat", "-t", f"{PATIENCE_S:g}", "-", f"TCP:{place[0]}:{place[1]}", given=given)
    assert (done.returncode, done.stdout) == (0, f'3\n0.3\n"{"x" * BIG}"\n')


def test_socat_that_ends_its_lines_as_windows_does_is_understood(place: tuple[str, str]) -> None:
    done = run("socat", "-t", f"{PATIENCE_S:g}", "-", f"TCP:{place[0]}:{place[1]},crlf", given=request("add", 1, 2))
    assert done.stdout.splitlines() == ["3"]


def test_bash_alone_calls_a_task(place: tuple[str, str]) -> None:
    program = 'exec 3<>"/dev/tcp/$1/$2"; printf "%s" "$3" >&3; read -r reply <&3; echo "$reply"'
    done = run("bash", "-c", program, "bash", *place, request("add", 1, 2))
    assert (done.stdout, done.stderr) == ("3\n", "")


# PHP


def test_php_with_fsockopen_reads_a_line_for_each_that_it_writes(place: tuple[str, str]) -> None:
    code = """
        $socket = fsockopen($argv[1], (int) $argv[2], $code, $why, 5);
        foreach ([[1, 2], ['a' => 3], ['a' => 4, 'b' => 5]] as $args) {
            fwrite($socket, json_encode(['function' => 'add', 'args' => $args]) . "\n");
            echo fgets($socket);
        }
        fwrite($socket, json_encode(['function' => 'echo', 'args' => []]) . "\r\n");
        echo fgets($socket);
        fclose($socket);
    """
    assert php(code, *place) == '3\n3\n9\n{"args":[],"kwargs":{}}\n'


def test_php_reads_a_reply_that_is_longer_than_its_buffer(place: tuple[str, str]) -> None:
    code = """
        $socket = stream_socket_client("tcp://$argv[1]:$argv[2]", $code, $why, 5);
        $ask = json_encode(['function' => 'long', 'args' => [(int) $argv[3]]]) . "\n";
        fwrite($socket, $ask);
        echo strlen(json_decode(fgets($socket))), "\n";
        fwrite($socket, $ask);
        for ($reply = ''; !str_ends_with($reply, "\n"); $reply .= $piece) {
            if (($piece = fread($socket, 8192)) === '' || $piece === false) exit(3);
        }
        echo strlen(json_decode($reply)), "\n";
    """
    assert php(code, *place, f"{BIG}") == f"{BIG}\n{BIG}\n"


def test_php_sees_a_failure_as_a_line_and_goes_on() -> None:
    code = """
        $socket = stream_socket_client("tcp://$argv[1]", $code, $why, 5);
        foreach (['die', 'not_for_plain_sockets', 'nosuch', 'unwritable', 'add'] as $function) {
            fwrite($socket, json_encode(['function' => $function, 'args' => null]) . "\n");
            echo json_decode(fgets($socket), true)['error']['type'], "\n";
        }
        fwrite($socket, json_encode(['function' => 'raise_value_error', 'args' => ['Ungültig']]) . "\n");
        $error = json_decode(fgets($socket), true)['error'];
        echo $error['type'], ' ', $error['message'], ' ', var_export($error['started'], true);
    """
    with NodeProcess(CALLERS, bridge=True) as node:  # one of its own: a worker dies, and another one comes
        lines = php(code, node.bridge).splitlines()
    assert lines[:5] == ["JobLost", "NotAllowed", "UnknownTask", "ResultNotSerializable", "BadArguments"]
    assert lines[5] == "ValueError Ungültig true"


# Python


def test_a_python_socket_may_cut_its_lines_anywhere(place: tuple[str, str]) -> None:
    with socket.create_connection(place, PATIENCE_S) as caller, caller.makefile("rb") as replies:
        caller.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in request("add", 1, 2).replace("\n", "\r\n").encode():
            caller.sendall(bytes([byte]))
        assert replies.readline() == b"3\n"
        caller.sendall((request("add", 1) + request("add", 2) + "\n" + request("add", 3)).encode())
        assert [replies.readline() for _ in range(3)] == [b"1\n", b"2\n", b"3\n"]


def test_connections_that_only_look_leave_no_trace() -> None:
    with NodeProcess(CALLERS, bridge=True) as node:
        host, _, port = node.bridge.rpartition(":")
        for _ in range(50):
            socket.create_connection((host, port), PATIENCE_S).close()
        assert run("nc", "-z", host, port).returncode == 0
        assert run("nc", "-N", host, port, given='{"function": "$ping"}\n').stdout == '{"ok":true}\n'
        assert node.stop() == 0
    since = node.log.partition("bridge: ")[2].splitlines()[1:]
    assert [line for line in since if "stopping" not in line] == []


# what a browser could be made to send


@pytest.mark.parametrize("options", [("-X", "POST"), ("-X", "PUT"), ("-X", "GET"), ("-X", "OPTIONS")], ids=" ".join)
def test_http_gets_one_error_line_and_nothing_in_it_runs(
    place: tuple[str, str], ran: Path, options: tuple[str, ...]
) -> None:
    body = "\n" + request("note", path=str(ran), text="by curl") * 3
    url = f"http://{place[0]}:{place[1]}/"
    done = run("curl", "--http0.9", "--silent", "--max-time", "10", *options, "--data-binary", body, url)
    (line,) = done.stdout.splitlines()
    assert json.loads(line)["error"]["type"] == "ProtocolError"
    assert done.returncode != 28, "the connection stayed open"
    assert run("nc", "-N", *place, given=request("note", path=str(ran), text="by nc")).stdout == '"by nc"\n'
    assert ran.read_text() == "by nc\n"


def test_http_that_is_sent_in_one_piece_runs_nothing_either(place: tuple[str, str], ran: Path) -> None:
    job = request("note", path=str(ran), text="by a page")
    with socket.create_connection(place, PATIENCE_S) as caller, caller.makefile("rb") as replies:
        caller.sendall(f"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999\r\n\r\n{job * 3}".encode())
        assert json.loads(replies.readline())["error"]["type"] == "ProtocolError"
        assert replies.read() == b""
    assert run("nc", "-N", *place, given=request("note", path=str(ran), text="by nc")).stdout == '"by nc"\n'
    assert ran.read_text() == "by nc\n"


# many at once


def test_16_callers_use_16_workers(tmp_path: Path) -> None:
    with NodeProcess(CALLERS, workers=16, bridge=True) as node, ExitStack() as stack:
        host, _, port = node.bridge.rpartition(":")
        callers = [stack.enter_context(socket.create_connection((host, port), PATIENCE_S)) for _ in range(16)]
        replies = [stack.enter_context(caller.makefile("rb")) for caller in callers]
        job = request("meet", folder=str(tmp_path / "place"), count=16).encode()
        for caller in callers:
            caller.sendall(job)
        answers = [json.loads(reply.readline()) for reply in replies]
    assert all(isinstance(answer, int) for answer in answers), answers
    assert len(set(answers)) == 16, "each ran in a process of its own while the 15 others did"


# fire and forget


FIRE_IN_PHP = """
$pieces = $argv[3] === 'at once' ? [stream_get_contents(STDIN)] : file('php://stdin');
$socket = stream_socket_client("tcp://$argv[1]:$argv[2]", $code, $why, 5);
foreach ($pieces as $piece) {
    for ($sent = 0; $sent < strlen($piece); $sent += $wrote) {
        if (!($wrote = fwrite($socket, substr($piece, $sent)))) exit(3);
    }
}
fclose($socket);
"""

TRICKLE_IN_PHP = """
$socket = stream_socket_client("tcp://$argv[1]:$argv[2]", $code, $why, 5);
foreach (file('php://stdin') as $line) {
    fwrite($socket, $line);
    usleep(2000);
}
stream_socket_shutdown($socket, STREAM_SHUT_WR);
while (!feof($socket)) fread($socket, 8192);
"""


def padded(path: Path, number: int, size: int) -> str:
    """Lines of this many bytes that note their own numbers."""
    lines = []
    for n in range(number):
        bare = request("note", path=str(path), text=f"{n}", pad="")
        assert len(bare) <= size
        lines.append(request("note", path=str(path), text=f"{n}", pad="p" * (size - len(bare))))
    return "".join(lines)


@pytest.mark.parametrize("load", [(300, 1024, "line by line"), (5000, 200, "at once")], ids=str)
def test_what_php_wrote_before_it_closed_unread_runs_in_order(
    place: tuple[str, str], ran: Path, load: tuple[int, int, str]
) -> None:
    number, size, way = load
    closed = ran.with_name("closed")
    first = request("wait_for", path=str(closed))  # as with any job that takes a while, nobody is answered before
    done = run("php", "-r", FIRE_IN_PHP, "--", *place, way, given=first + padded(ran, number, size))
    closed.touch()
    assert (done.returncode, done.stderr) == (0, "")
    assert wait_for_lines(ran, number) == [f"{n}" for n in range(number)]


def test_what_a_caller_trickled_runs_if_it_reads_to_the_end_before_it_closes(place: tuple[str, str], ran: Path) -> None:
    done = run("php", "-r", TRICKLE_IN_PHP, "--", *place, given=padded(ran, 300, 1024))
    assert (done.returncode, done.stderr) == (0, "")
    assert wait_for_lines(ran, 300) == [f"{n}" for n in range(300)]


# what is refused, and what fails


def test_a_task_that_is_not_for_plain_sockets_is_refused(place: tuple[str, str]) -> None:
    error = json.loads(run("nc", "-N", *place, given=request("not_for_plain_sockets")).stdout)["error"]
    assert (error["type"], error["started"]) == ("NotAllowed", False)


def test_a_worker_that_dies_costs_its_caller_one_error_line() -> None:
    given = request("die") + request("add", a=1, b=2)
    with NodeProcess(CALLERS, bridge=True) as node:
        host, _, port = node.bridge.rpartition(":")
        first, second = run("nc", "-N", host, port, given=given).stdout.splitlines()
    assert json.loads(first)["error"]["type"] == "JobLost"
    assert json.loads(first)["error"]["started"]
    assert second == "3"


# what the documents say


@pytest.mark.parametrize(("document", "module"), [("README.md", "tasks"), ("docs/text-protocol.md", "")])
def test_a_pipeline_in_a_document_prints_what_stands_below_it(tmp_path: Path, document: str, module: str) -> None:
    need("nc")
    (shown,) = [code for code in blocks(document, "console") if "| nc " in code]
    command, expected = shown.removeprefix("$ ").split("\n", 1)
    if module:
        (tmp_path / f"{module}.py").write_text(blocks("README.md", "python")[0])
    with NodeProcess(tmp_path, module=module, bridge=True) as node:
        host, _, port = node.bridge.rpartition(":")
        assert "127.0.0.1 12345" in command
        done = run("sh", "-c", command.replace("127.0.0.1 12345", f"{host} {port}"))
    assert (done.stdout, done.stderr) == (expected, "")


def test_the_php_in_the_document_gets_its_reply(tmp_path: Path) -> None:
    code, _ = blocks("docs/text-protocol.md", "php")
    (tmp_path / "tasks.py").write_text(blocks("README.md", "python")[0])
    with NodeProcess(tmp_path, bridge=True) as node:
        assert "127.0.0.1:12345" in code
        said = php(code.replace("127.0.0.1:12345", node.bridge) + "echo $reply;")
    assert said == "sent to a@example.org"
