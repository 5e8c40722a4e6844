"""What is due when, first things first."""

from meshnode.core.held import FOREVER
from meshnode.core.timeline import SLACK, Timeline


def timeline(*things: tuple[float, str]) -> Timeline[str]:
    made: Timeline[str] = Timeline(lambda thing: thing == "over")
    for at, thing in things:
        made.push(at, thing)
    return made


def test_nothing_is_due_where_nothing_was_put() -> None:
    made = timeline()
    assert made.at == FOREVER
    assert list(made.due(1e9)) == []


def test_things_come_due_in_their_order_and_once() -> None:
    made = timeline((3.0, "c"), (1.0, "a"), (2.0, "b"))
    assert made.at == 1.0
    assert list(made.due(0.9)) == []
    assert list(made.due(2.0)) == ["a", "b"]
    assert made.at == 3.0
    assert list(made.due(10.0)) == ["c"]
    assert made.at == FOREVER


def test_what_is_due_at_one_moment_comes_in_the_order_in_which_it_was_put_and_is_never_compared() -> None:
    made: Timeline[object] = Timeline(lambda thing: False)
    things = [object(), object(), object()]
    for thing in things:
        made.push(1.0, thing)
    assert list(made.due(1.0)) == things


def test_what_is_put_while_things_come_due_comes_due_with_them_if_its_time_has_come() -> None:
    made = timeline((1.0, "a"))
    seen = []
    for thing in made.due(2.0):
        seen.append(thing)
        if thing == "a":
            made.push(2.0, "b")
            made.push(2.1, "c")
    assert seen == ["a", "b"]


def test_a_few_pointless_things_come_due_all_the_same() -> None:
    assert list(timeline((1.0, "over"), (2.0, "a")).due(5.0)) == ["over", "a"]


def test_pointless_things_do_not_pile_up() -> None:
    made = timeline((1.0, "a"))
    for _ in range(5 * SLACK):
        made.push(3600.0, "over")
        assert len(made) <= SLACK + 2
    made.push(2.0, "b")
    assert list(made.due(5.0)) == ["a", "b"]


def test_what_is_not_pointless_stays_however_much_it_is() -> None:
    made = timeline(*((float(n), f"{n}") for n in range(3 * SLACK)))
    assert len(made) == 3 * SLACK
    assert list(made.due(FOREVER)) == [f"{n}" for n in range(3 * SLACK)]
