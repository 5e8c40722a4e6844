"""`meshctl`: look at a mesh and call its tasks from a shell, as an ordinary client."""

import asyncio
import dataclasses
import json
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import click

from mesh.client import Client, NodeInfo
from mesh.errors import ConfigError, NoNodes
from mesh.keygen import keygen
from mesh.wire.messages import TaskSpec

T = TypeVar("T")

LOOK_S = 1.5
"""Seconds that `nodes` and `tasks` look for nodes: a running node answers mDNS within 0.1 s (measured)."""

EXIT_FAILED = 1
EXIT_NO_NODES = 2


@dataclass(frozen=True, slots=True)
class Target:
    """Which mesh is meant, and how to find it."""

    mesh: str
    seeds: tuple[str, ...]
    mdns: bool
    keys: str | None
    as_json: bool

    def client(self, grace: float) -> Client:
        """Make a client for it."""
        return Client(
            self.mesh, seeds=self.seeds, mdns=self.mdns, keys=self.keys, discovery_grace=grace, name="meshctl"
        )


@click.group(
    context_settings={
        "auto_envvar_prefix": "MESHCTL",
        "help_option_names": ["-h", "--help"],
        "show_default": True,
        "max_content_width": 100,
    },
    epilog="""\b
Examples:
  meshctl nodes                        who is there
  meshctl call send_mail to=a@b        run a task; values are JSON where they read as JSON, else text
  meshctl wait-node --nodes 3          until three nodes are there
  meshctl --seed web7:5750 tasks       where mDNS does not reach""",
)
@click.option("-m", "--mesh", default="default", help="The mesh that is meant.")
@click.option("--seed", multiple=True, metavar="HOST:PORT", help="A node, where mDNS does not reach.")
@click.option("--mdns/--no-mdns", default=True, help="Look for nodes by mDNS.")
@click.option(
    "--keys", default=None, envvar="MESH_KEYS", metavar="PATH", show_default="~/.config/mesh/NAME, /etc/mesh/NAME",
    help="The mesh's folder of keys, or a key file in it; none for no keys.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of a table.")
@click.version_option(package_name="meshnode")
@click.pass_context
def group(
    ctx: click.Context, /, *, mesh: str, seed: tuple[str, ...], mdns: bool, keys: str | None, as_json: bool
) -> None:
    """Look at a mesh of worker nodes and call its tasks."""
    ctx.obj = Target(mesh, seed, mdns, keys, as_json)


group.add_command(keygen)


