"""Lines of the log: what each says of the worker and the job that it is about."""

import json
import logging
import sys
from typing import Any

import pytest

from mesh.tasks import Context, current, no_job
from meshnode.log import JsonFormatter, TextFormatter
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
