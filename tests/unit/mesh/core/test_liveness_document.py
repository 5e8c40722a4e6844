"""What `docs/liveness.md` says is what the code does: its constants, and its states."""

import importlib
import re
from pathlib import Path

import pytest

from mesh.core import ejections, standing
from mesh.core.standing import State

DOCUMENT = (Path(__file__).parents[4] / "docs" / "liveness.md").read_text()
ROWS = re.findall(r"^\| (.*) \| ([\d.]+) \| `([\w.]+)` \|$", DOCUMENT, flags=re.MULTILINE)


@pytest.mark.parametrize(("what", "seconds", "name"), ROWS, ids=[row[2] for row in ROWS])
def test_a_timer_has_the_length_that_the_document_gives(what: str, seconds: str, name: str) -> None:
    module, _, constant = name.rpartition(".")
    value = getattr(importlib.import_module(module), constant)
    assert value / (1000 if constant.endswith("_MS") else 1) == float(seconds), what


def test_all_timers_of_the_judgement_are_in_the_table() -> None:
    named = {name for *_, name in ROWS}
    for module in ("liveness", "standing", "session"):
        constants = vars(importlib.import_module(f"mesh.core.{module}"))
        own = {f"mesh.core.{module}.{name}" for name in constants if name.endswith("_S") and not name.startswith("_")}
        assert own <= named


def test_the_numbers_in_the_text_and_in_the_diagram_are_those_of_the_code() -> None:
    assert f"ALIVE --> EJECTED: {standing.FAILURES} failures in a row" in DOCUMENT
    assert f"the longest time out is {standing.MOST_TIMES} times the first" in " ".join(DOCUMENT.split()).lower()
    assert f"for the {ejections.MOST_AWAY} that left last" in DOCUMENT
    seconds = {float(number) for number in re.findall(r": ([\d.]+) s of silence", DOCUMENT)}
    assert seconds == {2.5, 6.0}


def test_every_state_is_drawn_and_has_a_row_that_says_what_is_sent() -> None:
    names = {state.name for state in State} | {"QUARANTINED"}
    (diagram,) = re.findall(r"```mermaid\n(.*?)```", DOCUMENT, flags=re.DOTALL)
    assert set(re.findall(r"[A-Z]{4,}", diagram)) - {"WELCOME", "DRAIN", "REFUSE", "RESULT", "FAILURE"} == names
    assert set(re.findall(r"^\| ([A-Z]+) \|", DOCUMENT, flags=re.MULTILINE)) == names
