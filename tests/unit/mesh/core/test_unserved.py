"""Jobs whose task no node serves."""

import random

import pytest

from mesh.core.record import DONE, SENT, JobRecord
from mesh.core.roster import NodeView, Roster
from mesh.core.unserved import Unserved
from mesh.errors import MeshError, NoNodes, PoisonTask, UnknownTask
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
        setattr(record, name, value)
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
