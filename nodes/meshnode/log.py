"""Logging to standard error: lines for people, for the journal, or one JSON object a line."""

import json
import logging
import os
import time
from collections.abc import Mapping

LEVELS = ("debug", "info", "warning", "error")

PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6), (0, 7))
"""From which level on a record has which priority of syslog(3)."""


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return time (seconds since the epoch), level, logger and message, and the traceback if there is one."""
        fields = {
            "time": round(record.created, 3),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        return json.dumps(fields)


class JournalFormatter(logging.Formatter):
    """Lines for systemd's journal: it keeps the time itself, and reads the priority in front (sd-daemon(3))."""

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


def configure(level: str, *, as_json: bool) -> None:
    """Set up logging for this process."""
    stream = logging.StreamHandler()
    if as_json:
        stream.setFormatter(JsonFormatter())
    elif in_journal():
        stream.setFormatter(JournalFormatter("%(message)s"))
    else:
        formatter = logging.Formatter("%(asctime)s %(levelname)-7s %(message)s", "%Y-%m-%dT%H:%M:%SZ")
        formatter.converter = time.gmtime
        stream.setFormatter(formatter)
    # what it warns of (a network that is away) our own announcer says once and in words
    logging.getLogger("zeroconf").setLevel(logging.ERROR)
    logging.basicConfig(level=level.upper(), handlers=[stream], force=True)
