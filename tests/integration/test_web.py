"""A node's pages over HTTP: health, readiness, metrics that match what ran, and requests that are none."""

import asyncio
import json
import os
import signal
import socket
from pathlib import Path
from typing import Any

import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

import mesh
from meshnode.core.lifecycle import ExitCode
from meshnode.web import MOST_TALKS, PATIENCE_S, REQUEST_BYTES
from tests.support.clients import connected, until_started
from tests.support.leaks import leak_check  # noqa: F401  # pytest finds it by its name
from tests.support.nodes import NodeProcess, free_port, run_meshnode, write_tasks
from tests.support.processes import workers_of
from tests.support.waiting import until

TASKS = """
import os, time

@mesh.task(bridge=True)
def nap(seconds: float = 0.0) -> float:
    time.sleep(seconds)
    return seconds

@mesh.task
def fails() -> None:
    raise ValueError("no")

@mesh.task
def dies() -> None:
    os._exit(7)

@mesh.task(limit=0.3, limit_kill=0.05)
def drags() -> None:
    while True:
        try:
            time.sleep(60)
        except BaseException:
            pass
"""

Values = dict[tuple[str, ...], float]


@pytest.fixture
def app(tmp_path: Path) -> Path:
    write_tasks(tmp_path, TASKS)
    return tmp_path


def watched(app: Path, *arguments: str, workers: int = 1, bridge: bool = False, **options: Any) -> NodeProcess:
    return NodeProcess(app, "--http", "127.0.0.1:0", *arguments, workers=workers, bridge=bridge, **options)


def address(node: NodeProcess) -> tuple[str, int]:
    host, _, port = node.wait_for_log(r"http: (\S+) \(/health /ready /metrics\)")[1].rpartition(":")
    return host, int(port)


def exchange(node: NodeProcess, request: bytes) -> bytes:
    """Send bytes, and return all that comes."""
    with socket.create_connection(address(node), timeout=10.0) as line:
        line.sendall(request)
        answer = b""
        while piece := line.recv(65536):
            answer += piece
        return answer


def fetch(node: NodeProcess, path: str, method: str = "GET") -> tuple[int, str]:
    """Ask for a page; return the status and the body."""
    answer = exchange(node, f"{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    head, _, body = answer.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert "Connection: close" in lines
    if method != "HEAD":
        assert f"Content-Length: {len(body)}" in lines
    return int(lines[0].split()[1]), body.decode()


def metrics(node: NodeProcess) -> Values:
    """Scrape a node: values by name and labels, these in the order of their names."""
    status, body = fetch(node, "/metrics")
    assert status == 200
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()) if value)): sample.value
        for family in text_string_to_metric_families(body)
        for sample in family.samples
    }


def jobs(values: Values) -> Values:
    return {key[1:]: value for key, value in values.items() if value and key[0] == "meshnode_jobs_total"}


async def test_what_ran_is_what_the_metrics_say(app: Path) -> None:
    with watched(app, workers=2, bridge=True) as node:
        async with connected(node) as client, asyncio.timeout(40):
            await asyncio.gather(*(client.call("nap") for _ in range(50)))
            assert await client.call("nap", 0.3) == 0.3
            for task, error in (("fails", ValueError), ("dies", mesh.JobLost), ("drags", mesh.JobTimeout)):
                with pytest.raises(error):
                    await client.call(task)
            await until(lambda: metrics(node)["meshnode_workers", "idle"] == 2)
            running = [client.submit("nap", 20.0) for _ in range(2)]
            await until_started(client, *running)
            values = metrics(node)
            assert values["meshnode_jobs_running",] == 2
            assert values["meshnode_jobs_held",] == 2
            assert values["meshnode_jobs_waiting",] == 0
            assert values["meshnode_slots_idle",] == 0
            assert values["meshnode_clients",] == 1
            running[0].cancel(force=True)
            running[1].cancel()
            with pytest.raises(mesh.JobCancelled):
                await running[0]
            with pytest.raises(mesh.JobCancelled):
                await running[1]
        with socket.create_connection(("127.0.0.1", int(node.bridge.rpartition(":")[2]))) as line:
            line.sendall(b'{"function":"nap"}\n')
            assert line.recv(100) == b"0.0\n"
            values = metrics(node)
            assert values["meshnode_bridge_connections_open",] == 1
        assert values["meshnode_bridge_requests_total",] == 1
        counted = jobs(values)
        refused = {key: counted.pop(key) for key in [*counted] if "rejected" in key}
        assert set(refused) <= {("rejected", "busy", "nap")}  # the client tried, and kept the job
        assert counted == {
            ("ok", "nap"): 52,
            ("failed", "fails"): 1,
            ("lost", "crash", "dies"): 1,
            ("timeout", "limit", "drags"): 1,
            ("cancelled", "cancelled", "nap"): 2,
        }
        assert values["meshnode_job_run_seconds_count", "nap"] == 53
        # 51 naps of no length, some of which may have waited for the CPU; with the cancelled one, or not
        assert 40 <= values["meshnode_job_run_seconds_bucket", "0.25", "nap"] <= 52
        assert values["meshnode_job_run_seconds_bucket", "0.5", "nap"] >= 0.3
        assert values["meshnode_worker_deaths_total", "died"] == 1
        assert values["meshnode_worker_deaths_total", "killed"] == 2
        await until(lambda: metrics(node)["meshnode_worker_starts_total",] == 5)
        assert values["process_resident_memory_bytes",] > 1 << 20
        assert psutil.Process(node.pid).num_fds() > 0
        # The worker that was killed last may have no successor yet.
        await until(lambda: metrics(node).get(("meshnode_worker_resident_memory_bytes", "0"), 0) > 1 << 20)


