"""Row 24: wall clocks that are wrong, and that step while jobs run: nothing expires before its time, or after it.

Debian's `faketime` moves only the wall clock of a process: `FAKETIME_DONT_FAKE_MONOTONIC`.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.faults import FULL, Figures, sized
from tests.support.nodes import NodeProcess, write_tasks

TASKS = """
import select, time


@mesh.task
def nap(seconds: float) -> float:
    select.select([], [], [], seconds)  # time.sleep fails under faketime, which moves the moment that it waits for
    return seconds


@mesh.task
def clock() -> float:
    return time.time()
"""

CLIENT = """
import asyncio, json, os, sys, time
import mesh


async def ended(client, seconds, timeout):
    "How a job ended, and after how long by a clock that nobody moves."
    begun = time.monotonic()
    try:
        await client.submit(client_nap.options(timeout=timeout), seconds)
        return "result", time.monotonic() - begun
    except mesh.MeshError as error:
        return type(error).__name__, time.monotonic() - begun


@mesh.task(name="nap")
def client_nap(seconds: float) -> float: ...


async def main(seed, steps):
    found = {}
    async with mesh.Client(seeds=[seed], mdns=False) as client:
        await client.wait_ready("nap")
        found["before"] = [time.time(), await client.call("clock")]
        running = [asyncio.create_task(ended(client, 1.5, 5.0)) for _ in range(4)]
        expiring = [asyncio.create_task(ended(client, 4.0, 2.0)) for _ in range(2)]
        waiting = [asyncio.create_task(ended(client, 0.1, 8.0)) for _ in range(8)]
        await asyncio.sleep(0.7)
        for path, offset in steps.items():
            with open(path, "w") as file:
                file.write(offset)
        found["running"] = await asyncio.gather(*running)
        found["expiring"] = await asyncio.gather(*expiring)
        found["waiting"] = await asyncio.gather(*waiting)
        await asyncio.sleep(1.0)
        found["after"] = [time.time(), await client.call("clock")]
        found["nodes"] = [node.state for node in client.nodes()]
    print(json.dumps(found))


asyncio.run(main(sys.argv[1], json.loads(sys.argv[2])))
"""

LIBRARY = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)

HOUR = 3600.0
LATE_S = sized(1.75, 0.75)
"""Seconds by which an outcome may come later than it should; a busy machine needs some. What expires after 2 s would
end by itself after 4."""


def clock(file: Path, offset: str) -> dict[str, str]:
    """Return the environment of a process whose wall clock is what `file` says, from now on `offset`."""
    file.write_text(offset)
    return {
        "LD_PRELOAD": str(LIBRARY),
        "FAKETIME_TIMESTAMP_FILE": str(file),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }


@dataclass(frozen=True)
class Clocks:
    """The wall clocks of client and node, at first and from 0.7 s on."""

    fault: str
    before: tuple[str, str]
    after: tuple[str, str]


CASES = [
    Clocks("client +1 h, node −1 h, then the other way round", ("+1h", "-1h"), ("-1h", "+1h")),
    Clocks("the client's steps forth by 1 h", ("+0", "+0"), ("+1h", "+0")),
    Clocks("the client's steps back by 1 h", ("+0", "+0"), ("-1h", "+0")),
    Clocks("the node's steps forth by 1 h", ("+0", "+0"), ("+0", "+1h")),
    Clocks("the node's steps back by 1 h", ("+0", "+0"), ("+0", "-1h")),
]


@pytest.mark.parametrize("clocks", CASES if FULL else CASES[:1], ids=lambda clocks: clocks.fault.replace(" ", "-"))
def test_a_wall_clock_that_is_wrong_or_steps_lets_nothing_expire(
    clocks: Clocks, tmp_path: Path, figures: Callable[[str, str], Figures]
) -> None:
    if LIBRARY is None:
        if os.environ.get("REQUIRE_LAB") == "1":
            pytest.fail("REQUIRE_LAB=1, but faketime is not installed", pytrace=False)
        pytest.skip("faketime is not installed")
    line = figures("24", f"wall clocks: {clocks.fault}")
    line.jobs = 14
    write_tasks(tmp_path, TASKS)
    of_client, of_node = tmp_path / "client", tmp_path / "node"
    environment = clock(of_client, clocks.before[0])
    steps = json.dumps({str(of_client): clocks.after[0], str(of_node): clocks.after[1]})
    began = time.time()
    with NodeProcess(tmp_path, workers=8, environment=clock(of_node, clocks.before[1])) as serving:
        done = subprocess.run(
            [sys.executable, "-c", CLIENT, serving.seed, steps],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=40,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    slack = time.time() - began + 2.0
    for when, offsets in (("before", clocks.before), ("after", clocks.after)):
        for moment, offset in zip(found[when], offsets, strict=True):
            assert abs(moment - began - HOUR * int(offset.rstrip("h"))) < slack, "the clocks were not what was asked"
    line.lost = sum(kind != "result" for kind, _ in found["running"] + found["waiting"])
    line.more["expired after s"] = max(seconds for _, seconds in found["expiring"])
    assert line.lost == 0
    assert all(1.5 <= seconds <= 1.5 + LATE_S for _, seconds in found["running"])
    assert {kind for kind, _ in found["expiring"]} == {"JobTimeout"}
    assert all(2.0 <= seconds <= 2.0 + LATE_S for _, seconds in found["expiring"])
    assert found["nodes"] == ["alive"]
