"""`meshctl drain`, `undrain`, `reload`, `scale`: tell nodes what to do."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import click

from mesh import tables
from mesh.ctl.target import Target, json_option, look_option, print_json, report_wrongs, run, wrong
from mesh.errors import MeshError
from mesh.operator import OperateError, Operator
from mesh.seen import NodeInfo

LOOK_AGAIN_S = 0.25
"""Seconds between two looks at what a node still does."""


def _names(function: Callable[..., Any]) -> Callable[..., Any]:
    everything = click.option("--all", "everything", is_flag=True, help="All nodes of the mesh.")
    return click.argument("names", nargs=-1, metavar="[NODE] …")(everything(function))


def _checked(names: Sequence[str], *, everything: bool) -> None:
    if bool(names) is everything:
        raise click.UsageError(
            "name the nodes, or say --all" if not names else "name the nodes, or say --all, not both"
        )


def _done(target: Target, done: Sequence[str], wrongs: Sequence[str], text: str, *, json_here: bool) -> None:
    if target.as_json or json_here:
        print_json({"done": done, "wrong": wrongs})
    else:
        for name in done:
            click.echo(f"{name} {text}")
    report_wrongs(wrongs)


async def _each(
    nodes: Sequence[NodeInfo], do: Callable[[NodeInfo], Any], *, at_once: bool
) -> tuple[list[str], list[str]]:
    """Do this with each node, and return the names of those where it is done, and what is wrong with the others."""
    done: list[str] = []
    wrongs: list[str] = []

    async def one(node: NodeInfo) -> None:
        try:
            await do(node)
            done.append(node.name)
        except MeshError as error:
            wrongs.append(wrong(node, error))

    if at_once:
        await asyncio.gather(*map(one, nodes))
    else:
        for node in nodes:
            await one(node)
            if wrongs:
                break  # what fails at one is likely to fail at all
    return done, wrongs


@click.command()
@_names
@click.option("--wait", is_flag=True, help="Wait until nothing is held any more.")
@json_option
@look_option
@click.pass_obj
def drain(
    target: Target, /, *, names: tuple[str, ...], everything: bool, wait: bool, look: float, json_here: bool
) -> None:
    """Have nodes take nothing new, finish what they hold, and stay."""
    _checked(names, everything=everything)

    async def main() -> tuple[list[str], list[str]]:
        async with target.looked(look) as client:

            async def one(node: NodeInfo) -> None:
                await client.ask(node, "drain")
                if wait:
                    await _drained(client, node)

            return await _each(target.chosen(client, names), one, at_once=True)

    done, wrongs = run(main())
    _done(target, done, wrongs, "is drained" if wait else "drains", json_here=json_here)


async def _drained(client: Operator, node: NodeInfo) -> None:
    while True:
        status = (await client.ask(node, "status")).status
        if status is None or not status.held:
            return
        if status.state != "draining":
            raise OperateError(f"the node {node.name} does not drain any more: it is {status.state}")
        await asyncio.sleep(LOOK_AGAIN_S)


@click.command()
@_names
@json_option
@look_option
@click.pass_obj
def undrain(target: Target, /, *, names: tuple[str, ...], everything: bool, look: float, json_here: bool) -> None:
    """Have nodes that drain take jobs again."""
    _checked(names, everything=everything)

    async def main() -> tuple[list[str], list[str]]:
        async with target.looked(look) as client:
            return await _each(target.chosen(client, names), lambda node: client.ask(node, "undrain"), at_once=True)

    done, wrongs = run(main())
    _done(target, done, wrongs, "takes jobs", json_here=json_here)


@click.command()
@_names
@click.option("--wait", is_flag=True, help="Wait for each node before the next, and stop at the first that fails.")
@json_option
@look_option
@click.pass_obj
def reload(
    target: Target, /, *, names: tuple[str, ...], everything: bool, wait: bool, look: float, json_here: bool
) -> None:
    """Replace nodes' workers one by one by such as run the code as it is now; no job fails."""
    _checked(names, everything=everything)

    async def main() -> tuple[list[str], list[str]]:
        async with target.looked(look) as client:
            return await _each(
                target.chosen(client, names),
                lambda node: client.ask(node, "reload", timeout=None if wait else 5.0, wait=wait),
                at_once=not wait,
            )

    done, wrongs = run(main())
    _done(target, done, wrongs, "has reloaded" if wait else "reloads", json_here=json_here)


@click.command()
@click.argument("name", metavar="NODE")
@click.argument("workers", type=click.IntRange(1), metavar="WORKERS")
@json_option
@look_option
@click.pass_obj
def scale(target: Target, /, *, name: str, workers: int, look: float, json_here: bool) -> None:
    """Have a node work with so many workers from now on; those that are too many end what they run."""

    async def main() -> int:
        async with target.looked(look) as client:
            (node,) = target.chosen(client, [name])
            return (await client.ask(node, "scale", workers=workers)).workers or 0

    now = run(main())
    if target.as_json or json_here:
        print_json({"node": name, "workers": now})
    else:
        click.echo(f"{name} has {tables.counted(now, 'worker')} from now on")
