"""The tasks of a node that was given none: enough to see that it works."""

import time
from typing import Any

import mesh


@mesh.task(bridge=True)
def echo(*args: Any, **kwargs: Any) -> Any:
    """Return what it is given."""
    if kwargs:
        return {**dict(enumerate(args)), **kwargs} if args else kwargs
    return args[0] if len(args) == 1 else list(args)


@mesh.task(bridge=True)
def sleep(seconds: float = 1.0) -> float:
    """Sleep for some seconds, an hour at most, and return how many."""
    seconds = min(max(0.0, float(seconds)), 3600.0)
    time.sleep(seconds)
    return seconds


@mesh.task(bridge=True)
def ping() -> str:
    """Return "pong" from a worker process."""
    return "pong"
