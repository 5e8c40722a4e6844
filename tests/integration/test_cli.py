"""The command line of a node: what it says, what it refuses, and the code that it ends with."""

import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

import mesh
from tests.support.leaks import leak_check  # noqa: F401  # pytest finds it by its name
from tests.support.nodes import NodeProcess, free_port, run_meshnode, write_tasks
from tests.support.processes import workers_of, zygote_of

QUIET = ("--no-mdns", "--no-bridge")


@pytest.fixture
def app(tmp_path: Path) -> Path:
    write_tasks(
        tmp_path,
        """
import time

@mesh.task(bridge=True)
def nap(seconds: float = 0.0) -> float:
    time.sleep(seconds)
    return seconds
""",
    )
    return tmp_path


# exit codes


def test_a_node_that_is_asked_to_stop_ends_with_0(app: Path) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        with NodeProcess(app) as node:
            node.signal(number)
            assert node.wait() == 0
            assert "stopping: finishing what runs, within 30 s (again to stop now)" in node.log


def test_a_module_that_raises_at_import_shows_its_traceback_once_and_ends_with_1(tmp_path: Path) -> None:
    (tmp_path / "tasks.py").write_text("import mesh\n1 / 0\n")
    began = time.monotonic()
    done = run_meshnode(tmp_path, "tasks", "--bind", "127.0.0.1:0", *QUIET)
    assert done.returncode == 1
    assert done.stderr.count("ZeroDivisionError") == 1
    assert 'tasks.py", line 2' in done.stderr
    assert time.monotonic() - began < 20  # and not when whoever waits for it gives up, after 30 s


def test_a_module_that_is_not_there_says_where_it_was_looked_for(tmp_path: Path) -> None:
    done = run_meshnode(tmp_path, "nosuch", "--bind", "127.0.0.1:0", *QUIET)
    assert done.returncode == 1
    assert f"nosuch does not import (looked in {tmp_path} first)" in done.stderr


