"""Whether a call fits a task's parameters: as Python itself would judge."""

import inspect
import itertools
from collections.abc import Callable
from typing import Any

import pytest

from mesh.signature import Signature, parameters_of


def plain(a: int, b: int, c: int = 0) -> None: ...
def none() -> None: ...
def only_positional(a: int, b: int = 0, /) -> None: ...
def only_named(a: int, *, b: int, c: int = 0) -> None: ...
def variadic(a: int, *rest: int, b: int = 0) -> None: ...
def anything(*args: int, **kwargs: int) -> None: ...
def shadowed(a: int, /, **kwargs: int) -> None: ...
def reserving(from_: str, class_: str = "", print_: str = "") -> None: ...


FUNCTIONS: list[Callable[..., None]] = [
    plain, none, only_positional, only_named, variadic, anything, shadowed, reserving,
]  # fmt: skip
NAMES = ["a", "b", "c", "d"]


def signature(function: Callable[..., Any]) -> Signature:
    return Signature(parameters_of(function))


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
def test_the_judgement_is_python_s_own(function: Callable[..., None]) -> None:
    judged = signature(function)
    for count in range(5):
        for size in range(len(NAMES) + 1):
            for names in itertools.combinations(NAMES, size):
                try:
                    inspect.signature(function).bind(*range(count), **dict.fromkeys(names))
                    fits = True
                except TypeError:
                    fits = False
                assert (judged.misfit(count, names) is None) is fits, (count, names)


@pytest.mark.parametrize(
    ("function", "count", "names", "text"),
    [
        (plain, 4, (), "takes 3 positional arguments, 4 given"),
        (only_named, 2, ("b",), "takes 1 positional argument, 2 given"),
        (none, 1, (), "takes 0 positional arguments, 1 given"),
        (plain, 1, (), "needs 'b'"),
        (plain, 0, (), "needs 'a', 'b'"),
        (only_named, 1, (), "needs 'b'"),
        (plain, 2, ("a",), "got 'a' both by position and by name"),
        (plain, 2, ("d",), "has no parameter 'd'; it takes a, b, c"),
        (only_named, 1, ("b", "x"), "has no parameter 'x'; it takes a, b, c"),
        (none, 0, ("x",), "has no parameter 'x'; it takes none"),
        (only_positional, 0, ("a",), "has no parameter 'a'; it takes a, b"),
        (shadowed, 0, ("a",), "needs 'a'"),
    ],
)
def test_what_does_not_fit_is_said_in_words(
    function: Callable[..., None], count: int, names: tuple[str, ...], text: str
) -> None:
    assert signature(function).misfit(count, names) == text


def test_names_without_end_are_cut() -> None:
    text = signature(none).misfit(0, [f"{n}" * 300 for n in range(9)])
    assert text is not None
    assert len(text) < 600


def test_names_that_python_reserves_lead_to_the_parameter_with_an_underscore() -> None:
    assert signature(reserving).reserved(["from", "class", "print", "to"]) == {"from": "from_", "class": "class_"}
    assert signature(plain).reserved(["from"]) == {}


def test_parameters_tell_name_kind_and_need() -> None:
    described = [(p.name, p.kind, p.required) for p in parameters_of(variadic)]
    assert described == [("a", 1, True), ("rest", 2, False), ("b", 3, False)]
