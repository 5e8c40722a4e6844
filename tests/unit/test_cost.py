"""What a job costs in the two cores, counted in calls: a guard against doubling it unseen, whatever the machine.

The bounds lie at one and a half times what was counted when they were set. Who makes the path cheaper lowers them.
"""

import random
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

from mesh.core.effects import Send, Settle
from mesh.core.events import Heard, Opening
from mesh.core.events import Submitted as Handed
from mesh.core.record import JobRecord
from mesh.core.session import Session
from mesh.wire.messages import About, Failed, NodeItem, NodeMessage, Result, Submit, TaskSpec, Welcome
from meshnode.core.effects import Dispatch, Reply
from meshnode.core.events import Ended, Submitted, WorkerReady
from meshnode.core.held import Owner
from meshnode.core.orders import Ran
from meshnode.core.scheduler import Scheduler

BATCH = 64
ROUNDS = 20
TASK = TaskSpec(name="noop")

NODE_CALLS = 1.5 * 14.4
CLIENT_CALLS = 1.5 * 8.2
"""Calls for each job, of Python and of C functions, in batches of 64, on CPython 3.11, the test's own among them."""


def calls_of(run: Callable[[], None]) -> int:
    """Count the calls that `run` makes."""
    count = 0

    def note(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        run()
    finally:
        sys.setprofile(before)
    return count


def repeat(run: Callable[[], None]) -> None:
    for _ in range(ROUNDS):
        run()


def ran(dispatch: Dispatch) -> Ran:
    """What a worker says when each job took it a microsecond."""
    ends: list[Result | Failed] = [Result(job.id, job.attempt, b"\xc0") for job in dispatch.jobs]
    return Ran(dispatch.first, len(ends) * 1000, 1000, ends)


def test_a_job_costs_the_node_a_bounded_number_of_calls() -> None:
    scheduler = Scheduler([TASK], slots=2)
    owner = Owner(1)
    scheduler.handle([WorkerReady(1), WorkerReady(2)], 0.0)
    scheduler.tasks["noop"].runtime.observe(1000, 1e-3, 1e-6)
    scheduler._pace.finished(1000, 1e-3)
    numbers = iter(range(10**6))
    answered = 0

    def round_of_jobs() -> None:
        nonlocal answered
        jobs = [Submit(next(numbers).to_bytes(16), 1, "noop", 0, None, None, b"") for _ in range(BATCH)]
        effects = scheduler.handle([Submitted(owner, jobs)], 0.0)
        ended = [Ended(effect.worker, [ran(effect)]) for effect in effects if isinstance(effect, Dispatch)]
        replies = [effect for effect in scheduler.handle(ended, 0.0) if isinstance(effect, Reply)]
        answered += sum(type(item) is Result for reply in replies for item in reply.items)

    round_of_jobs()
    calls = calls_of(lambda: repeat(round_of_jobs))
    assert answered == (ROUNDS + 1) * BATCH
    each = calls / ROUNDS / BATCH
    print(f"node: {each:.1f} calls a job")
    assert each < NODE_CALLS


def test_a_job_costs_the_client_a_bounded_number_of_calls() -> None:
    session = Session(random.Random(1))
    about = About("0" * 32, b"epoch---", "n", "default", 2, 1, 1 << 20, [TASK])
    session.handle([Opening(1)], 0.0)
    session.handle([Heard(1, NodeMessage(2, 2, 10_000, 0, 0, [Welcome(1, about)]))], 0.0)
    numbers = iter(range(10**6))
    sent = settled = 0

    def round_of_jobs() -> None:
        nonlocal sent, settled
        records = [JobRecord(next(numbers).to_bytes(16), "noop", b"") for _ in range(BATCH)]
        sends = [effect for effect in session.handle([Handed(records)], 0.0) if isinstance(effect, Send)]
        sent += sum(len(send.message.items) for send in sends)
        results: list[NodeItem] = [Result(record.id, 1, b"\xc0") for record in records]
        effects = session.handle([Heard(1, NodeMessage(2, 2, 10_000, sent, 0, results))], 0.0)
        ended = [outcome for effect in effects if isinstance(effect, Settle) for _, outcome in effect.outcomes]
        settled += sum(type(outcome) is Result for outcome in ended)

    round_of_jobs()
    calls = calls_of(lambda: repeat(round_of_jobs))
    assert sent == settled == (ROUNDS + 1) * BATCH
    each = calls / ROUNDS / BATCH
    print(f"client: {each:.1f} calls a job")
    assert each < CLIENT_CALLS
