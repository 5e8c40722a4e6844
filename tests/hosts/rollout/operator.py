"""The operator of a roll-out: the collection's playbooks, run on the host ctl, and what came of them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.hosts.lab.lab import Lab

ROOT = Path(__file__).parents[3]
BIN = Path(sys.executable).parent
PLAY_S = 400.0
"""Seconds that a playbook may take here, where several systems share two processors."""

RECAP = re.compile(r"^(\w+) +: ok=(\d+) +changed=(\d+) +unreachable=(\d+) +failed=(\d+)", re.MULTILINE)


@dataclass(frozen=True)
class Outcome:
    """How a playbook ended; the counts by host."""

    code: int
    said: str
    seconds: float
    changed: Mapping[str, int]
    failed: Mapping[str, int]
    unreachable: Mapping[str, int]


class Play:
    """A playbook under way."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self._process = process
        self._log = log
        self._began = time.monotonic()

    @property
    def said(self) -> str:
        """What it has said so far."""
        return self._log.read_text()

    @property
    def over(self) -> bool:
        return self._process.poll() is not None

    def end(self, *, code: int | None = 0) -> Outcome:
        """Wait for its end, and see that it ended with this code; None for any."""
        self._process.wait(PLAY_S)
        said = self.said
        rows = [(name, *map(int, counts)) for name, *counts in RECAP.findall(said)]
        outcome = Outcome(
            code=self._process.returncode,
            said=said,
            seconds=time.monotonic() - self._began,
            changed={name: changed for name, _, changed, _, _ in rows},
            failed={name: failed for name, _, _, _, failed in rows},
            unreachable={name: unreachable for name, _, _, unreachable, _ in rows},
        )
        assert code is None or outcome.code == code, said[-6000:]
        return outcome


class Operator:
    """Runs playbooks on the hosts of a lab, each with the variables `common` and those of the run."""

    def __init__(self, lab: Lab, folder: Path, *, hosts: list[str], common: Mapping[str, object]) -> None:
        self.lab = lab
        self.folder = folder
        self.common = dict(common)
        self._plays = 0
        folder.mkdir(parents=True, exist_ok=True)
        everybody = lab.inventory()["all"]
        assert isinstance(everybody, dict)
        self._password = folder / "password"
        self._password.write_text("correct horse\n")
        group = {"hosts": {name: everybody["hosts"][name] for name in hosts}, "vars": everybody["vars"]}
        self._inventory = folder / "inventory.json"
        clients = {"hosts": {hosts[0]: {}}, "vars": {"meshnode_client_name": "billing"}}
        self._inventory.write_text(json.dumps({"meshnode": group, "meshnode_clients": clients}))

    def start(self, playbook: str, *options: str, **variables: object) -> Play:
        """Begin a playbook."""
        self._plays += 1
        extra = self.folder / f"variables-{self._plays}.json"
        extra.write_text(json.dumps({**self.common, **variables}))
        log = self.folder / f"play-{self._plays}-{playbook}.log"
        environment = {
            **os.environ,
            "ANSIBLE_CONFIG": str(ROOT / "ansible" / "ansible.cfg"),
            "ANSIBLE_HOME": str(self.folder / "home"),
            "ANSIBLE_VAULT_PASSWORD_FILE": str(self._password),
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_FORCE_COLOR": "0",
            "LANG": "C.UTF-8",
            "LC_ALL": "C.UTF-8",
            "PATH": f"{BIN}:{os.environ['PATH']}",
        }
        with log.open("w") as out:
            process = self.lab.popen(
                "ctl",
                [BIN / "ansible-playbook", "-i", self._inventory, "-e", f"@{extra}", *options,
                 ROOT / "ansible" / "playbooks" / f"{playbook}.yml"],
                stdout=out, stderr=subprocess.STDOUT, env=environment,
            )  # fmt: skip
        return Play(process, log)

    def play(self, playbook: str, *options: str, code: int | None = 0, **variables: object) -> Outcome:
        """Run a playbook to its end."""
        return self.start(playbook, *options, **variables).end(code=code)
