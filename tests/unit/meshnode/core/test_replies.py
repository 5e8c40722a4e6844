"""The answers that a bridge connection is owed."""

from meshnode.core.replies import Replies
from meshnode.core.request import Asked


def expected(replies: Replies, tag: bytes | None = None) -> Asked:
    asked = Asked(tag)
    replies.expect(asked)
    return asked


def test_nothing_is_owed_where_nothing_was_asked() -> None:
    replies = Replies()
    assert not replies
    assert not replies.lines
    assert replies.take() == b""


def test_answers_without_an_id_are_written_in_the_order_of_their_requests() -> None:
    replies = Replies()
    first, second, third = expected(replies), expected(replies), expected(replies)
    replies.answer(third, b"3\n")
    replies.answer(second, b"2\n")
    assert not replies.lines
    assert replies.in_order == 3
    replies.answer(first, b"1\n")
    assert replies.in_order == 0
    assert replies.take() == b"1\n2\n3\n"
    assert not replies


def test_an_answer_waits_only_for_earlier_ones() -> None:
    replies = Replies()
    first, second = expected(replies), expected(replies)
    replies.answer(first, b"1\n")
    assert replies.take() == b"1\n"
    assert replies.in_order == 1
    assert replies
    replies.answer(second, b"2\n")
    assert replies.take() == b"2\n"


def test_answers_with_an_id_are_written_as_they_come() -> None:
    replies = Replies()
    expected(replies)
    one, two = expected(replies, b"1"), expected(replies, b"2")
    assert replies.tags == {b"1", b"2"}
    replies.answer(two, b"two\n")
    assert replies.take() == b"two\n"
    assert replies.tags == {b"1"}
    replies.answer(one, b"one\n")
    assert replies.take() == b"one\n"
    assert replies.tags == set()


def test_an_answer_with_an_id_is_owed_until_it_is_given() -> None:
    replies = Replies()
    asked = expected(replies, b"1")
    assert replies
    assert replies.in_order == 0
    replies.answer(asked, b"1\n")
    assert not replies
    assert replies.lines


def test_what_is_answered_at_once_has_its_place_in_the_order_too() -> None:
    replies = Replies()
    first = expected(replies)
    replies.say(None, b"bad\n")
    assert replies.take() == b""
    replies.answer(first, b"1\n")
    assert replies.take() == b"1\nbad\n"


def test_what_is_answered_at_once_under_an_id_waits_for_nobody_and_leaves_an_open_id_open() -> None:
    replies = Replies()
    expected(replies)
    expected(replies, b"7")
    replies.say(b"7", b"in use\n")
    assert replies.take() == b"in use\n"
    assert replies.tags == {b"7"}


def test_what_was_taken_is_not_given_again() -> None:
    replies = Replies()
    replies.say(None, b"1\n")
    assert (replies.take(), replies.take()) == (b"1\n", b"")


def test_where_nobody_listens_answers_are_dropped_but_no_longer_owed() -> None:
    replies = Replies()
    first, second = expected(replies), expected(replies, b"2")
    replies.say(b"3", b"written already\n")
    replies.mute()
    assert not replies.lines
    replies.answer(first, b"1\n")
    replies.answer(second, b"2\n")
    assert replies.take() == b""
    assert not replies
