"""`meshctl keygen`: makes, rotates and revokes the keys of a mesh."""

import re
import shlex
import stat
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from mesh import keygen as module
from mesh.core.grants import ALLOWED, CLIENT, NODE, OPERATE, SUBMIT, Allowed, Grant
from mesh.ctl import group
from mesh.errors import ConfigError
from mesh.keygen import EPILOG, Workshop
from mesh.keys import KeyFile, default_folder


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("MESH_KEYS", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr(module, "host_name", lambda: "desk")
    monkeypatch.setattr(module, "user_name", lambda: "ada")
    return tmp_path


def run(*words: str) -> Result:
    return CliRunner().invoke(group, words)


def said(*words: str) -> str:
    done = run(*words)
    assert done.exit_code == 0, (done.output, done.exception)
    return done.output


def flaw(*words: str) -> str:
    """Return what is wrong with a command, as the user reads it."""
    done = run(*words)
    assert done.exit_code != 0
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        assert isinstance(done.exception, ConfigError)
        return str(done.exception)
    return done.output


def allowed(folder: Path) -> Allowed:
    return Allowed.parse((folder / ALLOWED).read_text())


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_it_begins_with_a_key_for_this_host_and_one_that_operates_for_this_user() -> None:
    text = said("keygen")
    folder = default_folder("default")
    assert f"made {folder} for the mesh 'default'" in text
    assert "node-desk.key" in text
    assert [grant for _, grant in allowed(folder).entries] == [Grant(NODE, "desk"), Grant(CLIENT, "ada", OPERATE)]
    assert {path.name for path in folder.iterdir()} == {ALLOWED, "node-desk.key", "client-ada.key"}
    assert (mode(folder), mode(folder / ALLOWED), mode(folder / "node-desk.key")) == (0o700, 0o644, 0o400)


def test_it_does_not_begin_twice() -> None:
    said("keygen")
    before = (default_folder("default") / ALLOWED).read_text()
    assert "holds keys already: `meshctl keygen list` shows them" in flaw("keygen")
    assert (default_folder("default") / ALLOWED).read_text() == before


def test_another_mesh_has_another_folder_and_so_has_one_that_is_named(home: Path) -> None:
    assert "meshnode --mesh shop" in said("-m", "shop", "keygen")
    assert KeyFile.read(default_folder("shop") / "node-desk.key").mesh == "shop"
    said("keygen", "--keys", str(home / "mine"))
    said("--keys", str(home / "other"), "keygen")
    said("keygen", "--keys", str(home / "mine"), "node", "web7")
    assert allowed(home / "mine").keys_of(NODE, "web7")
    assert not allowed(home / "other").keys_of(NODE, "web7")


def test_a_key_file_that_is_named_means_its_folder(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said("keygen", "--keys", str(home / "mine"))
    monkeypatch.setenv("MESH_KEYS", str(home / "mine" / "client-ada.key"))
    assert "desk" in said("keygen", "list")


def test_the_word_none_means_the_usual_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESH_KEYS", "none")
    said("keygen")
    assert default_folder("default").is_dir()


def examples() -> list[str]:
    return [line.partition("   ")[0] for line in re.findall(r"^  (meshctl keygen.*)$", EPILOG, re.MULTILINE)]


def test_every_example_of_its_help_works_in_that_order() -> None:
    found = examples()
    assert len(found) == 7
    for example in found:
        said(*shlex.split(example.removeprefix("meshctl ")))
    folder = default_folder("default")
    assert [(grant.kind, grant.name) for _, grant in allowed(folder).entries] == [
        (NODE, "desk"), (CLIENT, "ada"), (CLIENT, "ops"), (NODE, "web7"),
    ]  # fmt: skip
    assert {path.name for path in folder.glob("*.key*")} == {
        "node-desk.key", "client-ada.key", "client-ops.key", "node-web7.key",
    }  # fmt: skip


def test_a_node_and_clients_are_added_with_what_they_may() -> None:
    said("keygen")
    text = said("keygen", "node", "web7")
    assert "scp " in text
    assert "web7:/etc/mesh/default/" in text
    said("keygen", "client", "billing", "--tasks", "send_*,report", "--tasks", "x")
    said("keygen", "client", "ops", "--role", "operate")
    found = [grant for _, grant in allowed(default_folder("default")).entries[2:]]
    assert found == [
        Grant(NODE, "web7"),
        Grant(CLIENT, "billing", SUBMIT, ("send_*", "report", "x")),
        Grant(CLIENT, "ops", OPERATE),
    ]


def test_who_is_there_is_listed_with_what_it_may() -> None:
    said("keygen")
    said("keygen", "client", "billing", "--tasks", "send_*")
    (default_folder("default") / "node-desk.key").unlink()
    node, client, billing = said("keygen", "list").splitlines()
    assert re.fullmatch(r"node +desk +\S{40}", node)
    assert re.fullmatch(r"client +ada +\S{40} +operate +\* +secret here", client)
    assert re.fullmatch(r"client +billing +\S{40} +submit +send_\* +secret here", billing)


@pytest.mark.parametrize(
    ("words", "wrong"),
    [
        (("node", "desk"), "node desk has a key: --rotate makes a second one"),
        (("node", "web7", "--rotate"), "node web7 has no key that could be replaced: leave out --rotate"),
        (("node", "../web7"), "is no name"),
        (("client", "a b"), "is no name"),
        (("client", "bob", "--role", "admin"), "'admin' is not one of"),
        (("client", "bob", "--role", "operate", "--tasks", "x"), "leave out --tasks"),
        (("client", "bob", "--tasks", "a,,b"), "'' is no glob"),
        (("client", "ada", "--rotate", "--role", "submit"), "leave out --role and --tasks"),
        (("client", "ada", "--rotate", "--tasks", "x"), "leave out --role and --tasks"),
        (("revoke", "web7"), "'web7' is not in"),
        (("revoke", "desk", "--old"), "desk has one key only"),
        (("revoke", "desk", "--kind", "client"), "'desk' is not in"),
    ],
)
def test_what_makes_no_sense_is_told_and_changes_nothing(words: tuple[str, ...], wrong: str) -> None:
    said("keygen")
    folder = default_folder("default")
    before = {path: path.read_text() for path in folder.iterdir()}
    assert wrong in flaw("keygen", *words)
    assert {path: path.read_text() for path in folder.iterdir()} == before


@pytest.mark.parametrize("words", [("list",), ("revoke", "x")])
def test_before_it_has_begun_there_is_nothing(words: tuple[str, ...]) -> None:
    assert "`meshctl keygen` begins there" in flaw("keygen", *words)


def test_a_meshs_name_that_could_lead_elsewhere_is_refused() -> None:
    assert "is no name" in flaw("-m", "../x", "keygen")
    assert "is no name" in flaw("-m", 'a"b', "keygen")


def test_a_folder_that_cannot_be_written_is_named(home: Path) -> None:
    (home / "file").write_text("")
    assert "--keys DIR names another folder" in flaw("keygen", "--keys", str(home / "file" / "keys"))


def test_a_key_is_rotated_in_three_steps() -> None:
    said("keygen")
    folder = default_folder("default")
    former = KeyFile.read(folder / "node-desk.key")
    text = said("keygen", "node", "desk", "--rotate")
    assert [line[:2] for line in text.splitlines()[1:]] == ["1.", "2.", "3."]
    latter = KeyFile.read(folder / "node-desk.key")
    assert allowed(folder).keys_of(NODE, "desk") == [former.public, latter.public]
    assert KeyFile.read(folder / "node-desk.key.old").secret == former.secret
    assert "has two keys: first take the former one out, meshctl keygen revoke desk --old" in flaw(
        "keygen", "node", "desk", "--rotate"
    )
    assert "the former key of node desk is out of" in said("keygen", "revoke", "desk", "--old")
    assert allowed(folder).keys_of(NODE, "desk") == [latter.public]
    assert not (folder / "node-desk.key.old").exists()
    assert KeyFile.read(folder / "node-desk.key") == latter


def test_a_second_key_may_what_the_former_may() -> None:
    said("keygen")
    said("keygen", "client", "billing", "--tasks", "send_*")
    said("keygen", "client", "billing", "--rotate")
    grants = [grant for _, grant in allowed(default_folder("default")).entries if grant.name == "billing"]
    assert grants == [Grant(CLIENT, "billing", SUBMIT, ("send_*",))] * 2


def test_who_is_revoked_is_out_with_all_keys_and_secrets() -> None:
    said("keygen")
    folder = default_folder("default")
    said("keygen", "client", "ada", "--rotate")
    assert said("keygen", "revoke", "ada").count("client ada is out of") == 2
    assert {path.name for path in folder.iterdir()} == {ALLOWED, "node-desk.key"}
    assert [grant.name for _, grant in allowed(folder).entries] == ["desk"]


def test_a_node_and_a_client_of_one_name_are_told_apart() -> None:
    said("keygen")
    said("keygen", "client", "desk")
    assert "say --kind node or --kind client" in flaw("keygen", "revoke", "desk")
    said("keygen", "revoke", "desk", "--kind", "client")
    assert [(grant.kind, grant.name) for _, grant in allowed(default_folder("default")).entries] == [
        (NODE, "desk"),
        (CLIENT, "ada"),
    ]


def test_a_host_and_a_user_with_strange_names_get_keys_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "host_name", lambda: "-büro 7-")
    monkeypatch.setattr(module, "user_name", lambda: "___")
    said("keygen")
    assert [grant.name for _, grant in allowed(default_folder("default")).entries] == ["b-ro-7", "default"]


def test_a_flawed_list_is_not_written_over(home: Path) -> None:
    workshop = Workshop("default", home / "keys")
    workshop.begin()
    (home / "keys" / ALLOWED).write_text("node web7\n")
    with pytest.raises(ConfigError, match="line 1"):
        workshop.make(Grant(NODE, "web8"))
    assert (home / "keys" / ALLOWED).read_text() == "node web7\n"
    assert not (home / "keys" / "node-web8.key").exists()


def test_keygen_is_a_command_of_meshctl() -> None:
    assert isinstance(group.commands["keygen"], click.Group)
