"""The project's documents: their text, their blocks of code, and what stands around these."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
"""The folder that names of documents start from."""

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def text(name: str) -> str:
    """Return a whole document."""
    return (ROOT / name).read_text()


def blocks(name: str, kind: str) -> list[str]:
    """Return a document's fenced blocks of one kind, such as `python` or `console`."""
    return [code for tag, code in _FENCE.findall(text(name)) if tag == kind]


def prose(name: str) -> str:
    """Return a document without its blocks of code."""
    return _FENCE.sub("", text(name))
