"""`meshctl wait-node`: wait until nodes are there, for scripts that go on then."""

import dataclasses
from collections.abc import Sequence

import click

from mesh import tables
from mesh.ctl.target import Target, json_option, meant, print_json, run
from mesh.errors import NoNodes
from mesh.operator import Operator
from mesh.seen import NodeInfo


@click.command("wait-node")
@click.argument("names", nargs=-1, metavar="[NODE] …")
@click.option("--nodes", "count", type=click.IntRange(1), default=1, help="How many nodes to wait for.")
@click.option("--task", default=None, metavar="NAME", help="Only nodes that serve this task count.")
@click.option("--state", default="", metavar="STATE", help="Only nodes in this state count: alive, draining, …")
@click.option("--version", default="", metavar="VERSION", help="Only nodes of this version count.")
@click.option("--timeout", type=click.FloatRange(min=0), default=30.0, metavar="SECONDS", help="Give up after so long.")
@json_option
@click.pass_obj
def wait_node(
    target: Target,
    /,
    *,
    names: tuple[str, ...],
    count: int,
    task: str | None,
    state: str,
    version: str,
    timeout: float,
    json_here: bool,
) -> None:
    """Wait until the nodes named, and so many in all, are there; exit 1 if they do not come in time."""

    def fits(node: NodeInfo) -> bool:
        return (
            (not version or node.version == version)
            and (node.state == state if state else node.state in ("alive", "trial"))
            and (task is None or task in node.tasks)
        )

    async def main() -> list[NodeInfo]:
        async with target.client(grace=timeout) as client:
            until = client.loop.time() + timeout
            while True:
                found = client.nodes()
                fitting = [node for node in found if fits(node)]
                missing = [name for name in names if not meant(name, fitting)]
                if len(fitting) >= count and not missing:
                    return found
                left = until - client.loop.time()
                if left <= 0:
                    raise NoNodes(_waited(timeout, count, missing, found, fitting))
                await _changed(client, left)

    found = run(main())
    if target.as_json or json_here:
        print_json([dataclasses.asdict(node) for node in found])
    else:
        tables.console().print(tables.nodes(found))


async def _changed(client: Operator, left: float) -> None:
    """Wait for a word of any node; a node's silence is told by none."""
    await client.changed(timeout=min(left, 0.5))


def _waited(
    timeout: float, count: int, missing: Sequence[str], found: Sequence[NodeInfo], fitting: Sequence[NodeInfo]
) -> str:
    wanted = ", ".join(missing) if missing else tables.counted(count, "node")
    there = ", ".join(
        f"{node.name}" + ("" if node in fitting else f" ({node.state}, version {node.version or '?'})")
        for node in found
    )
    return f"waited {timeout:g} s for {wanted}: {there or 'none'} there"
