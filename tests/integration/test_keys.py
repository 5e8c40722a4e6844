"""Real nodes with keys: who is let in, what they may do, and who gets nothing."""

import asyncio
import json
import logging
import secrets
import time
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest
import zmq

import mesh
from mesh.core.dialer import NO_KEY
from mesh.core.grants import ALLOWED, OPERATE, SUBMIT
from mesh.wire.messages import WRONG_KEY, Refuse, Result, Welcome
from meshdiscovery.mdns import Announcer
from meshdiscovery.record import Record
from meshnode import guard as guard_module
from meshnode.guard import Guard
from tests.support.clients import connected, until_started
from tests.support.gates import HELD, Gate
from tests.support.keyed import KeyedFront, Keys, Rogue, Wiretap, keyed_peer
from tests.support.leaks import leak_check  # noqa: F401  # pytest finds it by its name
from tests.support.nodes import NodeProcess, lasting_address, run_meshnode, write_tasks
from tests.support.pauses import Pauses
from tests.support.peers import Peer
from tests.support.processes import zygote_of
from tests.support.waiting import until

NO_KEYS = {"MESH_KEYS": "none"}
REVOKED_S = 4.0
"""Seconds until a key that was taken out is of no use any more: some two, and more on a busy machine."""

GRACE_S = 5.0
"""Seconds for a client to be turned away by all nodes before its job's error says why."""

TASKS = """
import os, pathlib, time

@mesh.task
def send_mail(to: str = "") -> str:
    return to

@mesh.task(bridge=True)
def nap(seconds: float = 0.0) -> int:
    time.sleep(seconds)
    return os.getppid()

@mesh.task(idempotent=True)
def report(n: int = 0) -> int:
    return n

@mesh.task
def touch(path: str) -> None:
    pathlib.Path(path).touch()
"""


@pytest.fixture
def app(tmp_path: Path) -> Path:
    folder = tmp_path / "app"
    folder.mkdir()
    write_tasks(folder, TASKS + HELD)
    return folder


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    """Keys of the nodes a and b."""
    return Keys(tmp_path, "a", "b")


def a_node(
    app: Path, keys: Keys, name: str, *arguments: str, bind: str = "127.0.0.1:0", workers: int = 1
) -> NodeProcess:
    environment = keys.environment(name, keys.of(name))
    return NodeProcess(app, "--name", name, *arguments, bind=bind, workers=workers, environment=environment)


# who is let in


async def test_a_client_with_a_key_runs_jobs_on_nodes_with_keys(app: Path, keys: Keys) -> None:
    desk = keys.host("desk", keys.client("ada"))
    with a_node(app, keys, "a") as a, a_node(app, keys, "b") as b:
        assert "encrypted, for the keys in" in a.log
        async with connected(a, b, keys=desk) as client:
            await client.wait_ready(nodes=2)
            assert [n async for n in client.map("report", range(200))] == list(range(200))
            assert {node.name for node in client.nodes()} == {"a", "b"}


@pytest.mark.parametrize("keyed", [True, False])
async def test_what_travels_between_keys_cannot_be_read_on_the_way(app: Path, keys: Keys, *, keyed: bool) -> None:
    desk = keys.host("desk", keys.client("ada")) if keyed else Path("none")
    node = a_node(app, keys, "a") if keyed else NodeProcess(app, environment=NO_KEYS)
    with node, Wiretap(node) as tap:
        async with mesh.Client(seeds=[tap.seed], mdns=False, keys=desk) as client:
            assert await client.call("send_mail", "a-secret-address") == "a-secret-address"
        assert (b"a-secret-address" in tap.heard) is not keyed


def listening(node: NodeProcess) -> set[str]:
    found = psutil.Process(node.pid).net_connections("inet")
    return {line.laddr.ip.removeprefix("::ffff:") for line in found if line.status == psutil.CONN_LISTEN}


def test_without_keys_front_and_bridge_listen_on_loopback_only(app: Path) -> None:
    with NodeProcess(app, bind="", bridge=True, environment=NO_KEYS) as node:
        assert listening(node) == {"127.0.0.1"}
        assert "this host only; `meshctl keygen` makes keys for the network" in node.log


