"""The bridge of a real node beyond this host: allowed addresses, PROXY headers, TLS, a token, limits."""

import json
import signal
import socket
import ssl
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from random import Random
from typing import Any

import psutil
import pytest

from meshnode.core.preface import PREFACE_S, V2
from tests.support.documents import blocks
from tests.support.leaks import leak_check
from tests.support.nodes import NodeProcess, run_meshnode
from tests.support.tools import need

__all__ = ["leak_check"]

CALLERS = Path(__file__).parent / "callers"
PATIENCE_S = 25.0
TOKEN = b"correct horse battery staple"
ALLOWED, OTHER, PROXY, CALLER = "127.0.0.2", "127.0.0.3", "127.0.0.4", "203.0.113.7"
"""All of 127/8 is this host: a caller has the address that it binds."""

PING = b'{"function":"$ping"}\n'
ADD = b'{"function":"add","args":[1,2]}\n'
OK = b'{"ok":true}\n'


def proxy_1(source: str) -> bytes:
    return f"PROXY TCP4 {source} 192.0.2.1 4711 12345\r\n".encode()


def proxy_2(source: str, command: int = 1) -> bytes:
    block = socket.inet_aton(source) + socket.inet_aton("192.0.2.1") + struct.pack("!HH", 4711, 12345)
    return V2 + bytes([0x20 | command, 0x11]) + struct.pack("!H", len(block)) + block


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a token, a certificate for localhost and its key."""
    need("openssl")
    folder = tmp_path_factory.mktemp("secrets")
    (folder / "token").write_bytes(TOKEN + b"\n")
    (folder / "token").chmod(0o600)
    made = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "9",
    ]
    made += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", "key", "-out", "cert"]
    subprocess.run(made, cwd=folder, check=True, capture_output=True, timeout=PATIENCE_S)
    return folder


@contextmanager
def a_node(*arguments: str) -> Iterator[NodeProcess]:
    with NodeProcess(CALLERS, *arguments, bridge=True) as node:
        yield node


def a_node_with_token(secrets: Path) -> AbstractContextManager[NodeProcess]:
    return a_node("--bridge-token", str(secrets / "token"))


def a_node_with_tls(secrets: Path) -> AbstractContextManager[NodeProcess]:
    """TLS and a token, and behind a proxy too."""
    words = ["--bridge-token", "token", "--bridge-cert", "cert", "--bridge-cert-key", "key"]
    words = [word if word.startswith("--") else str(secrets / word) for word in words]
    return a_node(*words, "--bridge-proxy", PROXY)


@pytest.fixture(scope="module")
def with_token(secrets: Path) -> Iterator[NodeProcess]:
    with a_node_with_token(secrets) as node:
        yield node


@pytest.fixture(scope="module")
def with_tls(secrets: Path) -> Iterator[NodeProcess]:
    with a_node_with_tls(secrets) as node:
        yield node


@pytest.fixture(scope="module")
def with_list() -> Iterator[NodeProcess]:
    """Some addresses are allowed, and a proxy may speak for others."""
    words = ["--bridge-allow", f"{ALLOWED}/32", "--bridge-allow", "203.0.113.0/24", "--bridge-proxy", PROXY]
    with a_node(*words, "--bridge-max-per-address", "2") as node:
        yield node


def place(node: NodeProcess) -> tuple[str, int]:
    host, _, port = node.bridge.rpartition(":")
    return host, int(port)


def connect(node: NodeProcess, source: str = "") -> socket.socket:
    return socket.create_connection(place(node), timeout=PATIENCE_S, source_address=(source, 0) if source else None)


def client_context(secrets: Path, **options: Any) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(secrets / "cert"))
    for name, value in options.items():
        setattr(context, name, value)
    return context


def hello() -> bytes:
    """The first that a caller says in TLS."""
    inside, outside = ssl.MemoryBIO(), ssl.MemoryBIO()
    with suppress(ssl.SSLWantReadError):
        ssl.create_default_context().wrap_bio(inside, outside, server_hostname="localhost").do_handshake()
    return outside.read()


def rest(line: socket.socket) -> bytes:
    """What comes until the end of the stream, however that ends."""
    got = b""
    try:
        while piece := line.recv(65_536):
            got += piece
    except ConnectionResetError:
        pass
    return got


def said(node: NodeProcess, stream: bytes, *, source: str = "", cut: int = 0) -> bytes:
    """Say something, in pieces of `cut` bytes; return all that is answered."""
    step = cut or len(stream) or 1
    with connect(node, source) as line:
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with suppress(OSError):  # it was closed before
            for begin in range(0, len(stream), step):
                line.sendall(stream[begin : begin + step])
            line.shutdown(socket.SHUT_WR)
        return rest(line)


def kind(answer: bytes) -> str:
    (line,) = answer.splitlines()
    found: str = json.loads(line)["error"]["type"]
    return found


def wait_until_gone(node: NodeProcess) -> None:
    """Wait until the node has let go of every plain socket, those included that it has yet to accept."""
    deadline = time.monotonic() + PATIENCE_S
    port = place(node)[1]
    # Not of the node's own descriptors alone: what the kernel keeps until it is accepted is nobody's.
    while any(
        c.laddr and c.laddr[1] == port and c.status not in ("LISTEN", "TIME_WAIT")
        for c in psutil.net_connections(kind="tcp")
    ):
        assert time.monotonic() < deadline, "it holds a connection"
        time.sleep(0.01)


# which tasks


def test_a_glob_opens_tasks_to_plain_sockets_and_no_others(with_token: NodeProcess) -> None:
    asked = b'{"function":"not_for_plain_sockets"}\n'
    assert kind(said(with_token, TOKEN + b"\n" + asked)) == "NotAllowed"
    with a_node("--bridge-tasks", "other", "--bridge-tasks", "not_for_*") as node:
        assert said(node, asked + ADD) == b"null\n3\n"
    checked = run_meshnode(CALLERS, "check", "--bridge-tasks", "not_for_*", "tasks")
    assert "not_for_plain_sockets() -> None  [bridge]" in checked.stdout


# the token


@pytest.mark.parametrize("cut", [0, 1])
def test_with_the_token_as_first_line_all_is_as_ever(with_token: NodeProcess, cut: int) -> None:
    assert said(with_token, TOKEN + b"\n" + PING + ADD, cut=cut) == OK + b"3\n"
    assert said(with_token, TOKEN + b"\r\n" + ADD * 1000, cut=cut and 100) == b"3\n" * 1000


@pytest.mark.parametrize(
    "first",
    [
        b"",
        TOKEN[:-1] + b"\n",
        TOKEN,
        b"x" * 5000,
        b"POST / HTTP/1.1\r\nHost: localhost\r\n\r\n" + TOKEN + b"\n",
        proxy_1(ALLOWED) + TOKEN + b"\n",
        proxy_2(ALLOWED) + TOKEN + b"\n",
        b"\n" + TOKEN + b"\n",
    ],
    ids=lambda first: str(first)[:30],
)
def test_without_it_one_line_says_so_and_nothing_runs(with_token: NodeProcess, first: bytes, tmp_path: Path) -> None:
    note = json.dumps({"function": "note", "args": [str(tmp_path / "ran")]}).encode() + b"\n"
    assert kind(said(with_token, first + PING + note)) == "NotAllowed"
    wait_until_gone(with_token)
    assert not (tmp_path / "ran").exists()


def test_what_looks_like_http_behind_the_token_runs_nothing_either(with_token: NodeProcess) -> None:
    assert kind(said(with_token, TOKEN + b"\nGET / HTTP/1.1\r\n" + ADD)) == "ProtocolError"


def test_who_does_not_give_the_token_in_time_is_told_and_who_says_nothing_at_all_is_a_health_check(
    secrets: Path,
) -> None:
    def silent(node: NodeProcess, first: bytes) -> tuple[bytes, float]:
        begun = time.monotonic()  # the node may count from before `connect` has returned here
        with connect(node) as line:
            line.sendall(first)
            return rest(line), time.monotonic() - begun

    with a_node_with_token(secrets) as with_token, a_node_with_tls(secrets) as with_tls:
        nodes = with_token, with_tls
        for node in nodes:
            connect(node).close()
            wait_until_gone(node)
        with ThreadPoolExecutor() as threads:
            waits = [threads.submit(silent, node, first) for node in nodes for first in (b"", b"\x16\x03")]
            (silence, _), (begun, _), (no_tls, _), (half_tls, _) = answers = [wait.result() for wait in waits]
        assert [kind(answer) for answer in (silence, begun)] == ["NotAllowed"] * 2
        assert (no_tls, half_tls) == (b"", b"")
        assert all(PREFACE_S - 0.1 < took < PREFACE_S + 6.0 for _, took in answers)  # which is less than a line has
        for node in nodes:
            # Said once a minute: had the health check been one of them, its line would stand in this one's place.
            node.wait_for_log(r"turned away: .*it took longer than")


def test_a_connection_that_waits_for_nothing_else_does_not_hold_up_a_stop(secrets: Path) -> None:
    with a_node("--bridge-token", str(secrets / "token")) as node, connect(node) as line:
        line.sendall(b"half a tok")
        assert said(node, TOKEN + b"\n" + PING) == OK
        assert node.stop() == 0


def test_a_reload_reads_the_token_again_and_keeps_the_old_one_where_that_fails(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_bytes(TOKEN)
    token.chmod(0o600)
    with a_node("--bridge-token", str(token)) as node, connect(node) as before:
        before.sendall(TOKEN + b"\n" + PING)
        assert before.recv(100) == OK
        for content, logged, good in [
            (b"short", "not reloaded: .*has 5 bytes", TOKEN),
            (b"n" * 40, "reloaded after", b"n" * 40),
        ]:
            token.write_bytes(content)
            node.signal(signal.SIGHUP)
            node.wait_for_log(logged, timeout=PATIENCE_S)
            assert said(node, good + b"\n" + ADD) == b"3\n"
        assert kind(said(node, TOKEN + b"\n" + ADD)) == "NotAllowed"
        before.sendall(ADD)
        assert before.recv(100) == b"3\n", "who is in stays"


def test_nc_and_socat_begin_with_the_token(with_token: NodeProcess, secrets: Path) -> None:
    need("nc")
    need("socat")
    host, port = place(with_token)
    for caller in (f"nc -N {host} {port}", f"socat -t 9 - TCP:{host}:{port}"):
        line = f"(cat {secrets / 'token'}; echo '{ADD.decode().strip()}') | {caller}"
        done = subprocess.run(["sh", "-c", line], capture_output=True, timeout=PATIENCE_S, check=False)
        assert (done.stdout, done.stderr) == (b"3\n", b"")


@pytest.mark.parametrize(
    ("flags", "hint"),
    [
        (["--bridge-token", "open"], "open can be read by everybody here: chmod o= open"),
        (["--bridge-token", "none"], "none cannot be read: No such file"),
        (["--bridge-cert", "open"], "open cannot be used"),
        (["--bridge-cert", "none"], "none cannot be used: No such file"),
        (["--bridge-cert-key", "open"], "--bridge-cert-key is of no use without --bridge-cert"),
        (["--bridge-allow", "10.0.0.1/8"], "'10.0.0.1/8' is no network"),
        (["--bridge-proxy", "lb.example.org"], "'lb.example.org' is no network"),
        (
            ["--bridge", "*:0", "--bridge-token", "open"],
            "with which --bridge-allow CIDR or --bridge-token FILE opens it to some; --insecure does without",
        ),
    ],
    ids=str,
)
def test_what_cannot_guard_is_an_error_at_the_start(tmp_path: Path, flags: list[str], hint: str) -> None:
    (tmp_path / "open").write_text("x" * 32)
    (tmp_path / "open").chmod(0o644)
    done = run_meshnode(tmp_path, "-w", "1", "--no-mdns", "--bind", "127.0.0.1:0", "--bridge", "127.0.0.1:0", *flags)
    assert done.returncode == 1
    assert hint in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_with_keys_a_guarded_bridge_may_be_on_the_network_and_no_other(secrets: Path, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    made = [sys.executable, "-c", "from mesh.ctl import main; main()", "keygen", "--keys", str(keys)]
    subprocess.run(made, check=True, capture_output=True, timeout=PATIENCE_S)
    words = ["--keys", str(keys), "--no-mdns", "--bind", "127.0.0.1:0", "--bridge", "0.0.0.0:0"]
    refused = run_meshnode(CALLERS, "tasks", "-w", "1", *words)
    assert refused.returncode == 1
    assert "say who may with --bridge-allow CIDR, --bridge-token FILE, or both" in " ".join(refused.stderr.split())
    guard = ["--bridge", "0.0.0.0:0", "--bridge-token", str(secrets / "token")]
    with a_node("--keys", str(keys), *guard) as node:
        assert node.bridge.startswith("0.0.0.0:")
        assert said(node, TOKEN + b"\n" + ADD) == b"3\n"
        assert kind(said(node, ADD)) == "NotAllowed"


# TLS


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=str)
@pytest.mark.parametrize("proxied", [b"", proxy_1(CALLER), proxy_2(CALLER)], ids=["straight", "PROXY 1", "PROXY 2"])
def test_over_tls_all_is_as_ever(with_tls: NodeProcess, secrets: Path, version: ssl.TLSVersion, proxied: bytes) -> None:
    context = client_context(secrets, minimum_version=version, maximum_version=version)
    raw = connect(with_tls, PROXY if proxied else "")
    raw.sendall(proxied)
    with context.wrap_socket(raw, server_hostname="localhost") as line:
        line.sendall(TOKEN + b"\n")
        with line.makefile("rwb", 0) as stream:
            for n in range(50):
                stream.write(b'{"function":"add","args":[%d]}\n' % n)
                assert stream.readline() == b"%d\n" % n
        line.sendall(ADD * 20_000)
        got = b""
        while len(got) < 40_000:
            got += line.recv(65_536)
        assert got == b"3\n" * 20_000
        line.unwrap().close()  # which waits for the end of the other side, and raises if that does not come


def test_a_long_line_and_its_long_reply_pass_through_tls_whatever_the_reader_does(
    with_tls: NodeProcess, secrets: Path
) -> None:
    text = "x" * 4_000_000
    asked = json.dumps({"function": "echo", "args": [text]}).encode() + b"\n"
    with client_context(secrets).wrap_socket(connect(with_tls), server_hostname="localhost") as line:
        line.sendall(TOKEN + b"\n" + asked * 4)  # nothing is read meanwhile
        with line.makefile("rb") as stream:
            for _ in range(4):
                assert json.loads(stream.readline())["args"] == [text]


def test_the_end_of_the_callers_side_of_tls_is_the_end_of_its_requests(with_tls: NodeProcess, secrets: Path) -> None:
    """close_notify, which comes together with the last request, and the socket stays open."""
    inside, outside = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = client_context(secrets).wrap_bio(inside, outside, server_hostname="localhost")
    with connect(with_tls) as line:

        def until_done(step: Any) -> Any:
            while True:
                try:
                    done = step()
                except ssl.SSLWantReadError:
                    line.sendall(outside.read())
                    inside.write(line.recv(65_536))
                else:
                    return done

        until_done(tls.do_handshake)
        tls.write(TOKEN + b"\n" + b'{"function":"sleep","args":[0.2]}\n' + ADD)
        with pytest.raises(ssl.SSLWantReadError):
            tls.unwrap()
        line.sendall(outside.read())
        assert until_done(lambda: tls.read(4)) == b"0.2\n"
        assert until_done(lambda: tls.read(2)) == b"3\n"
        until_done(tls.unwrap)
        assert rest(line) == b""


def test_openssl_and_socat_speak_tls(with_tls: NodeProcess, secrets: Path) -> None:
    need("socat")
    host, port = place(with_tls)
    callers = [
        f"openssl s_client -quiet -no_ign_eof -verify_return_error -CAfile cert -connect {host}:{port} 2>/dev/null",
        f"socat -t 9 - OPENSSL:{host}:{port},cafile=cert,commonname=localhost",
    ]
    for caller in callers:
        # Its input does not end before the sum is there: openssl ends with it, and asks nobody whether more is to come.
        wait = "n=0; until [ -s sum ] || [ $((n += 1)) -gt 100 ]; do sleep 0.1; done"
        line = f"(cat token; echo '{ADD.decode().strip()}'; {wait}) | {caller} > sum"
        done = subprocess.run(["sh", "-c", line], cwd=secrets, capture_output=True, timeout=PATIENCE_S, check=False)
        assert ((secrets / "sum").read_bytes(), done.stderr) == (b"3\n", b"")
        (secrets / "sum").unlink()


@pytest.mark.parametrize(("number", "guard"), [(0, "token"), (1, "token and TLS")])
def test_the_callers_in_the_document_are_answered(secrets: Path, tmp_path: Path, number: int, guard: str) -> None:
    """They ask for `ping`, which a node serves that was given nothing else."""
    need("nc")
    need("socat")
    for name, there in (("token", "token"), ("cert.pem", "cert"), ("key.pem", "key")):
        (tmp_path / name).symlink_to(secrets / there)
    words = ["--bridge-token", "token"]
    words += ["--bridge-cert", "cert.pem", "--bridge-cert-key", "key.pem"] if "TLS" in guard else []
    callers = blocks("docs/text-protocol.md", "sh")[number].splitlines()
    with NodeProcess(tmp_path, *words, module="", bridge=True) as node:
        port = str(place(node)[1])
        for caller in callers:
            line = caller.replace("web7 12345", f"localhost {port}").replace("web7:12345", f"localhost:{port}")
            assert line != caller
            line = line.replace("sleep 1)", "sleep 5)")  # for the answer of a busy machine
            done = subprocess.run(
                ["sh", "-c", line], cwd=tmp_path, capture_output=True, timeout=PATIENCE_S, check=False
            )
            assert done.stdout == b'"pong"\n', done.stderr
        if "TLS" in guard:
            need("php")
            code = blocks("docs/text-protocol.md", "php")[1]
            assert "web7:12345" in code
            said_by = code.replace("web7:12345", f"localhost:{port}") + "echo $reply;"
            done = subprocess.run(
                ["php", "-r", said_by], cwd=tmp_path, capture_output=True, timeout=PATIENCE_S, check=False
            )
            assert done.stdout == b"pong", done.stderr


def test_who_does_not_speak_tls_is_told_in_plain_words(with_tls: NodeProcess) -> None:
    answer = said(with_tls, TOKEN + b"\n" + ADD)
    assert kind(answer) == "ProtocolError"
    assert b"this port speaks TLS" in answer


def test_the_token_is_asked_for_behind_tls(with_tls: NodeProcess, secrets: Path) -> None:
    with client_context(secrets).wrap_socket(connect(with_tls), server_hostname="localhost") as line:
        line.sendall(PING + ADD)
        assert kind(rest(line)) == "NotAllowed"


def test_an_old_tls_is_refused(with_tls: NodeProcess, secrets: Path) -> None:
    context = client_context(secrets)
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="deprecated"):
        context.minimum_version = ssl.TLSVersion.TLSv1
    with pytest.warns(DeprecationWarning, match="deprecated"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    with connect(with_tls) as raw, pytest.raises((ssl.SSLError, ConnectionError)):
        context.wrap_socket(raw, server_hostname="localhost")


def test_garbage_in_a_handshake_or_behind_it_costs_its_connection_only(with_tls: NodeProcess, secrets: Path) -> None:
    garbage = bytes(range(256)) * 40
    with client_context(secrets).wrap_socket(connect(with_tls), server_hostname="localhost") as good:
        good.sendall(TOKEN + b"\n")
        assert said(with_tls, b"\x16\x03\x01\x02\x00" + garbage)[:1] in (b"", b"\x15")
        bad = client_context(secrets).wrap_socket(connect(with_tls), server_hostname="localhost")
        bad.sendall(TOKEN + b"\n")
        with socket.socket(fileno=bad.detach()) as raw:
            raw.settimeout(PATIENCE_S)
            raw.sendall(garbage)
            rest(raw)
        good.sendall(ADD)
        assert good.recv(100) == b"3\n"
    assert "Traceback" not in with_tls.log


def test_whatever_comes_first_costs_its_connection_only(
    with_token: NodeProcess, with_tls: NodeProcess, with_list: NodeProcess
) -> None:
    random = Random(17)
    parts = [
        proxy_1(CALLER),
        proxy_2(CALLER),
        hello(),
        TOKEN + b"\n",
        ADD,
        random.randbytes(200),
        b"GET / HTTP/1.1\r\n",
    ]

    def changed(part: bytes) -> bytes:
        made = bytearray(part)
        for _ in range(random.choice((0, 0, 1, 3))):
            made[random.randrange(len(made))] = random.randrange(256)
        return bytes(made if random.random() < 0.7 else made[: random.randrange(len(made))])

    for node in (with_token, with_tls, with_list):
        for _ in range(200):
            with connect(node, random.choice((ALLOWED, PROXY))) as line, suppress(OSError):  # it may be closed by now
                for _ in range(random.randrange(4)):
                    line.sendall(changed(random.choice(parts)))
                if random.random() < 0.5:
                    line.shutdown(socket.SHUT_WR)
        wait_until_gone(node)
        assert "Traceback" not in node.log
    assert said(with_token, TOKEN + b"\n" + ADD) == b"3\n"
    # For another caller than those above: of one there may be two, and the node may not know yet that all theirs left.
    assert said(with_list, proxy_1("203.0.113.200") + ADD, source=PROXY) == b"3\n"


# addresses


def test_only_callers_of_allowed_addresses_are_heard(with_list: NodeProcess) -> None:
    assert said(with_list, PING, source=ALLOWED) == OK
    for source in ("", OTHER):
        assert said(with_list, PING, source=source) == b""
    wait_until_gone(with_list)
    with_list.wait_for_log("--bridge-allow does not name")
    assert with_list.log.count("--bridge-allow does not name") == 1


@pytest.mark.parametrize("cut", [0, 1])
@pytest.mark.parametrize("header", [proxy_1, proxy_2])
def test_a_proxy_says_who_its_caller_is(with_list: NodeProcess, header: Any, cut: int) -> None:
    assert said(with_list, header(CALLER) + PING + ADD, source=PROXY, cut=cut) == OK + b"3\n"
    assert said(with_list, header(OTHER) + PING, source=PROXY, cut=cut) == b""


def test_a_proxys_health_check_is_answered(with_list: NodeProcess) -> None:
    assert said(with_list, proxy_2("0.0.0.0", command=0) + PING, source=PROXY) == OK
    assert said(with_list, V2 + b"\x20\0\0\0" + PING, source=PROXY) == OK
    assert said(with_list, V2 + b"\x20\0\0\0", source=PROXY) == b""
    assert said(with_list, b"PROXY UNKNOWN\r\n" + PING, source=PROXY) == b"", "it speaks for nobody who is allowed"


@pytest.mark.parametrize("first", [b"", b"PROXY TCP4 nonsense\r\n", V2 + b"\x11\x11\0\0", b"GET / HTTP/1.1\r\n\r\n"])
def test_a_proxy_without_a_header_is_refused(with_list: NodeProcess, first: bytes) -> None:
    answer = said(with_list, first + PING, source=PROXY)
    assert kind(answer) == "ProtocolError"
    assert b"begins with a PROXY header" in answer


def test_from_others_a_header_is_a_bad_line_as_any(with_list: NodeProcess) -> None:
    answers = [json.loads(line) for line in said(with_list, proxy_1(CALLER) + PING, source=ALLOWED).splitlines()]
    assert answers[0]["error"]["type"] == "ProtocolError"
    assert answers[1] == {"ok": True}


def test_so_many_of_one_address_are_let_in_whichever_way_they_come(with_list: NodeProcess) -> None:
    with ExitStack() as stack:
        for source, first in [(ALLOWED, b""), (PROXY, proxy_1(CALLER)), (PROXY, proxy_2(CALLER)), (ALLOWED, b"")]:
            line = stack.enter_context(connect(with_list, source))
            line.sendall(first + PING)
            assert line.recv(100) == OK
        for source, first in [(ALLOWED, b""), (PROXY, proxy_1(CALLER)), (PROXY, proxy_2(CALLER))]:
            answer = said(with_list, first, source=source)
            assert kind(answer) == "MeshBusy"
            assert b"2 connections from" in answer
        assert said(with_list, proxy_1("203.0.113.8") + PING, source=PROXY) == OK, "another caller of the same proxy"
    wait_until_gone(with_list)
    assert said(with_list, PING, source=ALLOWED) == OK


def test_a_proxys_connections_wait_for_their_headers_however_many_they_are(with_list: NodeProcess) -> None:
    with ExitStack() as stack:
        lines = [stack.enter_context(connect(with_list, PROXY)) for _ in range(10)]
        said(with_list, proxy_2("0.0.0.0", command=0) + PING, source=PROXY)  # after this all are accepted
        for number, line in enumerate(lines):
            line.sendall(proxy_1(f"203.0.113.{number + 20}") + PING)
        assert [line.recv(100) for line in lines] == [OK] * 10


def test_so_many_are_let_in_at_all() -> None:
    with a_node("--bridge-max-connections", "2", "--bridge-max-per-address", "2") as node, connect(node) as first:
        for _ in range(2):
            first.sendall(PING)
            assert first.recv(100) == OK
        with connect(node, OTHER) as second:
            second.sendall(PING)
            assert second.recv(100) == OK
            assert kind(said(node, b"", source=ALLOWED)) == "MeshBusy"


def test_a_line_that_does_not_go_on_is_given_up_and_one_that_does_is_not() -> None:
    asked = json.dumps({"function": "echo", "args": ["x" * 20_000]}).encode() + b"\n"
    with a_node("--bridge-line-timeout", "0.5") as node, connect(node) as slow, connect(node) as stuck:
        begun = time.monotonic()
        stuck.sendall(b'{"function"')
        for piece in (asked[:15_000], asked[15_000:20_020], asked[20_020:]):  # so much buys it many seconds more
            slow.sendall(piece)
            time.sleep(0.4)  # the rate is what is tested
        with slow.makefile("rb") as replies:
            assert json.loads(replies.readline())["args"] == ["x" * 20_000]
        assert kind(rest(stuck)) == "ProtocolError"
        assert time.monotonic() - begun < 8.0  # it would have 10 s if no other length was set
