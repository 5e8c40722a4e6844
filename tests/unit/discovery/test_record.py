from dataclasses import replace

import pytest

from meshdiscovery.record import (
    MAX_TXT,
    SERVICE_TYPE,
    BadRecord,
    Record,
    canonical_addresses,
    flaw,
    from_txt,
    from_txt_bytes,
    instance_name,
    server_name,
    to_txt,
)

RECORD = Record(
    mesh="default",
    node_id="0123456789abcdef0123456789abcdef",
    epoch="fedcba9876543210",
    name="web7.example",
    port=5750,
    versions=(1, 2),
    addresses=("10.0.0.7", "fd00::7"),
)


def txt_of(record: Record) -> dict[bytes, bytes | None]:
    return {key.encode(): value.encode() for key, value in to_txt(record).items()}


def on_the_wire(txt: dict[bytes, bytes | None]) -> bytes:
    strings = [key if value is None else key + b"=" + value for key, value in txt.items()]
    return b"".join(bytes([len(string)]) + string for string in strings)


def read(txt: dict[bytes, bytes | None], record: Record = RECORD) -> Record | BadRecord:
    return from_txt(txt, port=record.port, addresses=record.addresses)


def test_a_record_survives_its_txt() -> None:
    assert read(txt_of(RECORD)) == RECORD


def test_a_record_survives_the_wire() -> None:
    wire = on_the_wire(txt_of(RECORD))
    assert from_txt_bytes(wire, port=5750, addresses=RECORD.addresses) == RECORD


def test_txtvers_goes_out_first_and_keys_are_short() -> None:
    keys = list(to_txt(RECORD))
    assert keys[0] == "txtvers"
    assert max(map(len, keys)) <= 9


def test_the_service_type_is_legal_for_dns_sd() -> None:
    assert SERVICE_TYPE.split(".") == ["_meshnode", "_tcp", "local", ""]
    assert len("meshnode") <= 15


def test_keys_are_read_without_case() -> None:
    assert read({key.upper(): value for key, value in txt_of(RECORD).items()}) == RECORD


def test_unknown_keys_are_ignored() -> None:
    extra: dict[bytes, bytes | None] = {b"zone": b"\xff\x00", b"later": None, b"\xc3": b"x"}
    assert read(txt_of(RECORD) | extra) == RECORD


@pytest.mark.parametrize("key", list(to_txt(RECORD)))
def test_a_missing_key_is_bad(key: str) -> None:
    txt = txt_of(RECORD)
    del txt[key.encode()]
    assert read(txt) == BadRecord(f"no {key}")


@pytest.mark.parametrize("key", list(to_txt(RECORD)))
def test_a_key_given_twice_is_bad(key: str) -> None:
    wire = on_the_wire(txt_of(RECORD)) + on_the_wire({key.upper().encode(): b"x"})
    expected = BadRecord(f"{key} is given twice")
    assert from_txt_bytes(wire, port=5750, addresses=RECORD.addresses) == expected


@pytest.mark.parametrize("value", [None, b"caf\xc3\xa9"])
def test_a_value_that_is_no_ascii_text_is_bad(value: bytes | None) -> None:
    assert read(txt_of(RECORD) | {b"name": value}) == BadRecord("name is not ASCII text")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (b"txtvers", b"2"),
        (b"mesh", b""),
        (b"mesh", b"a b"),
        (b"mesh", b"m" * 64),
        (b"id", b"0" * 31),
        (b"id", b"A" * 32),
        (b"epoch", b"0" * 17),
        (b"port", b"5751"),
        (b"port", b"05750"),
        (b"port", b"+5750"),
        (b"proto", b"1"),
        (b"proto", b"1-"),
        (b"proto", b"0-1"),
        (b"proto", b"2-1"),
        (b"proto", b"1-256"),
        (b"proto", b"1-1000"),
        (b"name", b""),
        (b"name", b"n" * 64),
        (b"name", b"web7\n"),
    ],
)
def test_a_value_out_of_its_limits_is_bad(key: bytes, value: bytes) -> None:
    bad = read(txt_of(RECORD) | {key: value})
    assert isinstance(bad, BadRecord)
    assert key.decode() in bad.reason


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_a_port_out_of_range_is_bad(port: int) -> None:
    impossible = replace(RECORD, port=port)
    assert read(txt_of(impossible), impossible) == BadRecord("port is not 1 to 65535")


@pytest.mark.parametrize(
    ("addresses", "reason"),
    [
        ((), "no address"),
        (("fe80::1",), "no address"),
        (tuple(f"10.0.0.{n}" for n in range(9)), "more than 8 addresses"),
        (("10.0.0.1", "web7"), "an address is not an IPv4 or IPv6 literal without zone"),
        (("0.0.0.0",), "an address is unspecified, multicast or broadcast"),
        (("::",), "an address is unspecified, multicast or broadcast"),
        (("224.0.0.251",), "an address is unspecified, multicast or broadcast"),
        (("::ffff:224.0.0.251",), "an address is unspecified, multicast or broadcast"),
        (("ff02::fb",), "an address is unspecified, multicast or broadcast"),
        (("255.255.255.255",), "an address is unspecified, multicast or broadcast"),
    ],
)
def test_addresses_that_lead_nowhere_are_bad(addresses: tuple[str, ...], reason: str) -> None:
    assert from_txt(txt_of(RECORD), port=5750, addresses=addresses) == BadRecord(reason)


