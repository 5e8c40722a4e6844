"""Compiles the hot modules with mypyc: for a wheel of this machine's kind, or in place.

`make wheel` makes a wheel with them, `make compiled` puts them beside their sources. Which they are,
`[tool.hatch.build.targets.wheel.hooks.custom]` in pyproject.toml lists. Everything works without: a wheel that is built
otherwise holds Python alone.
"""

import os
import shutil
import sys
import sysconfig
import tempfile
import time
import tomllib
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).parent

HOMES = {"mesh": "", "meshnode": "nodes", "meshdiscovery": "discovery"}
"""The folder that each package lies in."""

GROUP = "meshnode"
"""All modules are in one library, so that they call each other without Python between them."""


class CustomBuildHook(BuildHookInterface[Any]):
    """Adds the compiled modules to a wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and tell hatchling what to pack; an editable installation is of the sources."""
        if version != "standard":
            return
        self._work = tempfile.TemporaryDirectory()
        built = compiled(ROOT, self.config["modules"], Path(self._work.name))
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
        build_data["force_include"].update({str(path): name for name, path in built.items()})

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Take away what was compiled, now that it is packed."""
        if version == "standard":
            self._work.cleanup()


def compiled(root: Path, modules: list[str], work: Path) -> dict[str, Path]:
    """Compile modules below `root`, and return the libraries by their names in a wheel; `work` is written to."""
    from mypyc.build import mypycify
    from setuptools import Distribution

    work = work.resolve()
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    before = Path.cwd()
    os.chdir(root)  # modules' names follow from their paths
    try:
        options = ["--config-file", "pyproject.toml"]
        extensions = mypycify(
            [*options, *modules], opt_level="2", debug_level="0", group_name=GROUP, target_dir=str(work / "c")
        )
        distribution = Distribution({"name": GROUP, "ext_modules": extensions})
        build = distribution.get_command_obj("build_ext")
        build.build_lib, build.build_temp = str(work / "lib"), str(work / "o")  # type: ignore[union-attr]
        build.parallel = os.cpu_count()  # type: ignore[union-attr]
        build.ensure_finalized()
        build.run()
    finally:
        os.chdir(before)
    return {path.relative_to(work / "lib").as_posix(): path for path in (work / "lib").rglob("*.so")}


def missing() -> list[str]:
    """Return the Debian packages without which nothing can be compiled here, of those that are not there."""
    headers = Path(sysconfig.get_path("include"), "Python.h")
    return ([] if shutil.which("cc") else ["gcc", "libc6-dev"]) + ([] if headers.exists() else ["python3-dev"])


def in_place() -> None:
    """Compile, and put the libraries beside their sources, if this machine can; old ones go."""
    remove()
    began = time.time()
    if missing():
        print(f"nothing is compiled: {' and '.join(missing())} missing; all that follows runs as plain Python")
        return
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    modules = project["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"]["custom"]["modules"]
    with tempfile.TemporaryDirectory() as work:
        built = compiled(ROOT, modules, Path(work))
        for name, path in sorted(built.items(), key=_group_first):
            place = ROOT / HOMES.get(name.partition("/")[0], "") / name
            part = place.with_suffix(".part")
            shutil.copyfile(path, part)
            os.utime(part, (began, began))  # what has been changed since is newer
            part.replace(place)


def _group_first(built: tuple[str, Path]) -> bool:
    """Sort the library that the others need before them."""
    return "/" in built[0]


def remove() -> None:
    """Take away what was compiled in place, and make's note that it was."""
    (ROOT / ".venv" / "compiled").unlink(missing_ok=True)
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    for folder in (ROOT, *(ROOT / home / package for package, home in HOMES.items())):
        for path in folder.glob(f"*{suffix}") if folder == ROOT else folder.rglob(f"*{suffix}"):
            path.unlink()


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["in-place"]:
            in_place()
        case ["remove"]:
            remove()
        case ["missing"]:
            print(*missing())
        case _:
            sys.exit("usage: python hatch_build.py in-place | remove | missing")
