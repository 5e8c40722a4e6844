"""What owners are told, and when."""

from collections.abc import Sequence

from mesh.wire.messages import Accepted, Pong, Started, Submit, TaskSpec
from meshnode.core.effects import Reply
from meshnode.core.held import COROUTINE, FOREVER, Held, Owner, TaskEntry
from meshnode.core.pool import Pool
from meshnode.core.window import AHEAD_S
from meshnode.core.word import NEWS_IDS, NEWS_S, NEWS_SLACK_S, Word

SLOW = TaskEntry(TaskSpec("slow"))


class Desk:
    """A word over as many idle workers as slots."""

    def __init__(self, slots: int = 4, *, concurrency: int = 1) -> None:
        self.pool = Pool(concurrency=concurrency, cores=1)
        for key in range(1, slots + 1):
            self.pool.add(key)
        self.word = Word(self.pool, slots)

    def hand_in(self, owner: Owner, numbers: Sequence[int], *, now: float = 0.0, given: bool = True) -> list[Held]:
        """Take jobs in, and give them to a worker each unless they are to wait."""
        held = [
            Held(Submit(number.to_bytes(16, "big"), 1, "slow", 0, None, None, b""), SLOW, owner, FOREVER)
            for number in numbers
        ]
        owner.jobs |= {one.submit.id: one for one in held}
        self.word.took_in(owner, held, now)
        if not given:
            owner.queued += len(held)
            return held
        for one in held:
            choice = self.pool.pick(SLOW, 1)
            assert choice is not None
            self.pool.give(choice[0], [one])
        return held

    def end(self, *jobs: Held) -> None:
        for held in jobs:
            held.over = True
            del held.owner.jobs[held.submit.id]
            self.pool.end(self.pool.workers[held.worker], [held.seq])
        self.word.ended_at_worker([held.owner for held in jobs])

    def ask(self, owner: Owner, now: float = 0.0) -> Reply:
        """Have an owner told something, and return what it and nobody else is told in this turn."""
        self.word.say(owner, Pong(1))
        (reply,) = self.word.replies(now)
        assert reply.owner is owner
        return reply

    def wake(self) -> list[Reply]:
        """Have told what is due next."""
        now = min(self.word.news_at, self.word.full_at)
        assert now != FOREVER
        if self.word.news_at == now:
            self.word.tell_news(now)
        if self.word.full_at == now:
            self.word.tell_full()
        return self.word.replies(now)


def caller(key: int = 11) -> Owner:
    return Owner(key, windowed=False)


# a turn's replies


def test_what_an_owner_is_told_in_a_turn_goes_in_one_reply_with_the_load() -> None:
    desk, owner = Desk(2, concurrency=3), Owner(1)
    owner.seen = 5
    desk.word.say(owner, Pong(1))
    desk.word.say(owner, Pong(2), Pong(3))
    assert desk.word.replies(0.0) == [Reply(owner, [Pong(1), Pong(2), Pong(3)], 6, 2, 6, 5)]
    assert owner.replies == []
    assert desk.word.replies(0.0) == []


def test_a_caller_of_the_bridge_is_told_no_window_and_nothing_where_there_is_nothing() -> None:
    desk, owner = Desk(), caller()
    assert desk.ask(owner) == Reply(owner, [Pong(1)])
    desk.word.say(owner)
    assert desk.word.replies(0.0) == []


def test_who_is_gone_is_told_nothing() -> None:
    desk, owner, other = Desk(), Owner(1), Owner(2)
    owner.gone = True
    desk.word.say(owner, Pong(1))
    desk.word.ended(owner)
    desk.word.ended_at_worker([owner])
    assert desk.word.replies(0.0) == []
    desk.word.say(other, Pong(1))
    desk.word.left(other)
    assert desk.word.replies(0.0) == []
    assert other.replies == []


# windows


def test_those_with_jobs_here_share_the_slots() -> None:
    desk, owner, other = Desk(), Owner(1), Owner(2)
    assert desk.ask(owner).window == 4
    desk.hand_in(other, [21])
    assert desk.ask(owner).window == 2
    assert desk.word.active == {2: other}


def test_an_owner_without_jobs_shares_nothing_any_more() -> None:
    desk, owner, other = Desk(), Owner(1), Owner(2)
    ended, cancelled = desk.hand_in(other, [21, 22])
    desk.end(ended)
    assert desk.word.active
    del other.jobs[cancelled.submit.id]
    desk.word.ended(other)
    assert not desk.word.active
    desk.word.left(other)
    assert desk.ask(owner).window == 4


def test_what_the_workers_finish_soon_widens_the_window() -> None:
    desk, owner = Desk(), Owner(1)
    desk.word.pace.finished(64, 64 * AHEAD_S / 8)
    assert desk.ask(owner).window == 4 + 4 * 8


def test_a_refusal_narrows_a_window_to_what_is_held_and_each_item_opens_it_again() -> None:
    desk, owner = Desk(), Owner(1)
    desk.word.pace.finished(64, 64 * AHEAD_S)
    desk.hand_in(owner, [1])
    desk.word.refused(owner)
    assert desk.word.pace.mean is None
    assert [desk.ask(owner).window for _ in range(4)] == [1, 2, 3, 4]


