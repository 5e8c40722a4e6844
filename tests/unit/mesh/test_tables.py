"""What people read of nodes."""

import io

import pytest
from rich.console import Console

from mesh import tables
from mesh.wire.reports import BridgeReport, ClientReport, Connections, RunningJob, Stack, Status, WorkerStatus


def shown(*parts: object) -> str:
    file = io.StringIO()
    console = Console(file=file, width=160)
    for part in parts:
        console.print(part)
    return file.getvalue()


@pytest.mark.parametrize(("seconds", "words"), [(0.94, "0.9 s"), (9.99, "10.0 s"), (12.7, "12 s"), (187.0, "3:07 min")])
def test_what_may_be_over_in_a_moment_is_told_in_tenths(seconds: float, words: str) -> None:
    assert tables.elapsed(seconds) == words


@pytest.mark.parametrize(
    ("count", "words"), [(0, ""), (10 << 20, "10 MiB"), (9 << 30, "9216 MiB"), (12 << 30, "12 GiB")]
)
def test_sizes_are_told_in_the_unit_that_fits(count: int, words: str) -> None:
    assert tables.size(count) == words


def test_one_is_no_plural() -> None:
    assert (tables.counted(1, "job"), tables.counted(2, "job")) == ("1 job", "2 jobs")


def test_a_table_shows_text_as_it_is_and_what_is_empty_as_a_dash() -> None:
    assert shown(tables.table(("a", "b"), [("[red]x", "")])).splitlines()[1].split() == ["[red]x", "–"]


def test_a_worker_shows_what_it_runs_and_that_it_leaves() -> None:
    jobs = [RunningJob("d95f80c2a1b0ffee0000000000000001", "send_mail", 3.24), RunningJob("0" * 32, "other", 1.0)]
    worker = WorkerStatus(
        slot=3, pid=77, ready=True, age=70.0, outstanding=2, leaving=True, done=5, failed=1, running=jobs,
        last_exit="its worker was killed by SIGKILL",
    )  # fmt: skip
    status = Status(
        name="web7", id="0" * 32, mesh="default", state="unhealthy", why="no worker is ready", pid=1, uptime=5.0,
        concurrency=4, slots=1, workers=[worker],
    )  # fmt: skip
    text = shown(*tables.status(status))
    assert "unhealthy: no worker is ready" in text
    assert "0 of 1 × 4 ready" in text
    row = text.splitlines()[-1].split()
    assert row[:6] == ["3", "77", "leaving", "5", "1", "2"]
    assert "send_mail +1" in text
    assert "d95f80-1" in row
    assert text.splitlines()[-1].rstrip().endswith("its worker was killed by SIGKILL")


def test_connections_show_the_bridge_where_there_is_one() -> None:
    client = ClientReport(name="shop", address="10.0.0.5", held=3, running=1, silent=0.4)
    alone = tables.connections([("web7", Connections([client]))])
    assert len(alone) == 1
    assert shown(*alone).splitlines()[1].split() == ["web7", "shop", "–", "–", "10.0.0.5", "3", "1", "0.4", "s"]
    bridge = BridgeReport("127.0.0.1:12345", 2, 9, 40, {"127.0.0.1": 2})
    both = shown(*tables.connections([("web7", Connections([client], bridge))]))
    assert both.splitlines()[-1].split() == ["web7", "127.0.0.1:12345", "2", "9", "40", "127.0.0.1", "(2)"]


def test_a_stack_shows_what_the_coroutine_awaits_first() -> None:
    found = Stack(
        id="d95f80" + "0" * 25 + "1", task="nap", worker=0, pid=7, text="Current thread …\n", awaits="  File x\n"
    )
    assert tables.stack(found, "web7").splitlines() == [
        "nap d95f80-1 at web7, worker 0, process 7", "",
        "its coroutine awaits (most recent call last):", "  File x", "", "Current thread …",
    ]  # fmt: skip
