"""Which workers drag on."""

from mesh.wire.messages import Submit, TaskSpec
from meshnode.core.held import FOREVER, Held, Owner, TaskEntry
from meshnode.core.pool import Pool, Worker
from meshnode.core.watch import DRAG_S, SURE_S, Watch

OWNER = Owner(1)


class Post:
    """A pool of one worker with jobs of a short task or a long one, and the watch over it."""

    def __init__(self, jobs: int, *, short: bool = True) -> None:
        entry = TaskEntry(TaskSpec("task"))
        run_time = 40e-6 if short else 0.005
        entry.runtime.observe(1, run_time, run_time)
        self.pool = Pool(concurrency=1, cores=1)
        self.pool.add(1)
        self.worker: Worker = self.pool.workers[1]
        held = [Held(Submit(bytes(16), 1, "task", 0, None, None, b""), entry, OWNER, FOREVER) for _ in range(jobs)]
        self.pool.give(self.worker, held)
        self.taken_up = 0
        self.watch = Watch(self.pool, lambda worker: self.taken_up)

    def look(self, now: float) -> bool:
        """Look, and say whether the worker drags on with jobs behind."""
        return self.watch.dragging(now) == [self.worker]


def test_a_worker_that_has_gone_no_further_at_the_second_look_drags_on() -> None:
    post = Post(2)
    assert post.watch.at == FOREVER
    post.watch.begin(post.worker, 1.0)
    assert post.worker.watched
    assert post.watch.at == 1.0 + DRAG_S
    assert not post.look(1.0 + DRAG_S / 2)
    assert post.look(1.0 + DRAG_S)
    assert not post.worker.watched
    assert post.watch.at == FOREVER


def test_a_worker_that_takes_up_another_job_is_looked_at_again() -> None:
    post = Post(3)
    post.watch.begin(post.worker, 0.0)
    post.taken_up = 1
    assert not post.look(DRAG_S)
    assert post.watch.at == 2 * DRAG_S
    assert post.look(2 * DRAG_S)


def test_a_worker_that_has_ended_a_job_is_looked_at_again_only_while_one_lies_behind_another() -> None:
    post = Post(3)
    post.watch.begin(post.worker, 0.0)
    post.pool.end(post.worker, [1])
    assert not post.look(DRAG_S)
    assert post.worker.watched
    post.pool.end(post.worker, [2])
    assert not post.look(2 * DRAG_S)
    assert not post.worker.watched
    assert not post.worker.stuck


def test_a_worker_that_drags_on_with_nothing_behind_is_stuck_and_has_nothing_to_give_back() -> None:
    post = Post(1)
    post.watch.begin(post.worker, 0.0)
    assert not post.look(DRAG_S)
    assert post.worker.stuck


def test_a_worker_that_is_stuck_or_idle_or_gone_is_left_alone() -> None:
    stuck, idle, gone = Post(2), Post(2), Post(2)
    for post in (stuck, idle, gone):
        post.watch.begin(post.worker, 0.0)
    stuck.worker.stuck = True
    idle.pool.end(idle.worker, [1, 2])
    gone.pool.remove(1)
    for post in (stuck, idle, gone):
        assert not post.look(DRAG_S)
        assert not post.worker.watched
        assert post.watch.at == FOREVER


def test_one_behind_a_job_that_was_sure_to_end_soon_waits_longer() -> None:
    post = Post(2, short=False)
    post.watch.begin(post.worker, 0.0)
    assert post.watch.at == SURE_S
    assert not post.look(SURE_S - DRAG_S)
    assert post.look(SURE_S)
