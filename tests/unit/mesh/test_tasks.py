"""Registering tasks, and describing them."""

import functools
import math
import types
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

import mesh
from mesh import tasks as module
from mesh.errors import ConfigError
from mesh.tasks import Context, Registry, Settings, Task, catalogue, context, current, lifespan, task


@pytest.fixture(autouse=True)
def registry(monkeypatch: pytest.MonkeyPatch) -> Registry:
    made = Registry()
    monkeypatch.setattr(module, "registry", made)
    return made


def add(a: int, b: int = 0) -> int:
    """Add two numbers.

    Slowly.
    """
    return a + b


async def fetch(url: str) -> str:
    return url


def test_a_task_called_plainly_runs_here_and_keeps_its_name_and_text(registry: Registry) -> None:
    made = task(add)
    assert made(1, b=2) == 3
    assert (made.name, made.__name__, made.__wrapped__) == ("add", "add", add)
    assert made.__doc__ == add.__doc__
    assert registry.tasks == [made]
    assert repr(made).startswith("<mesh.Task 'add' at ")
    assert repr(made).endswith(f"test_tasks.py:{add.__code__.co_firstlineno}>")


def test_a_task_describes_itself_as_clients_see_it() -> None:
    spec = task(name="shop.add", timeout=3, priority=7, bridge=True)(add).spec()
    assert (spec.name, spec.signature, spec.doc) == ("shop.add", "(a: int, b: int = 0) -> int", "Add two numbers.")
    assert (spec.timeout, spec.priority, spec.bridge, spec.is_async) == (3.0, 7, True, False)
    assert [(p.name, p.kind, p.required) for p in spec.parameters] == [("a", 1, True), ("b", 1, False)]
    assert task(fetch).spec().is_async


def test_the_fingerprint_changes_with_the_parameters_and_nothing_else() -> None:
    def wider(a: int, b: int = 0, c: int = 0) -> int:
        return a

    assert task(add).spec().fingerprint == task(name="other", timeout=1)(add).spec().fingerprint
    assert task(add).spec().fingerprint != task(wider).spec().fingerprint


def test_options_give_a_task_that_differs_in_them_alone() -> None:
    made = task(timeout=30, bridge=True)(add)
    hurried, urgent = made.options(timeout=5), made.options(priority=9)
    assert hurried.settings == Settings(timeout=5.0, priority=5, bridge=True)
    assert urgent.settings == Settings(timeout=30.0, priority=9, bridge=True)
    assert made.settings == Settings(timeout=30.0, priority=5, bridge=True)
    assert (hurried.function, hurried.name, hurried.signature) == (add, "add", made.signature)


@pytest.mark.parametrize("timeout", [0, -1, math.inf, math.nan, "5", True])
def test_a_timeout_is_a_finite_number_of_seconds_above_0(timeout: Any) -> None:
    with pytest.raises(ConfigError, match="a length of time is a number of seconds above 0, not"):
        task(timeout=timeout)(add)
    with pytest.raises(ConfigError):
        task(add).options(timeout=timeout)


@pytest.mark.parametrize("priority", [-1, 10, 5.0, True, "9"])
def test_a_priority_is_a_whole_number_from_0_to_9(priority: Any) -> None:
    with pytest.raises(ConfigError, match="a priority is 0 to 9, 9 first, not"):
        task(add).options(priority=priority)


@pytest.mark.parametrize("name", ["x" * 201, "ü" * 101, "a\nb"])
def test_a_name_that_cannot_travel_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="a task's name is 1 to 200 printable bytes"):
        task(name=name)(add)


def test_a_function_without_a_name_needs_one() -> None:
    nameless = functools.partial(add, 1)
    with pytest.raises(ConfigError, match="not ''"):
        task(nameless)
    made = task(name="increment")(nameless)
    assert made(2) == 3
    assert "functools.partial" in made.place


def test_a_function_without_a_signature_is_refused() -> None:
    with pytest.raises(ConfigError, match="task 'odd' has no signature that Python can tell"):
        task(name="odd")(type)


def test_generators_are_no_tasks() -> None:
    def lines() -> Iterator[str]:
        yield ""

    async def rows() -> AsyncIterator[str]:
        yield ""

    for function in (lines, rows):
        with pytest.raises(ConfigError, match="is a generator; a task returns one value"):
            task(function)


def test_two_tasks_of_one_name_are_refused_and_both_places_shown() -> None:
    first, second = task(add), task(name="add")(fetch)
    with pytest.raises(ConfigError, match=r"two tasks are called 'add': at \S+:\d+ and at \S+:\d+\. Rename one"):
        catalogue([first, second])


def test_one_function_registered_twice_is_one_task(registry: Registry) -> None:
    first = task(add)
    task(add)
    assert registry.catalogue() == {"add": first}


def test_lifespans_are_generators(registry: Registry) -> None:
    @lifespan
    async def setup(state: types.SimpleNamespace) -> AsyncIterator[None]:
        yield

    @lifespan
    def plain(state: types.SimpleNamespace) -> Iterator[None]:
        yield

    assert registry.lifespans == [setup, plain]
    with pytest.raises(ConfigError, match="lifespan 'add' must be a generator that yields once"):
        lifespan(add)  # type: ignore[arg-type]


def test_the_context_is_there_only_inside_a_running_job() -> None:
    with pytest.raises(ConfigError, match="inside a task that a node runs"):
        context()
    made = Context(types.SimpleNamespace(), "id", "add", 1)
    token = current.set(lambda: made)
    assert context() is made
    current.reset(token)


async def test_without_a_client_around_a_task_says_what_is_missing() -> None:
    made: Task[..., int] = task(add)
    with pytest.raises(ConfigError, match=r"use this inside `async with mesh\.Client"):
        made.submit(1)
    with pytest.raises(ConfigError, match=r"use this inside `async with mesh\.Client"):
        await made.call(1)


async def test_the_client_around_a_task_is_handed_its_jobs() -> None:
    handed = []

    class FakeClient:
        def submit(self, *args: Any, **kwargs: Any) -> str:
            handed.append(("submit", args, kwargs))
            return "a job"

        async def call(self, *args: Any, **kwargs: Any) -> int:
            handed.append(("call", args, kwargs))
            return 3

    made: Task[..., int] = task(add)
    token = module.ambient.set(FakeClient())  # type: ignore[arg-type]
    submitted: object = made.submit(1, b=2)
    assert submitted == "a job"
    assert await made.call(1) == 3
    module.ambient.reset(token)
    assert handed == [("submit", (made, 1), {"b": 2}), ("call", (made, 1), {})]


def test_the_package_shows_its_public_names_and_no_others() -> None:
    assert mesh.task is task
    assert "Client" in dir(mesh)
    with pytest.raises(AttributeError, match="module 'mesh' has no attribute 'clinet'"):
        mesh.clinet  # noqa: B018