def test_an_address_with_a_zone_is_a_flaw() -> None:
    assert flaw(replace(RECORD, addresses=("fe80::1%eth0",))) is not None
    assert flaw(replace(RECORD, addresses=("fe80::1",))) is not None


def test_eight_addresses_are_read() -> None:
    addresses = [f"10.0.0.{n}" for n in range(8)]
    record = from_txt(txt_of(RECORD), port=5750, addresses=addresses)
    assert record == replace(RECORD, addresses=tuple(addresses))


def test_addresses_come_in_one_order_and_spelling() -> None:
    given = ["FD00:0::7", "10.0.0.10", "fe80::1", "::ffff:10.0.0.9", "10.0.0.10", "2001:db8::1%1"]
    assert canonical_addresses(given) == ("10.0.0.9", "10.0.0.10", "fd00::7")


def test_what_is_written_stays_far_below_the_limit() -> None:
    largest = replace(RECORD, mesh="m" * 63, name="n" * 63, port=65535, versions=(255, 255))
    assert flaw(largest) is None
    assert len(on_the_wire(txt_of(largest))) == 232


def test_txt_at_the_limit_is_read_and_beyond_it_is_bad() -> None:
    wire = on_the_wire(txt_of(RECORD))
    room = MAX_TXT - len(wire)
    full = wire + (b"\xff" + b"x" * 255) * (room // 256) + bytes([room % 256 - 1]) + b"x" * 300
    full = full[:MAX_TXT]
    assert from_txt_bytes(full, port=5750, addresses=RECORD.addresses) == RECORD
    bad = from_txt_bytes(full + b"\x00", port=5750, addresses=RECORD.addresses)
    assert bad == BadRecord("TXT is longer than 1024 bytes")


@pytest.mark.parametrize("cut", [b"\x05abcd", b"\x01"])
def test_txt_that_ends_within_a_string_is_bad(cut: bytes) -> None:
    wire = on_the_wire(txt_of(RECORD)) + cut
    bad = from_txt_bytes(wire, port=5750, addresses=RECORD.addresses)
    assert bad == BadRecord("TXT ends within a string")


def test_empty_strings_are_ignored() -> None:
    wire = b"\x00" + on_the_wire(txt_of(RECORD)) + b"\x00"
    assert from_txt_bytes(wire, port=5750, addresses=RECORD.addresses) == RECORD


def test_an_empty_txt_lacks_everything() -> None:
    assert from_txt_bytes(b"", port=5750, addresses=["10.0.0.1"]) == BadRecord("no txtvers")


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("web7", "web7-01234567"),
        ("web7.example", "web7-example-01234567"),
        ("web7-01234567", "web7-01234567"),
        ("n" * 63, "n" * 54 + "-01234567"),
    ],
)
def test_an_instance_name_is_one_label_with_the_short_id(name: str, label: str) -> None:
    assert instance_name(replace(RECORD, name=name)) == label
    assert len(label) <= 63


def test_the_server_name_is_the_nodes_own() -> None:
    assert server_name(RECORD) == "meshnode-0123456789abcdef0123456789abcdef.local."


# the node's key

KEY = "k" * 40


def test_a_record_with_a_key_survives_its_txt_and_one_without_names_none() -> None:
    keyed = replace(RECORD, key=KEY)
    assert read(txt_of(keyed)) == keyed
    assert from_txt_bytes(on_the_wire(txt_of(keyed)), port=5750, addresses=RECORD.addresses) == keyed
    assert "key" not in to_txt(RECORD)
    assert read(txt_of(keyed) | {b"KEY": b"x"}) == BadRecord("key is given twice")


@pytest.mark.parametrize("key", ["k" * 39, "k" * 41, "k" * 39 + "~", "k" * 39 + "\n", "k" * 39 + " "])
def test_what_is_no_key_spoils_the_record(key: str) -> None:
    flawed = replace(RECORD, key=key)
    assert flaw(flawed) == "key is not 40 characters of the Z85 alphabet"
    assert read(txt_of(flawed)) == BadRecord("key is not 40 characters of the Z85 alphabet")


def test_a_key_that_is_no_text_spoils_the_record() -> None:
    assert read(txt_of(RECORD) | {b"key": b"\xff" * 40}) == BadRecord("key is not ASCII text")
    assert read(txt_of(RECORD) | {b"key": None}) == BadRecord("key is not ASCII text")


def test_the_longest_record_with_a_key_is_read() -> None:
    longest = replace(RECORD, mesh="m" * 63, name="n" * 63, port=65535, versions=(254, 255), key=KEY)
    assert read(txt_of(longest), longest) == longest
    assert len(on_the_wire(txt_of(longest))) <= 277