def test_with_keys_the_front_listens_everywhere_and_the_bridge_on_loopback(app: Path, keys: Keys) -> None:
    environment = keys.environment("a", keys.of("a"))
    with NodeProcess(app, "-n", "a", bind="", bridge=True, environment=environment) as node:
        assert listening(node) in ({"127.0.0.1", "0.0.0.0"}, {"127.0.0.1", "::"})
        assert node.bridge.startswith("127.0.0.1:")


def test_insecure_and_keys_at_once_are_refused(app: Path, keys: Keys) -> None:
    environment = keys.environment("a", keys.of("a"))
    done = run_meshnode(app, "--insecure", "-n", "a", "--no-mdns", "--no-bridge", environment=environment)
    assert done.returncode == 1
    assert "--insecure, and yet there are keys in" in done.stderr
    assert "--keys none" in done.stderr


@pytest.mark.parametrize("why", ["revoked", "client", "kind"])
def test_a_node_whose_key_is_not_a_nodes_in_the_list_does_not_start(app: Path, keys: Keys, why: str) -> None:
    environment = keys.environment("a", keys.of("a"))
    folder = Path(environment["MESH_KEYS"])
    if why == "revoked":
        keys.workshop.revoke("a")
        keys.carry("a")
    elif why == "client":
        entries = (folder / ALLOWED).read_text().replace("node    a ", "client  a ")
        (folder / ALLOWED).write_text(entries)
    else:
        keys.host("a", keys.client("ada"))
        environment = {"MESH_KEYS": str(folder / "client-ada.key")}
    done = run_meshnode(app, "tasks", "--bind", "127.0.0.1:0", "--no-mdns", "--no-bridge", environment=environment)
    assert done.returncode == 1, done.stderr
    expected = {"revoked": "is not in", "client": "is a client's in", "kind": "is the key of a client, not of a node"}
    assert expected[why] in done.stderr
    assert "Traceback" not in done.stderr


async def test_a_client_without_a_key_is_told_that_it_wants_one(app: Path, keys: Keys) -> None:
    with a_node(app, keys, "a") as a:
        async with connected(a, keys="none", discovery_grace=GRACE_S) as client:
            with pytest.raises(mesh.KeyRefused, match="docs/security") as refused:
                await client.call("report", 1)
        assert refused.value.started is False
        assert a.seed in str(refused.value)


async def test_a_client_with_a_key_passes_over_a_node_without(app: Path, keys: Keys) -> None:
    desk = keys.host("desk", keys.client("ada"))
    with NodeProcess(app, environment=NO_KEYS) as open_node:
        async with connected(open_node, keys=desk, discovery_grace=GRACE_S) as client:
            with pytest.raises(mesh.KeyRefused, match="speaks without"):
                await client.call("report", 1)


async def test_a_client_whose_key_no_node_accepts_is_told_which_ones(
    app: Path, keys: Keys, caplog: pytest.LogCaptureFixture
) -> None:
    with a_node(app, keys, "a") as a, a_node(app, keys, "b") as b:
        desk = keys.host("desk", keys.client("late"))
        async with connected(a, b, keys=desk, discovery_grace=GRACE_S) as client:
            with pytest.raises(mesh.KeyRefused) as refused:
                await client.call("report", 1)
            told = str(refused.value)
            assert "a: it does not accept the key client-late.key" in told
            assert "b: it does not accept the key client-late.key" in told
            keys.carry("a", "b")  # and now they do
            await client.wait_ready(nodes=2)
            assert await client.call("report", 2) == 2
        a.wait_for_log("has a key that is not in allowed: refused")
        assert a.log.count("has a key that is not in allowed: refused") == 1
    assert sum("does not accept the key" in line for line in caplog.messages) == 2


async def test_a_client_that_does_not_know_a_nodes_key_passes_it_over(app: Path, keys: Keys) -> None:
    ada = keys.client("ada")
    with a_node(app, keys, "b") as b:
        keys.workshop.revoke("b")
        desk = keys.host("desk", ada)
        async with connected(b, keys=desk, discovery_grace=GRACE_S) as client:
            with pytest.raises(mesh.KeyRefused, match="it has none of the keys that allowed names for nodes"):
                await client.call("report", 1)
            assert client.nodes() == []


