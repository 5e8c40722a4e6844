"""Tests of the packages: of what is compiled where something is, of plain Python with PURE=1 in the environment."""

import os
import sys

from tests.support.modules import Sources, stale

if os.environ.get("PURE"):
    sys.meta_path.insert(0, Sources())
elif old := stale():
    sys.exit(
        f"changed since they were compiled: {', '.join(old)}; `make compiled` compiles anew, PURE=1 tests the sources"
    )
