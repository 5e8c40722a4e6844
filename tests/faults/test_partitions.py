"""Row 5: hosts that do not reach each other, or badly, for a while; on plain hosts of the lab."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pytest

from mesh.core.liveness import DEAD_S
from tests.hosts.conftest import lab, need, three_hosts
from tests.hosts.lab.lab import PLAIN_TOOLS, Lab
from tests.support.faults import FULL, Figures, sized, within
from tests.support.ledger import Ledger
from tests.support.nodes import write_tasks

__all__ = ["lab", "three_hosts"]

pytestmark = pytest.mark.lab

TASKS = """
import time

from tests.support.ledger import executed


@mesh.task(idempotent=True)
def again(seconds: float) -> float:
    executed()
    time.sleep(seconds)
    return seconds
"""

CLIENT = """
import asyncio, json, sys
from pathlib import Path

import mesh
from tests.support.ledger import Ledger

RATE, JOB_S = 50, 0.02


async def main(folder, seeds):
    enough = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(sys.stdin, enough.set)
    with Ledger(Path(folder)) as ledger:
        async with mesh.Client(seeds=seeds, mdns=False) as client:
            await client.wait_ready("again", nodes=2, timeout=20.0)
            print("up", flush=True)
            due = loop.time()
            task = mesh.task(idempotent=True, name="again")(lambda seconds: seconds).options(timeout=90.0)
            submitted_at = {}
            while not enough.is_set():
                job = ledger.submit(client, task, JOB_S, expected=JOB_S)
                submitted_at[job.id.hex()] = loop.time()
                due += 1 / RATE
                await asyncio.sleep(max(0.0, due - loop.time()))
            await ledger.settle(30.0)
            left = sum(node.outstanding for node in client.nodes())
        audit = ledger.audit()
    print(json.dumps({
        "submitted": audit.submitted, "results": audit.results, "executions": audit.executions, "lost": audit.lost,
        "second": len(audit.second), "twice": len(audit.twice), "wrong": len(audit.wrong), "errors": audit.errors,
        "left": left, "submitted_at": submitted_at,
    }), flush=True)


asyncio.run(main(sys.argv[1], sys.argv[2:]))
"""
"""Hands in jobs at an even rate until it is told that it is enough, and says what the ledger says."""

PORT = 5750
QUIET_S = 1.0
FAULT_S = sized(10.0, 20.0)
"""Seconds; longer than it takes to give a silent node up."""

BACK_S = sized(5.0, 3.0)
"""Seconds in which it works again; the small size runs beside other programs."""

WATCHED_S = sized(7.0, 10.0)
"""Seconds after the healing in which a node must have worked again for the test to say when."""


@dataclass(frozen=True)
class Fault:
    """`begin` breaks the network of h1 and h2 (nodes) or h3 (the client); `away`: the nodes that must be back after."""

    name: str
    begin: Callable[[Lab], None]
    away: tuple[str, ...] = ("h1",)


FAULTS = [
    Fault("a node partitioned off", lambda lab: lab.partition(["h1"], ["h2", "h3"])),
    Fault("the client partitioned off", lambda lab: lab.partition(["h1", "h2"], ["h3"]), ("h1", "h2")),
    Fault("a node's cable pulled", lambda lab: lab.cut("h1")),
    Fault("a node cut silently", lambda lab: lab.cut("h1", silent=True)),
    Fault("one way: the node is not heard", lambda lab: lab.block("h1", "h3")),
    Fault("one way: the client is not heard", lambda lab: lab.block("h3", "h1")),
    Fault("a node's host hangs", lambda lab: lab.pause("h1")),
    Fault("200 ms delay", lambda lab: lab.netem("h1", delay=200)),
    Fault("5 % loss", lambda lab: lab.netem("h1", loss=5, seed=1)),
]


@pytest.fixture(autouse=True)
def tools() -> None:
    need(*PLAIN_TOOLS)


@pytest.fixture
def nodes(lab: Lab, tmp_path: Path, ledger: Ledger) -> Iterator[list[str]]:
    """Nodes on h1 and h2, and their addresses."""
    write_tasks(tmp_path, TASKS)
    for host in ("h1", "h2"):
        log = (tmp_path / f"{host}.log").open("w")
        command = ["-m", "meshnode", "tasks", "-w", "4", "-n", host, "--insecure", "--no-mdns", "--no-bridge"]
        lab.popen(
            host,
            [
                "sh",
                "-c",
                'cd "$0" && exec "$@"',
                tmp_path,
                sys.executable,
                *command,
                "--bind",
                f"{lab.ip(host)}:{PORT}",
            ],
            stderr=log,
            env={**os.environ, **ledger.environment(host)},
        )
        log.close()
    yield [f"{lab.ip(host)}:{PORT}" for host in ("h1", "h2")]
    lab.tidy()


@pytest.fixture
def client(lab: Lab, nodes: list[str], tmp_path: Path) -> subprocess.Popen[str]:
    """The client on h3, which has begun to hand in jobs."""
    command = [sys.executable, "-c", CLIENT, str(tmp_path), *nodes]
    process = lab.popen("h3", command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert said(process.stdout) == "up"
    return process


def said(stream: IO[str] | None) -> str:
    assert stream is not None
    return stream.readline().strip()


@pytest.mark.parametrize("fault", FAULTS if FULL else FAULTS[:1], ids=lambda fault: fault.name.replace(" ", "-"))
@within(120.0)
def test_a_broken_network_loses_no_idempotent_job_and_all_work_again_once_it_is_mended(
    fault: Fault,
    lab: Lab,
    client: subprocess.Popen[str],
    ledger: Ledger,
    figures: Callable[[str, str], Figures],
) -> None:
    line = figures("5", f"{FAULT_S:g} s: {fault.name}")
    time.sleep(QUIET_S)
    begun = time.monotonic()
    fault.begin(lab)
    time.sleep(FAULT_S)
    healing = time.monotonic()
    lab.heal()
    healed = time.monotonic()
    time.sleep(WATCHED_S)
    assert client.stdin is not None
    print(file=client.stdin, flush=True)
    audit: dict[str, Any] = json.loads(said(client.stdout))
    assert client.wait(10) == 0

    runs = ledger.executions()
    meanwhile = [run for run in runs if begun < run.moment < healing]
    # What was sent before a node was given up may lie there and go on with it; what was handed in later came anew.
    since = [run for run in runs if run.moment > healed and audit["submitted_at"][run.id] > begun + DEAD_S + 1.0]
    firsts = [min((run.moment - healed for run in since if run.node == host), default=WATCHED_S) for host in fault.away]
    line.recover = max(firsts)
    line.jobs, line.lost = audit["submitted"], audit["lost"]
    line.second, line.twice = audit["second"], audit["twice"]
    line.more |= {"run meanwhile": len(meanwhile), "healing took s": healed - healing, **audit["errors"]}
    assert audit["lost"] == audit["wrong"] == audit["second"] == audit["left"] == 0
    assert audit["results"] == audit["submitted"]
    assert line.recover < BACK_S
