"""Real mDNS on 127.0.0.1. Everybody on this host hears it, so every test has a mesh of its own."""

import asyncio
import logging
import secrets
import socket
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
import uvloop
from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf

from meshdiscovery.addresses import local_addresses
from meshdiscovery.directory import Change, Changed, Directory, Found, Lost
from meshdiscovery.mdns import Announcer, Browser, interfaces
from meshdiscovery.record import SERVICE_TYPE, Record, instance_name, to_txt
from meshdiscovery.seeds import parse_seed, resolve
from tests.support.leaks import leak_check
from tests.support.waiting import until

__all__ = ["leak_check"]

LOOPBACK = ["127.0.0.1"]

PATIENCE_S = 10.0
"""Seconds for what takes a moment on a machine that has nothing else to do."""

# An address of TEST-NET-3 (RFC 5737): no host has it, so joining there fails with OSError 19.
NOWHERE = "203.0.113.7"


def a_record(mesh: str, **fields: object) -> Record:
    record = Record(
        mesh=mesh,
        node_id=secrets.token_hex(16),
        epoch=secrets.token_hex(8),
        name="web7",
        port=5750,
        versions=(1, 1),
        addresses=("127.0.0.1",),
    )
    return replace(record, **fields)  # type: ignore[arg-type]


class Watch:
    """A browser of one mesh, and the changes it has told so far."""

    def __init__(self, mesh: str, **options: object) -> None:
        self.directory = Directory(mesh)
        self.changes: list[Change] = []
        self.browser = Browser(
            self.directory,
            self._note,
            **{"interfaces": LOOPBACK, **options},  # type: ignore[arg-type]
        )
        self._noted = asyncio.Event()

    def _note(self, change: Change) -> None:
        self.changes.append(change)
        self._noted.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                self._noted.clear()
                await self._noted.wait()

    async def told(self, change: Change) -> None:
        await self.until(lambda: change in self.changes)


@asynccontextmanager
async def watching(mesh: str, **options: object) -> AsyncIterator[Watch]:
    watch = Watch(mesh, **options)
    await watch.browser.start()
    try:
        yield watch
    finally:
        await watch.browser.close()


@asynccontextmanager
async def announcing(record: Record, **options: object) -> AsyncIterator[Announcer]:
    announcer = Announcer(record, **{"interfaces": LOOPBACK, **options})  # type: ignore[arg-type]
    await announcer.start()
    try:
        yield announcer
    finally:
        await announcer.close()


@asynccontextmanager
async def advertising(record: Record, txt: bytes) -> AsyncIterator[AsyncServiceInfo]:
    """Somebody else's instance of our service type, with a TXT of their own."""
    info = AsyncServiceInfo(
        SERVICE_TYPE,
        f"{instance_name(record)}.{SERVICE_TYPE}",
        port=record.port,
        properties=txt,
        server=f"{secrets.token_hex(8)}.local.",
        parsed_addresses=list(record.addresses),
    )
    zeroconf = AsyncZeroconf(interfaces=LOOPBACK)
    try:
        await (await zeroconf.async_register_service(info, cooperating_responders=True))
        yield info
    finally:
        await zeroconf.async_close()


def on_the_wire(strings: list[str]) -> bytes:
    """TXT strings as a record holds them."""
    return b"".join(bytes([len(string)]) + string.encode() for string in strings)


