from dataclasses import replace
from typing import assert_never

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from meshdiscovery.directory import Change, Changed, Directory, Found, Lost
from meshdiscovery.record import Record

MAX_NODES = 4
RECORD = Record("m", "0" * 32, "0" * 16, "web7", 5750, (1, 1), ("10.0.0.7",))

SOURCES = st.sampled_from(["mdns", "seeds", "peers"])
NODE_IDS = st.integers(0, 6).map("{:032x}".format)
RECORDS = st.builds(
    lambda mesh, node_id, life: replace(RECORD, mesh=mesh, node_id=node_id, epoch=f"{life:016x}"),
    st.sampled_from(["m", "m", "m", "other"]),
    NODE_IDS,
    st.integers(0, 2),
)


class Follower(RuleBasedStateMachine):
    """Follows the changes alone and must always know what the directory knows."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.directory = Directory("m", max_nodes=MAX_NODES, max_new_per_minute=30)
        self.known: dict[str, Record] = {}
        self.holders: dict[str, set[str]] = {}
        self.found_at: list[float] = []

    @rule(seconds=st.floats(0, 100))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(source=SOURCES, record=RECORDS)
    def a_source_sees(self, source: str, record: Record) -> None:
        self.follow(self.directory.seen(source, record, self.now))
        if record.mesh != "m":
            self.let_go(source, record.node_id)
        elif record.node_id in self.directory:
            self.holders.setdefault(record.node_id, set()).add(source)

    @rule(source=SOURCES, node_id=NODE_IDS)
    def a_source_lets_go(self, source: str, node_id: str) -> None:
        self.follow(self.directory.gone(source, node_id))
        self.let_go(source, node_id)

    def let_go(self, source: str, node_id: str) -> None:
        holders = self.holders.get(node_id, set())
        holders.discard(source)
        if not holders:
            self.holders.pop(node_id, None)

    def follow(self, changes: list[Change]) -> None:
        for change in changes:
            match change:
                case Found(record):
                    assert record.node_id not in self.known
                    self.known[record.node_id] = record
                    self.found_at.append(self.now)
                case Changed(record):
                    assert self.known[record.node_id] != record
                    self.known[record.node_id] = record
                case Lost(node_id):
                    del self.known[node_id]
                case _:
                    assert_never(change)

    @invariant()
    def changes_tell_everything(self) -> None:
        assert tuple(self.known.values()) == self.directory.records()

    @invariant()
    def a_node_is_there_while_a_source_holds_it(self) -> None:
        assert self.holders.keys() == self.known.keys()

    @invariant()
    def only_this_mesh_and_no_more_than_allowed(self) -> None:
        assert len(self.directory) <= MAX_NODES
        assert all(record.mesh == "m" for record in self.known.values())
        assert sum(at > self.now - 60 for at in self.found_at) <= 60


TestDirectory = Follower.TestCase
