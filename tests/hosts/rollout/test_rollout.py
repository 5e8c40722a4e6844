"""From bare hosts to a mesh, through upgrades and faults under load, and away again: one story, in this order."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.hosts.lab.machine import LabError, wait_for
from tests.hosts.rollout.conftest import CLIENT, COMPILED, MESH, NODES, Site
from tests.support.faults import Figures
from tests.support.ledger import Audit, Ledger

LOAD_S = 3.0
"""Seconds of work before and after what a test does."""

Make = Callable[[str, str], Figures]


def meshctl(site: Site, host: str, *words: str, key: str = "operator") -> str:
    program: list[str | Path] = [sys.executable, "-c", "from mesh.ctl import main; main()", "--mesh", MESH]
    return site.lab.check_output(host, [*program, "--keys", site.keys / f"client-{key}.key", *words])


def versions(site: Site, host: str) -> list[str]:
    """What a job on that node says: product, application, host, environment."""
    said = meshctl(site, "ctl", "--no-mdns", "--seed", f"{site.lab.ip(host)}:5750", "--json", "call", "versions")
    found: list[str] = json.loads(said)
    return found


def on(site: Site, host: str, *command: str) -> str:
    return site.lab.check_output(host, list(command)).strip()


def prop(site: Site, host: str, name: str) -> str:
    """A property of the unit."""
    return on(site, host, "systemctl", "show", "--value", f"--property={name}", "meshnode.service")


def release(site: Site, host: str) -> str:
    return on(site, host, "readlink", "/opt/meshnode/current")


def ran(site: Site, task: str) -> list[Path]:
    """The hosts' own notes of which jobs of the task they ran."""
    paths = [site.lab.root(host) / "var/lib/meshnode" / task for host in NODES]
    return [path for path in paths if path.exists()]


@contextmanager
def load(site: Site, label: str, *tasks: str, seconds: float = 0.02, rate: float = 25.0) -> Iterator[dict[str, Audit]]:
    """Work from the client's host while the block runs; what came of each task stands in the dict afterwards."""
    audits: dict[str, Audit] = {}
    processes = {}
    key = {**os.environ, "MESH_KEYS": str(site.keys / "client-load.key")}
    with ExitStack() as stack:
        for task in tasks:
            for path in ran(site, task):
                path.unlink()
            command: list[str | Path] = [
                sys.executable,
                "-m",
                "tests.hosts.rollout.load",
                site.folder / label / task,
                task,
            ]
            process = site.lab.popen(
                CLIENT,
                [*command, "--mesh", MESH, "--seconds", str(seconds), "--rate", str(rate)],
                stdout=subprocess.PIPE,
                env=key,
            )
            assert process.stdout is not None
            stack.callback(process.stdout.close)
            stack.callback(process.kill)
            processes[task] = process
        for process in processes.values():
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        time.sleep(LOAD_S)  # work as usual, before
        yield audits
        time.sleep(LOAD_S)  # and after
        for process in processes.values():
            process.terminate()
        for task, process in processes.items():
            assert process.wait(60) in (0, 1)  # 1: some had not ended; the audit names them
            folder = site.folder / label / task
            (folder / "executed").write_text("".join(path.read_text() for path in ran(site, task)))
            with Ledger(folder) as ledger:
                audits[task] = ledger.audit()


def all_well(audits: dict[str, Audit], line: Figures) -> None:
    """Every job ended with its value, none failed, none ran twice."""
    for task, audit in audits.items():
        line.more[f"{task} failed"] = audit.errors.total()
        audit.agrees()
        assert audit.submitted > 100
        assert audit.results == audit.executions == audit.submitted, audit
        assert audit.twice == []
    line.jobs = sum(audit.submitted for audit in audits.values())
    line.lost = sum(audit.lost for audit in audits.values())
    line.second = sum(len(audit.second) for audit in audits.values())
    line.twice = sum(len(audit.twice) for audit in audits.values())


# from nothing


