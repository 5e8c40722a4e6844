"""What is compiled: which modules may be, and what must not stand in them."""

import ast
import os
import tomllib
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

from mesh.version import form
from tests.support.modules import PACKAGES, ROOT, Sources

HARMLESS = {"len", "max", "min"}
"""What may be called inside a slice: mypyc calls it twice where it cannot tell that it need not."""

SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
MODULES: list[str] = SETTINGS["hooks"]["custom"]["modules"]


def tree(module: str) -> ast.Module:
    return ast.parse((ROOT / module).read_text())


def libraries() -> list[Path]:
    found = [path for folder in PACKAGES.values() for path in (ROOT / folder).rglob(f"*{EXTENSION_SUFFIXES[0]}")]
    return [path.with_name(path.name.partition(".")[0] + ".py") for path in found]


@pytest.mark.parametrize("module", MODULES)
def test_a_compiled_module_defines_no_struct(module: str) -> None:
    bases = [base for node in ast.walk(tree(module)) if isinstance(node, ast.ClassDef) for base in node.bases]
    assert "Struct" not in {ast.unparse(base) for base in bases}


@pytest.mark.parametrize("module", MODULES)
def test_nothing_is_called_inside_a_slice_whose_call_counts(module: str) -> None:
    slices = [node for node in ast.walk(tree(module)) if isinstance(node, ast.Slice)]
    calls = [node for one in slices for node in ast.walk(one) if isinstance(node, ast.Call)]
    assert {ast.unparse(call.func) for call in calls} <= HARMLESS


@pytest.mark.parametrize("module", MODULES)
def test_no_coroutine_is_compiled_and_no_generator_that_catches_anything(module: str) -> None:
    functions = [node for node in ast.walk(tree(module)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    assert not any(isinstance(function, ast.AsyncFunctionDef) for function in functions)
    generators = [one for one in functions if any(isinstance(n, ast.Yield | ast.YieldFrom) for n in ast.walk(one))]
    assert not any(isinstance(node, ast.Try | ast.With) for one in generators for node in ast.walk(one))


def test_modules_are_listed_once_and_in_order() -> None:
    assert sorted(set(MODULES)) == MODULES


def test_either_all_that_are_listed_are_compiled_or_none() -> None:
    assert sorted(libraries()) in ([], sorted(ROOT / module for module in MODULES))
    assert form() == ("compiled" if libraries() and not os.environ.get("PURE") else "plain Python")


def test_the_finder_of_sources_finds_no_library() -> None:
    found = Sources().find_spec("mesh.wire.codec", [str(ROOT / "mesh" / "wire")])
    assert found is not None
    assert found.origin == str(ROOT / "mesh" / "wire" / "codec.py")
    assert Sources().find_spec("json", None) is None