def json_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Let --json stand behind the command too."""
    return click.option("--json", "json_here", is_flag=True, help="One JSON document instead of a table.")(function)


@group.command()
@json_option
@click.option("--look", default=LOOK_S, metavar="SECONDS", help="How long to look for nodes.")
@click.pass_obj
def nodes(target: Target, /, *, look: float, json_here: bool) -> None:
    """List the nodes that are there."""
    found = _run(_look(target, look, lambda client: client.nodes()))
    if target.as_json or json_here:
        _print_json([dataclasses.asdict(node) for node in found])
    else:
        _print_nodes(found)
    if not found:
        sys.exit(EXIT_NO_NODES)


@group.command()
@json_option
@click.option("--look", default=LOOK_S, metavar="SECONDS", help="How long to look for nodes.")
@click.pass_obj
def tasks(target: Target, /, *, look: float, json_here: bool) -> None:
    """List the tasks that are served, with their signatures."""
    found = _run(_look(target, look, lambda client: client.tasks()))
    if target.as_json or json_here:
        _print_json([_task_fields(spec) for spec in found.values()])
    else:
        _print_tasks(list(found.values()))
    if not found:
        sys.exit(EXIT_NO_NODES)


@group.command(context_settings={"ignore_unknown_options": True})
@click.argument("task")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[VALUE | NAME=VALUE] …")
@json_option
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=None,
    metavar="SECONDS",
    show_default="none",
    help="Give up after so long.",
)
@click.pass_obj
def call(target: Target, /, *, task: str, arguments: Sequence[str], timeout: float | None, json_here: bool) -> None:
    """Run a task and print its result.

    Values that read as JSON are JSON (1, true, [1,2], "text"), all others are text.
    """
    args, kwargs = parse_arguments(arguments)

    async def run() -> Any:
        async with target.client(grace=2.0) as client:
            return await client.submit(task, *args, **kwargs).result(timeout)

    result = _run(run())
    if isinstance(result, str) and not (target.as_json or json_here):
        click.echo(result)
    else:
        _print_json(result)


@group.command("wait-node")
@click.argument("name", required=False)
@click.option("--nodes", "count", type=click.IntRange(1), default=1, help="How many nodes to wait for.")
@click.option("--task", default=None, metavar="NAME", help="Only nodes that serve this task count.")
@click.option("--timeout", type=click.FloatRange(min=0), default=30.0, metavar="SECONDS", help="Give up after so long.")
@json_option
@click.pass_obj
def wait_node(
    target: Target,
    /,
    *,
    name: str | None,
    count: int,
    task: str | None,
    timeout: float,
    json_here: bool,
) -> None:
    """Wait until the node NAME, or so many nodes, are there; exit 1 if they do not come in time."""

    async def run() -> list[NodeInfo]:
        async with target.client(grace=timeout) as client:
            until = client.loop.time() + timeout
            while True:
                left = max(0.0, until - client.loop.time())
                await client.wait_ready(task, nodes=count, timeout=left)
                found = client.nodes()
                if name is None or any(node.name == name for node in found):
                    return found
                if not left:
                    there = ", ".join(node.name for node in found)
                    raise NoNodes(f"waited {timeout:g} s for the node {name!r}: there are {there}")
                await client.changed(timeout=left)

    found = _run(run())
    if target.as_json or json_here:
        _print_json([dataclasses.asdict(node) for node in found])
    else:
        _print_nodes(found)


async def _look(target: Target, seconds: float, ask: Callable[[Client], T]) -> T:
    async with target.client(grace=seconds) as client:
        await asyncio.sleep(seconds)
        return ask(client)


def parse_arguments(words: Sequence[str]) -> tuple[list[Any], dict[str, Any]]:
    """Read `VALUE` and `NAME=VALUE` words: JSON where it reads as JSON, else text."""
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if equals and name.isidentifier():
            kwargs[name] = _value(value)
        else:
            args.append(_value(word))
    return args, kwargs


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _run(work: Awaitable[T]) -> T:
    """Run this, and turn an error of the mesh or of the task into one line and exit 1."""

    async def main() -> T:
        return await work

    try:
        return asyncio.run(main())
    except Exception as error:  # noqa: BLE001  # whatever the remote task raised is the outcome to show
        click.echo(f"meshctl: {type(error).__name__}: {error}", err=True)
        sys.exit(EXIT_FAILED)


def _print_json(value: Any) -> None:
    click.echo(json.dumps(value, default=str, ensure_ascii=False))


def _task_fields(spec: TaskSpec) -> dict[str, Any]:
    return {
        "name": spec.name, "signature": spec.signature, "async": spec.is_async, "bridge": spec.bridge,
        "timeout": spec.timeout, "priority": spec.priority, "doc": spec.doc,
    }  # fmt: skip


def _print_nodes(found: Sequence[NodeInfo]) -> None:
    from rich.console import Console
    from rich.table import Table

    if not found:
        click.echo(
            "no nodes found: is one running (meshnode), in this mesh (-m), within reach of mDNS or a --seed?", err=True
        )
        return
    table = Table("node", "state", "endpoint", "workers", "free", "tasks", box=None, pad_edge=False)
    for node in found:
        workers = f"{node.workers} × {node.concurrency}" if node.concurrency > 1 else str(node.workers)
        table.add_row(node.name, node.state, node.endpoint, workers, str(node.free), ", ".join(node.tasks[:6]))
    Console().print(table)


def _print_tasks(found: Sequence[TaskSpec]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    if not found:
        click.echo("no tasks found: is a node running (meshnode)?", err=True)
        return
    table = Table("task", "signature", "bridge", "what it does", box=None, pad_edge=False)
    for spec in found:
        table.add_row(spec.name, escape(spec.signature), "yes" if spec.bridge else "no", escape(spec.doc))
    Console().print(table)


def main() -> None:
    """Run the command; what is wrong with the words is exit 1, as an outcome that is an error."""
    try:
        group.main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(EXIT_FAILED)
    except ConfigError as error:
        click.echo(f"meshctl: {error}", err=True)
        sys.exit(EXIT_FAILED)
    except click.Abort:
        sys.exit(EXIT_FAILED)
