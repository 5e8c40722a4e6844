"""What is found from facts, each finding with what mends it; and nothing where nothing is wrong."""

import msgspec
import pytest

from mesh.core.doctor import AUTH, Announced, Facts, Finding, Interface, Seen, judge
from mesh.wire.reports import Descriptors, Host, Neighbour, Reach, Status, WorkerStatus

GIB = 1 << 30


def worker(slot: int, memory: int = 20 << 20) -> WorkerStatus:
    return WorkerStatus(slot=slot, pid=100 + slot, ready=True, age=60.0, outstanding=0, memory=memory)


def status(number: int = 7, **fields: object) -> Status:
    found = Status(
        name=f"web{number}", id=node_id(number), mesh="shop", state="running", pid=1, uptime=60.0, announced=True,
        host=Host(f"host{number}", 16 * GIB, 8 * GIB), descriptors=Descriptors(60, 1024, 100),
        workers=[worker(slot) for slot in range(4)],
    )  # fmt: skip
    return msgspec.structs.replace(found, **fields)


def node_id(number: int) -> str:
    return f"{number:032x}"


def sees(*numbers: int) -> Reach:
    return Reach(True, [Neighbour(node_id(number), f"web{number}", "", "alive") for number in numbers])


def node(number: int = 7, **fields: object) -> Seen:
    found = Seen(
        id=node_id(number), name=f"web{number}", host=f"host{number}", endpoint=f"tcp://10.0.0.{number}:5750",
        version="1.2", status=status(number), reach=sees(7, 8), doubt=0.01,
    )  # fmt: skip
    return msgspec.structs.replace(found, **fields)


def announced(number: int = 7, **fields: object) -> Announced:
    found = Announced(node_id(number), f"web{number}", "shop", (1, 1), 5750, {f"10.0.0.{number}": ""})
    return msgspec.structs.replace(found, **fields)


def facts(**fields: object) -> Facts:
    found = Facts(
        mesh="shop", version="1.2", looked=True, interfaces=[Interface("eth0", "10.0.0.1", True, "", True)],
        announced=[announced(7), announced(8)], nodes=[node(7), node(8)],
    )  # fmt: skip
    return msgspec.structs.replace(found, **fields)


def only(given: Facts) -> Finding:
    (finding,) = judge(given)
    return finding


def test_where_nothing_is_wrong_nothing_is_found() -> None:
    assert judge(facts()) == []


@pytest.mark.parametrize(
    ("interface", "text", "fix"),
    [
        (Interface("eth0", "10.0.0.1", False, "", False), "it has no multicast", "ip link set eth0 multicast on"),
        (
            Interface("eth0", "10.0.0.1", True, "Network is unreachable", False),
            "no multicast can be sent there: Network is unreachable",
            "ip route add 224.0.0.0/4 dev eth0",
        ),
        (Interface("eth0", "10.0.0.1", True, "", False), "UDP 5353 is filtered", "udp dport 5353 accept"),
    ],
)
def test_an_interface_without_multicast_is_found_unless_nobody_looks(interface: Interface, text: str, fix: str) -> None:
    found = only(facts(interfaces=[interface]))
    assert (found.level, found.about) == ("error", "interface eth0 (10.0.0.1)")
    assert text in found.text
    assert fix in found.fix
    assert judge(facts(interfaces=[interface], looked=False)) == []


def test_a_mesh_without_nodes_names_the_others_that_are_there() -> None:
    assert "start one" in only(facts(nodes=[], announced=[])).fix
    others = [announced(1, mesh="stock"), announced(2, mesh="stock"), announced(3, mesh="test")]
    assert "nodes of: stock (2), test (1)" in only(facts(nodes=[], announced=others)).text
    assert judge(facts(announced=[*others, announced(7), announced(8)])) == []


def test_a_node_that_announces_itself_and_is_not_heard_is_hidden() -> None:
    found = only(facts(announced=[announced(7)]))
    assert (found.about, found.text) == ("node web8", "it announces itself, and is not heard by mDNS")
    quiet = node(8, status=status(8, announced=False))
    assert judge(facts(announced=[announced(7)], nodes=[node(7), quiet])) == []
    drained = node(8, status=status(8, state="draining"))
    assert judge(facts(announced=[announced(7)], nodes=[node(7), drained])) == []


def test_announced_addresses_that_cannot_be_reached_are_named() -> None:
    none = only(facts(announced=[announced(7), announced(8, addresses={"10.0.0.8": "no answer"})]))
    assert (none.level, none.text) == ("error", "it is announced, and cannot be reached: 10.0.0.8:5750 (no answer)")
    assert "TCP 5750" in none.fix
    mixed = announced(8, addresses={"10.0.0.8": "", "192.168.1.8": "connection refused"})
    some = only(facts(announced=[announced(7), mixed]))
    assert (some.level, some.text) == (
        "warning",
        "some announced addresses cannot be reached: 192.168.1.8:5750 (connection refused)",
    )


