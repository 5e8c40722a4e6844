"""Who speaks to the node's front, and what their messages mean to the scheduler."""

import pytest

from mesh.core.grants import ANYBODY, CLIENT, NODE, OPERATE, SUBMIT, Grant
from mesh.wire.messages import (
    BUSY,
    EPOCH,
    FORCED,
    NOT_ALLOWED,
    RUNNING,
    UNSTARTED,
    VERSIONS,
    WRONG_KEY,
    WRONG_MESH,
    WRONG_VERSION,
    About,
    Answer,
    Bye,
    Cancel,
    ClientItem,
    ClientMessage,
    Drain,
    Hello,
    Keep,
    NodeItem,
    Operate,
    Ping,
    Pong,
    Query,
    Refuse,
    Reject,
    Stranger,
    Submit,
    SubmitLarge,
    TaskSpec,
    Welcome,
)
from mesh.wire.reports import Wrong, decode_wrong
from meshnode.core import peers as module
from meshnode.core.events import CancelAsked, Event, KeepAsked, Left, Queried, Spoken, Submitted
from meshnode.core.held import Owner
from meshnode.core.peers import SILENCE_S, STALE_MS, Peers

LIFE = b"epoch--1"
ABOUT = About("0" * 32, LIFE, "n1", "default", 4, 1, 1 << 20, [])
NOW = 100.0


def hello(*, mesh: str = "default", lowest: int = 1, highest: int = 1) -> Hello:
    return Hello("mesh", lowest, highest, mesh, "web")


def submit(number: int) -> Submit:
    return Submit(number.to_bytes(16, "big"), 1, "add", 0, None, None, b"")


def large(number: int) -> SubmitLarge:
    return SubmitLarge(number.to_bytes(16, "big"), 2, "add", 0, None, None, 1)


class Door:
    """A front's peers, and what came of what they said."""

    def __init__(self) -> None:
        self.peers = Peers(ABOUT)
        self.keys = 0

    def say(
        self, who: bytes, *items: ClientItem, now: float = NOW, epoch: bytes = LIFE, stamp: int | None = None
    ) -> tuple[list[Event], list[NodeItem]]:
        self.keys += 1
        heard = round(now * 1000) if stamp is None else stamp
        return self.peers.take(who, ClientMessage(epoch, heard, list(items)), now, self.keys)

    def greet(self, who: bytes, *, now: float = NOW) -> Owner:
        events, _ = self.say(who, hello(), now=now)
        (spoken,) = events
        assert isinstance(spoken, Spoken)
        return spoken.owner


def refusal(items: list[NodeItem]) -> Refuse:
    (item,) = items
    assert isinstance(item, Refuse)
    return item


def test_who_greets_is_welcomed_and_known() -> None:
    door = Door()
    events, items = door.say(b"a", hello())
    assert items == []
    (spoken,) = events
    assert isinstance(spoken, Spoken)
    assert spoken.items == [Welcome(1, ABOUT)]
    assert len(door.peers) == 1
    peer = door.peers.of(spoken.owner)
    assert peer is not None
    assert (peer.routing_id, peer.name) == (b"a", "web")


def test_many_greetings_and_pings_in_a_message_get_one_answer_each() -> None:
    door = Door()
    events, items = door.say(b"a", *[hello()] * 1000, *[Ping(n) for n in range(1000)])
    assert items == []
    assert [event.items for event in events if isinstance(event, Spoken)] == [[Welcome(1, ABOUT)], [Pong(999)]]
    assert len(events) == 2


def test_each_peer_has_an_owner_of_its_own_and_keeps_it() -> None:
    door = Door()
    one, other = door.greet(b"a"), door.greet(b"b")
    assert one.key != other.key
    assert door.greet(b"a") is one
    assert len(door.peers) == 2


def test_the_highest_version_that_both_speak_is_spoken() -> None:
    door = Door()
    events, _ = door.say(b"a", hello(highest=99))
    (spoken,) = events
    assert isinstance(spoken, Spoken)
    assert spoken.items == [Welcome(VERSIONS[1], ABOUT)]