def test_bare_hosts_become_a_mesh(site: Site, figures: Make) -> None:
    line = figures("1", "keys.yml, site.yml: three bare hosts to a mesh")
    line.more["keys s"] = site.operator.play("keys").seconds
    site.operator.play("site", "--check", "--diff")
    assert not (site.lab.root("h1") / "opt/meshnode").exists()
    play = site.operator.play("site")
    line.more["site s"] = play.seconds
    found = json.loads(meshctl(site, CLIENT, "wait-node", "--nodes", "3", "--timeout", "10", "--json"))
    assert {node["name"] for node in found} == set(NODES)
    for host in NODES:
        assert versions(site, host) == ["0.1.0", "1.0.0", host, 'open "all" $day\\']
        assert prop(site, host, "StatusText").startswith("running: ")
        assert prop(site, host, "User") == "meshnode"
        assert on(site, host, "systemctl", "is-enabled", "meshnode") == "enabled"


def test_the_journal_knows_how_grave_each_line_is(site: Site) -> None:
    lines = on(site, "h1", "journalctl", "-u", "meshnode", "-o", "json", "--no-pager").splitlines()
    entries = {entry["MESSAGE"]: entry["PRIORITY"] for entry in map(json.loads, lines)}
    (ready,) = (message for message in entries if " is ready after " in message)
    assert ready.startswith("node h1 ")  # no time before it: the journal has its own
    assert entries[ready] == "6"


def test_a_second_run_changes_nothing(site: Site, figures: Make) -> None:
    line = figures("2", "site.yml again")
    play = site.operator.play("site")
    line.more |= {"seconds": play.seconds, "changed": sum(play.changed.values())}
    assert play.changed == dict.fromkeys(NODES, 0)


# what the doctor finds


def diagnosis(site: Site, *options: str, key: Path | None = None) -> list[str]:
    """Its findings, without what it says of the memory of the machine below, which all hosts share."""
    program = [sys.executable, "-c", "from mesh.ctl import main; main()", "--mesh", MESH]
    keys = key or site.keys / "client-operator.key"
    done = site.lab.run("ctl", [*program, "--keys", keys, *options, "doctor", "--json"])
    found = json.loads(done.stdout)["findings"]
    assert done.returncode == (1 if found else 0)
    return [f"{one['about']}: {one['text']}" for one in found if not one["about"].startswith("host ")]


def filtered(site: Site, host: str, rule: str) -> None:
    """Drop what the rule matches on its way into a host."""
    table = f"table inet planted {{ chain input {{ type filter hook input priority 0; {rule} drop; }}; }}"
    site.lab.host(host).in_net(["nft", "-f", "-"], feed=table)


def unfiltered(site: Site, host: str) -> None:
    site.lab.host(host).in_net(["nft", "delete", "table", "inet", "planted"])


def test_the_doctor_finds_nothing_in_a_mesh_that_is_well(site: Site) -> None:
    wait_for(lambda: diagnosis(site) == [], 20, "the nodes to have found each other", interval=1)


def test_the_doctor_finds_an_interface_without_multicast(site: Site) -> None:
    site.lab.check_output("ctl", ["ip", "link", "set", "eth0", "multicast", "off"])
    found = diagnosis(site)
    site.lab.check_output("ctl", ["ip", "link", "set", "eth0", "multicast", "on"])
    assert f"interface eth0 ({site.lab.ip('ctl')}): it has no multicast" in found


def test_the_doctor_finds_a_port_that_is_filtered(site: Site) -> None:
    filtered(site, "h2", "tcp dport 5750")
    found = diagnosis(site)
    unfiltered(site, "h2")
    assert any(one.startswith("node h2: it is announced, and cannot be reached: ") for one in found), found


def test_the_doctor_finds_mdns_that_is_filtered(site: Site) -> None:
    filtered(site, "h2", "udp dport 5353")
    found = diagnosis(site, "--seed", f"{site.lab.ip('h2')}:5750")
    unfiltered(site, "h2")
    assert "node h2: it announces itself, and is not heard by mDNS" in found


def test_the_doctor_finds_keys_that_do_not_fit(site: Site) -> None:
    strangers = site.folder / "strangers"
    strangers.mkdir()
    shutil.copy(site.keys / "allowed", strangers / "allowed")
    made = keygen(site, "client", "stranger")
    site.lab.check_output("ctl", [strangers if word == site.keys else word for word in made])
    found = diagnosis(site, key=strangers / "client-stranger.key")
    refused = {one.partition(" (")[0] for one in found if "the keys do not fit" in one}  # at each of their addresses
    assert refused == {f"node {host}" for host in NODES}, found