async def test_a_seed_is_tried_with_each_key_until_the_right_one(app: Path, keys: Keys) -> None:
    for name in [*(f"web{n}" for n in range(40)), "z"]:
        keys.node(name)
    desk = keys.host("desk", keys.client("ada"))
    with a_node(app, keys, "z") as z:
        async with connected(z, keys=desk) as client:
            assert await client.call("report", 1) == 1
            assert [node.name for node in client.nodes()] == ["z"]


# what is taken away again


async def test_a_key_that_is_revoked_is_cut_off_where_it_is_connected(app: Path, keys: Keys, gate: Gate) -> None:
    ada = keys.host("desk", keys.client("ada"))
    bob = keys.host("shop", keys.client("bob"))
    with a_node(app, keys, "a", workers=2) as a:
        async with connected(a, keys=ada) as stays, connected(a, keys=bob, discovery_grace=0.5) as goes:
            running, cut = (client.submit("held", gate.path) for client in (stays, goes))
            await asyncio.gather(until_started(stays, running), until_started(goes, cut))
            keys.workshop.revoke("bob")
            keys.carry("a")
            revoked = time.monotonic()
            with pytest.raises(mesh.JobLost):
                await cut
            assert time.monotonic() - revoked < REVOKED_S
            with pytest.raises(mesh.KeyRefused, match="a: the key of this client is not allowed there"):
                await goes.call("report", 1)
            gate.open()
            await running
            assert await stays.call("report", 2) == 2
        a.wait_for_log("allowed was read again: 3 keys")


def test_a_revoked_peer_that_says_nothing_hears_nothing_more(app: Path, keys: Keys, gate: Gate) -> None:
    bob = keys.client("bob")
    with a_node(app, keys, "a") as a, keyed_peer(a, keys.of("a"), bob) as peer:
        assert isinstance(peer.greet(), Welcome)
        peer.say(*peer.jobs("held", (gate.path,), (gate.path,)))
        keys.workshop.revoke("bob")
        keys.carry("a")
        revoked = time.monotonic()
        heard: list[object] = []
        while not any(isinstance(item, Refuse) for item in heard) and time.monotonic() < revoked + REVOKED_S:
            heard += peer.hear(0.1)
        assert [item.reason for item in heard if isinstance(item, Refuse)] == [WRONG_KEY]
        gate.open()
        peer.say(*peer.jobs("report", (1,)))
        deadline = time.monotonic() + 10.0
        while sum(isinstance(item, Refuse) for item in heard) < 2 and time.monotonic() < deadline:
            heard += peer.hear(0.1)
        until_later = time.monotonic() + 2.0
        while time.monotonic() < until_later:
            heard += peer.hear(0.1)
        assert not any(isinstance(item, Result) for item in heard)
        assert sum(isinstance(item, Refuse) for item in heard) == 2


async def test_a_list_that_is_half_written_cuts_nobody_off(app: Path, keys: Keys) -> None:
    desk = keys.host("desk", keys.client("ada"))
    with a_node(app, keys, "a") as a:
        listed = keys.host("a") / ALLOWED
        whole = listed.read_text()
        async with connected(a, keys=desk, discovery_grace=10.0) as client:
            for _ in range(5):
                running = client.submit("nap", 2.5)
                await until_started(client, running)
                async with Pauses() as pauses:
                    for n in range(20):  # a slow copy: each look of the node finds another half
                        listed.write_text(whole[: 10 * n])
                        await asyncio.sleep(0.1)
                    listed.write_text(whole)
                if pauses.longest() < 0.4:
                    break
                # It stood still, so that two looks may have found the same, which is a list then.
                await asyncio.gather(running, return_exceptions=True)
            else:
                pytest.fail("this machine is too busy to tell")
            await running
            listed.write_text("node a nonsense\n")
            await asyncio.to_thread(a.wait_for_log, "the list of keys stays as it was: .*line 1: a key has 40")
            assert await client.call("report", 1) == 1


# roles


