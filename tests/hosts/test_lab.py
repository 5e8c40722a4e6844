"""The lab itself: its hosts are hosts, its faults are faults, and it leaves nothing behind."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.hosts.lab.lab import Lab
from tests.hosts.lab.machine import LabError, wait_for

ECHO = """
import socket, threading
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind(("", 7000))
server = socket.create_server(("", 7000))
def answer():
    while True:
        data, peer = udp.recvfrom(2000)
        udp.sendto(data, peer)
threading.Thread(target=answer, daemon=True).start()
print("up", flush=True)
held = []
while True:
    held.append(server.accept())
"""
CONNECT = "import socket, sys; socket.create_connection((sys.argv[1], 7000), 0.6).close()"
HOLD = """
import socket, sys
with socket.create_connection((sys.argv[1], 7000)) as s:
    s.settimeout(0.7)
    print("up", flush=True)
    try:
        print("told", s.recv(1), flush=True)
    except TimeoutError:
        print("silence", flush=True)
"""
PING = """
import socket, sys, time
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
    s.settimeout(1.0)
    start = time.monotonic()
    for number in range(int(sys.argv[2])):
        s.sendto(b"%d" % number, (sys.argv[1], 7000))
        try:
            s.recv(2000)
        except TimeoutError:
            print("lost")
        else:
            print(time.monotonic() - start)
        start = time.monotonic()
"""
LISTEN = """
import socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
    s.bind(("", 5353))
    member = socket.inet_aton("224.0.0.251") + socket.inet_aton(sys.argv[1])
    s.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)
    print("up", flush=True)
    print(s.recv(100).decode(), flush=True)
"""
SHOUT = """
import socket
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
    s.sendto(b"hello", ("224.0.0.251", 5353))