def multicast(packet: bytes) -> None:
    """Send a packet to everybody who listens on loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
        sender.sendto(packet, ("224.0.0.251", 5353))


def encoded(name: str) -> bytes:
    """A DNS name on the wire."""
    return b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))


QUESTION = struct.pack("!6H", 0, 0, 1, 0, 0, 0) + encoded(SERVICE_TYPE) + struct.pack("!2H", 12, 1)
"""Asks who is there, as one who knows of nobody."""


def pointer(label: str) -> bytes:
    """Says that an instance is there, and nothing else about it."""
    alias = encoded(f"{label}.{SERVICE_TYPE}")
    record = encoded(SERVICE_TYPE) + struct.pack("!2HIH", 12, 1, 4500, len(alias)) + alias
    return struct.pack("!6H", 0, 0x8400, 0, 1, 0, 0) + record


@pytest.fixture
def mesh() -> str:
    return f"test-{secrets.token_hex(6)}"


async def test_a_node_is_found_and_its_goodbye_loses_it(mesh: str) -> None:
    record = a_record(mesh)
    async with watching(mesh) as watch:
        async with announcing(record):
            await watch.told(Found(record))
        await watch.told(Lost(record.node_id))  # what nobody takes back is believed for minutes
    assert watch.changes == [Found(record), Lost(record.node_id)]


async def test_a_browser_that_comes_later_finds_running_nodes(mesh: str) -> None:
    record = a_record(mesh)
    async with announcing(record), watching(mesh) as first:
        await first.told(Found(record))
        async with watching(mesh) as later:
            await later.told(Found(record))


async def test_three_announcers_at_once_are_all_found(mesh: str) -> None:
    records = [a_record(mesh, port=5750 + number) for number in range(3)]
    async with (
        watching(mesh) as watch,
        announcing(records[0]),
        announcing(records[1]),
        announcing(records[2]),
    ):
        for record in records:
            await watch.told(Found(record))
        assert sorted(found.port for found in watch.directory.records()) == [5750, 5751, 5752]


async def test_another_mesh_is_ignored(mesh: str) -> None:
    record, stranger = a_record(mesh), a_record(f"{mesh}-other")
    async with announcing(stranger), watching(f"{mesh}-other") as other:
        await other.told(Found(stranger))
        async with watching(mesh) as watch, announcing(record):
            await watch.told(Found(record))
            await until(lambda: watch.directory.other_mesh > 0)
            assert watch.changes == [Found(record)]


async def test_a_restarted_node_is_changed(mesh: str) -> None:
    record = a_record(mesh)
    restarted = replace(record, epoch=secrets.token_hex(8))
    async with watching(mesh) as watch, announcing(record):
        await watch.told(Found(record))
        async with announcing(restarted):
            await watch.told(Changed(restarted))
            assert watch.changes == [Found(record), Changed(restarted)]


async def test_an_updated_record_is_changed(mesh: str) -> None:
    record = a_record(mesh)
    moved = replace(record, port=5751, epoch=secrets.token_hex(8))
    async with watching(mesh) as watch, announcing(record) as announcer:
        await watch.told(Found(record))
        await announcer.update(moved)
        await watch.told(Changed(moved))
        assert announcer.record == moved
        assert watch.directory.records() == (moved,)


async def test_a_renamed_node_is_changed_and_not_lost(mesh: str) -> None:
    record = a_record(mesh)
    renamed = replace(record, name="web8.example")
    async with watching(mesh) as watch:
        async with announcing(record) as announcer:
            await watch.told(Found(record))
            await announcer.update(renamed)
            await watch.told(Changed(renamed))
        await watch.told(Lost(record.node_id))
    assert watch.changes == [Found(record), Changed(renamed), Lost(record.node_id)]


async def test_renewal_finds_nothing_new_and_loses_nothing(mesh: str) -> None:
    record, late = a_record(mesh), a_record(mesh, name="late")
    renewals = 0

    def look() -> list[str]:
        nonlocal renewals
        renewals += 1
        return LOOPBACK

    async with (
        announcing(record, interval=0.2),
        watching(mesh, interfaces=look, renew=0.1) as watch,
    ):
        await watch.told(Found(record))
        await until(lambda: renewals > 5)
        async with announcing(late):
            await watch.told(Found(late))
        await watch.told(Lost(late.node_id))
    assert watch.changes == [Found(record), Found(late), Lost(late.node_id)]


async def test_a_node_whose_interface_comes_later_becomes_visible(mesh: str) -> None:
    record = a_record(mesh)
    there: list[str] = []
    async with (
        watching(mesh) as watch,
        announcing(record, interfaces=lambda: there, refresh=0.05),
    ):
        there.append("127.0.0.1")
        await watch.told(Found(record))


async def test_a_browser_whose_interface_comes_later_finds_nodes(mesh: str) -> None:
    record = a_record(mesh)
    there: list[str] = []
    async with (
        announcing(record),
        watching(mesh, interfaces=lambda: there, refresh=0.05) as watch,
    ):
        there.append("127.0.0.1")
        await watch.told(Found(record))


async def test_an_announcement_follows_the_hosts_addresses(mesh: str) -> None:
    record = a_record(mesh)
    addresses = ["127.0.0.1"]
    moved = replace(record, addresses=("10.0.0.7",))
    async with (
        watching(mesh, renew=0.5) as watch,
        announcing(record, addresses=lambda: addresses, refresh=0.05),
    ):
        await watch.told(Found(record))
        addresses[:] = ["10.0.0.7"]
        # For a second python-zeroconf keeps the old address beside the new one.
        await watch.told(Changed(moved))


async def test_an_interface_that_fails_is_named_once_and_hinders_no_other(
    mesh: str, caplog: pytest.LogCaptureFixture
) -> None:
    record = a_record(mesh)
    there = [NOWHERE, "127.0.0.1"]
    looks = 0

    def look() -> list[str]:
        nonlocal looks
        looks += 1
        return there

    caplog.set_level(logging.INFO, "meshdiscovery")
    async with (
        watching(mesh) as watch,
        announcing(record, interfaces=look, refresh=0.01),
    ):
        await watch.told(Found(record))
        await until(lambda: looks > 5)
        there.remove(NOWHERE)
        await until(lambda: "no longer fails" in caplog.text)
    warnings = [line.message for line in caplog.records if NOWHERE in line.message]
    assert len(warnings) == 2
    assert warnings[0].startswith(f"mDNS does not work on {NOWHERE}: [Errno 19]")
    assert warnings[1] == f"mDNS no longer fails on {NOWHERE}"


async def test_without_any_interface_nothing_is_raised(mesh: str) -> None:
    async with (
        watching(mesh, interfaces=[NOWHERE], renew=0.02, refresh=0.01) as watch,
        announcing(a_record(mesh), interfaces=[NOWHERE], interval=0.02, refresh=0.01) as announcer,
    ):
        await announcer.update(replace(announcer.record, port=5751))
    assert watch.changes == []


async def test_a_question_just_before_the_goodbye_leaves_no_ghost(mesh: str) -> None:
    record = a_record(mesh)
    async with watching(mesh) as watch:
        async with announcing(record):
            await watch.told(Found(record))
            # Until a second after the last announcement an answer is held back so long that it
            # is not sent at all; after that it comes between the goodbyes.
            await asyncio.sleep(1.1)
            multicast(QUESTION)
            await asyncio.sleep(0)
        await watch.until(lambda: len(watch.directory) == 0)


@pytest.mark.parametrize(
    "txt",
    [
        b"",
        b"\xff",
        b"\x00" * 300,
        b"\x09txtvers=1",
        b"\x09txtvers=9\x04id=x",
        bytes([200]) + secrets.token_bytes(200),
    ],
)
async def test_rubbish_is_counted_named_once_and_disturbs_nobody(
    mesh: str, txt: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    record, rubbish = a_record(mesh), a_record(mesh, name=f"rubbish-{secrets.token_hex(4)}")
    async with advertising(rubbish, txt) as info, watching(mesh, renew=0.2) as watch:
        await until(lambda: watch.browser.bad_records >= 3 and info.name in caplog.text)
        async with announcing(record):
            await watch.told(Found(record))
        await watch.told(Lost(record.node_id))
    assert watch.changes == [Found(record), Lost(record.node_id)]
    assert sum(info.name in line.getMessage() for line in caplog.records) == 1


async def test_a_foreign_record_of_our_format_is_taken_as_a_hint(mesh: str) -> None:
    record = a_record(mesh)
    strings = [f"{key}={value}" for key, value in to_txt(record).items()]
    txt = on_the_wire([*strings, "zone=dc1"])
    async with watching(mesh) as watch, advertising(record, txt):
        await watch.told(Found(record))


async def test_what_was_announced_incompletely_is_asked_for(mesh: str) -> None:
    record = a_record(mesh)
    txt = on_the_wire([f"{key}={value}" for key, value in to_txt(record).items()])
    async with advertising(record, txt), watching(mesh) as watch:
        multicast(pointer(instance_name(record)))
        await watch.told(Found(record))


async def test_instances_that_nobody_answers_for_disturb_nobody(mesh: str) -> None:
    record = a_record(mesh)
    async with watching(mesh) as watch:
        for number in range(100):
            multicast(pointer(f"nobody-{number}-{mesh}"))
        async with announcing(record):
            await watch.told(Found(record))
            assert watch.changes == [Found(record)]


async def test_an_impossible_instance_name_is_counted_and_named(mesh: str, caplog: pytest.LogCaptureFixture) -> None:
    async with watching(mesh) as watch:
        multicast(pointer(f"control-\x07-{mesh}"))
        await until(lambda: f"control-\\x07-{mesh}" in caplog.text)
        assert watch.browser.bad_records > 0


async def test_closing_twice_or_unstarted_does_nothing(mesh: str) -> None:
    announcer = Announcer(a_record(mesh), interfaces=LOOPBACK)
    browser = Browser(Directory(mesh), lambda change: None, interfaces=LOOPBACK)
    await announcer.close()
    await browser.close()
    await announcer.start()
    await browser.start()
    await asyncio.gather(announcer.close(), browser.close())
    await announcer.close()
    await browser.close()


async def test_a_node_that_closes_at_once_leaves_nothing_being_said(mesh: str) -> None:
    record = a_record(mesh)
    others = asyncio.all_tasks()
    async with watching(mesh) as watch:
        async with announcing(record):
            pass
        await watch.until(lambda: len(watch.directory) == 0)
    await until(lambda: asyncio.all_tasks() == others)


def test_it_works_on_uvloop(mesh: str) -> None:
    async def story() -> None:
        await test_a_node_is_found_and_its_goodbye_loses_it(mesh)
        await test_renewal_finds_nothing_new_and_loses_nothing(f"{mesh}-renew")
        await test_an_announcement_follows_the_hosts_addresses(f"{mesh}-moved")

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(story())


async def test_a_seed_resolves_to_each_address_once() -> None:
    assert await resolve(parse_seed("127.0.0.1:5750")) == ["127.0.0.1"]
    assert await resolve(parse_seed("[::1]:5750")) == ["::1"]


def test_records_directories_and_seeds_load_without_zeroconf() -> None:
    script = (
        "import sys, meshdiscovery, meshdiscovery.record, meshdiscovery.directory\n"
        "import meshdiscovery.seeds, meshdiscovery.addresses\n"
        "meshdiscovery.Record, meshdiscovery.Directory, meshdiscovery.parse_seed\n"
        "sys.exit('zeroconf' in sys.modules or 'ifaddr' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_this_host_has_loopback_and_network_addresses_apart() -> None:
    found = local_addresses()
    assert "127.0.0.1" in found.loopback
    assert not {*found.network} & {*found.loopback}
    assert {*found.multicast} <= {*found.network}
    assert interfaces(loopback_only=False) == [*found.multicast, "127.0.0.1"]