def test_a_port_that_was_asked_for_and_is_taken_is_named_and_ends_with_3(app: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run_meshnode(app, "tasks", "--bind", f"127.0.0.1:{port}", *QUIET)
    assert done.returncode == 3
    assert f"tcp://127.0.0.1:{port} is in use; choose another port" in done.stderr


def test_a_name_that_is_taken_is_named_and_ends_with_4(app: Path) -> None:
    environment = {"XDG_RUNTIME_DIR": str(app)}
    with NodeProcess(app, "--name", "web7", environment=environment):
        done = run_meshnode(app, "tasks", "--bind", "127.0.0.1:0", "--name", "web7", *QUIET, environment=environment)
        assert done.returncode == 4
        assert "a node named 'web7' already runs here; choose another --name" in done.stderr
    with NodeProcess(app, "--name", "web7", environment=environment) as again:
        assert "node web7 is ready" in again.log


async def test_a_node_whose_grace_is_over_ends_with_5(app: Path) -> None:
    with NodeProcess(app, "--grace", "0.2") as node:
        async with mesh.Client(seeds=[node.seed], mdns=False) as client:
            job = client.submit("nap", 20.0)
            await job.accepted()
            assert node.stop() == 5
            with pytest.raises(mesh.JobLost, match="the node stopped before it ended"):
                await job


async def test_a_second_signal_stops_at_once(app: Path) -> None:
    with NodeProcess(app) as node:
        async with mesh.Client(seeds=[node.seed], mdns=False) as client:
            job = client.submit("nap", 20.0)
            await job.accepted()
            node.signal(signal.SIGINT)
            node.wait_for_log("stopping: finishing what runs")
            began = time.monotonic()
            node.signal(signal.SIGINT)
            assert node.wait() == 5
            assert time.monotonic() - began < 15.0  # and not when the job has ended, after 20 s, or the grace
            with pytest.raises(mesh.JobLost):
                await job


# settings


def test_help_shows_the_options_in_groups_and_the_exit_codes(tmp_path: Path) -> None:
    done = run_meshnode(tmp_path, "--help", environment={"COLUMNS": "110"})
    assert done.returncode == 0
    headings = re.findall(r"^(\w+):$", done.stdout, re.MULTILINE)
    assert headings == ["Capacity", "Network", "Bridge", "Security", "Timing", "Operation", "Other"]
    assert "Exit codes: 0 clean, 1 configuration or import, 3 port in use" in done.stdout
    assert "[MODULE[:ATTR] …]" not in done.stdout.split("Other:")[1].split("Examples")[0]


def sources(text: str) -> dict[str, tuple[str, str]]:
    """Read what `meshnode config` prints: value and source by name."""
    lines = [line.split() for line in text.splitlines()]
    return {line[0]: (" ".join(line[1:-1]), line[-1]) for line in lines}


def test_config_shows_what_holds_and_where_it_comes_from(tmp_path: Path) -> None:
    (tmp_path / "meshnode.toml").write_text(
        'workers = 3\nmesh = "toml"\nname = "toml"\nseed = "web7"\nno-mdns = true\nmax-message = "1M"\n'
    )
    environment = {"MESHNODE_MESH": "environment", "MESHNODE_NAME": "environment"}
    done = run_meshnode(tmp_path, "config", "--name", "flag", environment=environment)
    assert done.returncode == 0
    shown = sources(done.stdout)
    assert shown["name"] == ('"flag"', "flag")
    assert shown["mesh"] == ('"environment"', "MESHNODE_MESH")
    assert shown["workers"] == ("3", "meshnode.toml")
    assert shown["seed"] == ('["web7:5750"]', "meshnode.toml")
    assert shown["mdns"] == ("false", "meshnode.toml")
    assert shown["max-message"] == (str(1 << 20), "meshnode.toml")
    assert shown["grace"] == ("30.0", "default")
    assert shown["bind"] == ('"tcp://127.0.0.1:5750"', "default")
    assert shown["bridge"] == ('"127.0.0.1:12345"', "default")


def test_config_shows_that_insecure_opens_all_interfaces(tmp_path: Path) -> None:
    assert sources(run_meshnode(tmp_path, "config", "--insecure").stdout)["bind"] == ('"tcp://*:5750"', "default")


@pytest.mark.parametrize(
    ("content", "hint"),
    [
        ("wrokers = 3", "sets 'wrokers', which is no setting; did you mean 'workers'?"),
        ("bridge-idel = 3", "sets 'bridge-idel', which is no setting; did you mean 'bridge-idle'?"),
        ("[zone]\nbind = 1", "sets 'zone', which is no setting; known are advertise, allow-network, bind"),
        ("workers = many", "is not TOML"),
        ('workers = "many"', "'many' is not a valid integer"),
        ("workers = 0", "0 is not in the range 1<=x<=4096"),
        ('max-message = "big"', "'big' is no size: give bytes, or 512k, 64M, 1G"),
    ],
)
def test_a_wrong_setting_in_the_file_ends_with_1_and_a_hint(tmp_path: Path, content: str, hint: str) -> None:
    (tmp_path / "meshnode.toml").write_text(content)
    done = run_meshnode(tmp_path, "config")
    assert done.returncode == 1
    assert hint in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (
            ["--bind", "0.0.0.0:0"],
            "--bind tcp://0.0.0.0:0 listens on the network, where anybody could run tasks: `meshctl keygen`",
        ),
        (["--bridge", "0.0.0.0:0"], "--bridge 0.0.0.0:0 listens on the network"),
        (["--bind", "::1:5750"], "write an IPv6 address in brackets, [::1]:5750"),
        (["--bind", "127.0.0.1:http"], "the part behind the last colon must be a port, 0 to 65535"),
        (["--bind", "127.0.0.1:²"], "the part behind the last colon must be a port, 0 to 65535"),
        (["--bind", "ipc:///tmp/x"], "only tcp:// can be bound"),
        (["--mesh", ""], "'' is no name: 1 to 63 letters"),
        (["--name", "../web7"], "'../web7' is no name"),
        (["--seed", "web7:x"], "the port must be a number from 1 to 65535, not 'x'"),
        (["--config", "nosuch.toml"], "nosuch.toml cannot be read: No such file or directory"),
        (["--wrokers", "3"], "'--workers'?"),
    ],
)
def test_a_wrong_flag_ends_with_1_and_says_what_would_be_right(tmp_path: Path, arguments: list[str], hint: str) -> None:
    done = run_meshnode(tmp_path, *arguments, "config")
    assert done.returncode == 1
    assert hint in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_check_lists_the_tasks_and_which_are_open_to_the_bridge(app: Path) -> None:
    done = run_meshnode(app, "check")
    assert (done.returncode, done.stdout) == (0, "nap(seconds: float = 0.0) -> float  [bridge]\n")


