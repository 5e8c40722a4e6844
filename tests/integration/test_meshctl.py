"""`meshctl` on two real nodes: every command, for people and for programs, and what it says where it cannot."""

import asyncio
import dataclasses
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import mesh
from mesh.core.doctor import AUTH
from mesh.core.effects import Close, Effect
from mesh.core.grants import CLIENT, OPERATE, Grant
from mesh.ctl import group
from mesh.errors import NotAllowed
from mesh.keygen import Workshop
from mesh.link import NO_KEYS, OTHER_KEY
from mesh.operator import OperateError, Operator
from tests.support.clients import connected, until_started
from tests.support.gates import HELD, Gate
from tests.support.leaks import leak_check  # noqa: F401  # pytest finds it by its name
from tests.support.nodes import NodeProcess, free_port, run_meshnode, write_tasks
from tests.support.processes import suspended, workers_of
from tests.support.waiting import until

TASKS = (
    HELD
    + """
import asyncio
import os
import time

@mesh.task(bridge=True)
def nap(seconds: float = 0.0) -> float:
    time.sleep(seconds)
    return seconds

@mesh.task
def stuck(seconds: int) -> None:
    "Does not come back from C for hours, and lets Python do nothing else."
    sum(range(seconds * 10**12))

@mesh.task
async def slumber(seconds: float = 0.0) -> float:
    await deeper(seconds)
    return seconds

async def deeper(seconds: float) -> None:
    await asyncio.sleep(seconds)

@mesh.task
def fail() -> None:
    raise ValueError("no")
"""
)

PATIENCE_S = 15.0

LOOK = "3"
"""Seconds to look where some node or other is not found: for those that are there to say why."""


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("meshctl")
    write_tasks(folder, TASKS)
    return folder


@contextmanager
def two_nodes(app: Path) -> Iterator[tuple[NodeProcess, NodeProcess]]:
    """Run two nodes that know each other, web7 and web8, each with two workers."""
    ports = free_port(), free_port()
    here = {"XDG_RUNTIME_DIR": str(app)}

    def node(name: str, port: int, other: int, *more: str) -> NodeProcess:
        words = ("--name", name, "--seed", f"127.0.0.1:{other}", *more)
        return NodeProcess(app, *words, workers=2, bridge=True, bind=f"127.0.0.1:{port}", environment=here)

    with node("web7", ports[0], ports[1], "-c", "4") as one, node("web8", ports[1], ports[0]) as other:
        yield one, other


def wait_until_met(app: Path) -> None:
    """Wait until the two are connected to each other, for which the first to come has to try again."""
    deadline = time.monotonic() + PATIENCE_S
    for name, other in (("web7", "web8"), ("web8", "web7")):
        while f"node {other}" not in seen_locally(app, "connections", "-n", name).stdout:
            assert time.monotonic() < deadline