def test_the_doctor_finds_a_node_with_too_few_descriptors(site: Site) -> None:
    drop = site.lab.root("h3") / "etc/systemd/system/meshnode.service.d"
    drop.mkdir()
    (drop / "planted.conf").write_text("[Service]\nLimitNOFILE=70\n")
    on(site, "h3", "systemctl", "daemon-reload")
    on(site, "h3", "systemctl", "restart", "meshnode")
    meshctl(site, "ctl", "wait-node", "h3")
    found = diagnosis(site)
    shutil.rmtree(drop)
    on(site, "h3", "systemctl", "daemon-reload")
    on(site, "h3", "systemctl", "restart", "meshnode")
    assert any(one.startswith("node h3: it needs ") for one in found), found


# more of the service


def test_a_dry_run_shows_what_it_would_change_and_changes_nothing(site: Site) -> None:
    before = prop(site, "h1", "MainPID")
    play = site.operator.play("site", "--check", "--diff", meshnode_workers=3)
    assert "+workers = 3" in play.said
    assert all(play.changed[host] for host in NODES)
    assert prop(site, "h1", "MainPID") == before
    assert "workers = 2\n" in (site.lab.root("h1") / "opt/meshnode/current/etc/meshnode.toml").read_text()


def test_the_service_is_locked_in(site: Site, figures: Make) -> None:
    line = figures("3", "systemd-analyze security")
    said = on(site, "h1", "systemd-analyze", "security", "--no-pager", "meshnode.service")
    line.more["exposure"] = exposure = float(said.rpartition("meshnode.service: ")[2].split()[0])
    assert exposure < 3.0


def test_a_reload_returns_when_the_workers_are_new(site: Site) -> None:
    workers = workers_of(site, "h1")
    main = prop(site, "h1", "MainPID")
    on(site, "h1", "systemctl", "reload", "meshnode")
    assert not workers & workers_of(site, "h1")
    assert prop(site, "h1", "MainPID") == main
    assert prop(site, "h1", "ActiveState") == "active"


def workers_of(site: Site, host: str) -> set[int]:
    said = on(
        site, host, "env", "RUNTIME_DIRECTORY=/run/meshnode", "/opt/meshnode/current/bin/meshnode", "status", "--json"
    )
    return {worker["pid"] for worker in json.loads(said)["workers"]}


def test_a_node_that_stands_still_is_started_again(site: Site, figures: Make) -> None:
    line = figures("4", "SIGSTOP, WatchdogSec=4")
    drop = site.lab.root("h3") / "etc/systemd/system/meshnode.service.d"
    drop.mkdir()
    (drop / "watchdog.conf").write_text("[Service]\nWatchdogSec=4\n")
    on(site, "h3", "systemctl", "daemon-reload")
    on(site, "h3", "systemctl", "restart", "meshnode")
    before = prop(site, "h3", "MainPID")
    time.sleep(6)  # longer than the watchdog waits: one that is not fed would have bitten
    assert prop(site, "h3", "MainPID") == before
    stopped = time.monotonic()
    on(site, "h3", "kill", "-STOP", before)

    def again() -> bool:
        return prop(site, "h3", "MainPID") not in (before, "0") and prop(site, "h3", "ActiveState") == "active"

    wait_for(again, 30, "the node to be started again", interval=0.2)
    line.recover = time.monotonic() - stopped
    shutil.rmtree(drop)
    on(site, "h3", "systemctl", "daemon-reload")
    on(site, "h3", "systemctl", "restart", "meshnode")


# keys


def test_a_stranger_is_not_let_in_and_secrets_are_for_nobody_else(site: Site) -> None:
    site.lab.check_output("ctl", keygen(site, "client", "load", "--role", "submit"))
    assert not lets_in(site, "load")
    site.operator.play("keys")  # carries the list
    wait_for(lambda: lets_in(site, "load"), 15, "the new key to be let in", interval=1)
    for name in ("node-h1.key", "client-billing.key"):
        assert (site.keys / name).read_text().startswith("$ANSIBLE_VAULT")
        found = site.lab.root("h1") / "etc/mesh/shop" / name
        assert found.read_text().startswith("# The secret key of ")
        assert (found.stat().st_mode & 0o777, found.stat().st_uid) == (0o400, 0)
    assert not (site.lab.root("h2") / "etc/mesh/shop/client-billing.key").exists()


