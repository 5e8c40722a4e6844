"""`meshctl nodes`, `tasks`, `status`, `connections`: who is there, and how they are."""

import dataclasses
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click

from mesh import tables
from mesh.client import Client
from mesh.ctl.target import (
    EXIT_NO_NODES,
    NOBODY,
    Target,
    ask_all,
    json_option,
    look_option,
    print_json,
    report_wrongs,
    run,
)
from mesh.wire.messages import TaskSpec

T = TypeVar("T")


@click.command()
@json_option
@look_option
@click.pass_obj
def nodes(target: Target, /, *, look: float, json_here: bool) -> None:
    """List the nodes that are there."""
    found = run(_look(target, look, lambda client: client.nodes()))
    if target.as_json or json_here:
        print_json([dataclasses.asdict(node) for node in found])
    elif found:
        tables.console().print(tables.nodes(found))
    else:
        click.echo(NOBODY, err=True)
    if not found:
        sys.exit(EXIT_NO_NODES)


@click.command()
@json_option
@look_option
@click.pass_obj
def tasks(target: Target, /, *, look: float, json_here: bool) -> None:
    """List the tasks that are served, with their signatures."""
    found = run(_look(target, look, lambda client: client.tasks()))
    if target.as_json or json_here:
        print_json([task_fields(spec) for spec in found.values()])
    elif found:
        tables.console().print(tables.tasks(found.values()))
    else:
        click.echo("no tasks found: is a node running (meshnode)?", err=True)
    if not found:
        sys.exit(EXIT_NO_NODES)


@click.command()
@click.argument("names", nargs=-1, metavar="[NODE] …")
@json_option
@look_option
@click.pass_obj
def status(target: Target, /, *, names: tuple[str, ...], look: float, json_here: bool) -> None:
    """Show how nodes are: their state, their jobs, their workers, and what each of these runs."""

    async def main() -> Any:
        async with target.looked(look) as client:
            return await ask_all(client, target.chosen(client, names), "status")

    reports, wrongs = run(main())
    found = [report.status for _, report in reports if report.status is not None]
    if target.as_json or json_here:
        print_json(found)
    else:
        console = tables.console()
        for number, one in enumerate(found):
            for part, shown in enumerate(tables.status(one)):
                if number or part:
                    console.print()
                console.print(shown)
    report_wrongs(wrongs)


@click.command()
@click.argument("names", nargs=-1, metavar="[NODE] …")
@json_option
@look_option
@click.pass_obj
def connections(target: Target, /, *, names: tuple[str, ...], look: float, json_here: bool) -> None:
    """Show who is connected to nodes: clients with their keys and jobs, callers of the bridge."""

    async def main() -> Any:
        async with target.looked(look) as client:
            return await ask_all(client, target.chosen(client, names), "connections")

    reports, wrongs = run(main())
    found = [(node.name, report.connections) for node, report in reports if report.connections is not None]
    if target.as_json or json_here:
        print_json([{"node": node, "connections": one} for node, one in found])
    else:
        console = tables.console()
        for part, shown in enumerate(tables.connections(found)):
            if part:
                console.print()
            console.print(shown)
    report_wrongs(wrongs)


async def _look(target: Target, seconds: float, ask: Callable[[Client], T]) -> T:
    async with target.looked(seconds) as client:
        return ask(client)


def task_fields(spec: TaskSpec) -> dict[str, Any]:
    """Return what `tasks --json` shows of a task; `plan --tasks` reads it again."""
    return {
        "name": spec.name, "signature": spec.signature, "async": spec.is_async, "bridge": spec.bridge,
        "timeout": spec.timeout, "priority": spec.priority, "doc": spec.doc, "fingerprint": spec.fingerprint,
        "parameters": [[p.name, p.kind, p.required] for p in spec.parameters],
    }  # fmt: skip
