"""A node's settings: what may be written, and what it means."""

import os
import socket
from pathlib import Path
from typing import Any

import pytest

from mesh.errors import ConfigError
from meshnode import config
from meshnode.config import (
    Settings,
    endpoint,
    exposure_error,
    find_file,
    host_name,
    is_loopback,
    network,
    parse_address,
    parse_name,
    parse_size,
    read_file,
    read_token,
    runtime_folder,
)

KNOWN = {"mdns", "workers", "max_message", "bind", "bridge"}


def settings(*, name: str = "") -> Settings:
    return Settings(targets=(), folder=".", workers=1, name=name)


def written(folder: Path, text: str) -> Path:
    path = folder / "meshnode.toml"
    path.write_text(text)
    return path


# names


def test_a_node_is_shown_under_the_name_it_was_given() -> None:
    assert settings(name="here").shown_name == "here"


def test_two_nodes_without_a_name_on_one_host_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "box.example.org")
    one, other = settings(), settings()
    assert one.shown_name != other.shown_name
    assert one.shown_name == f"box-{one.node_id[:8]}"


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("box", "box"),
        ("box.example.org", "box"),
        ("Bär box", "B-r-box"),
        ("-box_", "box"),
        ("---", "node"),
        ("", "node"),
        (".local", "node"),
    ],
)
def test_a_hosts_name_is_made_fit_for_a_node(monkeypatch: pytest.MonkeyPatch, host: str, name: str) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: host)
    assert host_name() == name


@pytest.mark.parametrize("host", ["x" * 200, "x" * 49 + "-" * 20, "ä.b", "--a--"])
def test_the_name_of_a_node_that_got_none_is_always_a_valid_one(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: host)
    shown = settings().shown_name
    assert parse_name(shown) == shown


@pytest.mark.parametrize("name", ["a", "7", "A.b_c-d", "x" * 63])
def test_names_are_letters_digits_and_a_little_more(name: str) -> None:
    assert parse_name(name) == name


@pytest.mark.parametrize("name", ["", "-a", ".a", "a b", "ä", "a\n", "x" * 64])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="is no name"):
        parse_name(name)


# sizes


@pytest.mark.parametrize(
    ("text", "size"),
    [
        (4096, 4096),
        ("0", 0),
        ("512k", 512 << 10),
        ("64M", 64 << 20),
        ("64 MiB", 64 << 20),
        (" 1gb ", 1 << 30),
        ("7B", 7),
    ],
)
def test_sizes_are_bytes_or_powers_of_1024(text: str | int, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "M", "-1", "1.5M", "64T", "64 M B", -5])
def test_what_is_no_size_is_refused(text: str | int) -> None:
    with pytest.raises(ConfigError, match="is no size"):
        parse_size(text)


# addresses


def test_an_address_without_a_port_says_so() -> None:
    with pytest.raises(ConfigError, match="a port is missing"):
        parse_address("[::1]", what="--bind")


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("example.org:80", ("example.org", 80)),
        (":80", ("127.0.0.1", 80)),
        ("80", ("127.0.0.1", 80)),
        ("[::1]:80", ("::1", 80)),
        ("0.0.0.0:0", ("0.0.0.0", 0)),
        ("h:65535", ("h", 65535)),
    ],
)
def test_an_address_is_a_host_and_a_port_or_a_port_of_this_host(text: str, address: tuple[str, int]) -> None:
    assert parse_address(text, what="--bridge") == address


