"""The verbs of `meshnode` that act on a node that runs: `status connections stop drain undrain reload`.

Shell: the command line's end of the control socket.
"""

import os
import select
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import click
import msgspec
from msgspec import Struct

from mesh import tables
from mesh.errors import ConfigError
from mesh.wire.reports import Status
from meshnode import config as cfg
from meshnode.control import PATIENCE_S, Answer, Request, ask, peer_of, socket_path
from meshnode.name_lock import own_folder, running

if TYPE_CHECKING:
    from rich.table import Table

LOOK_S = 0.25
"""Seconds between two looks at what a node still does."""


class VerbError(Exception):
    """The verb was not done; the text says why."""


class Reached:
    """A connection to a node's control socket, for the length of its block. Raises VerbError."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self._connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._connection.settimeout(PATIENCE_S)
        try:
            with socket_path(folder, name) as path:
                self._connection.connect(path)
            self.pidfd = os.pidfd_open(peer_of(self._connection)[0])
        except OSError as error:
            self._connection.close()
            raise VerbError(f"the node {name!r} cannot be reached (starting, or ending?): {error.strerror}") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self.pidfd)
        self._connection.close()

    def ask(self, verb: str, *, now: bool = False, timeout: float | None = PATIENCE_S) -> Answer:
        """Ask, and return the answer if it is a good one."""
        try:
            answer = ask(self._connection, Request(verb, now), timeout=timeout)
        except TimeoutError:
            raise VerbError(f"the node {self.name!r} does not answer within {timeout:g} s") from None
        except (OSError, EOFError) as error:
            raise VerbError(f"the node {self.name!r} has ended meanwhile ({error})") from None
        except msgspec.DecodeError as error:
            raise VerbError(f"the node {self.name!r} answers what cannot be read: {error}") from None
        if not answer.ok:
            raise VerbError(f"the node {self.name!r} refuses: {answer.error}")
        return answer

    def status(self) -> Status:
        """Ask how the node is."""
        status = self.ask("status").status
        if status is None:
            raise VerbError(f"the node {self.name!r} answers without its status")
        return status

    def ended(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds for the end of the node's process; has it come?"""
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        return bool(poll.poll(timeout * 1000))


def reach(name: str | None) -> Reached:
    """Reach the node of this name, or the only one that there is. Raises VerbError, with the names that there are."""
    folder = own_folder()
    names = running(folder)
    if name is not None and name not in names:
        others = f"; there are: {', '.join(names)}" if names else ", nor any other of yours"
        raise VerbError(f"no node named {name!r} runs here{others}")
    if name is None and not names:
        raise VerbError(f"no node of yours runs here (looked in {folder}; `meshnode` starts one)")
    if name is None and len(names) > 1:
        raise VerbError("several nodes run here; say which one:\n" + "\n".join(f"  -n {one}" for one in names))
    return Reached(folder, name or names[0])


# the commands


def _verb(function: Callable[..., None]) -> click.Command:
    """Make a command of a function, with the options that all verbs have."""
    named = click.option(
        "-n",
        "--name",
        default=None,
        envvar="MESHNODE_NAME",
        metavar="NAME",
        callback=_checked_name,
        help="The node that is meant; needed where several run.",
    )
    settings = {"help_option_names": ["-h", "--help"]}
    return click.command(function.__name__, context_settings=settings)(named(function))


