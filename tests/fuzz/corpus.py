"""The committed corpus: what hostile input is made from. An entry is a line of a file, bytes as Python writes them."""

from __future__ import annotations

import ast
from pathlib import Path

FOLDER = Path(__file__).parent / "corpus"


def entries(name: str) -> list[list[bytes]]:
    """Return a file's entries, each as its pieces: frames of a message, or what is sent one after another."""
    found: list[list[bytes]] = []
    for line in (FOLDER / f"{name}.txt").read_text("ascii").splitlines():
        if line and not line.startswith("#"):
            entry = ast.literal_eval(line)
            found.append([entry] if isinstance(entry, bytes) else list(entry))
    return found


def singles(name: str) -> list[bytes]:
    """Return the entries of a file whose entries have one piece each."""
    return [piece for (piece,) in entries(name)]