@pytest.mark.parametrize("text", ["", "host", "host:", "h:65536", "h:-1", "h:http", "h:٣", "h:123456"])
def test_an_address_without_a_port_is_refused_by_the_name_of_its_flag(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^--bridge .*must be a port"):
        parse_address(text, what="--bridge")


@pytest.mark.parametrize("text", ["::1:80", "fe80::1"])
def test_an_ipv6_address_needs_brackets(text: str) -> None:
    with pytest.raises(ConfigError, match="in brackets"):
        parse_address(text, what="--bridge")


@pytest.mark.parametrize(
    ("text", "bound"),
    [
        ("5750", "tcp://127.0.0.1:5750"),
        ("tcp://10.0.0.1:1", "tcp://10.0.0.1:1"),
        ("*:5750", "tcp://*:5750"),
        ("tcp://*:0", "tcp://*:0"),
        ("[::1]:5750", "tcp://[::1]:5750"),
    ],
)
def test_an_endpoint_may_be_written_in_short(text: str, bound: str) -> None:
    assert endpoint(text) == bound


@pytest.mark.parametrize("text", ["ipc:///tmp/x", "udp://h:1", "tcp://tcp://h:1"])
def test_only_tcp_can_be_bound(text: str) -> None:
    with pytest.raises(ConfigError, match="only tcp://"):
        endpoint(text)


@pytest.mark.parametrize("text", ["*", "*:", "*:x", "h"])
def test_an_endpoint_needs_a_port(text: str) -> None:
    with pytest.raises(ConfigError, match="--bind"):
        endpoint(text)


@pytest.mark.parametrize(
    ("host", "here_only"),
    [
        ("localhost", True),
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("*", False),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("localhost.example.org", False),
        ("127.example.org", False),
        ("fe80::1", False),
        ("127.9.9.9.example", False),
    ],
)
def test_only_loopback_reaches_nobody_else(host: str, *, here_only: bool) -> None:
    assert is_loopback(host) is here_only


# the bridge beyond this host


@pytest.mark.parametrize(
    ("text", "found"),
    [("10.0.0.0/8", "10.0.0.0/8"), ("10.1.2.3", "10.1.2.3/32"), ("2001:db8::/32", "2001:db8::/32"), ("::1", "::1/128")],
)
def test_a_network_may_be_one_address(text: str, found: str) -> None:
    assert network(text) == found


@pytest.mark.parametrize("text", ["", "host", "10.0.0.1/8", "10.0.0.0/33", "*", "10.0.0.0-10.0.0.9"])
def test_what_is_no_network_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="is no network"):
        network(text)


def exposed(bridge: str | None = "0.0.0.0:1", **options: Any) -> Settings:
    return Settings(targets=(), folder=".", workers=1, bridge=bridge, **options)


@pytest.mark.parametrize(
    ("made", "keyed"),
    [
        (exposed(None), False),
        (exposed("127.0.0.1:1"), False),
        (exposed("[::1]:1"), True),
        (exposed(insecure=True), False),
        (exposed(bridge_allow=("10.0.0.0/8",)), True),
        (exposed(bridge_token="token"), True),
    ],
)
def test_a_bridge_may_be_on_loopback_or_asked_for_without_keys_or_guarded_with_them(
    made: Settings, *, keyed: bool
) -> None:
    assert exposure_error(made, keyed=keyed) is None


@pytest.mark.parametrize(
    ("made", "keyed", "hint"),
    [
        (exposed(), False, "--insecure"),
        (exposed("10.1.2.3:5"), False, "--bridge 10.1.2.3:5 listens on the network"),
        (exposed(bridge_allow=("10.0.0.0/8",)), False, "`meshctl keygen` makes keys"),
        (exposed(), True, "--bridge-allow CIDR, --bridge-token FILE, or both"),
        (exposed("*:1", bridge_cert="cert"), True, "--bridge-token FILE"),
    ],
)
def test_else_it_is_refused_with_what_to_give(made: Settings, hint: str, *, keyed: bool) -> None:
    assert hint in (exposure_error(made, keyed=keyed) or "")


def secret(folder: Path, content: bytes, mode: int = 0o600) -> str:
    path = folder / "token"
    path.write_bytes(content)
    path.chmod(mode)
    return str(path)


@pytest.mark.parametrize("content", [b"s" * 16, b"s" * 16 + b"\n", b"s" * 16 + b"\r\nmore\n"])
def test_a_token_is_the_first_line_of_its_file(tmp_path: Path, content: bytes) -> None:
    assert read_token(secret(tmp_path, content, 0o640)) == b"s" * 16