def seen_locally(app: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a verb of `meshnode` on this host's own nodes."""
    return run_meshnode(app, *words, environment={"XDG_RUNTIME_DIR": str(app), "COLUMNS": "160"})


@pytest.fixture(scope="module")
def web(app: Path) -> Iterator[tuple[NodeProcess, NodeProcess]]:
    """Two nodes for all tests that leave their workers as they are."""
    with two_nodes(app) as nodes:
        wait_until_met(app)
        yield nodes


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[tuple[NodeProcess, NodeProcess]]:
    """Two nodes for one test alone."""
    write_tasks(tmp_path, TASKS)
    with two_nodes(tmp_path) as nodes:
        yield nodes


Web = tuple[NodeProcess, NodeProcess]


async def ctl(web: tuple[NodeProcess, ...], *words: str) -> Result:
    """Run a command beside the loop, as a program would. It looks until the seeds are found, be the machine busy."""
    seeds = [word for node in web for word in ("--seed", node.seed)]
    look = {name: {"look": PATIENCE_S} for name in group.commands}
    return await asyncio.to_thread(
        CliRunner().invoke,
        group,
        ["--no-mdns", *seeds, *words],
        env={"COLUMNS": "200", "MESHCTL_SEED": ""},
        default_map=look,
    )


async def said(web: tuple[NodeProcess, ...], *words: str) -> str:
    done = await ctl(web, *words)
    assert done.exit_code == 0, done.output
    return done.output


async def told(web: tuple[NodeProcess, ...], *words: str) -> Any:
    return json.loads(await said(web, *words, "--json"))


def row(text: str, first: str) -> str:
    (line,) = (line for line in text.splitlines() if line.split()[:1] == [first])
    return line


# looking


async def test_nodes_shows_who_is_there_and_for_how_long(web: Web) -> None:
    text = await said(web, "nodes")
    assert re.search(rf"^web7 +\S+ +alive +2 × 4 +0 +2 +\S+ +\d+ s +{web[0].endpoint} ", row(text, "web7"))
    found = {node["name"]: node for node in await told(web, "nodes")}
    assert found["web8"]["version"]
    assert found["web8"]["host"]
    assert abs(time.time() - found["web8"]["started"]) < 600
    assert "slumber" in await said(web, "tasks")
    assert {"name", "parameters", "fingerprint"} <= set((await told(web, "tasks"))[0])


async def test_status_counts_what_is_done_and_shows_what_each_worker_runs(web: Web) -> None:
    (before,) = await told(web, "status", "web8")
    async with connected(web[1]) as client:
        await asyncio.gather(*(client.call("nap") for _ in range(3)))
        with pytest.raises(ValueError, match="no"):
            await client.call("fail")
        job = client.submit("nap", 60.0)
        await until_started(client, job)
        (found,) = await told(web, "status", "web8")
        assert (found["done"] - before["done"], found["failed"] - before["failed"]) == (3, 1)
        assert sum(worker["done"] for worker in found["workers"]) >= 3
        assert all(worker["memory"] > 1 << 20 for worker in found["workers"])
        (running,) = (run for worker in found["workers"] for run in worker["running"])
        assert (running["id"], running["task"]) == (job.id.hex(), "nap")
        assert 0 <= running["elapsed"] < 30
        assert found["descriptors"]["used"] < found["descriptors"]["limit"]
        assert abs(found["clock"] - time.time()) < 10
        assert re.search(r"^ended +\d+ done, \d+ failed, \d+ lost *$", await said(web, "status", "web8"), re.MULTILINE)
        job.cancel()
        with pytest.raises(mesh.JobCancelled):
            await job


async def test_status_tells_how_a_worker_ended_and_answers_although_all_hang(fresh: Web) -> None:
    workers_of(fresh[1])[0].kill()
    fresh[1].wait_for_log("ended: its worker was killed by SIGKILL")
    (found,) = await told(fresh, "status", "web8")
    assert any("was killed by SIGKILL" in worker["last_exit"] for worker in found["workers"])
    fresh[1].wait_for_log("another starts")
    await until(lambda: len(workers_of(fresh[1])) == 2)
    with suspended(workers_of(fresh[1])):
        (found,) = await told(fresh, "status", "web8")
        assert found["state"] == "running"


async def test_connections_shows_clients_and_callers(web: Web, app: Path) -> None:
    host, _, port = web[0].bridge.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b'{"function":"nap"}\n')
    assert await reader.readline() == b"0.0\n"
    async with connected(web[0], name="shop") as client:
        await client.wait_ready()
        (found,) = await told(web, "connections", "web7")
        shop = next(one for one in found["connections"]["clients"] if one["name"] == "shop")
        assert (shop["address"], shop["held"], shop["running"]) == ("127.0.0.1", 0, 0)
        assert {"node web8", "meshctl"} <= {one["name"] for one in found["connections"]["clients"]}
        bridge = found["connections"]["bridge"]
        assert (bridge["open"], bridge["addresses"]) == (1, {"127.0.0.1": 1})
        assert bridge["requests"] >= 1
        text = await said(web, "connections", "web7")
        assert re.search(r"^web7 +shop +– +– +127\.0\.0\.1 +0 +0 ", text, re.MULTILINE)
        local = await asyncio.to_thread(seen_locally, app, "connections", "-n", "web7")
        assert re.search(r"^web7 +shop ", local.stdout, re.MULTILINE), local.stderr
    writer.close()
    await writer.wait_closed()


# jobs


