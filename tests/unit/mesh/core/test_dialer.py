"""Which endpoints are connected to, and when again."""

import random

from mesh.core import dialer as module
from mesh.core.dialer import NO_KEY, REFUSED_S, Dialer

A, B, C = "tcp://10.0.0.1:5750", "tcp://10.0.0.2:5750", "tcp://10.0.0.3:5750"


class Highest(random.Random):
    """Chance that always gives the upper end."""

    def uniform(self, a: float, b: float) -> float:
        return b


def offered(*endpoints: str) -> Dialer:
    dialer = Dialer(Highest())
    dialer.offer("mdns", endpoints, 0.0)
    return dialer


def wait(dialer: Dialer, now: float) -> float:
    """Return the seconds until the next one is due."""
    wake = dialer.next_wake()
    assert wake is not None
    return round(wake - now, 6)


def test_nothing_is_due_where_nothing_is_offered() -> None:
    dialer = Dialer(random.Random(1))
    assert dialer.due(5.0) == []
    assert dialer.next_wake() is None


def test_a_new_endpoint_is_due_at_once_and_once() -> None:
    dialer = offered(A)
    assert dialer.next_wake() == 0.0
    assert dialer.due(0.0) == [A]
    dialer.opened(A, 1)
    assert dialer.due(9.0) == []
    assert dialer.next_wake() is None
    assert dialer.endpoint(1) == A
    assert dialer.endpoint(2) == ""


def test_a_lost_link_is_made_again_after_a_growing_wait() -> None:
    dialer = offered(A)
    waits = []
    for link in range(1, 5):
        dialer.opened(A, link)
        dialer.lost(link, 100.0)
        waits.append(wait(dialer, 100.0))
        assert dialer.due(100.0 + waits[-1] - 0.001) == []
        assert dialer.due(100.0 + waits[-1]) == [A]
    assert waits == [0.05, 0.1, 0.2, 0.4]


def test_a_greeting_ends_the_growth() -> None:
    dialer = offered(A)
    for link in (1, 2, 3):
        dialer.opened(A, link)
        dialer.lost(link, 0.0)
    dialer.opened(A, 4)
    dialer.joined(4)
    dialer.joined(99)
    dialer.lost(4, 100.0)
    assert dialer.next_wake() == 100.05


def test_the_wait_for_a_node_that_said_goodbye_grows_slowly_until_it_greets_again() -> None:
    dialer = offered(A)
    waits = []
    for link in range(1, 6):
        dialer.opened(A, link)
        if link == 4:
            dialer.joined(link)
        dialer.lost(link, 100.0, goodbye=link == 1)
        waits.append(wait(dialer, 100.0))
    assert waits == [0.05, 0.0625, 0.078125, 0.05, 0.1]


def test_what_happens_to_a_leaving_node_in_between_does_not_change_that() -> None:
    dialer = offered(A)
    dialer.opened(A, 1)
    dialer.lost(1, 0.0, goodbye=True)
    dialer.opened(A, 2)
    dialer.lost(2, 0.0, refused=True)
    dialer.offer("seed", [A], 0.0)
    dialer.opened(A, 3)
    dialer.lost(3, 0.0)
    assert dialer.next_wake() == 0.05 * 1.25


def test_another_way_to_a_node_that_said_goodbye_is_tried_as_that_one_is() -> None:
    dialer = offered(A, B)
    dialer.opened(A, 1)
    dialer.opened(B, 2)
    dialer.lost(2, 1.0, twin_of=1)
    dialer.lost(1, 60.0, goodbye=True)
    assert dialer.due(60.0) == []
    assert sorted(dialer.due(60.05)) == [A, B]
    for link, endpoint in ((3, A), (4, B)):
        dialer.opened(endpoint, link)
    for link in (3, 4):
        dialer.lost(link, 70.0)
    assert dialer.due(70.06) == []
    assert sorted(dialer.due(70.0 + 0.05 * 1.25)) == [A, B]


def test_a_node_that_is_found_over_another_way_is_expected_no_longer() -> None:
    dialer = offered(A, B)
    dialer.opened(A, 1)
    dialer.lost(1, 0.0, goodbye=True)
    dialer.opened(B, 2)
    dialer.joined(2)
    dialer.opened(A, 3)
    dialer.lost(3, 1.0, twin_of=2)
    dialer.lost(2, 60.0, refused=True)
    waits = []
    for link in (4, 5):
        dialer.opened(A, link)
        dialer.lost(link, 60.0)
        waits.append(wait(dialer, 60.0))
    assert waits == [0.05, 0.1]


def test_an_endpoint_that_refused_is_left_alone_for_a_minute_unless_somebody_else_names_it() -> None:
    dialer = offered(A)
    dialer.opened(A, 1)
    dialer.lost(1, 0.0, refused=True)
    assert dialer.next_wake() == REFUSED_S
    dialer.offer("mdns", [A], 5.0)
    assert dialer.next_wake() == REFUSED_S
    dialer.offer("another node there", [A], 5.0)
    assert dialer.next_wake() == 5.0


