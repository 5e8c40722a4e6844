"""Logging to standard error: lines for people, for the journal, or JSON. Never what jobs carry.

A line about a job or a worker says which, in every form: a record may have the attributes `worker` (its slot), `job`
(its id) and `task`.
"""

import logging
import os
import time
from collections.abc import Mapping

LEVELS = ("debug", "info", "warning", "error")

PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6), (0, 7))
"""From which level on a record has which priority of syslog(3)."""

ABOUT = ("worker", "job", "task")
"""Attributes of a record that say what it is about, in the order in which they are shown."""


class TextFormatter(logging.Formatter):
    """Time, level and message, and behind it what the line is about: `[worker=3 job=0a1b… task=send_mail]`."""

    FORM = "%(asctime)s %(levelname)-7s %(message)s"

    def __init__(self) -> None:
        super().__init__(self.FORM, "%Y-%m-%dT%H:%M:%SZ")
        self.converter = time.gmtime

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # the library's name
        """Return the line, without a traceback."""
        about = " ".join(f"{name}={getattr(record, name)}" for name in ABOUT if hasattr(record, name))
        line = super().formatMessage(record)
        return f"{line} [{about}]" if about else line


class JsonFormatter(logging.Formatter):
    """One JSON object a line; `fields` stand in each, such as the node's name."""

    def __init__(self, fields: Mapping[str, str] | None = None) -> None:
        super().__init__()
        self.fields = dict(fields or {})

    def format(self, record: logging.LogRecord) -> str:
        """Return time (seconds since the epoch), level, logger and message, and the traceback if there is one."""
        import json

        fields = {
            "time": round(record.created, 3),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **self.fields,
        }
        for name in ABOUT:
            if hasattr(record, name):
                value = getattr(record, name)
                fields[name] = value if isinstance(value, int) else str(value)
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        return json.dumps(fields)


class JournalFormatter(TextFormatter):
    """Lines for systemd's journal: it keeps the time itself, and reads the priority in front (sd-daemon(3))."""

    FORM = "%(message)s"

    def format(self, record: logging.LogRecord) -> str:
        """Return the message with `<N>` before each of its lines: the journal takes every line for an entry."""
        number = next(number for level, number in PRIORITIES if record.levelno >= level)
        return "\n".join(f"<{number}>{line}" for line in super().format(record).splitlines())


def in_journal(environment: Mapping[str, str] = os.environ) -> bool:
    """Is standard error the journal's? `$JOURNAL_STREAM` names device and inode of what is (systemd.exec(5))."""
    try:
        facts = os.fstat(2)
    except OSError:
        return False
    return environment.get("JOURNAL_STREAM") == f"{facts.st_dev}:{facts.st_ino}"


def formatter(fields: Mapping[str, str], *, as_json: bool) -> logging.Formatter:
    """Return what makes lines of records."""
    if as_json:
        return JsonFormatter(fields)
    return JournalFormatter() if in_journal() else TextFormatter()


def configure(level: str, *, as_json: bool, fields: Mapping[str, str] | None = None) -> None:
    """Set up logging for this process. `fields` stand in each JSON line."""
    stream = logging.StreamHandler()
    stream.setFormatter(formatter(fields or {}, as_json=as_json))
    # what it warns of (a network that is away) our own announcer says once and in words
    logging.getLogger("zeroconf").setLevel(logging.ERROR)
    logging.basicConfig(level=level.upper(), handlers=[stream], force=True)
