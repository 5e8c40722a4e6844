"""What is wrong with a mesh, and what mends it: facts in, findings out. Pure; `meshctl doctor` gathers the facts."""

from collections import Counter
from collections.abc import Iterator
from statistics import median

from msgspec import Struct

from mesh.wire.messages import VERSIONS
from mesh.wire.reports import Reach, Status

CLOCK_S = 2.0
"""Seconds by which a node's clock may differ from ours."""

SETTLED_S = 10.0
"""Seconds after its start by which a node has found the others."""

CROWDED = 0.8
"""Share of its descriptors that a node may have open."""

LOW_MEMORY = 0.1
"""Share of a host's memory that is to be available."""

LARGE_WORKER = 256 << 20
LARGER = 3.0
"""Bytes of memory, and times the median of its node's, from which a worker is large."""

AUTH = "auth"
"""What the end of a link begins with where keys are to blame."""


class Interface(Struct, frozen=True):
    """An interface where mDNS is spoken; `error`: why our question could not be sent, `heard`: we heard it."""

    name: str
    address: str
    multicast: bool
    error: str
    heard: bool


class Announced(Struct, frozen=True):
    """A node as mDNS has it, and for each of its addresses why there is no TCP connection; empty where there is."""

    id: str
    name: str
    mesh: str
    versions: tuple[int, int]
    port: int
    addresses: dict[str, str]


class Seen(Struct, frozen=True, kw_only=True):
    """A node that greeted us. `offset`: its clock less ours, give or take `doubt`; `wrong`: why it tells nothing."""

    id: str
    name: str
    host: str
    endpoint: str
    version: str
    status: Status | None = None
    reach: Reach | None = None
    offset: float = 0.0
    doubt: float = 0.0
    wrong: str = ""


class Facts(Struct, frozen=True, kw_only=True):
    """Everything that was looked at. `ends`: how links ended, by endpoint; `looked`: mDNS was used."""

    mesh: str
    version: str
    looked: bool
    interfaces: list[Interface] = []
    announced: list[Announced] = []
    nodes: list[Seen] = []
    ends: dict[str, str] = {}


class Finding(Struct, frozen=True):
    """Something that is wrong (`error`) or may become so (`warning`), with what mends it."""

    level: str
    about: str
    text: str
    fix: str


def judge(facts: Facts) -> list[Finding]:
    """Return what is found, errors first."""
    found = [finding for look in _LOOKS for finding in look(facts)]
    return sorted(found, key=lambda finding: finding.level != "error")


def _error(about: str, text: str, fix: str) -> Finding:
    return Finding("error", about, text, fix)


def _warning(about: str, text: str, fix: str) -> Finding:
    return Finding("warning", about, text, fix)


# the network


def _multicast(facts: Facts) -> Iterator[Finding]:
    if not facts.looked:
        return
    for one in facts.interfaces:
        about = f"interface {one.name} ({one.address})"
        if not one.multicast:
            yield _error(about, "it has no multicast", f"ip link set {one.name} multicast on; or use --seed")
        elif one.error:
            fix = f"ip route add 224.0.0.0/4 dev {one.name}; or use --seed"
            yield _error(about, f"no multicast can be sent there: {one.error}", fix)
        elif not one.heard:
            fix = "let UDP 5353 in: nft add rule inet filter input udp dport 5353 accept; or use --seed"
            yield _error(about, "our own mDNS question is not heard there: UDP 5353 is filtered", fix)


def _nobody(facts: Facts) -> Iterator[Finding]:
    if facts.nodes:
        return
    others = Counter(one.mesh for one in facts.announced if one.mesh != facts.mesh)
    about = f"mesh {facts.mesh}"
    if others:
        named = ", ".join(f"{name} ({count})" for name, count in sorted(others.items()))
        yield _error(
            about, f"no node of it is here; there are nodes of: {named}", "name the mesh that you mean with -m"
        )
    else:
        yield _error(about, "no node of it is here", "start one (meshnode), or name one with --seed HOST:PORT")


def _hidden(facts: Facts) -> Iterator[Finding]:
    """Nodes that announce themselves, and that we know by a seed only."""
    heard = {one.id for one in facts.announced}
    for node in facts.nodes:
        announces = node.status is not None and node.status.announced and node.status.state != "draining"
        if facts.looked and announces and node.id not in heard:
            fix = "let UDP 5353 in and out on both hosts and in the network between them; or keep its seed"
            yield _error(f"node {node.name}", "it announces itself, and is not heard by mDNS", fix)


def _addresses(facts: Facts) -> Iterator[Finding]:
    for one in facts.announced:
        failed = {address: why for address, why in one.addresses.items() if why}
        if one.mesh != facts.mesh or not failed:
            continue
        which = ", ".join(f"{address}:{one.port} ({why})" for address, why in failed.items())
        if len(failed) == len(one.addresses):
            fix = f"let TCP {one.port} in on its host; or have it announce an address that works with --advertise"
            yield _error(f"node {one.name}", f"it is announced, and cannot be reached: {which}", fix)
        else:
            fix = "have it announce only what works with --advertise"
            yield _warning(f"node {one.name}", f"some announced addresses cannot be reached: {which}", fix)