@pytest.mark.parametrize(
    ("greeting", "reason"),
    [
        (hello(mesh="other"), WRONG_MESH),
        (hello(lowest=VERSIONS[1] + 1, highest=99), WRONG_VERSION),
        (hello(lowest=0, highest=VERSIONS[0] - 1), WRONG_VERSION),
    ],
)
def test_who_belongs_elsewhere_or_speaks_otherwise_is_refused(greeting: Hello, reason: str) -> None:
    door = Door()
    events, items = door.say(b"a", greeting, submit(1))
    assert events == []
    assert refusal(items).reason == reason
    assert len(door.peers) == 0


@pytest.mark.patched
def test_one_peer_too_many_is_refused_until_another_has_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_PEERS", 2)
    door = Door()
    door.greet(b"a")
    door.greet(b"b")
    assert refusal(door.say(b"c", hello())[1]).reason == BUSY
    assert len(door.peers) == 2
    door.greet(b"a")
    door.say(b"b", Bye())
    door.greet(b"c")


def test_a_stranger_is_told_to_greet_again_and_gets_its_jobs_back() -> None:
    door = Door()
    events, items = door.say(b"a", submit(1), Ping(7), large(2))
    assert events == []
    rejects, last = items[:-1], items[-1]
    assert [(r.id, r.attempt, r.reason) for r in rejects if isinstance(r, Reject)] == [
        (submit(1).id, 1, BUSY),
        (large(2).id, 2, BUSY),
    ]
    assert isinstance(last, Stranger)
    assert len(door.peers) == 0


def test_jobs_may_come_with_the_greeting_and_are_handed_in_together() -> None:
    door = Door()
    events, _ = door.say(b"a", submit(1), hello(), submit(2))
    submitted = [event for event in events if isinstance(event, Submitted)]
    assert [(event.jobs, event.stale) for event in submitted] == [([submit(1), submit(2)], False)]
    assert any(isinstance(event, Spoken) for event in events)


def test_a_job_is_handed_in_before_it_is_cancelled() -> None:
    door = Door()
    owner = door.greet(b"a")
    events, _ = door.say(b"a", Cancel(submit(1).id), submit(1))
    assert events == [Submitted(owner, [submit(1)]), CancelAsked(owner, submit(1).id)]


def test_a_ping_is_answered_with_its_token() -> None:
    door = Door()
    owner = door.greet(b"a")
    assert door.say(b"a", Ping(42)) == ([Spoken(owner, [Pong(42)])], [])


@pytest.mark.parametrize(("age_ms", "stale"), [(0, False), (STALE_MS, False), (STALE_MS + 1, True)])
def test_jobs_sent_on_word_that_is_too_old_are_stale(age_ms: int, *, stale: bool) -> None:
    door = Door()
    owner = door.greet(b"a")
    events, _ = door.say(b"a", submit(1), stamp=round(NOW * 1000) - age_ms)
    assert events == [Submitted(owner, [submit(1)], stale=stale)]


def test_jobs_meant_for_an_earlier_life_of_the_node_are_rejected_and_counted_as_seen() -> None:
    door = Door()
    owner = door.greet(b"a")
    events, items = door.say(b"a", submit(1), submit(2), epoch=b"epoch--0")
    assert items == []
    (spoken,) = events
    assert isinstance(spoken, Spoken)
    assert [(r.id, r.reason) for r in spoken.items if isinstance(r, Reject)] == [
        (submit(1).id, EPOCH),
        (submit(2).id, EPOCH),
    ]
    assert owner.seen == 2


def test_a_ping_across_lives_is_answered_all_the_same() -> None:
    door = Door()
    owner = door.greet(b"a")
    assert door.say(b"a", Ping(1), epoch=b"")[0] == [Spoken(owner, [Pong(1)])]


def test_a_job_whose_frame_is_missing_is_counted_and_handed_to_nobody() -> None:
    door = Door()
    door.greet(b"a")
    assert door.say(b"a", large(1)) == ([], [])
    assert door.peers.malformed == 1


def test_a_node_that_leaves_says_goodbye_to_all_and_to_whoever_greets_then() -> None:
    door = Door()
    first, second = door.greet(b"a"), door.greet(b"b")
    assert door.peers.leave() == [Spoken(first, [Bye()]), Spoken(second, [Bye()])]
    assert door.say(b"c", hello()) == ([], [Bye()])
    assert len(door.peers) == 2
    assert door.say(b"d", hello(mesh="another"))[1] == [Refuse(WRONG_MESH, "this node belongs to the mesh 'default'")]