def keygen(site: Site, *words: str) -> list[str | Path]:
    program = "from mesh.ctl import main; main()"
    return [sys.executable, "-c", program, "--mesh", MESH, "keygen", "--keys", site.keys, *words]


def lets_in(site: Site, key: str) -> bool:
    try:
        meshctl(site, "ctl", "--no-mdns", "--seed", f"{site.lab.ip('h1')}:5750", "call", "versions", key=key)
    except LabError:
        return False
    return True


# another version


def test_an_upgrade_under_load_fails_no_job(site: Site, figures: Make) -> None:
    line = figures("5", "rolling.yml: product and application, under load")
    with load(site, "upgrade", "once", "again") as audits:
        play = site.operator.play("rolling", meshnode_version="0.2.0", meshnode_app_version="1.1.0")
        line.more["seconds"] = play.seconds
    all_well(audits, line)
    for host in NODES:
        assert versions(site, host)[:3] == ["0.2.0", "1.1.0", host]
        assert release(site, host) == "0.2.0-1.1.0"
        form = on(site, host, "/opt/meshnode/current/bin/meshnode", "--version").strip()
        assert form == f"meshnode 0.2.0, {'compiled' if COMPILED else 'plain Python'}"
    site.operator.common |= {"meshnode_version": "0.2.0", "meshnode_app_version": "1.1.0"}


def test_a_version_that_does_not_start_ends_the_roll_at_the_first_host(site: Site, figures: Make) -> None:
    line = figures("6", "rolling.yml to a version that does not start, under load")
    others = {host: prop(site, host, "MainPID") for host in ("h2", "h3")}
    with load(site, "broken", "once", "again") as audits:
        play = site.operator.play("rolling", code=None, meshnode_version="0.3.0")
        line.more["seconds"] = play.seconds
    assert play.code != 0
    assert play.failed == {"h1": 1, "h2": 0, "h3": 0}
    assert "OSError: [Errno 5] no luck" in play.said  # what the node said stands in the failure
    assert "It serves with 0.2.0-1.1.0 again." in play.said
    all_well(audits, line)
    assert {host: prop(site, host, "MainPID") for host in others} == others
    for host in NODES:
        assert release(site, host) == "0.2.0-1.1.0"
        assert versions(site, host)[:2] == ["0.2.0", "1.1.0"]


def test_an_application_that_does_not_import_touches_no_node(site: Site) -> None:
    before = {host: prop(site, host, "MainPID") for host in NODES}
    play = site.operator.play("rolling", code=None, meshnode_app_version="1.2.0")
    assert play.code != 0
    assert "half of it is missing" in play.said
    assert {host: prop(site, host, "MainPID") for host in NODES} == before


def test_new_keys_for_all_nodes_fail_no_job(site: Site, figures: Make) -> None:
    line = figures("7", "keys.yml: new keys for all nodes, under load")
    before = node_keys(site)
    with load(site, "rotation", "once", "again") as audits:
        line.more["seconds"] = site.operator.play("keys", meshnode_rotate="all").seconds
    all_well(audits, line)
    after = node_keys(site)
    assert len(after) == len(before) == len(NODES)
    assert not after & before
    assert site.operator.play("keys").changed == dict.fromkeys(NODES, 0)


def node_keys(site: Site) -> set[str]:
    """The public keys of nodes that are allowed on every host."""
    lists = {(site.lab.root(host) / "etc/mesh/shop/allowed").read_text() for host in NODES}
    (everywhere,) = lists
    return {line.split()[2] for line in everywhere.splitlines() if line.startswith("node ")}


def test_going_back_brings_the_release_before_with_its_settings(site: Site, figures: Make) -> None:
    line = figures("8", "rollback.yml under load")
    with load(site, "back", "once", "again") as audits:
        line.more["seconds"] = site.operator.play("rollback").seconds
    all_well(audits, line)
    for host in NODES:
        assert versions(site, host)[:2] == ["0.1.0", "1.0.0"]


