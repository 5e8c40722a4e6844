"""A node as a client sees it, for the application. Pure."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class NodeInfo:
    """A node as this client sees it now. `free` counts idle workers, `window` jobs that it may have there.

    `version`, `host` and `started` (Unix seconds) are what it says of itself; empty where it says nothing.
    """

    name: str
    id: str
    endpoint: str
    state: str
    workers: int
    concurrency: int
    free: int
    window: int
    outstanding: int
    tasks: tuple[str, ...]
    version: str = ""
    host: str = ""
    started: float = 0.0