def test_an_owner_may_hand_in_its_share_of_the_slots_and_what_ends_soon() -> None:
    desk, owner, other = Desk(concurrency=2), Owner(1), Owner(2)
    brief, fetch = TaskEntry(TaskSpec("brief")), TaskEntry(TaskSpec("fetch"), COROUTINE)
    brief.runtime.observe(1, AHEAD_S / 10, AHEAD_S / 10)
    assert desk.word.room(owner, SLOW) == 2 * 4
    assert desk.word.room(owner, fetch) == 2 * 8
    assert abs(desk.word.room(owner, brief) - 80) <= 1
    desk.hand_in(owner, [1])
    desk.hand_in(other, [2])
    owner.queued_cost = 1.0
    assert desk.word.room(owner, SLOW) == 1


# whose window was full


def test_whose_window_was_full_hears_in_a_while_that_it_has_opened() -> None:
    desk, owner, other = Desk(2), Owner(1), Owner(2)
    desk.ask(other)
    (job,) = desk.hand_in(other, [21])
    desk.hand_in(owner, [1])
    desk.ask(owner)
    desk.end(job)
    assert [reply.owner for reply in desk.word.replies(0.0)] == [other]
    assert desk.word.full == {1: owner}
    assert desk.word.full_at == AHEAD_S
    assert [(reply.owner, reply.items, reply.window) for reply in desk.wake()] == [(owner, [], 2)]
    assert desk.word.full == {}


def test_whose_window_is_as_full_as_before_goes_on_waiting_and_who_has_room_by_now_does_not() -> None:
    desk, owner, other = Desk(2), Owner(1), Owner(2)
    jobs = desk.hand_in(owner, [1, 2])
    assert desk.ask(owner).window == 2
    desk.word.left(other)
    desk.word.replies(0.0)
    assert desk.wake() == []
    assert desk.word.full == {1: owner}
    del owner.jobs[jobs[0].submit.id]
    desk.word.left(other)
    desk.word.replies(0.0)
    assert desk.wake() == []
    assert desk.word.full == {}


def test_who_leaves_is_not_waited_for() -> None:
    desk, owner = Desk(1), Owner(1)
    (job,) = desk.hand_in(owner, [1])
    desk.ask(owner)
    assert desk.word.full == {1: owner}
    owner.gone = True
    desk.end(job)
    desk.word.left(owner)
    assert desk.word.full == {}
    assert desk.word.replies(0.0) == []


# jobs that wait


def test_whose_job_waits_although_it_was_told_of_idle_workers_hears_at_once() -> None:
    desk, owner = Desk(1), Owner(1)
    assert desk.ask(owner).free == 1
    desk.hand_in(Owner(2), [21])
    desk.word.replies(0.0)
    desk.hand_in(owner, [1], given=False)
    assert [(reply.owner, reply.items, reply.free) for reply in desk.word.replies(0.0)] == [(owner, [], 0)]
    desk.hand_in(owner, [2], given=False)
    assert desk.word.replies(0.0) == []


def test_who_fills_its_window_with_jobs_that_start_is_not_told_but_noted() -> None:
    desk, owner = Desk(2), Owner(1)
    desk.ask(owner)
    desk.hand_in(owner, [1])
    assert desk.word.replies(0.0) == []
    assert desk.word.full == {}
    desk.hand_in(owner, [2])
    assert desk.word.replies(0.0) == []
    assert desk.word.full == {1: owner}


def test_who_has_left_in_the_turn_of_its_jobs_is_not_noted() -> None:
    desk, owner = Desk(1), Owner(1)
    desk.hand_in(owner, [1])
    owner.gone = True
    assert desk.word.replies(0.0) == []
    assert desk.word.full == {}


# news


def test_after_a_while_an_owner_hears_what_is_held_and_what_runs() -> None:
    desk, owner = Desk(1), Owner(1)
    desk.hand_in(owner, [1])
    desk.hand_in(owner, [2], now=NEWS_SLACK_S / 2, given=False)
    desk.word.replies(0.0)
    assert desk.word.news_at == NEWS_S
    (reply,) = desk.wake()
    one, two = (number.to_bytes(16, "big") for number in (1, 2))
    assert reply.items == [Accepted([one]), Started([one]), Accepted([two])]
    assert all(held.told for held in owner.jobs.values())
    assert desk.word.news_at == FOREVER


def test_what_has_ended_by_then_is_no_news_and_the_bridge_hears_none() -> None:
    desk, owner = Desk(3), Owner(1)
    desk.ask(owner)
    jobs = desk.hand_in(owner, [1])
    desk.hand_in(caller(), [11])
    desk.end(*jobs)
    desk.word.replies(0.0)
    desk.word.tell_news(NEWS_S)
    assert desk.word.replies(0.0) == []
    assert desk.word.news_at == FOREVER


def test_news_of_very_many_come_in_several_items() -> None:
    desk, owner = Desk(), Owner(1)
    desk.hand_in(owner, range(NEWS_IDS + 1), given=False)
    desk.word.replies(0.0)
    (reply,) = desk.wake()
    assert [len(item.ids) for item in reply.items if isinstance(item, Accepted)] == [NEWS_IDS, 1]


# draining


def test_while_the_node_drains_there_is_no_window_and_who_heard_that_hears_when_there_is_one() -> None:
    desk, owner, other = Desk(), Owner(1), Owner(2)
    assert desk.ask(other).window == 4
    desk.word.drain()
    assert desk.ask(owner).window == 0
    desk.word.left(caller())
    desk.word.replies(0.0)
    assert desk.wake() == []
    desk.word.undrain()
    assert [(reply.owner, reply.window) for reply in desk.word.replies(0.0)] == [(owner, 4)]
    desk.word.undrain()
    assert desk.word.replies(0.0) == []