"""
ORPHAN = """
import pathlib, sys, time
from tests.hosts.lab.lab import Lab
lab = Lab(pathlib.Path(sys.argv[1])).up(1)
print("up", flush=True)
time.sleep(60)
"""


def start(lab: Lab, host: str, code: str, *words: str) -> subprocess.Popen[str]:
    process = lab.popen(host, [sys.executable, "-c", code, *words], stdout=subprocess.PIPE)
    assert line(process) == "up"
    return process


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    return process.stdout.readline().strip()


def reaches(lab: Lab, source: str, target: str) -> bool:
    return not lab.run(source, [sys.executable, "-c", CONNECT, lab.ip(target)]).returncode


def wait_until_reached(lab: Lab, source: str, target: str) -> None:
    # ARP asks once a second, so the first try after a fault may be too early
    wait_for(lambda: reaches(lab, source, target), 15, f"{source} to reach {target}")


def round_trips(lab: Lab, target: str, count: int) -> list[float | None]:
    """Seconds that each answer to h2 took; None for the lost ones."""
    said = lab.check_output("h2", [sys.executable, "-c", PING, lab.ip(target), str(count)])
    return [None if word == "lost" else float(word) for word in said.split()]


def remains(lab: Lab) -> list[str]:
    """What there is of a lab on the machine."""
    groups = [str(path) for root in lab.groups.roots for path in root.glob(lab.groups.name)]
    mounts = Path("/proc/self/mounts").read_text().splitlines()
    return groups + [mount for mount in mounts if str(lab.folder) in mount]


def test_a_host_has_a_name_an_address_and_files_of_its_own(lab: Lab) -> None:
    assert lab.names() == ["h1", "h2", "h3"]
    assert lab.check_output("h2", ["hostname"]) == "h2\n"
    assert "127.0.1.1 h2\n" in lab.check_output("h2", ["cat", "/etc/hosts"])
    lab.check_output("h1", ["sh", "-c", "echo mine > /etc/lab-test; echo mine > /run/lab-test"])
    for folder in ("etc", "run"):
        assert (lab.root("h1") / folder / "lab-test").read_text() == "mine\n"
        assert not (lab.root("h2") / folder / "lab-test").exists()
        assert not Path("/", folder, "lab-test").exists()


def test_a_started_process_is_the_command_itself(lab: Lab) -> None:
    process = lab.popen("h1", ["sh", "-c", "pwd; exec sleep 60"], stdout=subprocess.PIPE)
    assert line(process) == str(Path.cwd())
    assert process.pid in lab.groups.procs("h1")
    process.terminate()
    assert process.wait(5) == -signal.SIGTERM
    with pytest.raises(LabError, match="exit 7: no"):
        lab.check_output("h1", ["sh", "-c", "echo no >&2; exit 7"])


def test_multicast_reaches_every_other_host(lab: Lab) -> None:
    listeners = [start(lab, host, LISTEN, lab.ip(host)) for host in ("h2", "h3")]
    lab.check_output("h1", [sys.executable, "-c", SHOUT])
    assert [line(listener) for listener in listeners] == ["hello", "hello"]


@pytest.mark.parametrize("silent", [False, True])
def test_a_host_that_is_cut_off_returns_when_healed(lab: Lab, *, silent: bool) -> None:
    for host in ("h1", "h2"):
        start(lab, host, ECHO)
    wait_until_reached(lab, "h1", "h2")
    lab.cut("h1", silent=silent)
    assert not reaches(lab, "h1", "h2")
    assert not reaches(lab, "h2", "h1")
    carrier = lab.root("h1") / "sys/class/net/eth0/carrier"
    assert carrier.read_text() == ("1\n" if silent else "0\n")
    lab.heal("h1")
    wait_until_reached(lab, "h2", "h1")


def test_a_partition_separates_groups_and_a_block_one_direction(lab: Lab) -> None:
    for host in lab.names():
        start(lab, host, ECHO)
    lab.partition(["h1", "h2"], ["h3"])
    for source, target in (("h1", "h2"), ("ctl", "h1"), ("ctl", "h3")):
        wait_until_reached(lab, source, target)
    assert not reaches(lab, "h1", "h3")
    lab.heal()
    wait_until_reached(lab, "h1", "h3")
    lab.block("h1", "h2")
    assert not reaches(lab, "h2", "h1")  # the answer does not arrive
    wait_until_reached(lab, "h3", "h1")


def test_a_bad_network_delays_and_loses_frames(lab: Lab) -> None:
    start(lab, "h1", ECHO)
    lab.netem("h1", delay=40)
    assert all(trip is not None and trip >= 0.08 for trip in round_trips(lab, "h1", 3))
    lab.netem("h1", loss=100, only="in")
    wait_for(lambda: round_trips(lab, "h1", 1) == [None], 5, "frames to be lost")
    wait_for(lambda: lab.netem_stats("h1")["in"]["lost"] > 0, 5, "the loss to be counted")
    lab.heal("h1")
    assert None not in round_trips(lab, "h1", 3)


def test_a_paused_host_stands_still_and_goes_on(lab: Lab) -> None:
    start(lab, "h1", ECHO)
    assert None not in round_trips(lab, "h1", 1)
    lab.pause("h1")
    assert round_trips(lab, "h1", 1) == [None]
    lab.resume("h1")
    wait_for(lambda: None not in round_trips(lab, "h1", 1), 5, "an answer")


def test_a_power_cut_tells_nobody_and_a_shutdown_asks_first(lab: Lab) -> None:
    server = start(lab, "h1", ECHO)
    peer = start(lab, "h2", HOLD, lab.ip("h1"))
    lab.poweroff("h1")
    assert server.wait(5) == -signal.SIGKILL
    assert line(peer) == "silence"
    lab.boot("h1")
    server = start(lab, "h1", ECHO)
    wait_until_reached(lab, "h2", "h1")
    lab.shutdown("h1")
    assert server.wait(5) == -signal.SIGTERM


def test_tidying_heals_the_network_and_ends_what_was_started(lab: Lab) -> None:
    server = start(lab, "h1", ECHO)
    sleeper = lab.popen("h2", ["sleep", "60"])
    lab.cut("h1")
    lab.pause("h2")
    lab.tidy()
    assert [server.returncode, sleeper.returncode] == [-signal.SIGKILL] * 2
    assert server.stdout
    assert server.stdout.closed
    start(lab, "h1", ECHO)
    wait_until_reached(lab, "h2", "h1")


def test_nothing_is_left_of_a_lab_that_was_taken_down(tmp_path: Path) -> None:
    lab = Lab(tmp_path / "lab")
    lab.up(2)
    lab.netem("h1", delay=1)
    server = start(lab, "h1", ECHO)
    assert remains(lab)
    lab.down()
    assert server.returncode == -signal.SIGKILL
    assert remains(lab) == []
    assert not lab.folder.exists()


def test_a_lab_ends_with_the_process_that_made_it(tmp_path: Path) -> None:
    folder = tmp_path / "lab"
    with subprocess.Popen([sys.executable, "-c", ORPHAN, folder], stdout=subprocess.PIPE, text=True) as maker:
        assert line(maker) == "up"
        with Lab(folder) as lab:
            assert lab.groups.procs()
            maker.kill()
            maker.wait()
            wait_for(lambda: not lab.groups.procs(), 5, "the orphaned lab to end")