def test_who_says_goodbye_is_forgotten_and_must_greet_anew() -> None:
    door = Door()
    owner = door.greet(b"a")
    assert door.say(b"a", Bye()) == ([Left(owner)], [])
    assert door.peers.of(owner) is None
    assert len(door.peers) == 0
    events, items = door.say(b"a", Ping(1))
    assert events == []
    assert [type(item) for item in items] == [Stranger]
    assert door.greet(b"a") is not owner


def test_who_cannot_be_reached_is_forgotten_once() -> None:
    door = Door()
    owner = door.greet(b"a")
    assert door.peers.lost(b"a") == [Left(owner)]
    assert door.peers.lost(b"a") == []
    assert door.peers.forget(owner) == []
    assert len(door.peers) == 0


def test_only_who_has_been_silent_for_long_is_forgotten() -> None:
    door = Door()
    silent, talks = door.greet(b"a", now=0.0), door.greet(b"b", now=0.0)
    late = door.greet(b"c", now=5.0)
    door.say(b"b", Ping(1), now=10.0)
    assert door.peers.forget_silent(SILENCE_S - 0.1) == []
    assert door.peers.forget_silent(SILENCE_S) == [Left(silent)]
    assert [peer.owner for peer in door.peers.everyone()] == [late, talks]
    assert door.peers.forget_silent(100.0) == [Left(late), Left(talks)]
    assert door.peers.everyone() == []
    assert door.peers.forget_silent(200.0) == []


# jobs of an earlier life of a client


def test_what_is_asked_for_in_one_message_is_looked_for_in_one_go() -> None:
    door = Door()
    owner = door.greet(b"a")
    events, _ = door.say(b"a", Query([submit(1).id, submit(2).id]), Ping(1), Query([submit(3).id]))
    assert events == [Spoken(owner, [Pong(1)]), Queried(owner, [submit(n).id for n in (1, 2, 3)])]


def test_what_is_asked_for_of_an_earlier_life_of_the_node_is_not_looked_for() -> None:
    door = Door()
    door.greet(b"a")
    assert door.say(b"a", Query([submit(1).id]), epoch=b"epoch--0") == ([], [])


def test_a_stranger_that_asks_is_told_to_greet_again() -> None:
    events, items = Door().say(b"a", Query([submit(1).id]), Keep(submit(2).id))
    assert events == []
    assert [type(item) for item in items] == [Stranger]


def test_a_greeting_and_a_question_may_come_together() -> None:
    door = Door()
    events, _ = door.say(b"a", hello(), Query([submit(1).id]))
    assert [type(event) for event in events] == [Spoken, Queried]


def test_a_job_is_kept_after_it_is_handed_in() -> None:
    door = Door()
    owner = door.greet(b"a")
    events, _ = door.say(b"a", Keep(submit(1).id), submit(1))
    assert events == [Submitted(owner, [submit(1)]), KeepAsked(owner, submit(1).id)]


@pytest.mark.parametrize("how", [UNSTARTED, RUNNING, FORCED])
def test_how_far_a_cancel_goes_is_passed_on(how: int) -> None:
    door = Door()
    owner = door.greet(b"a")
    assert door.say(b"a", Cancel(submit(1).id, how)) == ([CancelAsked(owner, submit(1).id, how)], [])


# a node that changes, drains or stood still


def test_who_greets_a_node_that_drains_hears_so_with_the_welcome() -> None:
    door = Door()
    door.peers.draining = True
    events, _ = door.say(b"a", hello())
    (spoken,) = events
    assert isinstance(spoken, Spoken)
    assert [type(item) for item in spoken.items] == [Welcome, Drain]


def test_who_greets_after_the_node_described_itself_anew_hears_that() -> None:
    door = Door()
    anew = About("0" * 32, LIFE, "n1", "default", 4, 1, 1 << 20, [TaskSpec("new")])
    door.peers.describe(anew)
    events, _ = door.say(b"a", hello())
    (spoken,) = events
    assert isinstance(spoken, Spoken)
    assert spoken.items == [Welcome(1, anew)]


