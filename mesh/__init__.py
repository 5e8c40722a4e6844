"""The client library of the worker mesh: `import mesh`.

Public names load when they are first used, so that a worker process, which needs only `task`, never pays
for the network side (7 MB in each of 64 workers, measured).
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mesh.client import Client as Client
    from mesh.errors import BadArguments as BadArguments
    from mesh.errors import ClosedError as ClosedError
    from mesh.errors import ConfigError as ConfigError
    from mesh.errors import JobCancelled as JobCancelled
    from mesh.errors import JobLost as JobLost
    from mesh.errors import JobTimeout as JobTimeout
    from mesh.errors import KeyRefused as KeyRefused
    from mesh.errors import MeshBusy as MeshBusy
    from mesh.errors import MeshError as MeshError
    from mesh.errors import NoNodes as NoNodes
    from mesh.errors import NotAllowed as NotAllowed
    from mesh.errors import PayloadTooLarge as PayloadTooLarge
    from mesh.errors import PoisonTask as PoisonTask
    from mesh.errors import ProtocolError as ProtocolError
    from mesh.errors import RemoteError as RemoteError
    from mesh.errors import ResultNotSerializable as ResultNotSerializable
    from mesh.errors import RetryLater as RetryLater
    from mesh.errors import UnknownTask as UnknownTask
    from mesh.tasks import Context as Context
    from mesh.tasks import Retry as Retry
    from mesh.tasks import Task as Task
    from mesh.tasks import context as context
    from mesh.tasks import lifespan as lifespan
    from mesh.tasks import task as task
    from mesh.typed import Job as Job

_HOME = {
    "Client": "mesh.client",
    "Job": "mesh.job",
    **dict.fromkeys(("Context", "Retry", "Task", "context", "lifespan", "task"), "mesh.tasks"),
    **dict.fromkeys(
        (
            "BadArguments", "ClosedError", "ConfigError", "JobCancelled", "JobLost", "JobTimeout", "KeyRefused",
            "MeshBusy", "MeshError", "NoNodes", "NotAllowed", "PayloadTooLarge", "PoisonTask", "ProtocolError",
            "RemoteError", "ResultNotSerializable", "RetryLater", "UnknownTask",
        ),
        "mesh.errors",
    ),
}  # fmt: skip

__all__ = sorted(_HOME)  # noqa: PLE0605  # one table serves both; the names are strings


def __getattr__(name: str) -> Any:
    """Load a public name at its first use (PEP 562)."""
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'mesh' has no attribute {name!r}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(_HOME)
