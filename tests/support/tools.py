"""Programs of other people that tests call: nc, PHP, curl."""

from __future__ import annotations

import os
import shutil

import pytest


def need(tool: str) -> None:
    """Skip the test, or fail it under REQUIRE_LAB=1, where a tool is missing."""
    if shutil.which(tool) is None:
        if os.environ.get("REQUIRE_LAB") == "1":
            pytest.fail(f"REQUIRE_LAB=1, but there is no {tool}", pytrace=False)
        pytest.skip(f"there is no {tool}")