async def test_jobs_lists_what_runs_and_waits_and_cancel_ends_it(fresh: Web) -> None:
    async with connected(fresh[1]) as client:
        running = [client.submit("nap", 60.0) for _ in range(2)]
        await until_started(client, *running)
        found = (await told(fresh, "jobs", "--task", "nap", "--node", "web8"))["jobs"]
        assert {(job["id"], job["state"], job["node"]) for job in found} == {
            (job.id.hex(), "running", "web8") for job in running
        }
        word = f"{running[0].id.hex()[:6]}-1"
        assert word in await said(fresh, "jobs")
        assert "means 2 jobs" in (await ctl(fresh, "cancel", running[0].id.hex()[:16])).output
        assert "cancelled, it was running" in await said(fresh, "cancel", word)
        with pytest.raises(mesh.JobCancelled):
            await running[0]
        assert "no node holds a job" in (await ctl(fresh, "cancel", word)).output
        assert (await told(fresh, "cancel", "-f", running[1].id.hex()))["ended"]
        with pytest.raises(mesh.JobCancelled):
            await running[1]
    assert "no job runs or waits" in await said(fresh, "jobs")


async def test_a_job_that_heeds_no_cancel_is_told_of_and_f_kills_its_worker(fresh: Web) -> None:
    async with connected(fresh[1]) as client:
        job = client.submit("stuck", 60)
        await until_started(client, job)
        done = await ctl(fresh, "cancel", job.id.hex())
        assert done.exit_code == 1
        assert "it still is running (-f kills its worker)" in done.output
        await said(fresh, "cancel", "-f", job.id.hex())
        with pytest.raises(mesh.JobCancelled):
            await job


async def test_stack_shows_where_a_job_hangs_in_python_in_c_and_in_a_coroutine(fresh: Web) -> None:
    async with connected(fresh[0]) as client:
        jobs = {task: client.submit(task, 60) for task in ("nap", "stuck")}
        await until_started(client, *jobs.values())
        for task, job in jobs.items():
            found = await told(fresh, "stack", job.id.hex())
            assert (found["task"], found["node"]) == (task, "web7")
            assert re.search(rf'File "\S+tasks.py", line \d+ in {task}\n', found["text"])
            again = await said(fresh, "stack", job.id.hex())
            assert again.count("most recent call first") == found["text"].count("most recent call first")
        for job in jobs.values():
            job.cancel(force=True)
            with pytest.raises(mesh.JobCancelled):
                await job
    async with connected(fresh[0]) as client:
        sleepers = [client.submit("slumber", 60) for _ in range(3)]
        await until_started(client, *sleepers)
        for _ in range(5):  # a worker that a busy machine lets stand still does not come to it in time
            found = await told(fresh, "stack", sleepers[1].id.hex())
            if found["awaits"]:
                break
        lines = [line.rpartition(" in ")[2] for line in found["awaits"].splitlines()]
        assert lines[-4:-1] == ["slumber", "deeper", "sleep"]
        shown = [await said(fresh, "stack", sleepers[1].id.hex()) for _ in range(3)]
        assert any("its coroutine awaits" in text for text in shown), shown
        for job in sleepers:
            job.cancel()
        await asyncio.gather(*sleepers, return_exceptions=True)


async def test_a_worker_that_is_stopped_cannot_tell_where_it_is_and_its_node_says_so(web: Web) -> None:
    async with connected(web[1]) as client:
        job = client.submit("nap", 60.0)
        await until_started(client, job)
        with suspended(workers_of(web[1])):
            done = await ctl(web, "stack", job.id.hex())
        assert done.exit_code == 1
        assert "takes no signals, in the state T" in done.output
        job.cancel()
        with pytest.raises(mesh.JobCancelled):
            await job


# operating


async def test_a_node_is_meant_by_its_host_too_where_only_one_runs_there(web: Web) -> None:
    host = (await told(web, "nodes"))[0]["host"]
    assert (await told(web[:1], "status", host))[0]["name"] == "web7"
    assert {node["name"] for node in await told(web[:1], "wait-node", host, "--timeout", "20")} == {"web7"}
    both = await ctl(web, "status", host)
    assert f"{host!r} means 2 nodes: web7@{host}, web8@{host}" in both.output


class CountsTwins(Operator):
    """Counts the links that it closes since another one leads to the same node."""

    twins = 0

    def _perform(self, effect: Effect, now: float) -> None:
        super()._perform(effect, now)
        self.twins += isinstance(effect, Close) and bool(effect.same_as)


