"""Another Debian: installed, set up and started, with the firewall that lets in the mesh's networks only."""

from pathlib import Path

from tests.hosts.conftest import need
from tests.hosts.lab.lab import SYSTEMD_TOOLS, Lab
from tests.hosts.rollout.operator import Operator
from tests.hosts.rollout.wheels import Wheelhouse


def test_debian_13_runs_a_node_behind_its_firewall(tmp_path: Path, wheels: Wheelhouse) -> None:
    need(*SYSTEMD_TOOLS)
    with Lab(tmp_path / "lab") as lab:
        lab.up(2, systemd=True, plain=1, suite="trixie", packages=["nftables"])
        common = {
            "meshnode_version": "0.1.0",
            "meshnode_insecure": True,
            "meshnode_wheelhouse": str(wheels.folder),
            "meshnode_firewall": "nftables",
            "meshnode_networks": [f"{lab.ip('ctl')}/32"],
            "meshnode_smoke_task": "ping",
        }
        operator = Operator(lab, tmp_path / "operator", hosts=["h1"], common=common)
        operator.play("site")
        assert operator.play("site").changed == {"h1": 0}
        assert lab.check_output("h1", ["cat", "/etc/debian_version"]).startswith("13")
        assert lab.check_output("h1", ["systemctl", "is-active", "meshnode"]) == "active\n"
        assert lab.run("ctl", knock(lab)).returncode == 0
        assert lab.run("h2", knock(lab)).returncode != 0


def knock(lab: Lab) -> list[str]:
    program = f"import socket; socket.create_connection(('{lab.ip('h1')}', 5750), 2)"
    return ["python3", "-c", program]
