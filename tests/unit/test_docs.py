"""What the documents name is there: code that compiles and runs, flags, verbs, targets, files, headings."""

import importlib.util
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from benchmarks.__main__ import main as benchmarks
from benchmarks.peers.__main__ import main as peers
from mesh.ctl import group as meshctl
from meshnode.cli import command as meshnode
from tests.support.documents import ROOT, blocks, prose, text

DOCUMENTS = [*sorted(ROOT.glob("*.md")), ROOT / "examples/README.md", *sorted((ROOT / "docs").rglob("*.md"))]
NAMES = [path.relative_to(ROOT).as_posix() for path in DOCUMENTS]

INLINE = re.compile(r"(?<!`)`([^`]+)`(?!`)")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
ELLIPSIS = "…"
OURS = ("meshnode ", "meshctl ", "make ", "python -m ")
BENCHMARKS = {"benchmarks": benchmarks, "benchmarks.peers": peers}


def inline(name: str) -> list[str]:
    """What stands between backticks, wherever its line was broken."""
    return [" ".join(code.split()) for code in INLINE.findall(prose(name))]


def shown_commands(name: str) -> Iterator[list[str]]:
    """The commands that a document shows, as words: those behind a prompt and those between backticks."""
    prompts = [line[2:] for code in blocks(name, "console") for line in code.splitlines() if line.startswith("$ ")]
    for line in [line.removeprefix(".venv/bin/") for line in [*prompts, *inline(name)]]:
        if line.startswith(OURS) and ELLIPSIS not in line:
            yield shlex.split(line, comments=True)


def commands(*programs: str) -> list[tuple[str, list[str]]]:
    return [(name, words) for name in NAMES for words in shown_commands(name) if words[0] in programs]


def shown(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def options(command: click.Command) -> set[str]:
    """Every flag of a command and of the commands below it."""
    below = command.commands.values() if isinstance(command, click.Group) else ()
    with click.Context(command, help_option_names=["-h", "--help"]) as context:
        own = {flag for one in command.get_params(context) for flag in [*one.opts, *one.secondary_opts]}
    return own.union(*map(options, below))


def anchors(path: Path) -> set[str]:
    """The headings of a document, as GitHub names them in links."""
    headings = re.findall(r"^#+ +(.+?) *$", prose(path.relative_to(ROOT).as_posix()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_documents_are_where_these_tests_look() -> None:
    assert {"README.md", "CONTRIBUTING.md", "docs/text-protocol.md", "docs/decisions/README.md"} <= set(NAMES)
    assert len(commands("meshnode", "meshctl")) >= 8
    assert ("README.md", ["python", "-m", "benchmarks", "--quick"]) in commands("python")
    assert sum(len(LINK.findall(text(name))) for name in NAMES) >= 20
    assert {"see-it", "what-it-promises"} <= anchors(ROOT / "README.md")
    assert len(blocks("README.md", "python")) >= 3


# code


@pytest.mark.parametrize("name", NAMES)
def test_python_in_a_document_compiles(name: str) -> None:
    for number, code in enumerate(blocks(name, "python")):
        compile(code, f"{name}, block {number}", "exec", dont_inherit=True)


# commands


@pytest.mark.parametrize(("name", "words"), commands("meshnode"), ids=shown)
def test_a_node_understands_what_a_document_shows(name: str, words: list[str]) -> None:
    with meshnode.make_context("meshnode", words[1:]) as context:
        assert context.params["workers"] >= 1


@pytest.mark.parametrize(("name", "words"), commands("meshctl"), ids=shown)
def test_meshctl_understands_what_a_document_shows(name: str, words: list[str]) -> None:
    with meshctl.make_context("meshctl", words[1:]) as context:
        _, verb, rest = meshctl.resolve_command(context, [*context._protected_args, *context.args])
        assert verb is not None
        with verb.make_context(verb.name, rest, parent=context):
            pass


@pytest.mark.parametrize("name", NAMES)
def test_every_flag_that_a_document_names_is_one_of_ours(name: str) -> None:
    named = {code.split()[0].partition("=")[0] for code in inline(name) if code.startswith("--")}
    assert named <= options(meshnode) | options(meshctl)


@pytest.mark.parametrize("name", NAMES)
def test_every_setting_that_a_document_names_in_the_environment_is_a_flag(name: str) -> None:
    programs = {"MESHNODE": options(meshnode), "MESHCTL": options(meshctl)}
    for program, setting in re.findall(r"\b(MESHNODE|MESHCTL)_([A-Z_]*[A-Z])", text(name)):
        assert "--" + setting.lower().replace("_", "-") in programs[program]


@pytest.mark.parametrize(("name", "words"), commands("make"), ids=shown)
def test_every_target_that_a_document_names_can_be_made(name: str, words: list[str]) -> None:
    targets = re.findall(r"^([a-z]+):", text("Makefile"), re.MULTILINE)
    assert set(words[1:]) <= set(targets)


@pytest.mark.parametrize(("name", "words"), commands("python"), ids=shown)
def test_every_module_that_a_document_runs_is_there(name: str, words: list[str]) -> None:
    assert importlib.util.find_spec(words[2]) is not None


@pytest.mark.parametrize(
    ("name", "words"), [(name, words) for name, words in commands("python") if words[2] in BENCHMARKS], ids=shown
)
def test_the_benchmarks_understand_what_a_document_shows(name: str, words: list[str]) -> None:
    with BENCHMARKS[words[2]].make_context(words[2], words[3:]):
        pass


# links


@pytest.mark.parametrize("name", NAMES)
def test_every_link_leads_to_a_file_and_a_heading(name: str) -> None:
    here = ROOT / name
    for link in LINK.findall(prose(name)):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        there = (here.parent / path).resolve() if path else here
        assert there.exists(), link
        assert there.is_relative_to(ROOT), link
        assert not anchor or anchor in anchors(there), link


def test_every_row_of_what_becomes_of_a_job_names_tests_that_are_there() -> None:
    rows = re.findall(r"^\| (?!what happened|-).*\|$", (ROOT / "docs" / "delivery.md").read_text(), flags=re.MULTILINE)
    assert len(rows) > 40
    there = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        there |= set(re.findall(r"def (test_\w+)\(", path.read_text()))
    for row in rows:
        named = re.findall(r"`(test_\w+)`", row.split("|")[-2])
        assert named, f"no test: {row}"
        assert set(named) <= there, set(named) - there