def _checked_name(_ctx: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    try:
        return None if value is None else cfg.parse_name(value)
    except ConfigError as error:
        raise click.BadParameter(str(error), param=parameter) from None


@_verb
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of tables.")
def status(name: str | None, *, as_json: bool) -> None:
    """Show how a node is: its state, its jobs, its workers."""
    with reach(name) as node:
        found = node.status()
    _show(found, tables.status(found), as_json=as_json)


@_verb
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of tables.")
def connections(name: str | None, *, as_json: bool) -> None:
    """Show who is connected to a node: clients with their jobs, callers of the bridge."""
    with reach(name) as node:
        found = node.ask("connections").connections
    if found is None:
        raise VerbError(f"the node {node.name!r} answers without its connections")
    _show(found, tables.connections([(node.name, found)]), as_json=as_json)


@_verb
@click.option("-f", "--force", is_flag=True, help="Now: what runs is lost.")
def stop(name: str | None, *, force: bool) -> None:
    """Stop a node, and wait until it is gone: it finishes what runs, within its --grace."""
    with reach(name) as node:
        node.ask("stop", now=force)
        with _shown() as show:
            while not node.ended(LOOK_S):
                show(_left(node, "stopping"))
        click.echo(f"the node {node.name} has stopped")


@_verb
@click.option("--wait", is_flag=True, help="Wait until nothing is held any more.")
def drain(name: str | None, *, wait: bool) -> None:
    """Have a node take nothing new, finish what it holds, and stay."""
    with reach(name) as node:
        node.ask("drain")
        if not wait:
            return
        with _shown() as show:
            while (found := node.status()).held:
                if found.state != "draining":
                    raise VerbError(f"the node {node.name!r} does not drain any more: it is {found.state}")
                show(f"draining: {_jobs(found)}")
                if node.ended(LOOK_S):
                    raise VerbError(f"the node {node.name!r} has ended meanwhile")
        click.echo(f"the node {node.name} is drained")


@_verb
def undrain(name: str | None) -> None:
    """Have a node that drains take jobs again."""
    with reach(name) as node:
        node.ask("undrain")


@_verb
def reload(name: str | None) -> None:
    """Replace a node's workers one by one by such as run the code as it is now; no job fails."""
    with reach(name) as node, _shown() as show:
        show("reloading")
        node.ask("reload", timeout=None)


VERBS: dict[str, click.Command] = {
    command.name or "": command for command in (status, connections, stop, drain, undrain, reload)
}


# the command line


def chosen(words: Sequence[str], *, otherwise: click.Command) -> tuple[click.Command, list[str]]:
    """Return the command that the words of a command line mean, and the words that are left for it.

    A verb is the first word that is neither an option nor an option's value. `otherwise` is meant where there is none.
    """
    for n, word in enumerate(words):
        if word in VERBS and _are_options(words[:n], otherwise):
            return VERBS[word], [*words[:n], *words[n + 1 :]]
    return otherwise, list(words)


def _are_options(words: Sequence[str], command: click.Command) -> bool:
    """Are these nothing but options, whole ones? Those of verbs are not known here, and have no values."""
    parser = command.make_parser(click.Context(command))
    parser.ignore_unknown_options = True
    try:
        left = parser.parse_args(list(words))[0]["targets"]
    except click.UsageError:
        return False
    return not isinstance(left, tuple) or all(word.startswith("-") for word in left)  # no word at all is no tuple


# for people


def _left(node: Reached, doing: str) -> str:
    try:
        return f"{doing}: {_jobs(node.status())}"
    except VerbError:
        return f"{doing}: saying goodbye"


def _jobs(found: Status) -> str:
    return f"{found.running} running, {found.waiting} waiting"


@contextmanager
def _shown() -> Iterator[Callable[[str], None]]:
    """Show, on standard error, what is waited for: in place at a terminal, else a line whenever it changes."""
    from rich.console import Console

    console = Console(stderr=True)
    if console.is_terminal:
        with console.status("") as spinner:
            yield spinner.update
        return
    last = ""

    def line(text: str) -> None:
        nonlocal last
        if text != last:
            last = text
            click.echo(text, err=True)

    yield line


def _show(found: Struct, shown: "Sequence[Table]", *, as_json: bool) -> None:
    if as_json:
        click.echo(msgspec.json.encode(found))
        return
    console = tables.console()
    for part, table in enumerate(shown):
        if part:
            console.print()
        console.print(table)