def _refusals(facts: Facts) -> Iterator[Finding]:
    connected = {node.endpoint for node in facts.nodes}
    names = {_endpoint(address, one.port): one.name for one in facts.announced for address in one.addresses}
    unreachable = {
        _endpoint(address, one.port) for one in facts.announced for address, why in one.addresses.items() if why
    }
    for endpoint, why in sorted(facts.ends.items()):
        about = f"node {names[endpoint]} ({endpoint})" if endpoint in names else endpoint
        if endpoint in connected or endpoint in unreachable:
            continue
        if why.startswith(AUTH):
            fix = "give this client a key that stands in the node's `allowed`, and the node one that stands in ours"
            yield _error(about, f"the keys do not fit: {why.removeprefix(AUTH).lstrip(': ')}", fix)
        else:
            yield _error(
                about, f"no connection comes of it: {why}", "see that a node of this mesh and version runs there"
            )


def _endpoint(address: str, port: int) -> str:
    return f"tcp://[{address}]:{port}" if ":" in address else f"tcp://{address}:{port}"


def _one_way(facts: Facts) -> Iterator[Finding]:
    """Nodes that do not see each other, or only one way."""
    looking = {
        node.id: {one.id for one in node.reach.neighbours}
        for node in facts.nodes
        if node.reach is not None and node.reach.looks and _is_settled(node)
    }
    names = {node.id: node.name for node in facts.nodes}
    for one, theirs in looking.items():
        for other, whom in looking.items():
            if other == one or other in theirs:
                continue
            how = "although that one is connected to it" if one in whom else "nor that one to it"
            fix = f"let TCP in on the host of {names[other]}; see that what it announces can be reached from there"
            if one in whom or one < other:
                text = f"it is not connected to {names[other]}, {how}"
                yield _warning(f"node {names[one]}", text, fix)


def _is_settled(node: Seen) -> bool:
    return node.status is not None and node.status.uptime >= SETTLED_S


# versions and clocks


def _versions(facts: Facts) -> Iterator[Finding]:
    for one in facts.announced:
        if one.mesh == facts.mesh and (one.versions[0] > VERSIONS[1] or one.versions[1] < VERSIONS[0]):
            ours, theirs = (f"{low}–{high}" for low, high in (VERSIONS, one.versions))
            text = f"it speaks protocol versions {theirs}, this client {ours}"
            yield _error(f"node {one.name}", text, "bring both to versions that meet")
    by_version: dict[str, list[str]] = {}
    for node in facts.nodes:
        by_version.setdefault(node.version or "an earlier one", []).append(node.name)
    if len(by_version) > 1:
        listed = "; ".join(f"{version}: {', '.join(names)}" for version, names in sorted(by_version.items()))
        yield _warning("versions", f"nodes differ: {listed}", "finish the rollout")
    elif by_version and facts.version not in by_version:
        yield _warning("versions", f"this client is {facts.version}, the nodes {next(iter(by_version))}", "update one")


def _clocks(facts: Facts) -> Iterator[Finding]:
    for node in facts.nodes:
        off = abs(node.offset) - node.doubt
        if node.status is not None and off > CLOCK_S:
            way = "ahead of" if node.offset > 0 else "behind"
            text = f"its clock is {abs(node.offset):.1f} s {way} ours"
            yield _warning(f"node {node.name}", text, "have both hosts follow a time server (timedatectl set-ntp true)")


# nodes


def _states(facts: Facts) -> Iterator[Finding]:
    for node in facts.nodes:
        if node.status is None:
            yield _warning(
                f"node {node.name}", f"it could not be looked at: {node.wrong}", "use a key that operates nodes"
            )
        elif node.status.state == "unhealthy":
            yield _error(f"node {node.name}", f"it has no workers: {node.status.why}", "see its log")


def _descriptors(facts: Facts) -> Iterator[Finding]:
    for node in facts.nodes:
        have = node.status.descriptors if node.status is not None else None
        if have is None:
            continue
        fix = f"raise its limit: ulimit -n, or LimitNOFILE= in its unit, to {2 * have.needed} or more"
        if have.needed > have.limit:
            text = f"it needs {have.needed} descriptors, and may have {have.limit}"
            yield _error(f"node {node.name}", text, fix)
        elif have.used > CROWDED * have.limit:
            yield _warning(f"node {node.name}", f"{have.used} of {have.limit} descriptors are open", fix)


def _memory(facts: Facts) -> Iterator[Finding]:
    low: set[str] = set()
    for node in facts.nodes:
        status = node.status
        if status is None:
            continue
        host = status.host
        if host is not None and host.memory and host.available < LOW_MEMORY * host.memory and host.name not in low:
            low.add(host.name)
            text = f"{host.available >> 20} of {host.memory >> 20} MiB of memory are left"
            yield _warning(f"host {host.name}", text, "fewer workers (meshctl scale), or --max-memory-per-child")
        usual = median([worker.memory for worker in status.workers]) if status.workers else 0
        for worker in status.workers:
            if worker.memory > max(LARGE_WORKER, LARGER * usual):
                text = f"worker {worker.slot} (process {worker.pid}) has {worker.memory >> 20} MiB, the usual is "
                fix = "look for what its task keeps; --max-memory-per-child replaces such workers"
                yield _warning(f"node {node.name}", f"{text}{int(usual) >> 20}", fix)


_LOOKS = (
    _nobody, _multicast, _hidden, _addresses, _refusals, _versions, _one_way, _states, _clocks, _descriptors, _memory,
)  # fmt: skip
