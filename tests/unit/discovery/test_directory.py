from dataclasses import replace

import pytest

from meshdiscovery.directory import Changed, Directory, Found, Lost
from meshdiscovery.record import Record

A = Record(
    mesh="m",
    node_id="a" * 32,
    epoch="1" * 16,
    name="web7",
    port=5750,
    versions=(1, 1),
    addresses=("10.0.0.7",),
)
A_AGAIN = replace(A, epoch="2" * 16)


def node(number: int) -> Record:
    return replace(A, node_id=f"{number:032x}")


def test_the_first_sighting_of_a_node_finds_it() -> None:
    directory = Directory("m")
    assert directory.seen("mdns", A, 0.0) == [Found(A)]
    assert A.node_id in directory
    assert directory.records() == (A,)


def test_repetition_changes_nothing() -> None:
    directory = Directory("m")
    directory.seen("mdns", A, 0.0)
    assert directory.seen("mdns", A, 1.0) == []
    assert len(directory) == 1


@pytest.mark.parametrize(
    "now_so",
    [
        A_AGAIN,
        replace(A, port=5751),
        replace(A, addresses=("10.0.0.8",)),
        replace(A, name="web8"),
        replace(A, versions=(1, 2)),
    ],
)
def test_whatever_differs_is_a_change(now_so: Record) -> None:
    directory = Directory("m")
    directory.seen("mdns", A, 0.0)
    assert directory.seen("mdns", now_so, 1.0) == [Changed(now_so)]
    assert directory.records() == (now_so,)


def test_a_node_is_lost_when_its_only_source_lets_go() -> None:
    directory = Directory("m")
    directory.seen("mdns", A, 0.0)
    assert directory.gone("mdns", A.node_id) == [Lost(A.node_id)]
    assert A.node_id not in directory
    assert directory.records() == ()


def test_a_node_stays_while_another_source_holds_it() -> None:
    directory = Directory("m")
    directory.seen("mdns", A, 0.0)
    assert directory.seen("seeds", A, 0.0) == []
    assert directory.gone("mdns", A.node_id) == []
    assert directory.gone("seeds", A.node_id) == [Lost(A.node_id)]


def test_letting_go_of_what_was_never_reported_means_nothing() -> None:
    directory = Directory("m")
    assert directory.gone("mdns", A.node_id) == []
    directory.seen("mdns", A, 0.0)
    assert directory.gone("seeds", A.node_id) == []
    assert A.node_id in directory


def test_the_newest_word_holds_and_repeated_old_ones_do_not_return() -> None:
    directory = Directory("m")
    directory.seen("peers", A, 0.0)
    assert directory.seen("mdns", A_AGAIN, 1.0) == [Changed(A_AGAIN)]
    assert directory.seen("peers", A, 2.0) == []
    assert directory.seen("peers", A_AGAIN, 3.0) == []
    assert directory.records() == (A_AGAIN,)


def test_the_word_of_the_remaining_source_holds() -> None:
    directory = Directory("m")
    directory.seen("peers", A, 0.0)
    directory.seen("mdns", A_AGAIN, 1.0)
    assert directory.gone("mdns", A.node_id) == [Changed(A)]
    assert directory.records() == (A,)


def test_records_of_other_meshes_are_ignored_and_counted() -> None:
    directory = Directory("m")
    assert directory.seen("mdns", replace(A, mesh="other"), 0.0) == []
    assert len(directory) == 0
    assert directory.other_mesh == 1


def test_a_node_that_moved_to_another_mesh_is_lost() -> None:
    directory = Directory("m")
    directory.seen("mdns", A, 0.0)
    assert directory.seen("mdns", replace(A, mesh="other"), 1.0) == [Lost(A.node_id)]


def test_nodes_beyond_the_capacity_are_ignored_and_counted_until_there_is_room() -> None:
    directory = Directory("m", max_nodes=2)
    for number in range(3):
        directory.seen("mdns", node(number), 0.0)
    assert directory.records() == (node(0), node(1))
    assert directory.over_capacity == 1
    directory.gone("mdns", node(0).node_id)
    assert directory.seen("mdns", node(2), 0.0) == [Found(node(2))]


def test_a_full_directory_still_hears_of_changes() -> None:
    directory = Directory("m", max_nodes=1)
    directory.seen("mdns", A, 0.0)
    assert directory.seen("mdns", A_AGAIN, 0.0) == [Changed(A_AGAIN)]


def test_new_nodes_beyond_the_rate_are_ignored_and_counted_until_time_has_passed() -> None:
    directory = Directory("m", max_new_per_minute=60)
    for number in range(61):
        directory.seen("mdns", node(number), 100.0)
    assert len(directory) == 60
    assert directory.over_rate == 1
    assert directory.seen("mdns", node(60), 100.5) == []
    assert directory.seen("mdns", node(60), 101.1) == [Found(node(60))]


def test_a_quiet_hour_allows_no_more_than_one_minutes_worth() -> None:
    directory = Directory("m", max_new_per_minute=60)
    directory.seen("mdns", node(0), 0.0)
    for number in range(1, 100):
        directory.seen("mdns", node(number), 3600.0)
    assert len(directory) == 61


def test_a_clock_that_stands_or_steps_back_allows_nothing_more() -> None:
    directory = Directory("m", max_new_per_minute=1)
    directory.seen("mdns", node(0), 50.0)
    assert directory.seen("mdns", node(1), 10.0) == []
