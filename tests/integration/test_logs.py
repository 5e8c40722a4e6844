"""What tasks log from inside a worker, and what the node says of workers that die: with the job's id."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

import mesh
from tests.support.clients import connected
from tests.support.leaks import leak_check  # noqa: F401  # pytest finds it by its name
from tests.support.nodes import NodeProcess, write_tasks

TASKS = """
import asyncio, logging, os
log = logging.getLogger("shop")
{configured}

@mesh.lifespan
def setup(state):
    log.info("set up")
    yield
    log.info("torn down")

@mesh.task
def notes(secret: str) -> str:
    log.debug("too much")
    log.info("noted")
    return mesh.context().id

@mesh.task
async def slowly(secret: str) -> str:
    log.info("begun")
    await asyncio.sleep(0.05)
    log.warning("done slowly")
    return mesh.context().id

@mesh.task
def dies(secret: str) -> None:
    os._exit(7)
"""


CAUSES = ("exited with status 7", "its worker died")
"""What is said of a worker's end: the node waits a quarter of a second for what its zygote knows of it."""


def app(tmp_path: Path, configured: str = "") -> Path:
    write_tasks(tmp_path, TASKS.replace("{configured}", configured))
    return tmp_path


def lines(log: str, text: str) -> list[str]:
    return [line for line in log.splitlines() if text in line]


async def test_lines_of_a_task_carry_its_job_in_json(tmp_path: Path) -> None:
    with NodeProcess(app(tmp_path), "--log-json", "--name", "web7", "-m", "shop", "-c", "4") as node:
        async with connected(node, mesh="shop") as client, asyncio.timeout(20):
            plain, *slow = await asyncio.gather(
                client.call("notes", "hidden-1"), *(client.call("slowly", "hidden-2") for _ in range(3))
            )
            dying = client.submit("dies", "hidden-3")
            with pytest.raises(mesh.JobLost):
                await dying
        node.stop()
    told = [json.loads(line) for line in node.log.splitlines()]
    assert {(line["node"], line["mesh"]) for line in told} == {("web7", "shop")}

    def of(message: str) -> list[dict[str, Any]]:
        return [line for line in told if message in line["message"]]

    (noted,) = of("noted")
    assert noted["logger"] == "shop"
    assert noted["level"] == "info"
    assert (noted["job"], noted["task"], noted["worker"]) == (plain, "notes", 0)
    assert {line["job"] for line in of("begun")} == {line["job"] for line in of("done slowly")} == set(slow)
    (ended,) = of("ended: its worker")
    assert any(cause in ended["message"] for cause in CAUSES)
    assert (ended["job"], ended["task"], ended["worker"]) == (dying.id.hex(), "dies", 0)
    assert all("job" not in line and line["worker"] == 0 for line in of("set up") + of("torn down"))
    assert len(of("torn down")) == 1
    assert not of("too much")
    assert "hidden" not in node.log


async def test_lines_of_a_task_carry_its_job_for_people_and_heed_the_level(tmp_path: Path) -> None:
    with NodeProcess(app(tmp_path), "-l", "debug") as node:
        async with connected(node) as client, asyncio.timeout(20):
            job = await client.call("notes", "hidden-1")
            dying = client.submit("dies", "hidden-3")
            with pytest.raises(mesh.JobLost):
                await dying
        node.stop()
    (noted,) = lines(node.log, "noted")
    assert noted.endswith(f"Z INFO    noted [worker=0 job={job} task=notes]")
    assert len(lines(node.log, "too much")) == 1
    (ended,) = lines(node.log, "ended: its worker")
    assert any(cause in ended for cause in CAUSES)
    assert ended.endswith(f"[worker=0 job={dying.id.hex()} task=dies]")
    assert "hidden" not in node.log


async def test_an_application_that_configures_its_logging_keeps_it(tmp_path: Path) -> None:
    own = 'logging.basicConfig(format="own %(message)s", level="ERROR")\nlog.setLevel("WARNING")'
    with NodeProcess(app(tmp_path, own), "-l", "debug") as node:
        async with connected(node) as client, asyncio.timeout(20):
            await client.call("notes", "x")
            await client.call("slowly", "x")
        node.stop()
    assert lines(node.log, "done slowly") == ["own done slowly"]
    assert not lines(node.log, "noted")
