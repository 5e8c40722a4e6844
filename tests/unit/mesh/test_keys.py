"""Key files, and where a mesh's keys are found."""

import os
from pathlib import Path

import pytest
import zmq

from mesh import keys as module
from mesh.core.grants import ALLOWED, CLIENT, NODE, Grant
from mesh.errors import ConfigError
from mesh.keygen import Workshop
from mesh.keys import KeyFile, Keyring, client_keyring, default_folder, find, node_keyring


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No keys anywhere: a home, and a host's own place, which are empty."""
    for name in ("MESH_KEYS", "CREDENTIALS_DIRECTORY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr(module, "SYSTEM", tmp_path / "etc")
    monkeypatch.setattr(module, "host_name", lambda: "web7")
    monkeypatch.setattr(module, "user_name", lambda: "ada")
    return tmp_path


def made(folder: Path, *names: str, mesh: str = "default") -> Path:
    """Make keys: `node-a`, `client-b`."""
    folder.mkdir(parents=True)
    for name in names:
        kind, _, own = name.partition("-")
        Workshop(mesh, folder).make(Grant(kind, own))
    return folder


# where


def test_where_nothing_is_there_are_no_keys() -> None:
    assert find("default", None) is None
    assert node_keyring("default", None, "") is None
    assert client_keyring("default", None) is None


def test_the_first_place_that_has_keys_counts(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    system = made(nowhere / "etc" / "default", "node-web7")
    assert find("default", None) == system
    own = made(nowhere / "config" / "mesh" / "default", "node-web7")
    assert find("default", None) == own == default_folder("default")
    named = made(nowhere / "named", "node-web7")
    monkeypatch.setenv("MESH_KEYS", str(named))
    assert find("default", None) == named
    given = made(nowhere / "given", "node-web7")
    assert find("default", given) == given
    assert find("default", str(given)) == given


def test_another_mesh_has_another_folder(nowhere: Path) -> None:
    made(nowhere / "etc" / "default", "node-web7")
    assert find("shop", None) is None
    shop = made(nowhere / "etc" / "shop", "node-web7", mesh="shop")
    assert find("shop", None) == shop


def test_a_folder_without_a_list_is_none(nowhere: Path) -> None:
    (nowhere / "etc" / "default").mkdir(parents=True)
    assert find("default", None) is None


def test_the_word_none_does_without(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made(nowhere / "etc" / "default", "node-web7")
    assert find("default", "none") is None
    monkeypatch.setenv("MESH_KEYS", "none")
    assert find("default", None) is None
    monkeypatch.setenv("MESH_KEYS", "")
    assert find("default", None) == nowhere / "etc" / "default"


@pytest.mark.parametrize("way", ["given", "environment"])
def test_what_is_named_has_to_be_there(nowhere: Path, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    monkeypatch.setenv("MESH_KEYS", str(nowhere / "nosuch"))
    with pytest.raises(ConfigError, match=r"there are no keys at .*nosuch: `meshctl --mesh default keygen --keys"):
        find("default", nowhere / "nosuch" if way == "given" else None)


def test_a_home_is_meant_by_its_sign(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(nowhere))
    folder = made(nowhere / "mine", "node-web7")
    assert find("default", "~/mine") == folder
    monkeypatch.delenv("XDG_CONFIG_HOME")
    assert default_folder("shop") == nowhere / ".config" / "mesh" / "shop"


def test_a_name_that_could_lead_elsewhere_is_not_looked_for(nowhere: Path) -> None:
    made(nowhere / "etc" / "default", "node-web7")
    assert find("../etc/default", None) is None
    assert find("..", None) is None


def test_a_user_without_a_home_looks_in_the_hosts_own_place(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    system = made(nowhere / "etc" / "default", "node-web7")

    def homeless(mesh: str) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(module, "default_folder", homeless)
    assert find("default", None) == system


def test_a_folder_that_this_user_may_not_look_into_is_a_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    def exists(path: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "exists", exists)
    with pytest.raises(ConfigError, match=r"etc/default/allowed cannot be looked at \(Permission denied\).* user ada"):
        find("default", None)


# which


@pytest.mark.parametrize(
    ("there", "name", "taken"),
    [
        (["web7", "web8"], "", "web7"),
        (["web7", "web8"], "web8", "web8"),
        (["web7", "web8"], "web9", "web7"),
        (["web8"], "", "web8"),
        (["web8"], "web9", "web8"),
    ],
)
def test_a_node_takes_the_key_of_its_name_else_of_its_host_else_the_only_one(
    nowhere: Path, there: list[str], name: str, taken: str
) -> None:
    folder = made(nowhere / "keys", *(f"node-{one}" for one in there), "client-ada")
    keyring = node_keyring("default", folder, name)
    assert keyring is not None
    assert keyring.own.name == taken


def test_a_client_takes_the_key_of_its_user_else_the_only_one_else_what_is_named(nowhere: Path) -> None:
    folder = made(nowhere / "keys", "client-bob", "node-web7")
    for expected in ("bob", "ada"):
        keyring = client_keyring("default", folder)
        assert keyring is not None
        assert keyring.own.name == expected
        if expected == "bob":
            Workshop("default", folder).make(Grant(CLIENT, "ada"))
    named = client_keyring("default", folder / "client-bob.key")
    assert named is not None
    assert named.own.name == "bob"
    assert named.folder == folder


def test_several_that_are_not_named_as_anything_are_a_mistake(nowhere: Path) -> None:
    folder = made(nowhere / "keys", "node-web1", "node-web2", "client-bob", "client-eve")
    with pytest.raises(
        ConfigError, match=r"several node keys \(node-web1.key, node-web2.key\): name the node as its key"
    ):
        node_keyring("default", folder, "")
    with pytest.raises(ConfigError, match=r"several client keys .*: name one: .*/client-bob.key"):
        client_keyring("default", folder)


def test_a_folder_without_a_key_of_the_kind_says_how_to_make_one(nowhere: Path) -> None:
    folder = made(nowhere / "keys", "client-ada")
    with pytest.raises(ConfigError, match=r"holds no node key: `meshctl --mesh default keygen node web7`"):
        node_keyring("default", folder, "")


def test_a_secret_may_come_as_a_credential(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = made(nowhere / "keys", "node-web7", "client-ada")
    credentials = nowhere / "credentials"
    credentials.mkdir()
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credentials))
    at_first = node_keyring("default", folder, "")
    (folder / "node-web7.key").rename(credentials / "node-web7.key")
    keyring, client = node_keyring("default", folder, ""), client_keyring("default", folder)
    assert at_first is not None
    assert keyring is not None
    assert client is not None
    assert keyring.own.path == credentials / "node-web7.key"
    assert (keyring.own.secret, keyring.folder) == (at_first.own.secret, folder)
    assert client.own.path == folder / "client-ada.key"


def test_a_key_of_another_mesh_or_kind_is_refused(nowhere: Path) -> None:
    folder = made(nowhere / "keys", "node-web7", "client-ada", mesh="shop")
    with pytest.raises(ConfigError, match=r"is a key of the mesh 'shop', not of 'default' \(--mesh\)"):
        node_keyring("default", folder, "")
    with pytest.raises(ConfigError, match=r"client-ada.key is the key of a client, not of a node"):
        node_keyring("shop", folder / "client-ada.key", "")
    with pytest.raises(ConfigError, match=r"node-web7.key is the key of a node, not of a client"):
        client_keyring("shop", folder / "node-web7.key")


# the files


@pytest.fixture
def key(nowhere: Path) -> Path:
    return made(nowhere / "keys", "node-web7") / "node-web7.key"


def test_a_key_file_survives_being_written(key: Path) -> None:
    own = KeyFile.read(key)
    assert (own.mesh, own.kind, own.name, own.file_name) == ("default", NODE, "web7", "node-web7.key")
    assert zmq.curve_public(own.secret.encode()).decode() == own.public
    again = key.parent / "again.key"
    again.write_text(own.written())
    again.chmod(0o400)
    assert KeyFile.read(again).secret == own.secret


def test_a_secret_is_shown_by_nothing(key: Path) -> None:
    own = KeyFile.read(key)
    assert own.secret not in repr(own)
    assert own.secret not in repr(Keyring(key.parent, own))


@pytest.mark.parametrize("mode", [0o404, 0o402, 0o401, 0o644])
def test_a_key_that_everybody_can_open_is_refused(key: Path, mode: int) -> None:
    key.chmod(mode)
    with pytest.raises(ConfigError, match=f"is open to every user of this host: chmod 0400 {key}"):
        KeyFile.read(key)


@pytest.mark.parametrize("mode", [0o400, 0o600, 0o440])
def test_a_key_of_its_owner_and_group_is_taken(key: Path, mode: int) -> None:
    key.chmod(mode)
    assert KeyFile.read(key).name == "web7"


@pytest.mark.parametrize(
    ("content", "flaw"),
    [
        (b"no toml", "is no key file: meshctl keygen makes them"),
        (b"\xff\xfe", "is not text"),
        (b'mesh = "default"\n', "it needs mesh, kind, name, public and secret"),
        (b'mesh="m"\nkind="node"\nname="a"\npublic=1\nsecret="s"\n', "it needs mesh"),
        (b'mesh="m"\nkind="node"\nname="a"\npublic="p"\nsecret="top-secret"\n', "a key has 40 characters"),
        (b"#" * (4 * 2**20 + 1), "is larger than 4 MiB"),
    ],
)
def test_what_is_no_key_file_says_so_and_nothing_of_what_is_in_it(tmp_path: Path, content: bytes, flaw: str) -> None:
    path = tmp_path / "node-a.key"
    path.write_bytes(content)
    path.chmod(0o400)
    with pytest.raises(ConfigError, match=flaw) as error:
        KeyFile.read(path)
    assert "top-secret" not in str(error.value)


def test_a_key_file_that_is_gone_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        KeyFile.read(tmp_path / "node-a.key")


# the list, as of now


def looked(keyring: Keyring, *, twice: bool = True) -> bool:
    """Look as a node does, once a second; True if a look said that another list is in force."""
    first = keyring.refresh()
    return keyring.refresh() if twice and not first else first


def test_a_key_without_its_list_is_a_mistake(key: Path) -> None:
    (key.parent / ALLOWED).unlink()
    with pytest.raises(ConfigError, match=r"cannot be read .No such file.*it lists who may speak"):
        Keyring(key.parent, KeyFile.read(key))


def test_a_list_is_read_again_when_two_looks_see_it_changed_and_the_same(key: Path) -> None:
    keyring = Keyring(key.parent, KeyFile.read(key))
    assert not looked(keyring)
    later = Workshop("default", key.parent).make(Grant(CLIENT, "bob"))
    assert not keyring.refresh()
    assert keyring.allowed.grant(later.public) is None
    assert keyring.refresh()
    assert keyring.allowed.grant(later.public) == Grant(CLIENT, "bob")
    assert not looked(keyring)


def test_a_list_that_is_being_written_is_left_alone_until_it_is_whole(key: Path) -> None:
    keyring = Keyring(key.parent, KeyFile.read(key))
    path = key.parent / ALLOWED
    whole = path.read_text() + "# more\n"
    for end in range(0, len(whole), 10):
        path.write_text(whole[:end])
        assert not keyring.refresh()
        assert keyring.allowed.grant(keyring.own.public) is not None
    path.write_text(whole)
    assert looked(keyring)
    assert keyring.flaw == ""


def test_a_list_with_a_mistake_leaves_the_former_in_force_until_it_is_mended(key: Path) -> None:
    keyring = Keyring(key.parent, KeyFile.read(key))
    path = key.parent / ALLOWED
    whole = path.read_text()
    path.write_text(whole + "node nonsense\n")
    assert not looked(keyring)
    assert "line 4: a line is" in keyring.flaw
    assert keyring.allowed.grant(keyring.own.public) is not None
    assert not looked(keyring)
    path.unlink()
    assert not looked(keyring)
    assert "cannot be read" in keyring.flaw
    path.write_text(whole)
    os.utime(path, ns=(1, 1))
    assert looked(keyring)
    assert keyring.flaw == ""


def test_a_change_while_the_list_is_read_first_is_not_missed(key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = KeyFile.read(key)
    read = Keyring._read

    def slow(keyring: Keyring) -> str:
        text = read(keyring)
        monkeypatch.undo()
        Workshop("default", key.parent).make(Grant(CLIENT, "bob"))
        return text

    monkeypatch.setattr(Keyring, "_read", slow)
    keyring = Keyring(key.parent, own)
    assert len(keyring.allowed.entries) == 1
    assert looked(keyring)
    assert len(keyring.allowed.entries) == 2


def test_this_host_and_this_user_have_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setattr("socket.gethostname", lambda: "web7.example.org")
    assert module.host_name() == "web7"
    monkeypatch.setattr("getpass.getuser", lambda: "ada")
    assert module.user_name() == "ada"

    def nobody() -> str:
        raise KeyError("no such user")

    monkeypatch.setattr("getpass.getuser", nobody)
    assert module.user_name() == str(os.getuid())