def test_time_for_which_the_node_itself_stood_still_does_not_count_as_silence() -> None:
    door = Door()
    silent, talks = door.greet(b"a", now=0.0), door.greet(b"b", now=5.0)
    door.peers.excuse(10.0, 25.0)
    assert door.peers.forget_silent(10.0 + SILENCE_S - 0.1) == []
    assert door.peers.forget_silent(10.0 + SILENCE_S) == [Left(silent)]
    assert door.peers.forget_silent(15.0 + SILENCE_S) == [Left(talks)]


def test_nobody_is_heard_in_the_future_however_long_the_node_stood_still() -> None:
    door = Door()
    owner = door.greet(b"a", now=9.0)
    door.peers.excuse(100.0, 10.0)
    assert door.peers.forget_silent(10.0 + SILENCE_S) == [Left(owner)]


def test_everybody_has_heard_what_was_said_once_all_have_spoken_since() -> None:
    door = Door()
    assert door.peers.have_heard(5)
    door.say(b"a", hello(), stamp=5)
    door.say(b"b", hello(), stamp=4)
    assert not door.peers.have_heard(5)
    door.say(b"b", Ping(1), stamp=5)
    assert door.peers.have_heard(5)
    assert not door.peers.have_heard(6)


# keys

ADA = Grant(CLIENT, "ada", public="1" * 40)
BOB = Grant(CLIENT, "bob", SUBMIT, ("add*",), "2" * 40)


def with_key(
    door: Door, who: bytes, grant: Grant | None, *items: ClientItem, epoch: bytes = LIFE
) -> tuple[list[Event], list[NodeItem]]:
    door.keys += 1
    return door.peers.take(who, ClientMessage(epoch, round(NOW * 1000), list(items)), NOW, door.keys, grant=grant)


def greeted(door: Door, who: bytes, grant: Grant) -> Owner:
    ((spoken,), _) = with_key(door, who, grant, hello())
    assert isinstance(spoken, Spoken)
    return spoken.owner


def other_task(number: int) -> Submit:
    return Submit(number.to_bytes(16, "big"), 1, "mul", 0, None, None, b"")


def test_a_peer_may_what_its_key_may() -> None:
    door = Door()
    peer = door.peers.of(greeted(door, b"b", BOB))
    assert peer is not None
    assert peer.grant is BOB
    plain = door.peers.of(door.greet(b"a"))
    assert plain is not None
    assert plain.grant is ANYBODY


def test_whose_key_is_not_allowed_is_refused_and_hands_in_nothing() -> None:
    door = Door()
    events, items = with_key(door, b"a", None, hello(), submit(1))
    assert events == []
    assert refusal(items).reason == WRONG_KEY
    assert len(door.peers) == 0


def test_whose_key_is_not_allowed_any_more_is_forgotten_with_its_next_word() -> None:
    door = Door()
    owner = greeted(door, b"a", ADA)
    events, items = with_key(door, b"a", None, submit(1), Ping(1))
    assert events == [Left(owner, revoked=True)]
    assert refusal(items).reason == WRONG_KEY
    assert with_key(door, b"a", None, Ping(2)) == ([], items)


def test_another_list_forgets_whom_it_does_not_name_whether_they_speak_or_not() -> None:
    door = Door()
    ada, bob = greeted(door, b"a", ADA), greeted(door, b"b", BOB)
    assert door.peers.cut_off({ADA.public: ADA, BOB.public: BOB}.get) == ([], [])
    assert door.peers.cut_off({BOB.public: BOB}.get) == ([Left(ada, revoked=True)], [b"a"])
    assert [peer.owner for peer in door.peers.everyone()] == [bob]


def test_of_two_keys_of_one_name_only_the_one_that_is_taken_out_is_cut_off() -> None:
    door = Door()
    later = Grant(CLIENT, "ada", public="3" * 40)
    assert later == ADA
    greeted(door, b"a", ADA)
    stays = greeted(door, b"b", later)
    assert door.peers.cut_off({later.public: later}.get)[1] == [b"a"]
    assert [peer.owner for peer in door.peers.everyone()] == [stays]


