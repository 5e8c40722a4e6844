"""Which nodes are sent nothing for a while."""

import random

from mesh.core.ejections import MOST_AWAY, Ejections
from mesh.core.roster import NodeView, Roster
from mesh.core.standing import EJECTED_S, FAILURES, State
from mesh.wire.messages import About


def known(count: int, ejections: Ejections) -> tuple[Roster, list[NodeView]]:
    roster = Roster(random.Random(1))
    views = []
    for key in range(1, count + 1):
        about = About(f"{key:032x}", b"epoch---", f"n{key}", "default", 1, 1, 1, [])
        view = NodeView(key, about, 0.0, ejections.record_of(about.node))
        roster.add(view)
        views.append(view)
    return roster, views


def fail(ejections: Ejections, roster: Roster, view: NodeView, now: float) -> State:
    for _ in range(FAILURES):
        ejections.failed(view, roster, now)
    return view.standing.state


def test_at_most_half_of_the_nodes_are_out() -> None:
    ejections = Ejections()
    roster, views = known(5, ejections)
    assert [fail(ejections, roster, view, 0.0) for view in views] == [State.EJECTED] * 2 + [State.ALIVE] * 3


def test_a_lone_node_is_never_put_out() -> None:
    ejections = Ejections()
    roster, (view,) = known(1, ejections)
    assert fail(ejections, roster, view, 0.0) is State.ALIVE


def test_a_success_redeems_a_node_on_trial() -> None:
    ejections = Ejections()
    roster, (view, _) = known(2, ejections)
    fail(ejections, roster, view, 0.0)
    view.standing.record.let_in(EJECTED_S)
    ejections.succeeded(view, 1.0)
    assert view.standing.state is State.ALIVE


def test_when_others_leave_those_whose_time_is_up_first_are_let_in() -> None:
    ejections = Ejections()
    roster, views = known(4, ejections)
    fail(ejections, roster, views[0], 1.0)
    fail(ejections, roster, views[1], 0.0)
    ejections.relent(roster, 1.0)
    assert [view.standing.state for view in views[:2]] == [State.EJECTED] * 2
    roster.remove(4)
    ejections.relent(roster, 1.0)
    assert [view.standing.state for view in views[:2]] == [State.EJECTED, State.TRIAL]
    roster.remove(3)
    roster.remove(2)
    ejections.relent(roster, 1.0)
    assert views[0].standing.state is State.TRIAL


def test_what_is_held_against_a_node_is_remembered_while_it_is_away() -> None:
    ejections = Ejections()
    roster, (bad, good) = known(2, ejections)
    fail(ejections, roster, bad, 0.0)
    for view in (bad, good):
        ejections.left(view)
    assert len(ejections._away) == 1
    assert ejections.record_of(bad.about.node) is bad.standing.record
    assert ejections.record_of(good.about.node) is not good.standing.record
    assert not ejections._away


def test_nodes_that_never_return_do_not_pile_up() -> None:
    ejections = Ejections()
    roster, views = known(MOST_AWAY + 10, ejections)
    for view in views:
        ejections.failed(view, roster, 0.0)
        ejections.left(view)
    assert len(ejections._away) == MOST_AWAY
    assert views[0].about.node not in ejections._away
    assert views[-1].about.node in ejections._away
