"""In which form the packages' modules are tested: compiled where they are, or as plain Python."""

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import EXTENSION_SUFFIXES, SOURCE_SUFFIXES, FileFinder, ModuleSpec, SourceFileLoader
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[2]
PACKAGES = {"mesh": "mesh", "meshnode": "nodes/meshnode", "meshdiscovery": "discovery/meshdiscovery"}


class Sources(MetaPathFinder):
    """Finds the packages' modules by their sources alone."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the source of a module of ours; None for every other."""
        if fullname.partition(".")[0] not in PACKAGES:
            return None
        for folder in sys.path if path is None else path:
            found = FileFinder(folder, (SourceFileLoader, SOURCE_SUFFIXES)).find_spec(fullname)
            if found is not None and found.loader is not None:
                return found
        return None


def compiled(thing: type) -> bool:
    """Is a class of ours compiled?"""
    return hasattr(thing, "__mypyc_attrs__")


def stale() -> list[str]:
    """Return the modules whose compiled form is older than their source."""
    found: list[str] = []
    for folder in PACKAGES.values():
        for path in (ROOT / folder).rglob(f"*{EXTENSION_SUFFIXES[0]}"):
            source = path.with_name(path.name.partition(".")[0] + ".py")
            if not source.exists() or source.stat().st_mtime > path.stat().st_mtime:
                found.append(source.relative_to(ROOT).as_posix())
    return sorted(found)
