from dataclasses import replace

import pytest

from meshdiscovery.mdns import Announcer, interfaces
from meshdiscovery.record import Record

RECORD = Record(
    mesh="m",
    node_id="a" * 32,
    epoch="1" * 16,
    name="web7",
    port=5750,
    versions=(1, 1),
    addresses=("127.0.0.1",),
)


def test_a_node_for_this_host_only_speaks_on_loopback() -> None:
    assert interfaces(loopback_only=True) == ["127.0.0.1"]


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (replace(RECORD, addresses=()), "no address"),
        (replace(RECORD, port=0), "port is not 1 to 65535"),
        (replace(RECORD, mesh="a mesh"), "mesh is not 1 to 63"),
    ],
)
def test_a_record_with_a_flaw_is_not_announced(record: Record, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Announcer(record, interfaces=["127.0.0.1"])
