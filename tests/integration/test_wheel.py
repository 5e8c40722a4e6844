"""The wheel holds the three packages, their type markers and two commands, and nothing else."""

import configparser
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[zipfile.ZipFile]:
    """The wheel as hatchling builds it from this tree, which stays as it is."""
    target = tmp_path_factory.mktemp("wheel")
    before = {path.name for path in ROOT.iterdir()}
    build = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(target)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert build.returncode == 0, build.stderr
    assert not {"build", "dist"} & ({path.name for path in ROOT.iterdir()} - before)
    (path,) = target.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        yield archive


def test_its_top_level_names_are_the_three_packages(wheel: zipfile.ZipFile) -> None:
    tops = {name.split("/")[0] for name in wheel.namelist()}
    described = {top for top in tops if top.endswith(".dist-info")}
    assert tops - described == {"mesh", "meshnode", "meshdiscovery"}
    assert len(described) == 1


def test_it_holds_every_module_and_no_test(wheel: zipfile.ZipFile) -> None:
    homes = {"mesh": ROOT, "meshnode": ROOT / "nodes", "meshdiscovery": ROOT / "discovery"}
    ours = {
        path.relative_to(home).as_posix() for package, home in homes.items() for path in (home / package).rglob("*.py")
    }
    packed = {name for name in wheel.namelist() if name.endswith(".py")}
    assert packed == ours


@pytest.mark.parametrize("package", ["mesh", "meshnode", "meshdiscovery"])
def test_type_checkers_find_its_marker(wheel: zipfile.ZipFile, package: str) -> None:
    assert f"{package}/py.typed" in wheel.namelist()


def test_its_commands_are_meshnode_and_meshctl(wheel: zipfile.ZipFile) -> None:
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/entry_points.txt"))
    entries = configparser.ConfigParser()
    entries.read_string(wheel.read(name).decode())
    assert entries.sections() == ["console_scripts"]
    assert dict(entries["console_scripts"]) == {"meshnode": "meshnode.cli:main", "meshctl": "mesh.ctl:main"}


def test_it_holds_no_library_though_some_may_be_compiled_in_place(wheel: zipfile.ZipFile) -> None:
    assert [name for name in wheel.namelist() if name.endswith(".so")] == []


def test_it_carries_the_licence(wheel: zipfile.ZipFile) -> None:
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in wheel.namelist())
