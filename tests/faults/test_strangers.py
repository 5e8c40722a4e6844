"""Rows 20 and 21: with keys, whoever has none reaches nothing, whatever he announces, takes back or sends."""

import asyncio
import logging
import secrets
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import zmq
from zeroconf import ServiceInfo
from zeroconf._protocol.outgoing import DNSOutgoing

import mesh
from mesh.seldom import MOST
from mesh.wire.messages import Submit
from meshdiscovery.record import SERVICE_TYPE, Record, instance_name, server_name, to_txt
from tests.support.clients import until_started
from tests.support.faults import Figures, sized, within
from tests.support.keyed import KeyedFront, Keys, Rogue, curve
from tests.support.nodes import NodeProcess, write_tasks
from tests.support.peers import Peer
from tests.support.waiting import until

TASKS = """
import time

@mesh.task
def noop(x: int = 0) -> int:
    return x

@mesh.task
def nap(seconds: float) -> float:
    time.sleep(seconds)
    return seconds
"""

FORGED = sized(500, 10_000)
PACE = 25
"""Forged names between two pauses: what overflows the listeners' buffers would try nobody."""

NAP_S = 4.0
MEMORY = 64 * 2**20
RESPONSE = 0x8400
"""Flags of a response that claims authority (RFC 1035, section 4.1.1)."""


def announced(record: Record, *, ttl: int = 4500) -> list[bytes]:
    """Return what announces a node by mDNS; with a `ttl` of 0 it is its goodbye."""
    about = ServiceInfo(
        SERVICE_TYPE, f"{instance_name(record)}.{SERVICE_TYPE}", port=record.port, properties=to_txt(record),
        server=server_name(record), parsed_addresses=list(record.addresses),
    )  # fmt: skip
    out = DNSOutgoing(RESPONSE)
    for answer in (about.dns_pointer(ttl), about.dns_service(ttl), about.dns_text(ttl), *about.dns_addresses(ttl)):
        out.add_answer_at_time(answer, 0)
    return out.packets()


def shout(sender: socket.socket, packets: list[bytes]) -> None:
    for packet in packets:
        sender.sendto(packet, ("224.0.0.251", 5353))


@within(60, 180)
async def test_forged_names_and_goodbyes_cost_no_job(
    tmp_path: Path, figures: Callable[[str, str], Figures], caplog: pytest.LogCaptureFixture
) -> None:
    line = figures("21", f"{FORGED:,} forged mDNS names, a goodbye in a node's name")
    name = f"test-{secrets.token_hex(6)}"
    write_tasks(tmp_path, TASKS)
    keys = Keys(tmp_path / "keys", "a", mesh=name)
    desk = keys.host("desk", keys.client("ada"))
    environment = keys.environment("a", keys.of("a"))
    words = ("-n", "a", "--mesh", name, "--mdns")
    caplog.set_level(logging.WARNING)
    with (
        NodeProcess(tmp_path, *words, workers=2, bridge=True, environment=environment) as node,
        Rogue(zmq.curve_keypair()[1].decode()) as rogue,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
    ):
        sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
        before = psutil.Process(node.pid).memory_info().rss
        async with mesh.Client(name, keys=desk) as client:
            await client.wait_ready()
            (honest,) = client.nodes()
            napping = client.submit("nap", NAP_S)
            await until_started(client, napping)
            enough = asyncio.Event()
            calling = asyncio.create_task(call_on(client, enough))

            stolen, unknown = keys.of("a").public, zmq.curve_keypair()[0].decode()
            for n in range(FORGED):
                key = (stolen, unknown, "")[n % 3]
                shout(sender, announced(forged(name, f"web{n}", rogue.port, key)))
                if n % PACE == 0:
                    await asyncio.sleep(0.01)
            own = forged(name, "a", int(node.endpoint.rpartition(":")[2]), stolen, node_id=honest.id)
            async with asyncio.timeout(sized(20, 60)):
                while honest.id in client._finder._records:  # a full buffer may have swallowed one
                    shout(sender, announced(own, ttl=0))
                    await asyncio.sleep(0.5)

            assert await napping == NAP_S
            enough.set()
            line.jobs = await calling
            assert [n async for n in client.map("noop", range(1000))] == list(range(1000))
            assert [(seen.id, seen.endpoint) for seen in client.nodes()] == [(honest.id, honest.endpoint)]
            await until(rogue.was_tried)
        grown = psutil.Process(node.pid).memory_info().rss - before
    line.lost = 0
    line.more = {"to the rogue": rogue.messages, "its connections": rogue.connections, "node MiB": grown / 2**20}
    assert rogue.messages == 0
    # what is said of records, and of those who do not prove their key
    assert 0 < node.log.count(" is passed over: ") <= 2 * (MOST + 1), node.log
    assert 0 < sum(" is passed over: " in text for text in caplog.messages) <= 2 * (MOST + 1)
    assert len(node.log.splitlines()) < 50, node.log
    assert grown < MEMORY


def forged(mesh_name: str, name: str, port: int, key: str, *, node_id: str = "") -> Record:
    return Record(
        mesh_name, node_id or secrets.token_hex(16), secrets.token_hex(8), name, port, (1, 1), ("127.0.0.1",), key
    )


async def call_on(client: mesh.Client, enough: asyncio.Event) -> int:
    """Call again and again; whatever fails is raised."""
    done = 0
    while not enough.is_set():
        assert await client.call("noop", done) == done
        done += 1
        await asyncio.sleep(0.001)
    return done


BOMBS: list[list[bytes]] = [
    [b""],
    [b"\x00" * 1000],
    [b"\x91" * 100_000],
    [b"\xdd\xff\xff\xff\xff"],
    [b"x"] * 10_000,
    [b"a" * 10 * 2**20],
]


async def test_nothing_that_a_stranger_sends_comes_through_the_front(
    tmp_path: Path, figures: Callable[[str, str], Figures]
) -> None:
    line = figures("20", "bombs and jobs from those without keys")
    keys = Keys(tmp_path, "a")
    ada = keys.client("ada")
    front = KeyedFront(keys)
    front.listen()
    public, secret = (half.decode() for half in zmq.curve_keypair())
    wrong = zmq.curve_keypair()[0].decode()
    strangers = {
        "in the clear": [],
        "a key of nobody": curve(front.own.public, public, secret),
        "a node's key that is another": curve(wrong, ada.public, ada.secret),
        "ada's public key alone": curve(front.own.public, ada.public, secret),
    }
    sent = 0
    try:
        for options in [*strangers.values()] * 2:
            with Peer(front.endpoint, options=[*options, (zmq.SNDTIMEO, 0)]) as stranger:
                with suppress(zmq.Again):  # who was shown the door has nowhere to send to
                    stranger.hello()
                    stranger.say(*stranger.jobs("noop", (1,)))
                    for bomb in BOMBS:
                        stranger.socket.send_multipart(bomb)
                        sent += 1
                await asyncio.sleep(0.2)  # for all that it takes to come through
                assert stranger.hear(0.0) == []
        assert sent > 0
        with Peer(front.endpoint, options=curve(front.own.public, ada.public, ada.secret)) as peer:
            (job,) = peer.jobs("noop", (1,))
            peer.say(job)
            await until(lambda: bool(front.received))
        ((_, key, frames),) = front.received
        assert key == ada.public
        assert isinstance(job, Submit)
        assert job.id in bytes(frames[0])
    finally:
        front.close()
    line.jobs, line.lost = sent, 0
    line.more = {"came through": 0}