async def test_a_client_that_finds_a_node_twice_is_one_client_to_it(app: Path) -> None:
    port = free_port()
    with NodeProcess(app, "--insecure", bind=f"0.0.0.0:{port}"):
        async with CountsTwins(seeds=[f"127.0.0.1:{port}", f"127.0.0.2:{port}"], mdns=False) as client:
            await client.wait_ready()
            await until(lambda: client.twins == 1)
            for _ in range(500):
                status = (await client.ask(client.nodes()[0], "status")).status
                assert status is not None
                if status.clients == 1:
                    break
                await asyncio.sleep(0.02)
            else:
                pytest.fail("the node goes on counting the connection that was given up")


async def test_drain_and_undrain_and_wait_node(web: Web) -> None:
    async with connected(web[1]) as client:
        job = client.submit("nap", 0.3)
        await until_started(client, job)
        assert await said(web, "drain", "web8", "--wait") == "web8 is drained\n"
        assert await job == 0.3
    assert "draining" in row(await said(web, "nodes"), "web8")
    late = await ctl(web, "wait-node", "web8", "--timeout", "4")
    assert late.exit_code == 1
    assert "waited 4 s for web8: web7, web8 (draining, version" in late.output
    await said(web, "wait-node", "web8", "--state", "draining", "--timeout", "20")
    undrained = await told(web, "undrain", "--all")
    assert (sorted(undrained["done"]), undrained["wrong"]) == (["web7", "web8"], [])
    version = (await told(web, "nodes"))[0]["version"]
    words = ("wait-node", "web7", "web8", "--nodes", "2", "--task", "nap", "--version", version, "--timeout", "20")
    assert {node["name"] for node in await told(web, *words)} == {"web7", "web8"}
    assert (await ctl(web, "wait-node", "--version", "0.0", "--timeout", "0.1")).exit_code == 1


async def test_reload_one_after_another(fresh: Web) -> None:
    before = {worker.pid for node in fresh for worker in workers_of(node)}
    assert await said(fresh, "reload", "--all", "--wait") == "web7 has reloaded\nweb8 has reloaded\n"
    await until(lambda: not before & {worker.pid for node in fresh for worker in workers_of(node)})
    assert await said(fresh, "reload", "web7") == "web7 reloads\n"
    fresh[0].wait_for_log(r"(?s)reloaded after.*reloaded after")


async def test_what_is_not_said_well_is_refused_and_does_nothing(web: Web) -> None:
    for words in (("drain",), ("drain", "web7", "--all"), ("plan",)):
        assert (await ctl(web, *words)).exit_code == 2
    unknown = await ctl(web, "drain", "web9")
    assert unknown.exit_code == 1
    assert "no node 'web9': there are web7, web8" in unknown.output
    assert "can have 1 to 256 workers, not 5000" in (await ctl(web, "scale", "web7", "5000")).output
    nobody = await ctl((), "--seed", f"127.0.0.1:{free_port()}", "jobs", "--look", "0.2")
    assert nobody.exit_code == 2
    assert "no nodes found" in nobody.output


async def test_scale_has_more_workers_at_work_and_lets_those_too_many_end_their_jobs(fresh: Web, gate: Gate) -> None:
    async with connected(fresh[1]) as client:
        assert await said(fresh, "scale", "web8", "4") == "web8 has 4 workers from now on\n"
        await until(lambda: len(workers_of(fresh[1])) == 4)
        jobs = [client.submit("held", gate.path) for _ in range(4)]
        await until_started(client, *jobs)
        await until(lambda: client.nodes()[0].workers == 4)
        await said(fresh, "scale", "web8", "1")
        (found,) = await told(fresh, "status", "web8")
        assert sum(worker["leaving"] for worker in found["workers"]) == 3
        gate.open()
        assert await asyncio.gather(*jobs) == [gate.path] * 4
        await until(lambda: len(workers_of(fresh[1])) == 1)
        await until(lambda: client.nodes()[0].workers == 1)
        assert await client.call("nap") == 0.0
        fresh[1].signal(signal.SIGTTIN)
        await until(lambda: len(workers_of(fresh[1])) == 2)
        await until(lambda: client.nodes()[0].workers == 2)
        for count in (1, 1):  # the last one stays
            fresh[1].signal(signal.SIGTTOU)
            await until(lambda count=count: len(workers_of(fresh[1])) == count)  # type: ignore[misc]
        fresh[1].wait_for_log("TTOU: this node can have 1 to 256 workers, not 0")
        await said(fresh, "scale", "web8", "2")
        await until(lambda: len(workers_of(fresh[1])) == 2)