async def test_a_key_for_some_tasks_runs_those_and_no_others(app: Path, keys: Keys) -> None:
    desk = keys.host("desk", keys.client("mailer", SUBMIT, "send_*"))
    ops = keys.host("ops", keys.client("ops", OPERATE))
    with a_node(app, keys, "a") as a:
        async with connected(a, keys=desk) as client, connected(a, keys=ops) as operator:
            assert await client.call("send_mail", "x") == "x"
            with pytest.raises(mesh.NotAllowed, match="the key mailer may not run this task") as refused:
                await client.call("report", 1)
            assert refused.value.started is False
            with pytest.raises(mesh.NotAllowed):
                _ = [n async for n in client.map("report", range(50))]
            jobs = [client.submit("send_mail", str(n)) if n % 2 else client.submit("report", n) for n in range(20)]
            ended = await asyncio.gather(*jobs, return_exceptions=True)
            assert [isinstance(one, mesh.NotAllowed) for one in ended] == [n % 2 == 0 for n in range(20)]
            assert await operator.call("report", 1) == 1
            listed = keys.host("a") / ALLOWED
            listed.write_text(listed.read_text().replace("tasks=send_*", "tasks=send_*,report"))
            await asyncio.to_thread(a.wait_for_log, "allowed was read again")
            assert await client.call("report", 1) == 1  # without a new connection


# rotation


async def calls(client: mesh.Client, enough: asyncio.Event) -> int:
    """Call again and again; whatever fails is raised."""
    done = 0
    while not enough.is_set():
        assert await client.call("report", done) == done
        done += 1
        await asyncio.sleep(0.002)
    return done


async def test_a_nodes_key_is_rotated_without_a_failed_call(app: Path, keys: Keys) -> None:
    desk = keys.host("desk", keys.client("ada"))
    bind = lasting_address()
    enough = asyncio.Event()
    with a_node(app, keys, "b") as b, a_node(app, keys, "a", bind=bind) as a:
        async with connected(a, b, keys=desk) as client:
            await client.wait_ready(nodes=2)
            calling = asyncio.create_task(calls(client, enough))
            before = keys.of("a").public
            keys.node("a", rotate=True)
            keys.carry("b", "desk")
            assert await asyncio.to_thread(a.stop) == 0
            with ExitStack() as stack:
                # Beside the loop, so that the calls go on.
                await asyncio.to_thread(stack.enter_context, a_node(app, keys, "a", bind=bind))
                stack.callback(calling.cancel)
                await client.wait_ready(nodes=2)
                keys.workshop.revoke("a", old=True)
                keys.carry()
                allowed = client._keyring
                assert allowed is not None
                await until(lambda: allowed.allowed.grant(before) is None)
                enough.set()
                assert await calling > 10
                assert {node.name for node in client.nodes()} == {"a", "b"}


async def test_a_clients_key_is_rotated_without_a_failed_call(app: Path, keys: Keys) -> None:
    former = keys.host("desk", keys.client("ada"))
    enough = asyncio.Event()
    with a_node(app, keys, "a") as a:
        async with connected(a, keys=former) as old:
            calling = asyncio.create_task(calls(old, enough))
            later = keys.host("shop", keys.client("ada", rotate=True))
            keys.carry("a")
            await asyncio.to_thread(a.wait_for_log, "allowed was read again: 4 keys")
            async with connected(a, keys=later) as new:
                assert await new.call("report", 1) == 1
                enough.set()
                assert await calling > 10
                keys.workshop.revoke("ada", old=True)
                keys.carry("a")
                await asyncio.to_thread(a.wait_for_log, "allowed was read again: 3 keys")
                assert await new.call("report", 2) == 2
                await until(lambda: old.nodes() == [])


# between nodes


async def test_a_plain_sockets_job_is_sent_on_between_nodes_with_keys(app: Path, keys: Keys) -> None:
    with a_node(app, keys, "b") as b:
        environment = keys.environment("a", keys.of("a"))
        with NodeProcess(app, "-n", "a", "--seed", b.seed, bridge=True, environment=environment) as a:
            host, _, port = a.bridge.rpartition(":")
            zygotes = {zygote_of(a).pid, zygote_of(b).pid}
            async with asyncio.timeout(20):
                ran: set[int] = set()
                while ran != zygotes:  # until the two have met, all run at a
                    ran = set(await asyncio.gather(*(ask(host, int(port), "nap", 0.3) for _ in range(2))))


async def ask(host: str, port: int, function: str, *args: object) -> int:
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(json.dumps({"function": function, "args": args}).encode() + b"\n")
    answer = await reader.readline()
    writer.close()
    await writer.wait_closed()
    return int(json.loads(answer))


# who plays a node, and who has no key at all