async def test_workers_that_are_replaced_for_their_jobs_are_counted(app: Path) -> None:
    with watched(app, "--max-tasks-per-child", "3") as node:
        async with connected(node) as client, asyncio.timeout(20):
            for _ in range(3):
                await client.call("nap")
            await until(lambda: metrics(node)["meshnode_workers_recycled_total",] == 1)
            await until(lambda: metrics(node)["meshnode_workers", "idle"] == 1)
            assert metrics(node)["meshnode_worker_deaths_total", "died"] == 0


def test_a_node_that_drains_is_healthy_and_not_ready(app: Path) -> None:
    with watched(app) as node:
        status, body = fetch(node, "/health")
        assert status == 200
        brief = json.loads(body)
        assert {name: brief[name] for name in ("state", "why", "workers", "mesh")} == {
            "state": "running", "why": "", "workers": {"ready": 1, "slots": 1}, "mesh": "default",
        }  # fmt: skip
        assert fetch(node, "/ready?verbose")[0] == 200
        node.signal(signal.SIGTSTP)
        node.wait_for_log("draining: taking nothing new")
        assert fetch(node, "/health")[0] == 200
        assert fetch(node, "/ready")[0] == 503
        node.signal(signal.SIGCONT)
        node.wait_for_log("draining no longer")
        assert fetch(node, "/ready")[0] == 200


async def test_a_node_without_workers_is_unhealthy_and_says_why(app: Path) -> None:
    write_tasks(app, TASKS + '\n@mesh.lifespan\ndef broken(state):\n    assert os.path.exists("good")\n    yield\n')
    (app / "good").touch()
    with watched(app) as node:
        assert fetch(node, "/health")[0] == 200
        (app / "good").unlink()
        (worker,) = workers_of(node)
        worker.kill()
        await until(lambda: fetch(node, "/health")[0] == 503)
        assert json.loads(fetch(node, "/health")[1])["state"] == "unhealthy"
        assert fetch(node, "/ready")[0] == 503
        assert metrics(node)["meshnode_state", "unhealthy"] == 1


def test_health_is_answered_by_the_nodes_own_loop(app: Path) -> None:
    with watched(app) as node, socket.create_connection(address(node), timeout=0.3) as line:
        node.signal(signal.SIGSTOP)
        try:
            line.sendall(b"GET /health HTTP/1.1\r\n\r\n")
            with pytest.raises(TimeoutError):
                line.recv(100)
        finally:
            node.signal(signal.SIGCONT)
        line.settimeout(10.0)
        assert line.recv(12) == b"HTTP/1.1 200"


def test_what_is_no_request_for_a_page_is_answered_with_what_is_wrong(app: Path) -> None:
    with watched(app) as node:
        for request, status in (
            (b"POST /health HTTP/1.1\r\n\r\n", 405),
            (b"GET /nothing HTTP/1.1\r\n\r\n", 404),
            (b"GET /health\r\n\r\n", 400),
            (b"\x16\x03\x01 / HTTP/9\r\n\r\n", 400),
            (b"GET /health HTTP/1.1\r\nX: " + b"x" * REQUEST_BYTES + b"\r\n\r\n", 431),
        ):
            assert exchange(node, request).startswith(f"HTTP/1.1 {status} ".encode())
        assert fetch(node, "/health")[0] == 200


def test_a_head_has_no_body_and_a_caller_that_leaves_or_is_silent_costs_nothing(app: Path) -> None:
    with watched(app) as node:
        assert fetch(node, "/ready", "HEAD") == (200, "")
        with socket.create_connection(address(node), timeout=10.0) as line:
            line.sendall(b"GET /hea")
        with socket.create_connection(address(node), timeout=PATIENCE_S + 5.0) as line:
            line.sendall(b"GET /hea")
            assert line.recv(100) == b""  # closed after its time
        crowd = [socket.create_connection(address(node), timeout=10.0) for _ in range(MOST_TALKS)]
        assert fetch(node, "/health")[0] == 503
        for line in crowd:
            line.close()


def test_without_the_extra_package_the_metrics_say_what_to_install(app: Path) -> None:
    (app / "prometheus_client.py").write_text("raise ImportError\n")
    with watched(app, environment={"PYTHONPATH": str(app)}) as node:
        status, body = fetch(node, "/metrics")
        assert status == 501
        assert "pip install 'meshnode[metrics]'" in body
        assert fetch(node, "/health")[0] == 200


def test_a_port_for_the_pages_that_is_taken_is_named_and_ends_with_3(app: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run_meshnode(app, "tasks", "--bind", "127.0.0.1:0", "--no-mdns", "--no-bridge", "--http", str(port))
    assert done.returncode == ExitCode.PORT_IN_USE
    assert f"--http 127.0.0.1:{port} is in use" in done.stderr


@pytest.mark.skipif(not os.path.exists("/proc/net/tcp"), reason="looks at the kernel's table of sockets")
def test_the_pages_are_for_this_host_unless_another_address_is_named(app: Path) -> None:
    port = free_port()
    with NodeProcess(app, "--http", str(port)) as node:
        assert address(node) == ("127.0.0.1", port)
    with NodeProcess(app, "--http", f"0.0.0.0:{port}") as node:
        assert address(node) == ("0.0.0.0", port)
