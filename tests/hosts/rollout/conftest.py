"""Three systemd hosts, one more for a client, and the operator who rolls out to them.

The tests of this folder tell one story, in the order in which they stand: from bare hosts to hosts without a node.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from hatch_build import missing
from tests.hosts.conftest import need
from tests.hosts.lab.lab import SYSTEMD_TOOLS, Lab
from tests.hosts.rollout.operator import Operator
from tests.hosts.rollout.wheels import Wheelhouse

HERE = Path(__file__).parent

NODES = ["h1", "h2", "h3"]
CLIENT = "h4"
MESH = "shop"


@dataclass(frozen=True)
class Site:
    """The hosts, and who rolls out to them."""

    lab: Lab
    operator: Operator
    wheels: Wheelhouse
    folder: Path

    @property
    def keys(self) -> Path:
        """The operator's folder of keys."""
        return self.folder / "keys"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.systemd)
            item.add_marker(pytest.mark.timeout(600))


COMPILED = sys.version_info[:2] == (3, 11) and not missing()
"""Can what Debian 12 is to run be compiled here?"""


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Wheelhouse:
    """What is installed: versions of the product and of the application, and what they need."""
    house = Wheelhouse(tmp_path_factory.mktemp("wheelhouse"))
    house.add_dependencies()
    house.add_product("0.1.0")
    house.add_product("0.2.0", compiled=COMPILED)
    begins = "        endpoint = self._endpoint = self._bind_front()\n"
    broken = ("nodes/meshnode/node.py", begins, "        raise OSError(5, 'no luck')\n" + begins)
    house.add_product("0.3.0", change=broken)
    for version in ("1.0.0", "1.1.0"):
        house.add_application(version)
    house.add_application("1.2.0", ahead="raise ImportError('half of it is missing')\n")
    return house


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory, wheels: Wheelhouse) -> Iterator[Site]:
    """The hosts of the whole story."""
    need(*SYSTEMD_TOOLS)
    folder = tmp_path_factory.mktemp("rollout")
    with Lab(folder / "hosts") as lab:
        lab.up(4, systemd=True, plain=1)
        common = {
            "meshnode_mesh": MESH,
            "meshnode_version": "0.1.0",
            "meshnode_app_package": "shop",
            "meshnode_app_version": "1.0.0",
            "meshnode_modules": ["shop.tasks"],
            "meshnode_workers": 2,
            "meshnode_wheelhouse": str(wheels.folder),
            "meshnode_keys_dir": str(folder / "keys"),
            "meshnode_keys_vault": True,
            "meshnode_smoke_task": "versions",
            "meshnode_start_timeout": 30,
            "meshnode_environment": {"SHOP": 'open "all" $day\\'},
        }
        yield Site(lab, Operator(lab, folder / "operator", hosts=NODES, common=common), wheels, folder)


@pytest.fixture(autouse=True)
def leak_check() -> None:
    """The hosts of the story and the operator's ssh connections outlast each of its tests; the lab ends them."""