def test_a_power_cut_in_the_middle_of_a_roll_loses_no_idempotent_job(site: Site, figures: Make) -> None:
    line = figures("9", "power cut at h2 while h1 is rolled, under load")
    with load(site, "power", "once", "again", seconds=1.0, rate=2.0) as audits:
        play = site.operator.start("rolling")
        # h1 has been emptied, so that h2 is at work now
        wait_for(lambda: release(site, "h1") == "0.2.0-1.1.0" or play.over, 120, "h1 to be switched", interval=0.1)
        site.lab.poweroff("h2")
        cut = time.monotonic()
        ended = play.end(code=None)
        assert ended.code != 0
        assert ended.unreachable["h2"] == 1
        assert release(site, "h3") == "0.1.0-1.0.0"
        site.lab.boot("h2")
        meshctl(site, CLIENT, "wait-node", "h2", "--timeout", "30")
        line.recover = time.monotonic() - cut
        line.more["seconds"] = site.operator.play("rolling").seconds  # goes on where it stopped
    again, once = audits["again"], audits["once"]
    line.jobs, line.lost = again.submitted + once.submitted, again.lost + once.lost
    line.more |= {"again lost": again.lost, "once lost": once.lost, "again run twice": len(again.twice)}
    assert once.lost + len(again.twice) > 0  # it was at work
    again.agrees()
    once.agrees()
    assert again.results == again.submitted
    assert once.twice == []
    assert set(once.errors) <= {"JobLost(started=True)"}
    for host in NODES:
        assert versions(site, host)[:2] == ["0.2.0", "1.1.0"]


def test_another_setting_is_taken_over_and_old_releases_go(site: Site) -> None:
    before = {host: prop(site, host, "MainPID") for host in NODES}
    site.operator.play("site", meshnode_workers=3, meshnode_keep_releases=0)
    for host in NODES:
        assert prop(site, host, "MainPID") != before[host]
        assert len(workers_of(site, host)) == 3
        there = {path.name for path in (site.lab.root(host) / "opt/meshnode").iterdir() if not path.is_symlink()}
        assert there == {"0.1.0-1.0.0", "0.2.0-1.1.0", "running"}
    site.operator.common["meshnode_workers"] = 3


def test_settings_that_do_not_work_are_taken_back(site: Site) -> None:
    wrong = {"bind": "192.0.2.1:5750"}  # no address of these hosts: nothing finds it before the start
    play = site.operator.play("site", code=None, meshnode_settings=wrong)
    assert play.code != 0
    assert play.failed == {"h1": 1, "h2": 0, "h3": 0}
    on(site, "h2", "systemctl", "restart", "meshnode")  # by chance, before its turn has come
    for host in NODES:
        assert versions(site, host)[:2] == ["0.2.0", "1.1.0"]


def test_a_job_from_the_host_s_own_port_is_answered(site: Site) -> None:
    said = site.lab.check_output("h1", ["python3", "-c", LINE])
    assert json.loads(said)[:3] == ["0.2.0", "1.1.0", "h1"]


LINE = """
import socket
with socket.create_connection(("127.0.0.1", 12345), 5) as connection:
    connection.sendall(b'{"function": "versions"}\\n')
    print(connection.makefile().readline())
"""


# without nodes


def test_a_drained_host_takes_nothing_until_it_is_undrained(site: Site) -> None:
    site.operator.play("drain", "--limit", "h2")
    assert prop(site, "h2", "StatusText").startswith("draining")
    site.operator.play("drain", "--limit", "h2", meshnode_undrain=True)
    assert prop(site, "h2", "StatusText").startswith("running")


def test_nothing_is_left_where_a_node_was_taken_away(site: Site) -> None:
    refused = site.operator.play("uninstall", "--limit", "h3", code=None)
    assert refused.code != 0
    site.operator.play("uninstall", "--limit", "h3", meshnode_remove=True, meshnode_remove_state=True)
    root = site.lab.root("h3")
    for path in ("opt/meshnode", "etc/meshnode", "etc/systemd/system/meshnode.service", "var/lib/meshnode"):
        assert not (root / path).exists(), path
    assert "meshnode" not in (root / "etc/passwd").read_text()
