"""Who may connect to the bridge, and how many at once."""

import pytest

from meshnode.core.guests import Guests, Networks, plain


@pytest.mark.parametrize(
    ("address", "inside"),
    [
        ("10.1.2.3", True),
        ("11.1.2.3", False),
        ("192.0.2.7", True),
        ("192.0.2.8", False),
        ("2001:db8::1", True),
        ("2001:db9::1", False),
        ("fe80::1%eth0", True),
        ("::", False),
    ],
)
def test_an_address_is_in_one_of_the_networks_or_in_none(address: str, *, inside: bool) -> None:
    networks = Networks(["10.0.0.0/8", "192.0.2.7/32", "2001:db8::/32", "fe80::/64"])
    assert (address in networks) is inside
    assert address not in Networks([])


def test_networks_are_there_or_not() -> None:
    assert Networks(["10.0.0.0/8"])
    assert not Networks([])


@pytest.mark.parametrize(
    ("shown", "meant"),
    [("10.1.2.3", "10.1.2.3"), ("::ffff:10.1.2.3", "10.1.2.3"), ("fe80::1%eth0", "fe80::1"), ("::1", "::1")],
)
def test_an_address_is_written_as_what_it_is(shown: str, meant: str) -> None:
    assert plain(shown) == meant


def test_there_is_room_for_so_many_of_one_address_and_so_many_in_all() -> None:
    guests = Guests(most=3, most_of_one=2)
    assert [guests.enter("10.0.0.1"), guests.enter("10.0.0.1")] == [None, None]
    assert guests.enter("10.0.0.1") == "2 connections from 10.0.0.1 are open"
    guests.leave("10.0.0.1")
    assert guests.enter("10.0.0.2") is None
    assert guests.enter("10.0.0.3") == "3 connections are open"
    guests.leave("10.0.0.3")
    guests.leave("10.0.0.1")
    assert guests.enter("10.0.0.1") is None


def test_the_addresses_of_one_network_of_ipv6_count_as_one() -> None:
    guests = Guests(most=9, most_of_one=1)
    assert guests.enter("2001:db8::1") is None
    assert guests.enter("2001:db8:0:1::1") is None
    assert guests.enter("2001:db8::ffff:2") == "1 connections from 2001:db8::ffff:2 are open"


def test_who_is_not_known_yet_counts_among_all_only() -> None:
    guests = Guests(most=2, most_of_one=1)
    assert [guests.enter(None), guests.enter(None)] == [None, None]
    assert guests.enter(None) == "2 connections are open"
    assert guests.addresses == 0
    for _ in range(2):
        guests.leave(None)
    assert guests.enter("10.0.0.1") is None
    assert guests.enter("10.0.0.1") == "2 connections are open", "the one that is said holds for everybody"
    assert len(guests) == 3


def test_who_has_gone_is_forgotten() -> None:
    guests = Guests(most=9, most_of_one=9)
    for address in ("10.0.0.1", "2001:db8::1", "2001:db8::2"):
        guests.enter(address)
    assert (len(guests), guests.addresses) == (3, 2)
    for address in ("10.0.0.1", "2001:db8::2", "2001:db8::1"):
        guests.leave(address)
    assert (len(guests), guests.addresses) == (0, 0)
