"""Which keys are allowed in a mesh, and what each may do."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.core.grants import ANYBODY, CLIENT, NODE, OPERATE, SUBMIT, Allowed, Grant, check_globs, check_key, check_name
from mesh.errors import ConfigError

KEY, OTHER, THIRD = "a" * 40, "b" * 40, "0123456789" * 4

TEXT = f"""
# who may speak

node   web7     {KEY}
client billing  {OTHER}  role=submit  tasks=send_*,report
   client ops   {THIRD} role=operate
"""


def test_a_list_names_nodes_and_clients_and_what_they_may() -> None:
    allowed = Allowed.parse(TEXT)
    assert allowed.entries == [
        (KEY, Grant(NODE, "web7")),
        (OTHER, Grant(CLIENT, "billing", SUBMIT, ("send_*", "report"))),
        (THIRD, Grant(CLIENT, "ops", OPERATE)),
    ]
    assert [allowed.grant(key) is grant for key, grant in allowed.entries] == [True] * 3
    assert [grant.public for _, grant in allowed.entries] == [KEY, OTHER, THIRD]
    assert allowed.grant("c" * 40) is None
    assert allowed.grant("") is None
    assert allowed.node_keys() == {KEY: "web7"}


def test_a_name_may_have_two_keys_the_oldest_first() -> None:
    allowed = Allowed.parse(f"node web7 {OTHER}\nclient web7 {THIRD}\nnode web7 {KEY}")
    assert allowed.keys_of(NODE, "web7") == [OTHER, KEY]
    assert allowed.keys_of(CLIENT, "web7") == [THIRD]
    assert allowed.keys_of(NODE, "web8") == []
    assert allowed.node_keys() == {OTHER: "web7", KEY: "web7"}


def test_an_empty_list_lets_nobody_in() -> None:
    assert Allowed.parse("").entries == Allowed.parse("# nobody\n\n").entries == []


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("node web7", "a line is: node NAME KEY"),
        (f"server web7 {KEY}", "it begins with 'server', not with node or client"),
        (f"Node web7 {KEY}", "it begins with 'Node'"),
        (f"node -web7 {KEY}", "'-web7' is no name"),
        (f"node {'w' * 64} {KEY}", "is no name: 1 to 63"),
        (f"node ../x {KEY}", "'../x' is no name"),
        ("node web7 short", "a key has 40 characters"),
        (f"node web7 {KEY}a", "a key has 40 characters"),
        (f"node web7 {'~' * 40}", "a key has 40 characters"),
        (f"node web7 {'#' * 40}", "more than 32 bits"),
        (f"node web7 {KEY} role=submit", "a node has no options"),
        (f"client a {KEY} role=admin", "'role=admin' is neither role=submit|operate nor tasks="),
        (f"client a {KEY} role=", "'role=' is neither"),
        (f"client a {KEY} tasks=", "'tasks=' is neither"),
        (f"client a {KEY} tasks=a,,b", "'' is no glob"),
        (f"client a {KEY} tasks={'x' * 201}", "is no glob"),
        (f"client a {KEY} # a remark", "'#' is neither"),
        (f"node web9 {OTHER}", "this key stands in another line too"),
    ],
)
def test_a_mistake_is_told_with_its_line(line: str, wrong: str) -> None:
    with pytest.raises(ConfigError) as error:
        Allowed.parse(f"# a remark\n\nnode web8 {OTHER}\n{line}\n", path="/etc/mesh/default/allowed")
    assert str(error.value).startswith("/etc/mesh/default/allowed, line 4: ")
    assert wrong in str(error.value)


@pytest.mark.parametrize(
    ("globs", "task", "may"),
    [
        (("*",), "anything", True),
        (("send_*",), "send_mail", True),
        (("send_*",), "Send_mail", False),
        (("send_*",), "resend_mail", False),
        (("send_*", "report"), "report", True),
        (("send_*", "report"), "reports", False),
        (("shop.*.x",), "shop.a.x", True),
        (("[ab]*",), "b1", True),
        (("?",), "ab", False),
        ((), "ab", False),
    ],
)
def test_a_clients_globs_say_which_tasks_it_may_run(globs: tuple[str, ...], task: str, *, may: bool) -> None:
    assert Grant(CLIENT, "a", SUBMIT, globs).may(task) is may
    assert Grant(CLIENT, "a", OPERATE, globs).may(task)
    assert Grant(NODE, "a", SUBMIT, globs).may(task)


def test_only_the_role_operate_operates() -> None:
    assert Grant(CLIENT, "ops", OPERATE).operates
    assert not Grant(CLIENT, "a").operates
    assert not Grant(NODE, "a").operates
    assert ANYBODY.operates
    assert ANYBODY.may("x")


def test_any_task_is_any_task() -> None:
    assert Grant(CLIENT, "a").any_task
    assert not Grant(CLIENT, "a", SUBMIT, ("send_*",)).any_task


def test_what_is_right_is_given_back() -> None:
    assert check_name("web-7.example_1") == "web-7.example_1"
    assert check_key(KEY) == KEY
    assert check_globs(["a", "b*"]) == ("a", "b*")


def z85(data: bytes) -> str:
    alphabet = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"
    text = ""
    for start in range(0, len(data), 4):
        value = int.from_bytes(data[start : start + 4], "big")
        text += "".join(alphabet[value // 85**power % 85] for power in (4, 3, 2, 1, 0))
    return text


names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", fullmatch=True)
publics = st.binary(min_size=32, max_size=32).map(z85)
globs = st.lists(st.from_regex(r"[a-z_.*?]{1,20}", fullmatch=True), min_size=1, max_size=4).map(tuple)
grants = st.one_of(
    st.builds(Grant, st.just(NODE), names),
    st.builds(Grant, st.just(CLIENT), names, st.just(SUBMIT), globs),
    st.builds(Grant, st.just(CLIENT), names, st.just(OPERATE)),
)


@given(st.dictionaries(publics, grants, max_size=8), names)
def test_what_is_written_is_read_the_same(entries: dict[str, Grant], mesh: str) -> None:
    written = Allowed(entries.items())
    read = Allowed.parse(written.written(mesh))
    assert read.entries == written.entries
    assert read.written(mesh) == written.written(mesh)


def flaw(text: str) -> str:
    """Return what is wrong with a list, empty for nothing; whatever else is raised is a defect."""
    try:
        Allowed.parse(text)
    except ConfigError as error:
        return str(error)
    return ""


@given(st.text(max_size=300))
def test_any_text_is_a_list_or_a_mistake_with_a_line(text: str) -> None:
    told = flaw(text)
    assert not told or re.match(r"allowed, line [0-9]+: ", told)


@given(st.text(alphabet="node clientweb7ab#=,*\n" + "a", max_size=200))
def test_lines_that_are_nearly_right_raise_nothing_else(text: str) -> None:
    told = flaw(text)
    assert not told or re.match(r"allowed, line [0-9]+: ", told)
