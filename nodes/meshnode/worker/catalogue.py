"""The tasks that a node serves: imports the application's modules and collects what they register."""

import importlib
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from mesh.errors import ConfigError
from mesh.tasks import Lifespan, Task, catalogue, registry


class Application:
    """An imported application: its tasks in the order of their indices, and its lifespans."""

    def __init__(self, tasks: Iterable[Task[..., Any]], lifespans: Sequence[Lifespan]) -> None:
        self.tasks = list(tasks)
        self.lifespans = list(lifespans)

    @property
    def needs_loop(self) -> bool:
        """Does anything in it run on an event loop?"""
        import inspect

        return any(task.is_async for task in self.tasks) or any(
            inspect.isasyncgenfunction(lifespan) for lifespan in self.lifespans
        )


def load(targets: Sequence[str], folder: str) -> Application:
    """Import `MODULE` or `MODULE:ATTR` targets, looked for in `folder` first.

    Raises ConfigError for a target that registers nothing or names what is not there; whatever the import
    itself raises comes through, with its traceback.
    """
    if folder not in sys.path:
        sys.path.insert(0, folder)
    chosen: list[Task[..., Any]] = []
    for target in targets:
        module_name, _, attribute = target.partition(":")
        before = len(registry.tasks)
        module = importlib.import_module(module_name)
        if attribute:
            chosen += _tasks_in(module, attribute, target)
        else:
            chosen += registry.tasks[before:] or _tasks_of(module)
    if not chosen:
        raise ConfigError(
            f"{' and '.join(targets)} registers no task. Mark functions with @mesh.task and name the module "
            "that defines or imports them"
        )
    return Application(catalogue(chosen).values(), registry.lifespans)


def _tasks_of(module: Any) -> list[Task[..., Any]]:
    """Tasks in a module's names: it was imported before, by another target."""
    return [value for value in vars(module).values() if isinstance(value, Task)]


def _tasks_in(module: Any, attribute: str, target: str) -> list[Task[..., Any]]:
    value = getattr(module, attribute, None)
    if isinstance(value, Task):
        return [value]
    if isinstance(value, (list, tuple)) and all(isinstance(item, Task) for item in value):
        return list(value)
    raise ConfigError(f"{target!r} must name a task or a list of tasks, not {type(value).__name__}")
