"""How a node's log is written: for people, for the journal, for programs."""

import logging
import os

import pytest

from meshnode.log import JournalFormatter, in_journal


def record(level: int, message: str) -> logging.LogRecord:
    return logging.LogRecord("meshnode", level, __file__, 1, message, (), None)


@pytest.mark.parametrize(
    ("level", "line"),
    [
        (logging.DEBUG, "<7>said"),
        (logging.INFO, "<6>said"),
        (logging.WARNING, "<4>said"),
        (logging.ERROR, "<3>said"),
        (logging.CRITICAL, "<2>said"),
    ],
)
def test_the_journal_reads_a_level_as_its_priority(level: int, line: str) -> None:
    assert JournalFormatter("%(message)s").format(record(level, "said")) == line


def test_every_line_of_a_traceback_has_the_priority() -> None:
    shown = JournalFormatter("%(message)s").format(record(logging.ERROR, "first\nsecond"))
    assert shown == "<3>first\n<3>second"


def test_standard_error_is_the_journal_s_where_device_and_inode_say_so() -> None:
    facts = os.fstat(2)
    assert in_journal({"JOURNAL_STREAM": f"{facts.st_dev}:{facts.st_ino}"})
    assert not in_journal({"JOURNAL_STREAM": f"{facts.st_dev}:{facts.st_ino + 1}"})
    assert not in_journal({})