async def test_a_slot_that_is_wanted_again_while_its_worker_leaves_gets_another_at_once(fresh: Web) -> None:
    async with connected(fresh[1]) as client:
        jobs = [client.submit("nap", 60.0) for _ in range(2)]
        await until_started(client, *jobs)
        for count in (1, 2):
            await said(fresh, "scale", "web8", str(count))
        await until(lambda: len(workers_of(fresh[1])) == 3)
        assert await client.call("nap") == 0.0
        assert [job.state for job in jobs] == ["started", "started"]
        for job in jobs:
            job.cancel()
        await asyncio.gather(*jobs, return_exceptions=True)
        await until(lambda: len(workers_of(fresh[1])) == 2)


# all at a glance


async def test_top_shows_a_frame_for_people_and_for_programs(web: Web) -> None:
    async with connected(*web) as client:
        job = client.submit("nap", 60.0)
        await until_started(client, job)
        text = await said(web, "top", "--once")
        assert text.startswith("2 nodes, 1 of 4 workers busy, 1 jobs run, 0 wait")
        assert f"{job.id.hex()[:6]}-1" in text
        frame = await told(web, "top", "--once")
        assert {one["name"]: one["rate"]["ended"] for one in frame["rows"]} == {"web7": 0.0, "web8": 0.0}
        job.cancel()
        with pytest.raises(mesh.JobCancelled):
            await job


def test_q_ends_top_and_the_terminal_is_as_before(web: Web) -> None:
    ours, theirs = pty.openpty()
    words = [word for node in web for word in ("--seed", node.seed)]
    program = [sys.executable, "-c", "from mesh.ctl import main; main()", "--no-mdns", *words, "top"]
    process = subprocess.Popen(program, stdin=theirs, stdout=theirs, stderr=theirs, env={**os.environ, "TERM": "xterm"})
    os.close(theirs)
    shown = b""
    while b"web8" not in shown:
        shown += os.read(ours, 4096)
    os.write(ours, b"q")
    with suppress(OSError):  # the other end is closed, and all that it wrote is read
        while piece := os.read(ours, 4096):
            shown += piece
    assert process.wait(20) == 0
    assert b"\x1b[?1049l" in shown  # the screen of before is shown again
    os.close(ours)


# what is wrong, and what would be


async def test_doctor_finds_nothing_where_nothing_is_wrong_and_what_is(web: Web) -> None:
    healthy = await ctl(web, "doctor", "--json")
    found = json.loads(healthy.output)
    expected = {"memory"}  # that of the host is none of ours
    assert [one for one in found["findings"] if not expected & set(one["text"].split())] == []
    assert [node["name"] for node in found["facts"]["nodes"]] == ["web7", "web8"]
    assert all(abs(node["offset"]) < 2 for node in found["facts"]["nodes"])
    assert {one["name"] for node in found["facts"]["nodes"] for one in node["reach"]["neighbours"]} == {"web7", "web8"}
    nowhere = f"127.0.0.1:{free_port()}"
    done = await ctl(web, "--seed", nowhere, "doctor", "--look", LOOK)
    assert done.exit_code == 1
    assert f"error: tcp://{nowhere}: no connection comes of it: no connection" in done.output
    stranger = await ctl((web[0],), "-m", "stock", "doctor", "--look", LOOK)
    assert stranger.exit_code == 1
    assert "no connection comes of it: this node belongs to the mesh 'default'" in stranger.output
    assert "error: mesh stock: no node of it is here" in stranger.output


