"""The unit file for hosts that are set up by hand says what the role's says."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from jinja2 import Environment, StrictUndefined

from meshnode.core.lifecycle import ExitCode

ANSIBLE = Path(__file__).parents[2] / "ansible"
ROLE = ANSIBLE / "roles" / "meshnode"

OF_ITS_OWN = {"Description", "EnvironmentFile", "ExecStart"}
"""What the role's unit has otherwise: modules stand in an environment file there."""


def defaults() -> dict[str, Any]:
    made: dict[str, Any] = yaml.safe_load((ROLE / "defaults/main.yml").read_text())
    made |= {"meshnode_current": "/opt/meshnode/current", "meshnode_config_dir": "/etc/meshnode"}
    return made


def rendered(**variables: Any) -> str:
    filters = {"bool": bool, "regex_replace": lambda text, old, new: re.sub(old, new, text)}
    engine = Environment(undefined=StrictUndefined, trim_blocks=True, autoescape=False)
    engine.filters |= filters
    return engine.from_string((ROLE / "templates/meshnode.service.j2").read_text()).render(**defaults(), **variables)


def directives(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines() if re.match(r"[A-Z]\w*=", line))


def test_both_units_say_the_same() -> None:
    example = directives((ANSIBLE / "examples/meshnode.service").read_text())
    role = directives(rendered())
    assert {name for name in example if name not in role or example[name] != role[name]} <= OF_ITS_OWN
    assert set(role) - set(example) <= OF_ITS_OWN
    assert len(example) > 40


def test_what_a_restart_cannot_mend_is_not_restarted() -> None:
    codes = {int(code) for code in directives(rendered())["RestartPreventExitStatus"].split()}
    assert codes == {ExitCode.CONFIG, ExitCode.PORT_IN_USE, ExitCode.NAME_IN_USE}
    assert ExitCode.OWN_ERROR not in codes


def test_libzmq_may_ask_for_addresses() -> None:
    assert "AF_NETLINK" in directives(rendered())["RestrictAddressFamilies"].split()


def test_a_stop_is_given_the_grace_and_time_to_say_goodbye() -> None:
    before = rendered()
    assert float(directives(before)["TimeoutStopSec"]) >= defaults()["meshnode_grace"] + 10


@pytest.mark.parametrize(
    "path",
    [path for path in sorted(ROLE.rglob("tasks/*.yml")) if path.name not in ("main.yml",)],
    ids=lambda path: path.name,
)
def test_every_file_of_tasks_is_used(path: Path) -> None:
    texts = [other.read_text() for other in ANSIBLE.rglob("*.yml") if other != path]
    assert any(re.search(rf"(tasks: {path.name}|tasks_from: {path.stem})\b", text) for text in texts)


def test_every_variable_that_has_a_default_is_described_and_the_other_way_round() -> None:
    described = yaml.safe_load((ROLE / "meta/argument_specs.yml").read_text())["argument_specs"]["main"]["options"]
    assert set(described) == set(yaml.safe_load((ROLE / "defaults/main.yml").read_text()))
