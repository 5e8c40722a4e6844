"""Logging to standard error: lines for people, or one JSON object a line."""

import json
import logging
import time

LEVELS = ("debug", "info", "warning", "error")


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


def configure(level: str, *, as_json: bool) -> None:
    """Set up logging for this process."""
    stream = logging.StreamHandler()
    if as_json:
        stream.setFormatter(JsonFormatter())
    else:
        formatter = logging.Formatter("%(asctime)s %(levelname)-7s %(message)s", "%Y-%m-%dT%H:%M:%SZ")
        formatter.converter = time.gmtime
        stream.setFormatter(formatter)
    # what it warns of (a network that is away) our own announcer says once and in words
    logging.getLogger("zeroconf").setLevel(logging.ERROR)
    logging.basicConfig(level=level.upper(), handlers=[stream], force=True)
