"""`meshctl plan`: which calls would find no home after a deploy."""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import click
import msgspec

from mesh.core.plan import Plan, compare
from mesh.ctl.target import EXIT_FAILED, Target, json_option, look_option, print_json, run
from mesh.errors import ConfigError
from mesh.wire.messages import TaskSpec

IMPORT_S = 60.0
"""Seconds for an application to be imported."""


@click.command()
@click.argument("module", metavar="[MODULE[:ATTR]]", required=False)
@click.option("--tasks", "file", metavar="FILE", help="Tasks as `meshctl tasks --json` prints them, not a module.")
@json_option
@look_option
@click.pass_obj
def plan(target: Target, /, *, module: str | None, file: str | None, look: float, json_here: bool) -> None:
    """Compare the tasks of new code with those that nodes serve; exit 1 if calls would break."""
    if (module is None) is (file is None):
        raise click.UsageError("name the module, as meshnode is given it, or a file of tasks with --tasks")

    async def main() -> Plan:
        new = read(Path(file)) if file is not None else await _described(module or "")
        async with target.looked(look) as client:
            served: dict[str, list[TaskSpec]] = {}
            for node in target.chosen(client, ()):
                view = client.record(node)
                served.setdefault(node.name, []).extend(view.about.tasks if view is not None else [])
            return compare(served, new)

    found = run(main())
    if target.as_json or json_here:
        print_json(found)
    else:
        _print(found)
    if found.breaks:
        sys.exit(EXIT_FAILED)


def read(path: Path) -> list[TaskSpec]:
    """Read the tasks in a file. Raises ConfigError."""
    try:
        return [_spec(fields) for fields in json.loads(path.read_text())]
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, TypeError, KeyError, msgspec.ValidationError) as error:
        raise ConfigError(f"{path} is not what `meshctl tasks --json` prints: {error}") from None


def _spec(fields: dict[str, Any]) -> TaskSpec:
    return msgspec.convert({"name": fields["name"], "parameters": fields["parameters"]}, TaskSpec)


async def _described(module: str) -> list[TaskSpec]:
    """Have a process of its own import the module: its code is not to run here."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "meshnode.worker.describe", os.getcwd(), module,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(IMPORT_S):
            out, said = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise ConfigError(f"{module} has not been imported within {IMPORT_S:g} s") from None
    if process.returncode:
        raise ConfigError(said.decode(errors="replace").rstrip())
    return msgspec.json.decode(out, type=list[TaskSpec])


def _print(found: Plan) -> None:
    for one in found.breaks:
        click.echo(f"BREAKS  {one.task}: {one.why} (served by {', '.join(one.nodes)})")
    for name in found.changed:
        click.echo(f"changes {name}: all calls that are good now fit")
    for name in found.added:
        click.echo(f"adds    {name}")
    count = len(found.same)
    click.echo(f"{count} {'task stays' if count == 1 else 'tasks stay'} as {'it is' if count == 1 else 'they are'}")