def test_a_second_way_to_the_same_node_is_tried_when_the_first_is_lost() -> None:
    dialer = offered(A, B)
    dialer.opened(A, 1)
    dialer.opened(B, 2)
    dialer.lost(2, 1.0, twin_of=1)
    assert dialer.due(50.0) == []
    dialer.lost(1, 60.0)
    assert dialer.due(60.0) == [B]


def test_the_twin_of_a_link_that_is_lost_already_is_tried_again() -> None:
    dialer = offered(A, B)
    dialer.opened(A, 1)
    dialer.opened(B, 2)
    dialer.lost(1, 1.0, refused=True)
    dialer.lost(2, 1.0, twin_of=1)
    assert dialer.next_wake() == 1.05


def test_a_way_to_ourselves_is_not_tried_again() -> None:
    dialer = offered(A, B)
    dialer.opened(A, 1)
    dialer.opened(B, 2)
    dialer.lost(1, 1.0, twin_of=1)
    dialer.lost(2, 1.0, refused=True)
    assert dialer.next_wake() == 1.0 + REFUSED_S


def test_what_nobody_offers_any_more_is_forgotten_unless_a_link_works_there() -> None:
    dialer = offered(A, B)
    dialer.offer("seed", [B, C], 0.0)
    dialer.opened(A, 1)
    dialer.offer("mdns", [], 1.0)
    assert sorted(dialer.due(1.0)) == [B, C]
    dialer.offer("seed", [], 2.0)
    assert dialer.due(2.0) == []
    assert dialer.endpoint(1) == A
    dialer.lost(1, 3.0)
    assert dialer.next_wake() is None
    dialer.lost(1, 4.0)


def test_a_stranger_cannot_offer_without_end() -> None:
    dialer = Dialer(random.Random(1))
    dialer.offer("mdns", [f"tcp://10.0.0.1:{port}" for port in range(module.MOST + 10)], 0.0)
    assert len(dialer.due(0.0)) == module.MOST


# keys

K1, K2, K3 = "1" * 40, "2" * 40, "3" * 40


def seeded(*keys: str) -> Dialer:
    dialer = Dialer(Highest())
    dialer.offer("seed", [A], 0.0, keys=keys)
    return dialer


def test_without_keys_none_is_expected() -> None:
    assert offered(A).opened(A, 1) == NO_KEY


def test_the_next_key_is_tried_at_once_and_after_the_last_one_comes_a_wait() -> None:
    dialer = seeded(K1, K2, K3)
    expected = []
    for link in (1, 2, 3):
        assert dialer.due(5.0) == [A]
        expected.append(dialer.opened(A, link))
        assert dialer.lost(link, 5.0, another_key=True) is (link < 3)  # is another one left?
    assert expected == [K1, K2, K3]
    assert dialer.next_wake() == 5.05
    assert dialer.opened(A, 4) == K1


def test_a_node_that_stops_short_of_a_handshake_is_found_again_with_its_key() -> None:
    dialer = seeded(K1, K2)
    assert dialer.opened(A, 1) == K1
    dialer.lost(1, 0.0, another_key=True)
    assert dialer.opened(A, 2) == K2
    dialer.joined(2)
    dialer.lost(2, 1.0)
    assert dialer.opened(A, 3) == K2  # the one that was right
    dialer.lost(3, 2.0, another_key=True)
    assert dialer.opened(A, 4) == K1
    dialer.lost(4, 2.0, another_key=True)
    assert dialer.opened(A, 5) == K2


def test_a_lost_connection_says_nothing_about_the_key() -> None:
    dialer = seeded(K1, K2)
    dialer.opened(A, 1)
    dialer.lost(1, 0.0)
    assert dialer.opened(A, 2) == K1


def test_a_key_that_is_offered_later_makes_its_endpoint_due() -> None:
    dialer = seeded(K1)
    dialer.opened(A, 1)
    dialer.lost(1, 0.0, refused=True)
    dialer.offer("seed", [A], 5.0, keys=(K1,))
    assert dialer.next_wake() == REFUSED_S
    dialer.offer("seed", [A], 5.0, keys=(K2,))
    assert dialer.due(5.0) == [A]
    assert dialer.opened(A, 2) == K2


def test_a_link_that_works_is_left_alone_by_another_key() -> None:
    dialer = seeded(K1)
    dialer.opened(A, 1)
    dialer.offer("seed", [A], 5.0, keys=(K2,))
    assert dialer.due(5.0) == []
    assert dialer.next_wake() is None


def test_what_a_stranger_says_of_an_endpoint_hides_no_key_of_it() -> None:
    dialer = seeded(K1)
    dialer.offer("a rogue", [A], 0.0, keys=(K2,))
    expected = set()
    for link in (1, 2):
        expected.add(dialer.opened(A, link))
        dialer.lost(link, 0.0, another_key=True)
    assert expected == {K1, K2}


def test_a_key_that_two_sources_name_is_tried_once() -> None:
    dialer = seeded(K1)
    dialer.offer("mdns", [A], 0.0, keys=(K1,))
    dialer.opened(A, 1)
    dialer.lost(1, 1.0, another_key=True)
    assert dialer.next_wake() == 1.05
