"""What the documents name is there: code that compiles and runs, flags, verbs, targets, files, headings."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from mesh.ctl import group as meshctl
from meshnode.cli import command as meshnode
from tests.support.leaks import leak_check
from tests.support.nodes import NodeProcess, run_meshnode

__all__ = ["leak_check"]

ROOT = Path(__file__).parents[2]
DOCUMENTS = [*sorted(ROOT.glob("*.md")), ROOT / "examples/README.md", *sorted((ROOT / "docs").rglob("*.md"))]
NAMES = [path.relative_to(ROOT).as_posix() for path in DOCUMENTS]

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
INLINE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
ELLIPSIS = "…"


def text(name: str) -> str:
    return (ROOT / name).read_text()


def blocks(name: str, kind: str) -> list[str]:
    return [code for tag, code in FENCE.findall(text(name)) if tag == kind]


def prose(name: str) -> str:
    """A document without its blocks of code."""
    return FENCE.sub("", text(name))


def shown_commands(name: str) -> Iterator[list[str]]:
    """The commands that a document shows, as words: those behind a prompt and those between backticks."""
    prompts = [line[2:] for code in blocks(name, "console") for line in code.splitlines() if line.startswith("$ ")]
    for line in [*prompts, *INLINE.findall(prose(name))]:
        if line.startswith(("meshnode ", "meshctl ", "make ", "python -m ")) and ELLIPSIS not in line:
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
    headings = re.findall(r"^#+ +(.+?) *$", FENCE.sub("", path.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_documents_are_where_these_tests_look() -> None:
    assert {"README.md", "CONTRIBUTING.md", "docs/text-protocol.md", "docs/decisions/README.md"} <= set(NAMES)
    assert len(commands("meshnode", "meshctl")) >= 8
    assert sum(len(LINK.findall((ROOT / name).read_text())) for name in NAMES) >= 20
    assert {"see-it", "what-it-promises"} <= anchors(ROOT / "README.md")
    assert len(blocks("README.md", "python")) >= 3


# code


@pytest.mark.parametrize("name", NAMES)
def test_python_in_a_document_compiles(name: str) -> None:
    for number, code in enumerate(blocks(name, "python")):
        compile(code, f"{name}, block {number}", "exec", dont_inherit=True)


@pytest.mark.parametrize(
    ("number", "tasks"),
    [
        (0, ["send_mail(to: str, contents: str = '') -> str  [bridge]"]),
        (2, ["greet(name: str) -> str", "crunch(n: int) -> int  [bridge]"]),
    ],
)
def test_a_node_serves_the_tasks_of_the_readme(tmp_path: Path, number: int, tasks: list[str]) -> None:
    (tmp_path / "tasks.py").write_text(blocks("README.md", "python")[number])
    done = run_meshnode(tmp_path, "check", "tasks")
    assert (done.returncode, done.stdout.splitlines()) == (0, tasks), done.stderr


def test_the_application_of_the_readme_runs(tmp_path: Path) -> None:
    tasks, application, _ = blocks("README.md", "python")
    (tmp_path / "tasks.py").write_text(tasks)
    with NodeProcess(tmp_path) as node:
        assert "Client()" in application
        aimed = application.replace("Client()", f"Client(seeds=[{node.seed!r}], mdns=False)")
        done = subprocess.run(
            [sys.executable, "-c", aimed], cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False
        )
    assert (done.stdout, done.stderr) == ("sent to ada@example.org\n", "")


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
    named = {code.split()[0].partition("=")[0] for code in INLINE.findall(prose(name)) if code.startswith("--")}
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
    program = "import sys, importlib.util; sys.exit(importlib.util.find_spec(sys.argv[1]) is None)"
    done = subprocess.run([sys.executable, "-c", program, words[2]], cwd=ROOT, timeout=30, check=False)
    assert done.returncode == 0


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
