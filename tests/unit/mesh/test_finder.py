"""Who is there, for a client: what of all that is said is offered as a node."""

import ipaddress
import secrets
from collections.abc import Iterable
from typing import Any

import pytest

from mesh.core.dialer import NO_KEY
from mesh.finder import Finder
from meshdiscovery.directory import Changed, Found, Lost
from meshdiscovery.record import Record

KEY, OTHER = "a" * 40, "b" * 40


def a_record(**fields: Any) -> Record:
    return Record(**{
        "mesh": "default", "node_id": secrets.token_hex(16), "epoch": secrets.token_hex(8), "name": "web7",
        "port": 5750, "versions": (1, 1), "addresses": ("10.0.0.7",), **fields,
    })  # fmt: skip


class Ear:
    """A finder that has not started, and what it has offered."""

    def __init__(self, *, pins: dict[str, str] | None = None, networks: Iterable[str] = ()) -> None:
        self.offers: dict[str, tuple[list[str], tuple[str, ...]]] = {}
        self.denied: list[tuple[str, str]] = []
        self.finder = Finder(
            "default",
            seeds=["web7.example:5750"],
            mdns=True,
            networks=[ipaddress.ip_network(network) for network in networks],
            on_change=self._changed,
            on_denied=lambda name, why: self.denied.append((name, why)),
        )
        self.finder.pins = pins

    def _changed(self, source: str, endpoints: Iterable[str], keys: tuple[str, ...]) -> None:
        self.offers[source] = (list(endpoints), keys)

    def hear(self, record: Record) -> tuple[list[str], tuple[str, ...]]:
        self.finder._changed(Found(record))
        return self.offers[record.node_id]


def test_without_keys_a_node_without_one_is_offered() -> None:
    assert Ear().hear(a_record()) == (["tcp://10.0.0.7:5750"], (NO_KEY,))


def test_with_keys_a_node_whose_key_is_known_is_offered_with_it() -> None:
    found = Ear(pins={KEY: "web7", OTHER: "web8"})
    assert found.hear(a_record(key=KEY)) == (["tcp://10.0.0.7:5750"], (KEY,))
    assert found.denied == []


@pytest.mark.parametrize(
    ("pins", "key", "why"),
    [
        (None, KEY, "it wants keys, and none are in use here (docs/security.md)"),
        ({KEY: "web7"}, "", "it speaks without keys"),
        ({KEY: "web7"}, OTHER, "its key is not in the list of those allowed"),
        ({}, OTHER, "its key is not in the list of those allowed"),
    ],
)
def test_a_node_that_cannot_be_one_of_ours_is_passed_over_and_named(
    pins: dict[str, str] | None, key: str, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    found = Ear(pins=pins)
    record = a_record(key=key)
    for _ in range(3):
        assert found.hear(record) == ([], ())
    assert set(found.denied) == {("web7", why)}
    assert caplog.messages == [f"mDNS: web7, which says that it is at 10.0.0.7 port 5750, is passed over: {why}"]


def test_a_node_that_changes_its_key_for_an_unknown_one_is_offered_no_more() -> None:
    found = Ear(pins={KEY: "web7"})
    record = a_record(key=KEY)
    found.hear(record)
    found.finder._changed(Changed(a_record(node_id=record.node_id, key=OTHER)))
    assert found.offers[record.node_id] == ([], ())
    found.finder._changed(Lost(record.node_id))
    assert found.offers[record.node_id] == ([], ())


def test_another_list_is_held_against_all_that_was_heard() -> None:
    found = Ear(pins={KEY: "web7"})
    ours, theirs = a_record(key=KEY), a_record(key=OTHER)
    found.hear(ours)
    found.hear(theirs)
    found.finder.pin({OTHER: "web8"})
    assert found.offers[ours.node_id] == ([], ())
    assert found.offers[theirs.node_id] == (["tcp://10.0.0.7:5750"], (OTHER,))


def test_a_seed_is_offered_with_all_keys_of_nodes_the_one_named_as_its_host_first() -> None:
    found = Ear(pins={OTHER: "web8", KEY: "web7"})
    (seed,) = found.finder._seeds
    found.finder._found[seed] = ["10.0.0.7"]
    found.finder._offer_seed(seed)
    assert found.offers == {"seed web7.example:5750": (["tcp://10.0.0.7:5750"], (KEY, OTHER))}
    found.finder.pin({})
    assert found.offers == {"seed web7.example:5750": ([], ())}


def test_addresses_outside_the_networks_that_are_allowed_are_left_out(caplog: pytest.LogCaptureFixture) -> None:
    found = Ear(networks=["10.0.0.0/24", "fd00::/8"])
    record = a_record(addresses=("10.0.0.7", "10.0.1.7", "fd00::7", "2001:db8::7"))
    assert found.hear(record)[0] == ["tcp://10.0.0.7:5750", "tcp://[fd00::7]:5750"]
    assert caplog.messages == []
    assert found.hear(a_record(addresses=("10.0.1.7",)))[0] == []
    assert caplog.messages == ["mDNS: web7 is passed over: 10.0.1.7 is in none of the networks that are allowed"]
