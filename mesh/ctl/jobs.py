"""`meshctl jobs`, `cancel`, `stack`: what runs and waits at nodes, ending it, and where it hangs."""

import asyncio

import click

from mesh import tables
from mesh.ctl.target import Target, ask_all, json_option, look_option, print_json, report_wrongs, run
from mesh.errors import ConfigError
from mesh.operator import OperateError, Operator
from mesh.seen import NodeInfo
from mesh.wire.reports import JobReport, Stack, short

ENDS_S = 2.0
"""Seconds that a cancelled job is watched for: a task that heeds it ends within milliseconds."""

_LOOK_S = 0.1


@click.command()
@click.option("--task", default="", metavar="NAME", help="Only jobs of this task.")
@click.option("--node", "names", multiple=True, metavar="NODE", help="Only jobs at this node.")
@json_option
@look_option
@click.pass_obj
def jobs(target: Target, /, *, task: str, names: tuple[str, ...], look: float, json_here: bool) -> None:
    """List the jobs that run or wait at nodes. Those that wait in their clients are not known there."""

    async def main() -> tuple[list[tuple[NodeInfo, JobReport]], int, list[str]]:
        async with target.looked(look) as client:
            reports, wrongs = await ask_all(client, target.chosen(client, names), "jobs", task=task)
        lists = [(node, report.jobs) for node, report in reports if report.jobs is not None]
        found = [(node, job) for node, some in lists for job in some.jobs]
        return found, sum(some.left_out for _, some in lists), wrongs

    found, left_out, wrongs = run(main())
    if target.as_json or json_here:
        print_json({"jobs": [{"node": node.name, **_fields(job)} for node, job in found], "left_out": left_out})
    else:
        if found:
            tables.console().print(tables.jobs([(node.name, job) for node, job in found]))
        if left_out:
            click.echo(f"and {tables.counted(left_out, 'job')} more")
        elif not found and not wrongs:
            click.echo("no job runs or waits at any node")
    report_wrongs(wrongs)


def _fields(job: JobReport) -> dict[str, object]:
    return {name: getattr(job, name) for name in job.__struct_fields__}


@click.command()
@click.argument("job", metavar="JOB")
@click.option("-f", "--force", is_flag=True, help="Kill its worker if it runs.")
@json_option
@look_option
@click.pass_obj
def cancel(target: Target, /, *, job: str, force: bool, look: float, json_here: bool) -> None:
    """Cancel a job, be it whose it will. JOB is its id, the beginning of that, or as `jobs` shows it."""

    async def main() -> tuple[str, JobReport, JobReport | None]:
        async with target.looked(look) as client:
            node, before = await _find(target, client, job)
            await client.ask(node, "cancel", job=before.id, force=force)
            until = client.loop.time() + ENDS_S
            after: JobReport | None = before
            while after is not None and client.loop.time() < until:
                await asyncio.sleep(_LOOK_S)
                held = (await client.ask(node, "jobs", job=before.id)).jobs
                after = held.jobs[0] if held is not None and held.jobs else None
            return node.name, before, after

    node, before, after = run(main())
    said = f"{before.task} {short(before.id)} at {node}"
    if target.as_json or json_here:
        print_json({"node": node, "job": before, "ended": after is None})
    elif after is None:
        click.echo(f"{said}: cancelled, it was {before.state}")
    if after is not None:
        report_wrongs([f"{said}: told to end, it still is {after.state}{'' if force else ' (-f kills its worker)'}"])


@click.command()
@click.argument("job", metavar="JOB")
@json_option
@look_option
@click.pass_obj
def stack(target: Target, /, *, job: str, look: float, json_here: bool) -> None:
    """Show where a job hangs: the Python stacks of its worker, also while a call into C does not return."""

    async def main() -> tuple[str, Stack]:
        async with target.looked(look) as client:
            node, found = await _find(target, client, job)
            report = await client.ask(node, "stack", job=found.id)
            if report.stack is None:
                raise OperateError(f"the node {node.name} answers without a stack")
            return node.name, report.stack

    node, found = run(main())
    if target.as_json or json_here:
        print_json({"node": node, **{name: getattr(found, name) for name in found.__struct_fields__}})
    else:
        click.echo(tables.stack(found, node))


async def _find(target: Target, client: Operator, word: str) -> tuple[NodeInfo, JobReport]:
    """Find the one job that a word means, wherever it is. Raises OperateError and ConfigError."""
    reports, wrongs = await ask_all(client, target.chosen(client, ()), "jobs", job=word)
    found = [(node, job) for node, report in reports if report.jobs is not None for job in report.jobs.jobs]
    here = [(node, job) for node, job in found if job.state != "forwarded"] or found
    if not here:
        unknown = f" ({'; '.join(wrongs)})" if wrongs else ""
        raise OperateError(f"no node holds a job {word!r}{unknown}: it has ended, or waits in its client")
    if len(here) > 1:
        some = ", ".join(f"{short(job.id)} at {node.name}" for node, job in here[:5])
        raise ConfigError(f"{word!r} means {len(here)} jobs: {some}{' …' if len(here) > 5 else ''}")
    return here[0]
