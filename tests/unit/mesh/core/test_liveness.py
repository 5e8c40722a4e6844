"""How alive a node looks."""

import pytest

from mesh.core.liveness import DEAD_S, SUSPECT_S, Health, Liveness


@pytest.mark.parametrize(
    ("silence", "health"),
    [
        (0.0, Health.ALIVE),
        (2.4, Health.ALIVE),
        (2.5, Health.SUSPECT),
        (5.9, Health.SUSPECT),
        (6.0, Health.DEAD),
        (600.0, Health.DEAD),
    ],
)
def test_silence_makes_suspect_and_then_dead(silence: float, health: Health) -> None:
    assert Liveness(100.0).health(100.0 + silence) is health


def test_any_word_makes_alive_again() -> None:
    liveness = Liveness(0.0)
    assert liveness.health(5.0) is Health.SUSPECT
    liveness.heard(5.0)
    assert liveness.health(5.0) is Health.ALIVE


def test_a_silent_node_is_asked_once_a_second() -> None:
    liveness = Liveness(0.0)
    asked = [tick for tick in range(50) if liveness.wants_ping(tick / 10)]
    assert asked == [10, 20, 30, 40]


def test_a_node_that_talks_all_the_time_is_asked_too_so_that_it_hears_from_us() -> None:
    liveness = Liveness(0.0)
    asked = []
    for tick in range(50):
        liveness.heard(tick / 10)
        if liveness.wants_ping(tick / 10):
            liveness.said(tick / 10)
            asked.append(tick)
    assert asked == [10, 20, 30, 40]


def test_a_node_that_is_talked_to_all_the_time_is_asked_too_so_that_it_answers() -> None:
    liveness = Liveness(0.0)
    asked = []
    for tick in range(50):
        liveness.said(tick / 10)
        if liveness.wants_ping(tick / 10):
            asked.append(tick)
    assert asked == [10, 20, 30, 40]


def test_nobody_is_asked_while_both_sides_talk() -> None:
    liveness = Liveness(0.0)
    for tick in range(50):
        liveness.heard(tick / 10)
        liveness.said(tick / 10)
        assert not liveness.wants_ping(tick / 10)


def test_an_observer_that_stood_still_does_not_count_that_time() -> None:
    liveness = Liveness(0.0)
    liveness.excuse(10.0, 11.0)
    assert liveness.health(11.0) is Health.ALIVE
    assert liveness.health(12.6) is Health.SUSPECT


def test_an_excuse_never_makes_a_node_heard_in_the_future() -> None:
    liveness = Liveness(0.0)
    liveness.heard(60.0)
    liveness.said(60.0)
    liveness.excuse(59.0, 60.0)
    assert liveness.wants_ping(61.0)
    assert liveness.health(66.0) is Health.DEAD


@pytest.mark.parametrize("heard", [0.0, 0.1, 1 / 3, 1234.5678, 1e6 + 0.3])
def test_the_next_change_is_a_moment_at_which_it_has_changed(heard: float) -> None:
    liveness = Liveness(heard)
    suspect = liveness.next_change(heard)
    assert suspect == heard + SUSPECT_S
    assert liveness.health(suspect) is Health.SUSPECT
    dead = liveness.next_change(suspect)
    assert dead == heard + DEAD_S
    assert liveness.health(dead) is Health.DEAD
