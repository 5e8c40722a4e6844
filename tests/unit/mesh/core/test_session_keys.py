"""What a client does whose key nodes do not accept, or not any more."""

from mesh.core.effects import Close
from mesh.core.events import KeyDenied
from mesh.errors import JobLost, KeyRefused, NoNodes, NotAllowed
from mesh.wire.messages import NOT_ALLOWED, WRONG_KEY, Refuse, Reject
from tests.support.desk import GRACE, Desk

CUT_OFF = Refuse(WRONG_KEY, "its key is not allowed here")


def test_a_job_ends_with_the_nodes_that_deny_its_clients_key() -> None:
    desk = Desk()
    record = desk.submit()
    desk.tell(KeyDenied("web7", "it does not accept the key x"))
    desk.at(GRACE)
    error = desk.error(record)
    assert isinstance(error, KeyRefused)
    assert "web7: it does not accept the key x" in str(error)


def test_a_node_that_lets_us_in_is_enough() -> None:
    desk = Desk()
    desk.tell(KeyDenied("web7", "it does not accept the key x"))
    record = desk.submit()
    desk.join(1)
    assert [submit.id for submit in desk.sent(1)] == [record.id]


def test_who_is_cut_off_by_the_only_node_is_told_so_at_once() -> None:
    desk = Desk()
    desk.join(1)
    held = desk.submit()
    effects = desk.hear(1, CUT_OFF)
    assert [effect.refused for effect in effects if isinstance(effect, Close)] == [True]
    assert isinstance(desk.error(held), JobLost)  # it may have run
    later = desk.submit(deadline=100.0)
    desk.at(GRACE)
    error = desk.error(later)
    assert isinstance(error, KeyRefused)
    assert "n1: its key is not allowed here" in str(error)


def test_who_is_cut_off_by_one_node_goes_to_the_others() -> None:
    desk = Desk()
    desk.join(1)
    desk.join(2)
    desk.hear(1, CUT_OFF)
    record = desk.submit()
    assert [submit.id for submit in desk.sent(2)] == [record.id]
    desk.hear(2, CUT_OFF)
    desk.hear(1, CUT_OFF)  # of a link that is gone
    last = desk.submit()
    desk.at(GRACE)
    assert isinstance(desk.error(last), KeyRefused)


def test_another_refusal_is_no_matter_of_keys() -> None:
    desk = Desk()
    desk.join(1)
    desk.hear(1, Refuse("busy", "go away"))
    record = desk.submit()
    desk.at(GRACE)
    assert isinstance(desk.error(record), NoNodes)


def test_a_task_that_its_key_may_not_run_ends_its_job_and_is_tried_nowhere_else() -> None:
    desk = Desk()
    desk.join(1)
    desk.join(2)
    record = desk.submit()
    (key,) = [key for key in (1, 2) if desk.sent(key)]
    desk.hear(key, Reject(record.id, 1, NOT_ALLOWED, "the key x may not run this task"))
    error = desk.error(record)
    assert isinstance(error, NotAllowed)
    assert error.started is False
    assert str(error) == "the key x may not run this task"
