"""What tasks log, where their application has not set up logging itself: as the node logs, with the job's id.

It stands in for Python's handler of last resort, which is asked only where no other one is: whatever an application
configures, at import or later, is left as it is.
"""

import logging

from mesh.tasks import current
from meshnode.log import formatter


class Journal(logging.StreamHandler):  # type: ignore[type-arg]  # generic in the stubs only
    """Writes to standard error. `slot` is the worker's, once there is one."""

    def __init__(self, *, node: str, mesh: str, as_json: bool) -> None:
        super().__init__()
        self.slot: int | None = None
        self.setFormatter(formatter({"node": node, "mesh": mesh}, as_json=as_json))

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, with the worker and the job that it is about."""
        if self.slot is not None:
            _note(record, "worker", self.slot)
        try:
            context = current.get()()
        except LookupError:
            return super().format(record)
        _note(record, "job", context.id)
        _note(record, "task", context.task)
        return super().format(record)


def _note(record: logging.LogRecord, name: str, value: str | int) -> None:
    """Say what a record is about, unless who logged it has."""
    if not hasattr(record, name):
        setattr(record, name, value)


def install(journal: Journal, level: str) -> None:
    """Use it where the application has no handler of its own; its level too, unless the application has set one."""
    logging.lastResort = journal
    root = logging.getLogger()
    if not root.handlers and root.level == logging.WARNING:
        root.setLevel(level.upper())
