"""The fixture of every test of a fault: `ledger`."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.leaks import leak_check
from tests.support.ledger import Ledger

__all__ = ["leak_check"]


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """The ledger of this test, open."""
    with Ledger(tmp_path) as made:
        yield made
