"""Which mesh a command of `meshctl` means, which nodes of it, and how what comes of it is shown."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import click
import msgspec

from mesh.core.doctor import AUTH
from mesh.errors import ConfigError, MeshError, NoNodes
from mesh.operator import OperateError, Operator
from mesh.seen import NodeInfo
from mesh.wire.reports import Report

T = TypeVar("T")

LOOK_S = 1.5
"""Seconds to look for nodes: a running node answers mDNS within 0.1 s (measured)."""

EXIT_FAILED = 1
EXIT_NO_NODES = 2

NOBODY = "no nodes found: is one running (meshnode), in this mesh (-m), within reach of mDNS or a --seed?"

SHUT_OUT = "no node lets this client in: is its key in `allowed` on their hosts? `meshctl doctor` says more"


@dataclass(frozen=True, slots=True)
class Target:
    """Which mesh is meant, and how to find it."""

    mesh: str
    seeds: tuple[str, ...]
    mdns: bool
    keys: str | None
    as_json: bool

    def client(self, grace: float = LOOK_S) -> Operator:
        """Make a client for it."""
        return Operator(
            self.mesh, seeds=self.seeds, mdns=self.mdns, keys=self.keys, discovery_grace=grace, name="meshctl"
        )

    @asynccontextmanager
    async def looked(self, seconds: float) -> AsyncIterator[Operator]:
        """Open a client that has looked for nodes for so long; where there are seeds only, until these are found."""
        async with self.client(seconds) as client:
            until = client.loop.time() + seconds
            while (left := until - client.loop.time()) > 0:
                if not self.mdns and len(client.nodes()) >= len(self.seeds):
                    break
                await client.changed(timeout=left)
            yield client

    def chosen(self, client: Operator, words: Sequence[str]) -> list[NodeInfo]:
        """Return the nodes that these words mean, all for none. Raises NoNodes and ConfigError."""
        found = client.nodes()
        if not found:
            raise NoNodes(nobody(client))
        if not words:
            return found
        chosen: dict[str, NodeInfo] = {}
        for word in words:
            these = meant(word, found)
            if not these:
                raise NoNodes(f"no node {word!r}: there are {', '.join(node.name for node in found)}")
            if len(these) > 1:
                ways = ", ".join(f"{node.name}@{node.host or node.id[:8]}" for node in these)
                raise ConfigError(f"{word!r} means {len(these)} nodes: {ways}")
            chosen[these[0].id] = these[0]
        return list(chosen.values())


def nobody(client: Operator) -> str:
    """Say why there are no nodes for this client."""
    return SHUT_OUT if any(why.startswith(AUTH) for why in client.ends.values()) else NOBODY


def meant(word: str, nodes: Sequence[NodeInfo]) -> list[NodeInfo]:
    """Return the nodes that a word means, which is one if all is well.

    By name, `NAME@HOST`, or eight digits of the id or more; else by host.
    """
    return [node for node in nodes if _is_meant(word, node)] or [node for node in nodes if word and word == node.host]


def _is_meant(word: str, node: NodeInfo) -> bool:
    if word == node.name or (len(word) >= 8 and node.id.startswith(word)):
        return True
    name, at, host = word.rpartition("@")
    return bool(at) and name == node.name and (host == node.host or node.id.startswith(host))


async def ask_all(
    client: Operator, nodes: Sequence[NodeInfo], verb: str, **args: Any
) -> tuple[list[tuple[NodeInfo, Report]], list[str]]:
    """Ask these nodes at once; return the reports of those that answer, and what is wrong with the others."""

    async def one(node: NodeInfo) -> Report | MeshError:
        try:
            return await client.ask(node, verb, **args)
        except MeshError as error:
            return error

    told = list(zip(nodes, await asyncio.gather(*map(one, nodes)), strict=True))
    reports = [(node, report) for node, report in told if isinstance(report, Report)]
    return reports, [wrong(node, error) for node, error in told if isinstance(error, MeshError)]


def wrong(node: NodeInfo, error: MeshError) -> str:
    """Say in a line what a node has not done."""
    text = str(error)
    return text if node.name in text else f"{node.name}: {text}"


def report_wrongs(texts: Sequence[str]) -> None:
    """Print what nodes have not done; it makes the command fail."""
    for text in texts:
        click.echo(f"meshctl: {text}", err=True)
    if texts:
        sys.exit(EXIT_FAILED)


# options


def json_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Let --json stand behind the command too."""
    return click.option("--json", "json_here", is_flag=True, help="One JSON document instead of a table.")(function)


def look_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Let the time be chosen that the command looks for nodes."""
    return click.option("--look", default=LOOK_S, metavar="SECONDS", help="How long to look for nodes.")(function)


# outcomes


def run(work: Awaitable[T]) -> T:
    """Run this, and turn an error of the mesh or of the task into one line and exit 1."""

    async def main() -> T:
        return await work

    try:
        return asyncio.run(main())
    except NoNodes as error:
        click.echo(f"meshctl: {error}", err=True)
        sys.exit(EXIT_NO_NODES if str(error) in (NOBODY, SHUT_OUT) else EXIT_FAILED)
    except (OperateError, ConfigError) as error:
        click.echo(f"meshctl: {error}", err=True)
        sys.exit(EXIT_FAILED)
    except Exception as error:  # noqa: BLE001  # whatever the remote task raised is the outcome to show
        click.echo(f"meshctl: {type(error).__name__}: {error}", err=True)
        sys.exit(EXIT_FAILED)


def print_json(value: Any) -> None:
    """Print a value as one JSON document."""
    click.echo(json.dumps(msgspec.to_builtins(value, str_keys=True), default=str, ensure_ascii=False))
