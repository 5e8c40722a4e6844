"""Other versions: of the protocol, which a greeting settles, and of the application, which tasks tell apart."""

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

import mesh
from mesh.wire.messages import VERSIONS, WRONG_VERSION, Refuse, Welcome
from tests.support.faults import Figures
from tests.support.nodes import NodeProcess, lasting_address, write_tasks
from tests.support.peers import FakeNode, Peer
from tests.support.waiting import until

LOWEST, HIGHEST = VERSIONS

OLD = """
import time


@mesh.task
def both(x: int) -> str:
    time.sleep(0.005)  # so that one node alone is not enough
    return "old"


@mesh.task
def leaving(x: int) -> int:
    return x
"""

NEW = """
import time


@mesh.task
def both(x: int) -> str:
    time.sleep(0.005)
    return "new"


@mesh.task
def coming(x: int) -> int:
    return x
"""

JOBS = 300
"""Of each task."""


@pytest.fixture
def old(tmp_path: Path) -> Path:
    (tmp_path / "old").mkdir()
    write_tasks(tmp_path / "old", OLD)
    return tmp_path / "old"


@pytest.fixture
def new(tmp_path: Path) -> Path:
    (tmp_path / "new").mkdir()
    write_tasks(tmp_path / "new", NEW)
    return tmp_path / "new"


def test_a_peer_of_later_versions_only_is_refused_and_costs_nobody_anything(old: Path) -> None:
    with NodeProcess(old) as node, Peer(node.endpoint) as later, Peer(node.endpoint) as ours:
        refusal = later.greet(HIGHEST + 1, HIGHEST + 2)
        assert isinstance(refusal, Refuse)
        assert refusal.reason == WRONG_VERSION
        assert f"{LOWEST} to {HIGHEST}" in refusal.text
        assert isinstance(ours.greet(), Welcome)


@pytest.mark.parametrize("versions", [(HIGHEST - 1, HIGHEST), (LOWEST, HIGHEST + 1), (HIGHEST, HIGHEST)])
def test_a_peer_whose_range_overlaps_speaks_the_highest_version_of_both(old: Path, versions: tuple[int, int]) -> None:
    with NodeProcess(old) as node, Peer(node.endpoint) as peer:
        welcome = peer.greet(*versions)
        assert isinstance(welcome, Welcome)
        assert welcome.version == min(versions[1], HIGHEST)
        job = peer.jobs("both", (1,))
        peer.say(*job)
        assert [result.id for result in peer.results(1)] == [job[0].id]


async def test_a_node_of_another_version_gets_no_job_and_the_others_serve(old: Path) -> None:
    with FakeNode() as foreign, NodeProcess(old) as node:
        async with mesh.Client(seeds=[foreign.seed, node.seed], mdns=False) as client:
            assert [x async for x in client.map("leaving", range(JOBS))] == list(range(JOBS))
            await until(lambda: foreign.greetings > 0)
        assert foreign.jobs == 0
        assert foreign.greetings == 1  # asked again after a minute only


async def test_where_only_another_version_is_spoken_the_error_names_the_reason() -> None:
    with FakeNode() as foreign:
        async with mesh.Client(seeds=[foreign.seed], mdns=False, discovery_grace=3.0) as client:
            with pytest.raises(mesh.NoNodes, match="speaks other versions"):
                await client.call("both", 1)


async def test_jobs_go_only_where_their_task_is_known_while_old_and_new_code_serve(
    old: Path, new: Path, figures: Callable[[str, str], Figures]
) -> None:
    line = figures("11", "code v1 and v2 at once, tasks that only one of them has")
    with NodeProcess(old, "-n", "old", workers=2) as first, NodeProcess(new, "-n", "new", workers=2) as second:
        async with mesh.Client(seeds=[first.seed, second.seed], mdns=False) as client:
            await client.wait_ready(nodes=2)
            jobs = [client.submit(task, x) for x in range(JOBS) for task in ("both", "leaving", "coming")]
            line.jobs = len(jobs)
            results = await asyncio.gather(*jobs)
            line.lost = 0
        ran = Counter((job.task, job.node) for job in jobs)
    for job, result in zip(jobs, results, strict=True):
        assert result == (job.node if job.task == "both" else result)
    assert set(ran) == {("both", "old"), ("both", "new"), ("leaving", "old"), ("coming", "new")}


async def test_a_roll_out_of_new_code_fails_no_job_that_either_serves(
    old: Path, new: Path, figures: Callable[[str, str], Figures]
) -> None:
    line = figures("11", "v2 takes the place of v1 under load")
    failed: list[BaseException] = []
    answers: Counter[str] = Counter()
    enough = asyncio.Event()

    async def call(client: mesh.Client) -> None:
        while not enough.is_set():
            try:
                answers[await client.call("both", 1)] += 1
            except mesh.MeshError as error:
                failed.append(error)

    where = lasting_address()
    with NodeProcess(old, bind=where) as first, NodeProcess(old) as second, ExitStack() as stack:
        async with mesh.Client(seeds=[first.seed, second.seed], mdns=False) as client:
            await client.wait_ready(nodes=2)
            callers = [asyncio.create_task(call(client)) for _ in range(8)]
            assert await asyncio.to_thread(first.stop) == 0
            await asyncio.to_thread(stack.enter_context, NodeProcess(new, bind=where))
            await client.wait_ready("coming")
            assert await client.call("coming", 7) == 7
            assert await asyncio.to_thread(second.stop) == 0
            await asyncio.sleep(0.2)
            await until(lambda: answers["new"] > 0)
            enough.set()
            await asyncio.gather(*callers)
            with pytest.raises(mesh.UnknownTask):
                await client.call("leaving", 1)
    line.jobs, line.lost = sum(answers.values()) + len(failed), len(failed)
    assert failed == []
    assert set(answers) == {"old", "new"}
