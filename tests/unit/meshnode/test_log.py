"""Lines of the log: what each says of the worker and the job that it is about."""

import json
import logging
import os
import sys
from typing import Any

import pytest

from mesh.tasks import Context, current, no_job
from meshnode.log import JournalFormatter, JsonFormatter, TextFormatter, in_journal
from meshnode.worker.journal import Journal

FIELDS = {"node": "web7", "mesh": "shop"}


def record(text: str = "sent %d", *arguments: Any, **about: Any) -> logging.LogRecord:
    made = logging.LogRecord("shop.mail", logging.INFO, __file__, 1, text, arguments or (3,), None)
    made.__dict__.update(about)
    return made


def test_a_line_for_people_ends_with_what_it_is_about() -> None:
    line = TextFormatter().format(record(task="send_mail", job="0a1b", worker=3))
    assert line.endswith("Z INFO    sent 3 [worker=3 job=0a1b task=send_mail]")
    assert TextFormatter().format(record()).endswith("Z INFO    sent 3")


def test_a_traceback_follows_what_its_line_is_about() -> None:
    raised = record(job="0a1b")
    try:
        raise ValueError("no")
    except ValueError:
        raised.exc_info = sys.exc_info()
    first, *rest = TextFormatter().format(raised).split("\n")
    assert first.endswith("[job=0a1b]")
    assert rest[-1] == "ValueError: no"


def test_a_json_line_has_the_node_and_what_it_is_about() -> None:
    fields = json.loads(JsonFormatter(FIELDS).format(record(task="send_mail", job="0a1b", worker=3)))
    del fields["time"]
    assert fields == {
        "level": "info", "logger": "shop.mail", "message": "sent 3", "worker": 3, "job": "0a1b", "task": "send_mail",
        **FIELDS,
    }  # fmt: skip


@pytest.mark.parametrize("as_json", [True, False])
def test_what_a_task_logs_names_its_job_and_nothing_does_when_none_runs(as_json: bool) -> None:
    import types

    journal = Journal(node="web7", mesh="shop", as_json=as_json)
    journal.slot = 3
    assert "0a1b" not in journal.format(record())
    token = current.set(lambda: Context(types.SimpleNamespace(), "0a1b", "send_mail", 1))
    try:
        line = journal.format(record())
        assert "0a1b" in line
        assert "send_mail" in line
        assert "mine" in journal.format(record(job="mine"))
        current.set(no_job)
        assert "0a1b" not in journal.format(record())
    finally:
        current.reset(token)


# the journal


@pytest.mark.parametrize(
    ("level", "line"),
    [
        (logging.DEBUG, "<7>sent 3"),
        (logging.INFO, "<6>sent 3"),
        (logging.WARNING, "<4>sent 3"),
        (logging.ERROR, "<3>sent 3"),
        (logging.CRITICAL, "<2>sent 3"),
    ],
)
def test_the_journal_reads_a_level_as_its_priority(level: int, line: str) -> None:
    assert JournalFormatter().format(record(levelno=level)) == line


def test_every_line_for_the_journal_has_the_priority() -> None:
    shown = JournalFormatter().format(record("first\nsecond %d", job="0a1b", levelno=logging.ERROR))
    assert shown == "<3>first\n<3>second 3 [job=0a1b]"


def test_standard_error_is_the_journal_s_where_device_and_inode_say_so() -> None:
    facts = os.fstat(2)
    assert in_journal({"JOURNAL_STREAM": f"{facts.st_dev}:{facts.st_ino}"})
    assert not in_journal({"JOURNAL_STREAM": f"{facts.st_dev}:{facts.st_ino + 1}"})
    assert not in_journal({})
