"""What a job costs in the cores, on the wire and in its worker, counted in calls: whatever the machine, a guard
against doubling it unseen. Calls between compiled functions are not seen, so it counts in plain Python: `make pure`.

The bounds lie at one and a half times what was counted when they were set. Who makes the path cheaper lowers them.
"""

import random
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from mesh.core.effects import Send, Settle
from mesh.core.events import Heard, Opening
from mesh.core.events import Submitted as Handed
from mesh.core.record import JobRecord
from mesh.core.session import Session
from mesh.tasks import Settings, Task
from mesh.wire.codec import Oddities, decode_client, decode_node, encode_client, encode_node
from mesh.wire.messages import (
    About,
    ClientMessage,
    Failed,
    NodeItem,
    NodeMessage,
    Result,
    Submit,
    TaskSpec,
    Welcome,
)
from mesh.wire.payload import pack_arguments
from meshnode.core.effects import Dispatch, Reply
from meshnode.core.events import Ended, Submitted, WorkerReady
from meshnode.core.held import Owner
from meshnode.core.orders import End, Ran
from meshnode.core.scheduler import Scheduler
from meshnode.worker.link import decode_orders, decode_ran, pack_orders, pack_ran
from meshnode.worker.runner import Runner

pytestmark = pytest.mark.patched

BATCH = 64
ROUNDS = 20
TASK = TaskSpec(name="noop")

NODE_CALLS = 1.5 * 14.4
CLIENT_CALLS = 1.5 * 8.2
WORKER_CALLS = 1.5 * 12.3
"""Calls for each job, of Python and of C functions, in batches of 64, on CPython 3.11, the test's own among them."""

CLIENT_MESSAGE = ClientMessage(
    b"epoch---", 1, [Submit(bytes(16), 1, "noop", 0, None, None, b"\x90") for _ in range(BATCH)]
)
NODE_MESSAGE = NodeMessage(2, 2, 10_000, 0, 0, [Result(bytes(16), 1, b"\xc0") for _ in range(BATCH)])
CLIENT_FRAMES, NODE_FRAMES = encode_client(CLIENT_MESSAGE), encode_node(NODE_MESSAGE)
CODEC: dict[str, tuple[Callable[[], object], float]] = {
    "encode_client": (lambda: encode_client(CLIENT_MESSAGE), 1.5 * 1.06),
    "decode_client": (lambda: decode_client(CLIENT_FRAMES, Oddities()), 1.5 * 0.11),
    "encode_node": (lambda: encode_node(NODE_MESSAGE), 1.5 * 1.06),
    "decode_node": (lambda: decode_node(NODE_FRAMES, Oddities()), 1.5 * 0.11),
}
"""What is done with a message of 64 items, and the bound of its calls for each of them."""


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


def repeat(run: Callable[[], object]) -> None:
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


@pytest.mark.parametrize("name", CODEC)
def test_an_item_costs_the_codec_a_bounded_number_of_calls(name: str) -> None:
    step, bound = CODEC[name]
    assert step()  # the first time fills caches
    each = calls_of(lambda: repeat(step)) / ROUNDS / BATCH
    print(f"{name}: {each:.2f} calls an item")
    assert each < bound


def test_a_job_costs_its_worker_and_the_way_there_and_back_a_bounded_number_of_calls() -> None:
    task = Task(lambda: None, "noop", Settings())
    runner = Runner([task])
    body = pack_arguments([], {})
    ended = 0

    def round_of_jobs() -> None:
        nonlocal ended
        jobs = [Submit(bytes(16), 1, "noop", 0, None, None, body) for _ in range(BATCH)]
        for datagram, _ in pack_orders(1, jobs):
            orders = decode_orders(datagram)
            ends: list[End] = [runner.run(task, job) for job in orders.jobs]
            for told, _ in pack_ran([Ran(orders.first, len(ends) * 1000, 1000, ends)]):
                ended += sum(type(end) is Result for ran in decode_ran(told) for end in ran.ends)

    round_of_jobs()
    calls = calls_of(lambda: repeat(round_of_jobs))
    assert ended == (ROUNDS + 1) * BATCH
    each = calls / ROUNDS / BATCH
    print(f"worker and link: {each:.1f} calls a job")
    assert each < WORKER_CALLS
