"""The figures of faults: a line of JSON and a line of the table each."""

import json
from collections import Counter
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from tests.support.faults import REPORT, Figures, print_table
from tests.support.ledger import Audit


def test_a_line_takes_over_what_the_ledger_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(REPORT, str(tmp_path / "report"))
    line = Figures("2", "a kill", notice=0.5)
    line.audited(Audit(submitted=7, results=6, errors=Counter({"JobLost(started=True)": 1}), twice=["a"]))
    line.held = True
    line.write()
    written = json.loads((tmp_path / "report").read_text())
    assert written["jobs"] == 7
    assert (written["lost"], written["second"], written["twice"]) == (1, 0, 1)
    assert (written["notice"], written["held"]) == (0.5, True)
    assert written["more"] == {"JobLost(started=True)": 1}
    assert "recover" not in written


def test_without_a_file_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(REPORT, raising=False)
    monkeypatch.chdir(tmp_path)
    Figures("2", "a kill").write()
    assert not [*tmp_path.iterdir()]


def test_the_table_goes_by_rows_and_says_what_was_missed() -> None:
    out = StringIO()
    lines = [Figures("10", "later", held=False), Figures("9", "sooner", jobs=1000, held=True)]
    print_table(lines, Console(file=out, width=120))
    text = out.getvalue()
    assert text.index("sooner") < text.index("later")
    assert "1,000" in text
    assert text.index("held") < text.index("MISSED")
