import pytest

from meshdiscovery.seeds import Seed, SeedError, parse_seed


@pytest.mark.parametrize(
    ("text", "seed"),
    [
        ("web7:5751", Seed("web7", 5751)),
        ("web7", Seed("web7", 5750)),
        ("tcp://web7:5751", Seed("web7", 5751)),
        ("TCP://web7", Seed("web7", 5750)),
        (" web7.example.org.:1 ", Seed("web7.example.org.", 1)),
        ("my_container:65535", Seed("my_container", 65535)),
        ("10.0.0.7:5751", Seed("10.0.0.7", 5751)),
        ("[::1]", Seed("::1", 5750)),
        ("[::1]:5751", Seed("::1", 5751)),
        ("tcp://[FD00:0::7]:5751", Seed("fd00::7", 5751)),
        ("[fe80::1%eth0]:5751", Seed("fe80::1%eth0", 5751)),
    ],
)
def test_a_seed_is_read(text: str, seed: Seed) -> None:
    assert parse_seed(text) == seed


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("", "write host:port, as in web7:5750"),
        ("tcp://", "write host:port, as in web7:5750"),
        (":5750", "write host:port"),
        ("web 7:5750", "write host:port"),
        ("-web7:5750", "write host:port"),
        ("a" * 64, "write host:port"),
        ("http://web7:5750", "reached by TCP only; write host:port"),
        ("web7:", "a number from 1 to 65535, not ''"),
        ("web7:0", "a number from 1 to 65535, not '0'"),
        ("web7:65536", "a number from 1 to 65535, not '65536'"),
        ("web7:http", "a number from 1 to 65535, not 'http'"),
        ("web7:٣", "a number from 1 to 65535"),
        ("::1", "put an IPv6 address in brackets, as in [::1]:5750"),
        ("fd00::7:5750", "put an IPv6 address in brackets, as in [::1]:5750"),
        ("[::1", "write an IPv6 address as [::1] or [::1]:5750"),
        ("[::1]5750", "write an IPv6 address as [::1] or [::1]:5750"),
        ("[::1]:", "a number from 1 to 65535"),
        ("[web7]:5750", "brackets are for these only"),
    ],
)
def test_what_is_no_seed_is_refused_with_advice(text: str, advice: str) -> None:
    with pytest.raises(SeedError) as refused:
        parse_seed(text)
    assert advice in str(refused.value)
    assert repr(text) in str(refused.value)


def test_a_seed_error_is_a_value_error() -> None:
    assert issubclass(SeedError, ValueError)


@pytest.mark.parametrize("text", ["web7:5751", "[fd00::7]:5751", "10.0.0.7:5750"])
def test_a_seed_prints_as_it_is_written(text: str) -> None:
    assert str(parse_seed(text)) == text
