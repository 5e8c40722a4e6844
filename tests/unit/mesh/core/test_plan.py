"""What a deploy would break, from two lists of tasks."""

import inspect

import pytest

from mesh.core.plan import Break, Plan, compare, misfits
from mesh.signature import parameters_of
from mesh.wire.messages import Parameter, TaskSpec


def parameters(signature: str) -> list[Parameter]:
    found: dict[str, object] = {}
    exec(f"def function{signature}: ...", found)
    function = found["function"]
    assert inspect.isfunction(function)
    return parameters_of(function)


def spec(name: str, signature: str = "()") -> TaskSpec:
    return TaskSpec(name, parameters(signature))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("(a, b=0)", "(a, b=0)"),
        ("(a)", "(a, b=0)"),
        ("(a, b)", "(a, b=0)"),
        ("(a, *, key)", "(a, key=None)"),
        ("(a, b=0)", "(a, *args, **names)"),
        ("(a, /)", "(b, /)"),
        ("(*args)", "(*args, **names)"),
        ("(*, key)", "(**names)"),
    ],
)
def test_what_takes_all_former_calls_breaks_nothing(old: str, new: str) -> None:
    assert misfits(parameters(old), parameters(new)) == []


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("(a, b=0)", "(a)", "'b' is gone"),
        ("(a, b=0)", "(a, *, b=0)", "'b' cannot be given by position any more"),
        ("(a, b)", "(b, a)", "'b' stands where 'a' stood; 'a' stands where 'b' stood"),
        ("(a)", "(a, b)", "'b' is new and must be given"),
        ("(a, b=0)", "(a, b)", "'b' must be given"),
        ("(*, key)", "()", "'key' is gone"),
        ("(*args)", "()", "further arguments by position are not taken any more"),
        ("(**names)", "()", "further arguments by name are not taken any more"),
        ("(a=0, /)", "(b, /)", "'b' must be given"),
        ("()", "(b, /)", "'b' is new and must be given"),
        ("(a, /)", "()", "'a' cannot be given by position any more"),
    ],
)
def test_what_former_calls_miss_is_said(old: str, new: str, why: str) -> None:
    assert "; ".join(misfits(parameters(old), parameters(new))) == why


def test_a_task_that_is_gone_or_does_not_fit_names_the_nodes_that_serve_it() -> None:
    served = {
        "web7": [spec("gone"), spec("fits", "(a)"), spec("breaks", "(a, b)"), spec("same")],
        "web8": [spec("gone"), spec("breaks", "(a)"), spec("same")],
    }
    new = [spec("fits", "(a, b=0)"), spec("breaks", "(a)"), spec("same"), spec("added")]
    assert compare(served, new) == Plan(
        breaks=[
            Break("breaks", "'b' is gone", ["web7"]),
            Break("gone", "the new code does not serve it", ["web7", "web8"]),
        ],
        added=["added"],
        changed=["fits"],
        same=["same"],
    )


def test_nothing_served_breaks_nothing() -> None:
    assert compare({}, [spec("new")]) == Plan([], ["new"], [], [])
