"""What a client thinks of one node."""

import pytest

from mesh.core.liveness import DEAD_S, SUSPECT_S
from mesh.core.standing import EJECTED_S, FAILURES, MOST_TIMES, Record, Standing, State


def ejected(record: Record, now: float) -> Record:
    while not record.failed(now, may_eject=True):
        pass
    return record


def test_a_node_that_nothing_is_held_against_has_a_clean_record() -> None:
    record = Record()
    assert record.clean
    record.failed(0.0, may_eject=True)
    assert not record.clean
    record.succeeded()
    assert record.clean


def test_so_many_failures_in_a_row_eject_and_those_that_follow_do_not_count() -> None:
    record = Record()
    assert [record.failed(1.0, may_eject=True) for _ in range(FAILURES + 2)] == [False] * 4 + [True] + [False] * 2
    assert (record.out_until, record.failures, record.times) == (1.0 + EJECTED_S, 0, 1)


def test_a_node_that_may_not_be_ejected_is_at_its_next_failure_when_it_may() -> None:
    record = Record()
    assert not any(record.failed(0.0, may_eject=False) for _ in range(2 * FAILURES))
    assert record.failed(0.0, may_eject=True)


def test_a_node_comes_back_on_trial_when_its_time_is_up() -> None:
    record = ejected(Record(), 0.0)
    assert not record.let_in(EJECTED_S - 0.1)
    assert record.let_in(EJECTED_S)
    assert record.trial
    assert not record.let_in(EJECTED_S + 1)
    record.succeeded()
    assert (record.trial, record.clean) == (False, True)


def test_one_failure_on_trial_is_enough_and_each_time_out_is_longer_up_to_a_bound() -> None:
    record = ejected(Record(), 0.0)
    now = 0.0
    for times in range(2, MOST_TIMES + 5):
        now = record.out_until
        record.let_in(now)
        assert record.failed(now, may_eject=True)
        assert record.out_until == now + EJECTED_S * min(times, MOST_TIMES)


def test_a_late_success_does_not_redeem_a_node_that_is_out() -> None:
    record = ejected(Record(), 0.0)
    record.succeeded()
    assert (record.times, record.out_until) == (1, EJECTED_S)


def test_a_record_that_is_relented_of_is_on_trial_at_once() -> None:
    record = ejected(Record(), 0.0)
    record.relent()
    assert (record.out_until, record.trial) == (0.0, True)


@pytest.mark.parametrize(
    ("silence", "out", "draining", "trial", "state"),
    [
        (0.0, False, False, False, State.ALIVE),
        (0.0, False, False, True, State.TRIAL),
        (SUSPECT_S, False, False, True, State.SUSPECT),
        (SUSPECT_S, False, True, True, State.DRAINING),
        (SUSPECT_S, True, True, False, State.EJECTED),
        (DEAD_S, True, True, False, State.DEAD),
    ],
)
def test_the_gravest_of_all_that_holds_is_its_state(
    *, silence: float, out: bool, draining: bool, trial: bool, state: State
) -> None:
    record = Record()
    record.trial = trial
    if out:
        ejected(record, 0.0)
    standing = Standing(record, 0.0)
    standing.draining = draining
    assert standing.look(silence) is state
    assert standing.state is state


def test_a_word_makes_a_suspect_alive_at_once() -> None:
    standing = Standing(Record(), 0.0)
    assert standing.look(SUSPECT_S) is State.SUSPECT
    standing.heard(SUSPECT_S)
    assert standing.state is State.ALIVE


def test_a_word_takes_no_drain_back() -> None:
    standing = Standing(Record(), 0.0)
    standing.draining = True
    standing.look(0.0)
    standing.heard(3.0)
    assert standing.state is State.DRAINING


def test_a_node_that_returns_while_it_is_out_is_out() -> None:
    assert Standing(ejected(Record(), 0.0), 1.0).state is State.EJECTED
