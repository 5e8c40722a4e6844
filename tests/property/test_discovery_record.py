from hypothesis import given
from hypothesis import strategies as st

from meshdiscovery.record import (
    BadRecord,
    Record,
    canonical_addresses,
    flaw,
    from_txt,
    from_txt_bytes,
    instance_name,
    to_txt,
)

NAMES = st.from_regex(r"[A-Za-z0-9._-]{1,63}", fullmatch=True)
PORTS = st.integers(1, 65535)


def hexes(digits: int) -> st.SearchStrategy[str]:
    return st.text("0123456789abcdef", min_size=digits, max_size=digits)


@st.composite
def records(draw: st.DrawFn) -> Record:
    addresses = st.lists(st.ip_addresses().map(str), min_size=1, max_size=8).map(canonical_addresses)
    lowest, highest = sorted(draw(st.tuples(st.integers(1, 255), st.integers(1, 255))))
    record = Record(
        mesh=draw(NAMES),
        node_id=draw(hexes(32)),
        epoch=draw(hexes(16)),
        name=draw(NAMES),
        port=draw(PORTS),
        versions=(lowest, highest),
        addresses=("10.0.0.7",),
    )
    usable = addresses.filter(lambda found: flaw(replaced(record, found)) is None)
    return replaced(record, draw(usable))


def replaced(record: Record, addresses: tuple[str, ...]) -> Record:
    return Record(
        record.mesh,
        record.node_id,
        record.epoch,
        record.name,
        record.port,
        record.versions,
        addresses,
    )


@given(records(), st.randoms())
def test_every_record_survives_the_wire(record: Record, random: object) -> None:
    strings = [f"{key}={value}".encode() for key, value in to_txt(record).items()]
    random.shuffle(strings)  # type: ignore[attr-defined]
    wire = b"".join(bytes([len(string)]) + string for string in strings)
    assert from_txt_bytes(wire, port=record.port, addresses=record.addresses) == record


@given(st.binary(max_size=1100), PORTS, st.lists(st.text(max_size=40), max_size=10))
def test_any_bytes_end_in_a_record_or_a_bad_one(wire: bytes, port: int, addresses: list[str]) -> None:
    read = from_txt_bytes(wire, port=port, addresses=addresses)
    assert isinstance(read, Record | BadRecord)


KEYS = st.sampled_from([*to_txt(Record("", "", "", "", 0, (0, 0), ())), "TXTVERS", "other", ""])
NEARLY = st.sampled_from(["1", "m", "a" * 32, "1" * 16, "5750", "1-1", "1-0", "web7", "\0", "é"])


@given(
    st.dictionaries(
        KEYS.map(str.encode) | st.binary(max_size=9),
        st.none() | NEARLY.map(str.encode) | st.binary(max_size=300),
    ),
    st.integers(),
    st.lists(st.sampled_from(["10.0.0.7", "fe80::1", "::", "x", "fd00::1%1"]), max_size=10),
)
def test_any_mapping_ends_in_a_sound_record_or_a_bad_one(
    txt: dict[bytes, bytes | None], port: int, addresses: list[str]
) -> None:
    read = from_txt(txt, port=port, addresses=addresses)
    if isinstance(read, Record):
        assert flaw(read) is None
    else:
        assert read.reason


@given(records())
def test_instance_names_are_legal_labels(record: Record) -> None:
    label = instance_name(record)
    assert 1 <= len(label.encode()) <= 63
    assert "." not in label
    assert label.endswith(record.node_id[:8])


@given(st.lists(st.ip_addresses().map(str)), st.randoms())
def test_the_order_of_addresses_does_not_matter(addresses: list[str], random: object) -> None:
    shuffled = list(addresses)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert canonical_addresses(shuffled) == canonical_addresses(addresses)
    once = canonical_addresses(addresses)
    assert canonical_addresses(once) == once