def test_a_refused_handshake_is_a_matter_of_keys() -> None:
    found = only(
        facts(announced=[announced(7), announced(8), announced(9)], ends={"tcp://10.0.0.9:5750": f"{AUTH}: refused"})
    )
    assert found.about == "node web9 (tcp://10.0.0.9:5750)"
    assert found.text == "the keys do not fit: refused"
    assert "`allowed`" in found.fix


def test_a_seed_that_leads_nowhere_says_why_and_one_that_works_now_nothing() -> None:
    found = only(facts(ends={"tcp://[fd00::9]:5750": "this node belongs to the mesh 'stock'"}))
    assert (found.about, found.text) == (
        "tcp://[fd00::9]:5750",
        "no connection comes of it: this node belongs to the mesh 'stock'",
    )
    assert judge(facts(ends={"tcp://10.0.0.7:5750": "it disconnected"})) == []
    dead = announced(8, addresses={"10.0.0.8": "", "fd00::8": "no answer"})
    found = only(facts(announced=[announced(7), dead], ends={"tcp://[fd00::8]:5750": "no connection"}))
    assert found.text.startswith("some announced addresses")


def test_nodes_of_which_one_does_not_see_the_other_are_found_once_they_have_settled() -> None:
    found = only(facts(nodes=[node(7, reach=sees()), node(8, reach=sees(7))]))
    assert (found.about, found.text) == (
        "node web7",
        "it is not connected to web8, although that one is connected to it",
    )
    found = only(facts(nodes=[node(7, reach=sees()), node(8, reach=sees())]))
    assert found.text == "it is not connected to web8, nor that one to it"
    young = node(8, reach=sees(7), status=status(8, uptime=3.0))
    assert judge(facts(nodes=[node(7, reach=sees()), young])) == []
    silent = node(8, reach=Reach(looks=False))
    assert judge(facts(nodes=[node(7, reach=sees()), silent])) == []


def test_versions_that_do_not_meet_and_versions_that_differ_are_found() -> None:
    found = judge(facts(announced=[announced(7), announced(8, versions=(2, 3))]))
    assert [one.text for one in found] == ["it speaks protocol versions 2–3, this client 1–1"]
    assert only(facts(nodes=[node(7), node(8, version="")])).text == "nodes differ: 1.2: web7; an earlier one: web8"
    assert only(facts(version="1.3")).text == "this client is 1.3, the nodes 1.2"


def test_a_clock_is_wrong_beyond_two_seconds_and_the_doubt() -> None:
    assert only(facts(nodes=[node(7, offset=2.5), node(8)])).text == "its clock is 2.5 s ahead of ours"
    assert only(facts(nodes=[node(7, offset=-9.0), node(8)])).text == "its clock is 9.0 s behind ours"
    assert judge(facts(nodes=[node(7, offset=2.5, doubt=0.6), node(8)])) == []


def test_a_node_that_tells_nothing_or_is_unhealthy_is_found() -> None:
    refused = node(8, status=None, reach=None, wrong="this key does not allow to operate nodes")
    assert (
        only(facts(nodes=[node(7), refused])).text
        == "it could not be looked at: this key does not allow to operate nodes"
    )
    found = only(facts(nodes=[node(7), node(8, status=status(8, state="unhealthy", why="no worker is ready"))]))
    assert (found.level, found.text) == ("error", "it has no workers: no worker is ready")


def test_descriptors_that_will_not_do_or_run_short_are_found() -> None:
    short = node(8, status=status(8, descriptors=Descriptors(60, 256, 700)))
    found = only(facts(nodes=[node(7), short]))
    assert (found.level, found.text) == ("error", "it needs 700 descriptors, and may have 256")
    assert "1400" in found.fix
    crowded = node(8, status=status(8, descriptors=Descriptors(900, 1024, 100)))
    assert only(facts(nodes=[node(7), crowded])).text == "900 of 1024 descriptors are open"
    assert judge(facts(nodes=[node(7), node(8, status=status(8, descriptors=None))])) == []


def test_a_host_without_memory_is_found_once_and_a_worker_that_is_much_larger_than_the_others() -> None:
    low = Host("host7", 16 * GIB, GIB)
    found = only(facts(nodes=[node(7, status=status(7, host=low)), node(8, status=status(8, host=low))]))
    assert (found.about, found.text) == ("host host7", "1024 of 16384 MiB of memory are left")
    large = status(8, workers=[*(worker(slot) for slot in range(3)), worker(3, GIB)], host=None)
    found = only(facts(nodes=[node(7), node(8, status=large)]))
    assert found.text == "worker 3 (process 103) has 1024 MiB, the usual is 20"
    none = status(8, workers=[])
    assert judge(facts(nodes=[node(7), node(8, status=none)])) == []


def test_errors_come_first() -> None:
    found = judge(facts(version="1.3", nodes=[node(7), node(8, status=status(8, state="unhealthy"))]))
    assert [one.level for one in found] == ["error", "warning"]
