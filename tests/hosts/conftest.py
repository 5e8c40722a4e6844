"""Several hosts: the fixture `lab`, and `avahi`, the other implementation of mDNS.

Without root or the tools these tests skip; with REQUIRE_LAB=1 in the environment they fail.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.hosts.avahi import Avahi
from tests.hosts.lab.lab import PLAIN_TOOLS, Lab
from tests.hosts.lab.machine import obstacle
from tests.support.leaks import leak_check

__all__ = ["leak_check"]

HERE = Path(__file__).parent


def need(*tools: str) -> None:
    """Skip the test, or fail it under REQUIRE_LAB=1, where a lab with these tools is impossible."""
    if why := obstacle(*tools):
        if os.environ.get("REQUIRE_LAB") == "1":
            pytest.fail(f"REQUIRE_LAB=1, but {why}", pytrace=False)
        pytest.skip(why)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.lab)


def pytest_runtest_setup() -> None:
    need(*PLAIN_TOOLS)


@pytest.fixture(scope="session")
def three_hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """The lab of the whole run; tests take `lab`."""
    with Lab(tmp_path_factory.mktemp("lab") / "hosts") as lab:
        yield lab.up(3)


@pytest.fixture
def lab(three_hosts: Lab) -> Iterator[Lab]:
    """Plain hosts h1, h2 and h3, and ctl, that reach each other; healed and emptied afterwards."""
    yield three_hosts
    three_hosts.tidy()


@pytest.fixture
def avahi(lab: Lab, tmp_path: Path) -> Callable[[str], Avahi]:
    """`avahi("h2")` starts avahi-daemon on that host and returns it, ready to browse."""
    need("avahi-daemon", "avahi-browse", "dbus-daemon")
    return lambda host: Avahi.start(lab, host, log=tmp_path / f"avahi-{host}.log")
