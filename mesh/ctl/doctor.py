"""`meshctl doctor`: gathers what `mesh.core.doctor` judges. Shell: asks nodes, interfaces and addresses."""

import asyncio
import sys
import time
from typing import Any

import click

from mesh import tables
from mesh.core.doctor import Announced, Facts, Finding, Interface, Seen, judge
from mesh.ctl.target import EXIT_FAILED, Target, json_option, look_option, print_json, run
from mesh.errors import MeshError
from mesh.operator import Operator
from mesh.seen import NodeInfo
from mesh.version import product_version


@click.command()
@json_option
@look_option
@click.pass_obj
def doctor(target: Target, /, *, look: float, json_here: bool) -> None:
    """Look for what is wrong with the network, the nodes and the clocks; exit 1 if something is."""
    facts = run(gather(target, look))
    found = judge(facts)
    if target.as_json or json_here:
        print_json({"findings": found, "facts": facts})
    else:
        _print(facts, found)
    if found:
        sys.exit(EXIT_FAILED)


async def gather(target: Target, look: float) -> Facts:
    """Look at everything, which takes `look` seconds and a few more where something does not answer."""
    interfaces, announced, (nodes, ends) = await asyncio.gather(
        _interfaces(target), _announced(target, look), _nodes(target, look)
    )
    return Facts(
        mesh=target.mesh,
        version=product_version(),
        looked=target.mdns,
        interfaces=interfaces,
        announced=announced,
        nodes=nodes,
        ends=ends,
    )


async def _interfaces(target: Target) -> list[Interface]:
    from meshdiscovery.probe import probe

    if not target.mdns:
        return []
    return [Interface(one.name, one.address, one.multicast, one.error, one.heard) for one in await probe()]


async def _announced(target: Target, look: float) -> list[Announced]:
    from meshdiscovery.mdns import Browser, interfaces
    from meshdiscovery.probe import Survey, reachable

    if not target.mdns:
        return []
    survey = Survey(target.mesh)
    browser = Browser(survey, lambda _: None, interfaces=lambda: interfaces(loopback_only=False))
    await browser.start()
    await asyncio.sleep(look)
    records = [*survey.records(), *survey.others.values()]
    await browser.close()
    found: list[Announced] = []
    for record in records:
        ours = record.mesh == target.mesh  # strangers' ports are theirs
        whys = await asyncio.gather(*(reachable(one, record.port) for one in record.addresses if ours))
        addresses = dict(zip(record.addresses, whys, strict=ours))
        found.append(Announced(record.node_id, record.name, record.mesh, record.versions, record.port, addresses))
    return found


async def _nodes(target: Target, look: float) -> tuple[list[Seen], dict[str, str]]:
    async with target.looked(look) as client:
        nodes = client.nodes()
        seen = list(await asyncio.gather(*(_seen(client, node) for node in nodes)))
        return seen, {endpoint: why for endpoint, why in client.ends.items() if endpoint}


async def _seen(client: Operator, node: NodeInfo) -> Seen:
    about: dict[str, Any] = {
        "id": node.id,
        "name": node.name,
        "host": node.host,
        "endpoint": node.endpoint,
        "version": node.version,
    }
    try:
        began = time.time()
        status = (await client.ask(node, "status")).status
        ended = time.time()
        reach = (await client.ask(node, "reach")).reach
    except MeshError as error:
        return Seen(**about, wrong=str(error))
    doubt = (ended - began) / 2
    offset = status.clock - (began + doubt) if status is not None else 0.0
    return Seen(**about, status=status, reach=reach, offset=round(offset, 3), doubt=round(doubt, 3))


def _print(facts: Facts, found: list[Finding]) -> None:
    for finding in found:
        click.echo(f"{finding.level}: {tables.plain(f'{finding.about}: {finding.text}')}\n    {finding.fix}")
    looked = [tables.counted(len(facts.nodes), "node")]
    if facts.looked:
        looked += [tables.counted(len(facts.interfaces), "interface"), f"{len(facts.announced)} heard by mDNS"]
    what = "nothing is wrong" if not found else tables.counted(len(found), "finding")
    click.echo(f"{what}: looked at {', '.join(looked)}")