@pytest.mark.parametrize("encrypted", [True, False])
async def test_whoever_announces_a_nodes_key_without_its_secret_gets_no_job(
    app: Path, caplog: pytest.LogCaptureFixture, *, encrypted: bool
) -> None:
    mesh_name = f"test-{secrets.token_hex(6)}"
    keys = Keys(app / "keys", "a", mesh=mesh_name)
    desk = keys.host("desk", keys.client("ada"))
    stolen = keys.of("a").public
    secret = zmq.curve_keypair()[1].decode() if encrypted else None
    with a_node(app, keys, "a", "--mesh", mesh_name) as a, Rogue(secret) as rogue:
        passed_over = f"the node at tcp://{rogue.seed} is passed over: it "
        forged = Record(mesh_name, secrets.token_hex(16), secrets.token_hex(8), "a", rogue.port, (1, 1),
                        ("127.0.0.1",), key=stolen)  # fmt: skip
        announcer = Announcer(forged, interfaces=["127.0.0.1"])
        await announcer.start()
        try:
            async with mesh.Client(mesh_name, seeds=[a.seed], keys=desk) as client:
                await until(rogue.was_tried)
                assert [n async for n in client.map("report", range(500))] == list(range(500))
                assert [node.endpoint for node in client.nodes()] == [a.endpoint]
                await until(lambda: any(passed_over in line for line in caplog.messages))
        finally:
            await announcer.close()
        rogue.look()
        assert rogue.messages == 0
    assert sum(passed_over in line for line in caplog.messages) == 1


async def test_with_keys_nothing_is_said_in_the_clear_whatever_is_offered(app: Path, keys: Keys) -> None:
    desk = keys.host("desk", keys.client("ada"))
    with a_node(app, keys, "a") as a, Rogue() as rogue:
        async with connected(a, keys=desk) as client:
            client._found("a defect elsewhere", [f"tcp://{rogue.seed}"], (NO_KEY,))
            assert [n async for n in client.map("report", range(100))] == list(range(100))
            assert not rogue.was_tried()


def test_a_client_that_speaks_in_the_clear_reaches_nothing(app: Path, keys: Keys, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    ada = keys.client("ada")
    with a_node(app, keys, "a") as a, Peer(a.endpoint) as stranger:
        for _ in range(20):
            stranger.hello()
            stranger.say(*stranger.jobs("touch", (str(trace),)))
        assert stranger.hear(1.0) == []
        with keyed_peer(a, keys.of("a"), ada) as peer:  # it serves, and what was said before is not there
            assert isinstance(peer.greet(), Welcome)
            peer.say(*peer.jobs("report", (1,)))
            assert len(peer.results(1)) == 1
        assert not trace.exists()
    assert "malformed" not in a.log


async def test_where_no_authenticator_answers_nobody_is_let_in_and_no_node_starts(
    keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard_module, "PROBE_S", 0.5)
    monkeypatch.setattr(Guard, "_answer", lambda self, asked: asked.close(linger=0))
    rest = KeyedFront(keys)
    try:
        assert await rest.lets_in(rest.own.public, rest.own.secret) is not True
        with pytest.raises(mesh.ConfigError):
            await rest.prove()
    finally:
        rest.close()


async def test_an_authenticator_that_lets_anybody_in_keeps_the_node_from_starting(
    keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Guard, "_judge", lambda self, frames: b"anybody")
    rest = KeyedFront(keys)
    try:
        with pytest.raises(mesh.ConfigError, match="lets a key that is not allowed in"):
            await rest.prove()
    finally:
        rest.close()


async def test_an_authenticator_that_fails_over_a_question_refuses_it_and_answers_the_next(
    keys: Keys, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    rest = KeyedFront(keys)
    judge = Guard._judge

    def fail_once(self: Guard, frames: list[bytes]) -> bytes | None:
        monkeypatch.setattr(Guard, "_judge", judge)
        raise RuntimeError("as if broken")

    monkeypatch.setattr(Guard, "_judge", fail_once)
    try:
        with caplog.at_level(logging.ERROR):
            assert await rest.lets_in(rest.own.public, rest.own.secret) is False
        assert "a key could not be judged; it is refused" in caplog.text
        assert await rest.lets_in(rest.own.public, rest.own.secret) is True
        await rest.prove()
    finally:
        rest.close()
