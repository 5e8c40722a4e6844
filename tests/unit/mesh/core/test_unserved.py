"""Jobs whose task no node serves."""

import random

import pytest

from mesh.core.record import DONE, SENT, Extras, JobRecord
from mesh.core.roster import NodeView, Roster
from mesh.core.unserved import MOST_NAMED, Unserved
from mesh.errors import KeyRefused, MeshError, NoNodes, PoisonTask, UnknownTask
from mesh.wire.messages import About, TaskSpec


def roster(*tasks: str) -> Roster:
    made = Roster(random.Random(1))
    if tasks:
        specs = [TaskSpec(task) for task in tasks]
        made.add(NodeView(1, About(f"{1:032x}", b"epoch---", "n1", "default", 1, 1, 1, specs), 0.0))
    return made


def verdict(record: JobRecord, made: Roster, *, met_any: bool = False) -> MeshError | None:
    unserved = Unserved(2.0)
    unserved.met_any = met_any
    unserved.add([record], 1.0)
    assert unserved.next() == 3.0
    assert list(unserved.due(made, 2.9)) == []
    ended = list(unserved.due(made, 3.0))
    assert unserved.next() is None
    return ended[0][1] if ended else None


def job(**fields: object) -> JobRecord:
    record = JobRecord(bytes(16), "add", b"")
    for name, value in fields.items():
        setattr(record.own_extras() if hasattr(Extras, name) else record, name, value)
    return record


def test_nothing_ends_of_itself_that_is_over_or_sent_or_served() -> None:
    assert verdict(job(over=True, state=DONE), roster()) is None
    assert verdict(job(state=SENT), roster()) is None
    assert verdict(job(), roster("add")) is None


@pytest.mark.parametrize(
    ("deadline", "met_any", "ends"), [(None, False, True), (9.0, False, True), (None, True, True), (9.0, True, False)]
)
def test_without_a_node_it_ends_but_where_one_may_return_in_its_time(
    *, deadline: float | None, met_any: bool, ends: bool
) -> None:
    assert isinstance(verdict(job(deadline=deadline), roster(), met_any=met_any), NoNodes) == ends


def test_where_others_are_served_their_names_are_told() -> None:
    error = verdict(job(), roster("ad", "mul"))
    assert isinstance(error, UnknownTask)
    assert str(error) == "no node serves 'add'; did you mean ad?"


@pytest.mark.parametrize("began", [True, False])
def test_a_task_that_is_in_quarantine_everywhere_is_poison(*, began: bool) -> None:
    made = roster("add")
    next(iter(made)).quarantine("add", 100.0)
    error = verdict(job(began=began), made)
    assert isinstance(error, PoisonTask)
    assert error.started is began


def test_where_no_name_is_near_some_are_listed() -> None:
    assert str(verdict(job(), roster("mul", "xyz"))) == "no node serves 'add'; served are mul, xyz"
    assert str(verdict(job(), roster(*(f"task{n}" for n in range(9))))).endswith("task6, task7 …")


# keys


def denied(*nodes: str, met: bool = False) -> Unserved:
    made = Unserved(2.0)
    if met:
        made.welcome()
    for node in nodes:
        made.deny(node, "it does not accept the key")
    return made


def ends(unserved: Unserved, record: JobRecord) -> MeshError | None:
    unserved.add([record], 0.0)
    ended = list(unserved.due(roster(), 2.0))
    return ended[0][1] if ended else None


@pytest.mark.parametrize("deadline", [None, 9.0])
def test_where_all_nodes_deny_us_they_are_named_also_where_time_is_left(deadline: float | None) -> None:
    error = ends(denied("b", "a"), job(deadline=deadline))
    assert isinstance(error, KeyRefused)
    assert error.started is False
    assert str(error) == (
        "no node of the mesh lets this client in (a: it does not accept the key; b: it does not accept the key)"
    )


def test_a_node_that_was_met_may_return_whatever_others_deny() -> None:
    assert ends(denied("a", met=True), job(deadline=9.0)) is None
    assert isinstance(ends(denied("a", met=True), job()), NoNodes)


def test_a_welcome_takes_back_what_was_denied() -> None:
    unserved = denied("a")
    unserved.welcome()
    assert unserved.denied == {}
    assert isinstance(ends(unserved, job()), NoNodes)


def test_only_so_many_are_named_and_the_last_word_of_each() -> None:
    unserved = denied(*(f"n{n}" for n in range(100)))
    assert len(unserved.denied) == MOST_NAMED
    unserved.deny("n0", "another reason")
    unserved.deny("n99", "another reason")
    assert unserved.denied["n0"] == "another reason"
    assert len(unserved.denied) == MOST_NAMED
