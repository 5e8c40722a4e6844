"""`meshctl call`: run a task from a shell."""

import json
from collections.abc import Sequence
from typing import Any

import click

from mesh.ctl.target import Target, json_option, run


@click.command(context_settings={"ignore_unknown_options": True})
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

    async def main() -> Any:
        async with target.client(grace=2.0) as client:
            return await client.submit(task, *args, **kwargs).result(timeout)

    result = run(main())
    if isinstance(result, str) and not (target.as_json or json_here):
        click.echo(result)
    else:
        click.echo(json.dumps(result, default=str, ensure_ascii=False))


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