@pytest.mark.parametrize("mode", [0o604, 0o602, 0o644])
def test_a_token_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(ConfigError, match="can be read by everybody here: chmod o= "):
        read_token(secret(tmp_path, b"s" * 16, mode))


@pytest.mark.parametrize("content", [b"", b"\n", b"short\n", b"x" * 1001, b"\n" + b"s" * 16])
def test_a_token_of_another_length_is_refused_with_how_to_make_one(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(ConfigError, match="openssl rand -hex 32"):
        read_token(secret(tmp_path, content))


def test_a_token_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="missing cannot be read: No such file"):
        read_token(str(tmp_path / "missing"))


# files


def test_the_file_that_is_named_is_taken_whether_it_exists_or_not() -> None:
    assert find_file("/nowhere/mine.toml") == Path("/nowhere/mine.toml")


def test_else_the_first_of_the_usual_files_that_exists_is_taken(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    first, second = tmp_path / "first.toml", tmp_path / "second.toml"
    monkeypatch.setattr(config, "FILES", (first, second))
    assert find_file(None) is None
    second.touch()
    assert find_file(None) == second
    first.mkdir()
    assert find_file(None) == second
    first.rmdir()
    first.touch()
    assert find_file(None) == first


def test_settings_are_read_under_the_names_of_their_flags(tmp_path: Path) -> None:
    path = written(tmp_path, 'workers = 3\nmax-message = "1M"\nbind = "*:1"\n')
    assert read_file(path, KNOWN) == {"workers": 3, "max_message": "1M", "bind": "*:1"}


@pytest.mark.parametrize(
    ("text", "mdns"), [("no-mdns = true", False), ("no_mdns = false", True), ("mdns = true", True)]
)
def test_a_switch_may_be_written_either_way_round(tmp_path: Path, text: str, *, mdns: bool) -> None:
    assert read_file(written(tmp_path, text), KNOWN) == {"mdns": mdns}


@pytest.mark.parametrize("text", ["no-workers = 3", 'no-bridge = "yes"', "no-nothing = true"])
def test_only_a_switch_has_an_opposite(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match="is no setting"):
        read_file(written(tmp_path, text), KNOWN)


def test_a_setting_that_is_unknown_is_named_with_the_one_near_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'max-mesage', which is no setting; did you mean 'max-message'"):
        read_file(written(tmp_path, "max-mesage = 1"), KNOWN)


def test_a_setting_like_no_other_is_told_which_there_are(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"known are bind, bridge, max-message, mdns, workers$"):
        read_file(written(tmp_path, "zzz = 1"), KNOWN)


def test_a_file_that_cannot_be_read_is_named_with_the_reason(tmp_path: Path) -> None:
    path = tmp_path / "missing.toml"
    with pytest.raises(ConfigError) as caught:
        read_file(path, KNOWN)
    assert str(path) in str(caught.value)
    assert "No such file" in str(caught.value)


@pytest.mark.parametrize("content", [b"workers = ", b"workers = 1\nworkers = 2\n", b'bind = "\xff"\n'])
def test_a_file_that_is_not_toml_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "meshnode.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"meshnode\.toml is not TOML"):
        read_file(path, KNOWN)


# where locks lie


def test_locks_lie_where_systemd_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RUNTIME_DIRECTORY", "/run/one:/run/two")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert runtime_folder() == Path("/run/one")


def test_a_user_keeps_locks_in_a_folder_of_the_session(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert runtime_folder() == tmp_path / "meshnode"


@pytest.mark.parametrize("session", [None, "", "/nowhere/at/all"])
def test_without_a_session_each_user_has_a_folder_of_his_own(
    monkeypatch: pytest.MonkeyPatch, session: str | None
) -> None:
    monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)
    if session is None:
        monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    else:
        monkeypatch.setenv("XDG_RUNTIME_DIR", session)
    monkeypatch.setattr(os, "getuid", lambda: 4711)
    assert runtime_folder() == Path("/tmp/meshnode-4711")