def test_check_of_a_module_without_tasks_or_with_two_of_one_name_ends_with_1(tmp_path: Path) -> None:
    write_tasks(tmp_path, "", name="bare")
    write_tasks(tmp_path, "@mesh.task\ndef a(): ...\n\n@mesh.task(name='a')\ndef b(): ...\n", name="twice")
    bare, twice = run_meshnode(tmp_path, "check", "bare"), run_meshnode(tmp_path, "check", "twice")
    assert (bare.returncode, twice.returncode) == (1, 1)
    assert "bare" in bare.stderr
    assert re.search(r"two tasks are called 'a': at \S+twice.py:3 and at \S+twice.py:6", twice.stderr)


# starting


def test_a_default_port_that_is_taken_moves_and_the_log_says_so(app: Path) -> None:
    with NodeProcess(app, bind="") as one, NodeProcess(app, bind="") as other:
        assert one.endpoint != other.endpoint
        assert re.search(
            r"port 5750 is taken \(by another node\?\): listening at tcp://127\.0\.0\.1:\d+ instead", other.log
        )


def test_a_node_serves_tasks_py_of_its_folder(app: Path) -> None:
    with NodeProcess(app, module="") as node:
        assert re.search(r"is ready after \S+ s: mesh default, .*\(nap\)", node.log)


def test_a_node_without_tasks_py_serves_the_built_in_ones_and_says_so(tmp_path: Path) -> None:
    with NodeProcess(tmp_path, module="") as node:
        assert "no MODULE given and no tasks.py here: serving the built-in tasks echo, sleep and ping" in node.log


def test_the_log_can_be_json(app: Path) -> None:
    with NodeProcess(app, "--log-json") as node:
        assert all(line.startswith('{"time": ') for line in node.log.splitlines())


def test_a_port_that_was_asked_for_is_the_one(app: Path) -> None:
    port = free_port()
    with NodeProcess(app, bind=f":{port}") as node:
        assert node.endpoint == f"tcp://127.0.0.1:{port}"


def test_processes_say_what_they_are(app: Path) -> None:
    with NodeProcess(app, "--name", "web7", workers=2, environment={"XDG_RUNTIME_DIR": str(app)}) as node:
        title = " ".join(psutil.Process(node.pid).cmdline()).strip()
        assert title == "meshnode web7 (2 workers)"
        children = [" ".join(process.cmdline()).strip() for process in (zygote_of(node), *workers_of(node))]
        assert len(children) == 3
        assert all(child.startswith("meshnode") and "web7" in child for child in children), children


def test_an_error_of_the_node_itself_is_no_error_of_the_configuration(tmp_path: Path) -> None:
    program = (
        "from meshnode import cli, node\n"
        "async def run(self): raise RuntimeError('a bug')\n"
        "node.Node.run = run\n"
        "cli.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "--bind", "127.0.0.1:0", *QUIET],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 70
    assert "RuntimeError: a bug" in done.stderr


def test_check_finds_what_is_wrong_with_a_settings_file(app: Path) -> None:
    (app / "good.toml").write_text('workers = 2\ngrace = 5\nmax-message = "1M"\n')
    done = run_meshnode(app, "--config", "good.toml", "check", "tasks")
    assert (done.returncode, done.stdout) == (0, "nap(seconds: float = 0.0) -> float  [bridge]\n")
    for wrong, word in [
        ('workers = "many"', "workers"),
        ("workerz = 2", "did you mean 'workers'"),
        ('bind = "0.0.0.0:1"', "--insecure"),
        ("workers = ", "is not TOML"),
    ]:
        (app / "wrong.toml").write_text(wrong)
        done = run_meshnode(app, "--config", "wrong.toml", "check", "tasks")
        assert done.returncode == 1
        assert word in done.stderr
