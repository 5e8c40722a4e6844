"""The order of a bridge connection's answers."""

from meshnode.core.replies import Replies
from meshnode.core.request import Asked


def test_answers_without_an_id_keep_the_order_of_their_requests() -> None:
    replies, first, second = Replies(), Asked(None), Asked(None)
    replies.expect(first)
    replies.expect(second)
    replies.answer(second, b"2\n")
    assert not replies.ready
    assert replies.in_order == 2
    replies.say(None, b"3\n")
    replies.answer(first, b"1\n")
    assert replies.take() == b"1\n2\n3\n"
    assert not replies


def test_answers_with_an_id_are_written_as_they_come() -> None:
    replies, first, second = Replies(), Asked(b"1"), Asked(b"2")
    replies.expect(first)
    replies.expect(second)
    replies.answer(second, b"two\n")
    replies.say(b"9", b"nine\n")
    assert replies.take() == b"two\nnine\n"
    assert replies.tags == {b"1"}
    assert replies


def test_a_muted_connection_is_owed_its_answers_but_gets_none() -> None:
    replies, asked = Replies(), Asked(None)
    replies.say(b"1", b"one\n")
    replies.expect(asked)
    replies.mute()
    assert not replies.ready
    assert replies
    replies.answer(asked, b"late\n")
    assert replies.take() == b""
    assert not replies