async def test_plan_tells_what_new_code_would_break(web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_tasks(tmp_path, TASKS, name="same")
    assert "5 tasks stay as they are" in await said(web, "plan", "same")
    source = TASKS.replace("seconds: int", "seconds: int, where: str").replace("def fail", "def failure")
    write_tasks(
        tmp_path,
        source.replace("nap(seconds: float = 0.0)", "nap(seconds: float = 0.0, deep: bool = False)"),
        name="new",
    )
    done = await ctl(web, "plan", "new")
    assert done.exit_code == 1
    assert done.output.splitlines() == [
        "BREAKS  fail: the new code does not serve it (served by web7, web8)",
        "BREAKS  stuck: 'where' is new and must be given (served by web7, web8)",
        "changes nap: all calls that are good now fit",
        "adds    failure",
        "2 tasks stay as they are",
    ]
    (tmp_path / "now.json").write_text(await said(web, "tasks", "--json"))
    assert (await told(web, "plan", "--tasks", "now.json"))["breaks"] == []
    (tmp_path / "bad.json").write_text("{")
    assert "is not what `meshctl tasks --json` prints" in (await ctl(web, "plan", "--tasks", "bad.json")).output
    assert "does not import" in (await ctl(web, "plan", "nosuch")).output


# who may, and who cannot


async def test_only_a_key_that_operates_may_operate_a_node(app: Path, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    workshop = Workshop("default", keys)
    workshop.begin()
    workshop.make(Grant(CLIENT, "ops", OPERATE))
    workshop.make(Grant(CLIENT, "billing"))
    with NodeProcess(app, "--keys", str(keys)) as node:

        async def by(key: str, *words: str) -> Result:
            return await ctl((node,), "--keys", key if key == "none" else str(keys / key), *words)

        shown = await by("client-ops.key", "connections")
        assert re.search(r"^\S+ +meshctl +ops +operate +127\.0\.0\.1 ", shown.output, re.MULTILINE), shown.output
        for verb in (("status",), ("scale", shown.output.splitlines()[1].split()[0], "2"), ("drain", "--all")):
            refused = await by("client-billing.key", *verb)
            assert refused.exit_code == 1
            assert "this key does not allow to operate nodes" in refused.output
        frame = json.loads((await by("client-billing.key", "top", "--once", "--json")).output)
        assert (frame["rows"][0]["state"], frame["rows"][0]["status"]) == ("alive", None)
        assert "does not allow" in frame["wrong"][0]
        assert "it could not be looked at: this key" in (await by("client-billing.key", "doctor")).output
        assert (await by("client-ops.key", "doctor")).exit_code == 0
        assert "no job runs" not in (await by("client-billing.key", "jobs")).output
        elsewhere = shutil.copytree(keys, tmp_path / "elsewhere")
        Workshop("default", elsewhere).make(Grant(CLIENT, "late"))
        late = str(elsewhere / "client-late.key")
        for command in ("nodes", "status"):
            shut_out = await ctl((node,), "--keys", late, command, "--look", LOOK)
            assert shut_out.exit_code == 2
            assert "no node lets this client in: is its key in `allowed` on their hosts?" in shut_out.output
        found = (await ctl((node,), "--keys", late, "doctor", "--look", LOOK)).output
        assert "the keys do not fit" in found
        assert "no node of it is here" not in found
        found = (await by("none", "doctor", "--look", LOOK)).output
        assert "the keys do not fit: it wants keys, and this client has none" in found
        async with Operator(seeds=[node.seed], mdns=False, keys=keys / "client-billing.key") as client:
            await client.wait_ready()
            with pytest.raises(NotAllowed, match="does not allow to operate nodes"):
                await client.ask(client.nodes()[0], "status")


@pytest.mark.parametrize("why", [OTHER_KEY, NO_KEYS])
async def test_who_has_no_keys_is_told_that_a_node_wants_them_whichever_end_hung_up_first(why: str) -> None:
    client = Operator(seeds=["127.0.0.1:5750"], mdns=False, keys="none")
    assert client._why_lost(1, why) == f"{AUTH}: it wants keys, and this client has none"


async def test_a_question_to_a_node_that_goes_or_does_not_answer_ends(app: Path) -> None:
    with NodeProcess(app) as node:
        async with Operator(seeds=[node.seed], mdns=False) as client:
            await client.wait_ready()
            about = client.nodes()[0]
            with pytest.raises(OperateError, match="is of an earlier version: it cannot be operated from elsewhere"):
                await client.ask(dataclasses.replace(about, version=""), "status")
            with pytest.raises(OperateError, match="'stop' is no verb that this node hears from elsewhere"):
                await client.ask(about, "stop")
            node.signal(signal.SIGSTOP)
            try:
                with pytest.raises(OperateError, match=r"does not answer within 0\.2 s"):
                    await client.ask(about, "status", timeout=0.2)
                waits = asyncio.create_task(client.ask(about, "status", timeout=20))
                await asyncio.sleep(0)
            finally:
                node.kill()
            with pytest.raises(OperateError, match="is gone"):
                await waits
            with pytest.raises(OperateError, match="is gone"):
                await client.ask(about, "status")
