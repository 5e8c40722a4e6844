"""`meshctl top`: all nodes at a glance, every second. Shell: owns the screen while it runs."""

import asyncio
import os
import sys
import termios
import tty
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click
from msgspec import Struct

from mesh import tables
from mesh.core.rates import Rate, Rates
from mesh.ctl.target import Target, ask_all, json_option, look_option, print_json, run
from mesh.operator import Operator
from mesh.seen import NodeInfo
from mesh.wire.reports import RunningJob, Status, short

EACH_S = 1.0
"""Seconds between two frames."""

LONGEST = 10
"""Jobs that are shown: those that have run longest."""


class Row(Struct, frozen=True):
    """One node: as the client sees it, and as it tells itself, if it does."""

    name: str
    host: str
    state: str
    workers: int
    busy: int
    status: Status | None
    rate: Rate | None


class Frame(Struct, frozen=True):
    """What is shown at one moment; `wrong`: what nodes do not tell."""

    rows: list[Row]
    wrong: list[str]


@click.command()
@click.option("--once", is_flag=True, help="One frame, after a second of counting, and end.")
@json_option
@look_option
@click.pass_obj
def top(target: Target, /, *, once: bool, look: float, json_here: bool) -> None:
    """Show all nodes, their jobs a second, and the jobs that have run longest; q ends it."""
    as_json = target.as_json or json_here

    async def main() -> None:
        async with target.looked(look) as client:
            target.chosen(client, ())
            rates = Rates()
            frame = await _frame(client, rates)
            if once:
                await asyncio.sleep(EACH_S)
                _print(await _frame(client, rates), as_json=as_json)
            elif as_json:
                await _stream(client, rates)
            else:
                await _live(client, rates, frame)

    try:
        run(main())
    except KeyboardInterrupt:
        return


async def _frame(client: Operator, rates: Rates) -> Frame:
    nodes = client.nodes()
    reports, wrong = await ask_all(client, nodes, "status")
    told = {node.id: report.status for node, report in reports}
    now = client.loop.time()
    return Frame([_row(node, told.get(node.id), rates, now) for node in nodes], wrong)


def _row(node: NodeInfo, status: Status | None, rates: Rates, now: float) -> Row:
    if status is None:
        return Row(node.name, node.host, node.state, node.workers, max(0, node.workers - node.free), None, None)
    busy = sum(worker.outstanding > 0 for worker in status.workers)
    return Row(node.name, node.host, status.state, status.slots, busy, status, rates.of(status, now))


async def _stream(client: Operator, rates: Rates) -> None:
    while True:
        await asyncio.sleep(EACH_S)
        print_json(await _frame(client, rates))
        sys.stdout.flush()


async def _live(client: Operator, rates: Rates, frame: Frame) -> None:
    from rich.console import Group
    from rich.live import Live

    enough = asyncio.Event()
    console = tables.console()
    with (
        _keys(enough),
        Live(Group(*shown(frame)), console=console, auto_refresh=False, screen=console.is_terminal) as live,
    ):
        while not enough.is_set():
            try:
                async with asyncio.timeout(EACH_S):
                    await enough.wait()
            except TimeoutError:
                live.update(Group(*shown(await _frame(client, rates))), refresh=True)


@contextmanager
def _keys(enough: asyncio.Event) -> Iterator[None]:
    """Heed the key q while there is a keyboard."""
    if not sys.stdin.isatty():
        yield
        return
    loop = asyncio.get_running_loop()
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)

    def pressed() -> None:
        if os.read(descriptor, 100).lower().startswith((b"q", b"\x03")):
            enough.set()

    tty.setcbreak(descriptor)
    loop.add_reader(descriptor, pressed)
    try:
        yield
    finally:
        loop.remove_reader(descriptor)
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def _print(frame: Frame, *, as_json: bool) -> None:
    if as_json:
        print_json(frame)
        return
    console = tables.console()
    for part in shown(frame):
        console.print(part)


def shown(frame: Frame) -> Sequence[Any]:
    """Make what is shown: a table of nodes, one of the jobs that have run longest, and what is wrong."""
    rows = frame.rows
    statuses = [row.status for row in rows if row.status is not None]
    rates = [row.rate for row in rows if row.rate is not None]
    head = ", ".join((
        tables.counted(len(rows), "node"),
        f"{sum(row.busy for row in rows)} of {sum(row.workers for row in rows)} workers busy",
        f"{sum(status.running for status in statuses)} jobs run, {sum(status.waiting for status in statuses)} wait",
        f"{sum(rate.ended for rate in rates):,.0f} a second end, {sum(rate.failed for rate in rates):,.0f} badly",
    ))  # fmt: skip
    heads = ("node", "host", "state", "busy", "run", "wait", "jobs/s", "bad/s", "clients", "memory", "up for")
    longest = sorted(
        ((row.name, worker.slot, job) for row in rows if row.status for worker in row.status.workers
         for job in worker.running),
        key=lambda one: -one[2].elapsed,
    )[:LONGEST]  # fmt: skip
    parts: list[Any] = [head, "", tables.table(heads, (_cells(row) for row in rows))]
    if longest:
        parts += ["", tables.table(("job", "task", "node", "worker", "for"), (_longest(*one) for one in longest))]
    return [*parts, *frame.wrong]


def _longest(node: str, slot: int, job: RunningJob) -> Sequence[object]:
    return short(job.id), job.task, node, slot, tables.elapsed(job.elapsed)


def _cells(row: Row) -> Sequence[object]:
    status, rate = row.status, row.rate
    first = (row.name, row.host, row.state, f"{row.busy}/{row.workers}")
    if status is None:
        return (*first, *[""] * 7)
    memory = status.memory + sum(worker.memory for worker in status.workers)
    ended, failed = ("", "") if rate is None else (f"{rate.ended:,.0f}", f"{rate.failed:,.0f}")
    return (
        *first, status.running, status.waiting, ended, failed, status.clients, tables.size(memory),
        tables.length_of_time(status.uptime),
    )  # fmt: skip
