"""How long to wait before a dead worker is replaced."""

from meshnode.core.respawn import FIRST_S, MOST_S, YOUNG_S, Respawn


def test_a_worker_that_lived_for_a_while_is_replaced_at_once_however_often() -> None:
    respawn = Respawn()
    assert [respawn.delay(0, YOUNG_S) for _ in range(5)] == [0.0] * 5


def test_the_first_early_death_is_an_accident_and_each_further_one_doubles_the_wait() -> None:
    respawn = Respawn()
    assert [respawn.delay(0, 0.1) for _ in range(5)] == [0.0, FIRST_S, 2 * FIRST_S, 4 * FIRST_S, 8 * FIRST_S]


def test_the_wait_has_a_bound_however_many_die() -> None:
    respawn = Respawn()
    waits = [respawn.delay(0, 0.0) for _ in range(2000)]
    assert max(waits) == MOST_S
    assert waits[-1] == MOST_S


def test_a_worker_that_lived_clears_what_its_slot_had_to_answer_for() -> None:
    respawn = Respawn()
    for _ in range(4):
        respawn.delay(0, 0.1)
    respawn.delay(0, 60.0)
    assert [respawn.delay(0, 0.1) for _ in range(2)] == [0.0, FIRST_S]


def test_each_slot_answers_for_its_own_workers() -> None:
    respawn = Respawn()
    for _ in range(4):
        respawn.delay(0, 0.1)
    respawn.delay(1, 60.0)
    assert respawn.delay(1, 0.1) == 0.0
    assert respawn.delay(0, 0.1) == 8 * FIRST_S