def test_a_changed_grant_holds_from_the_next_word_on() -> None:
    door = Door()
    owner = greeted(door, b"b", BOB)
    renewed = Grant(CLIENT, "bob", SUBMIT, ("mul",), BOB.public)
    assert with_key(door, b"b", renewed, other_task(1)) == ([Submitted(owner, [other_task(1)])], [])
    peer = door.peers.of(owner)
    assert peer is not None
    assert peer.grant is renewed


def test_another_name_under_a_known_routing_id_is_another_peer_and_gets_nothing_of_the_first() -> None:
    door = Door()
    owner = greeted(door, b"a", ADA)
    events, items = with_key(door, b"a", BOB, submit(1))
    assert events == [Left(owner)]
    assert [type(item) for item in items] == [Reject, Stranger]
    assert greeted(door, b"a", BOB) is not owner


def test_a_node_of_the_same_name_is_not_the_client() -> None:
    door = Door()
    owner = greeted(door, b"a", ADA)
    assert with_key(door, b"a", Grant(NODE, "ada"), Ping(1))[0] == [Left(owner)]


def test_jobs_that_a_key_may_not_run_are_rejected_and_counted_as_seen_and_the_others_handed_in() -> None:
    door = Door()
    owner = greeted(door, b"b", BOB)
    events, items = with_key(door, b"b", BOB, submit(1), other_task(2), submit(3), other_task(4))
    assert items == []
    spoken, submitted = events
    assert submitted == Submitted(owner, [submit(1), submit(3)])
    assert isinstance(spoken, Spoken)
    assert [(r.id, r.reason) for r in spoken.items if isinstance(r, Reject)] == [
        (other_task(2).id, NOT_ALLOWED),
        (other_task(4).id, NOT_ALLOWED),
    ]
    assert owner.seen == 2  # the scheduler counts those that it is handed
    only, _ = with_key(door, b"b", BOB, Ping(1), other_task(5))
    assert [type(event) for event in only] == [Spoken, Spoken]
    assert owner.seen == 3


@pytest.mark.parametrize("grant", [Grant(NODE, "web7"), Grant(CLIENT, "ops", OPERATE), ADA, ANYBODY])
def test_who_may_run_every_task_is_asked_about_none(grant: Grant) -> None:
    door = Door()
    owner = greeted(door, b"a", grant)
    assert with_key(door, b"a", grant, other_task(1)) == ([Submitted(owner, [other_task(1)])], [])


def test_a_job_that_a_key_may_not_run_and_that_is_meant_for_an_earlier_life_is_rejected_once() -> None:
    door = Door()
    owner = greeted(door, b"b", BOB)
    ((spoken,), _) = with_key(door, b"b", BOB, other_task(1), epoch=b"epoch--0")
    assert isinstance(spoken, Spoken)
    assert [item.reason for item in spoken.items if isinstance(item, Reject)] == [EPOCH]
    assert owner.seen == 1


def test_what_a_peer_asks_of_the_node_waits_until_it_is_taken() -> None:
    door = Door()
    door.greet(b"a")
    question = Operate(7, "status", b"")
    assert door.say(b"a", question) == ([], [])
    ((peer, asked),) = door.peers.asked
    assert (peer.routing_id, asked) == (b"a", question)
    assert door.peers.routing_ids == {b"a"}


@pytest.mark.parametrize("grant", [Grant(CLIENT, "billing"), Grant(NODE, "web8")])
def test_who_may_not_operate_a_node_is_told_so(grant: Grant) -> None:
    door = Door()
    (greeted,) = door.peers.take(b"a", ClientMessage(b"", 0, [hello()]), NOW, 1, grant=grant)[0]
    assert isinstance(greeted, Spoken)
    owner = greeted.owner
    question = ClientMessage(LIFE, 0, [Operate(7, "drain", b"")])
    (spoken,) = door.peers.take(b"a", question, NOW, 2, grant=grant)[0]
    assert isinstance(spoken, Spoken)
    (answer,) = spoken.items
    assert isinstance(answer, Answer)
    assert (spoken.owner, answer.token, answer.ok) == (owner, 7, False)
    assert decode_wrong(answer.body) == Wrong("NotAllowed", "this key does not allow to operate nodes")
    assert door.peers.asked == []


def test_a_stranger_operates_nothing() -> None:
    door = Door()
    assert door.say(b"a", Operate(7, "drain", b"")) == ([], [Stranger()])
    assert door.peers.asked == []
