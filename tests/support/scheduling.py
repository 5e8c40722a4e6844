"""A node's scheduler at a desk: told what happens, step by step, and what it ordered is kept."""

import random
from collections.abc import Sequence

from mesh.wire.messages import Failed, Lost, NodeItem, Options, Reject, Result, RetrySpec, Submit, TaskSpec
from meshnode.core.effects import Dispatch, Effect, Forward, Reply, TakeBack
from meshnode.core.events import Ended, Event, ForwardEnded, Submitted, TakenBack, Tick, WorkerLost, WorkerReady
from meshnode.core.held import Held, Owner
from meshnode.core.orders import Ran
from meshnode.core.scheduler import Scheduler

TASKS = [
    TaskSpec("slow"),
    TaskSpec("short"),
    TaskSpec("steady"),
    TaskSpec("fetch", is_async=True),
    TaskSpec("safe", idempotent=True),
    TaskSpec("limited", limit=1.0, limit_kill=0.5, idempotent=True),
    TaskSpec("retried", retry=RetrySpec(n=2, backoff=1.0, cap=1.5)),
]
FAR = TaskSpec("far")
SHORT_S = 40e-6
STEADY_JOB_S = 0.005
MICROS = {"short": 40, "steady": 5000}
HIGH, LOW = Options(priority=9), Options(priority=1)


class Mesh:
    """The other nodes: `places` are free there for any task."""

    there = True

    def __init__(self) -> None:
        self.places = 0

    def free(self, task: str, *, is_async: bool) -> int:
        return self.places

    def spec(self, task: str) -> TaskSpec | None:
        return FAR if task == "far" else None


class LongestWaits(random.Random):
    """Of all waits that may be, the longest."""

    def uniform(self, a: float, b: float) -> float:
        return b


class Desk:
    """A scheduler whose `short` and `steady` jobs are known to be so, and what came of what it was told.

    `taken_up`: the last order that a worker has taken up, as far as it has told.
    """

    def __init__(
        self,
        workers: int = 1,
        *,
        cores: int = 1,
        concurrency: int = 1,
        backlog: int = 1000,
        limit: float | None = None,
        tasks: Sequence[TaskSpec] = TASKS,
    ) -> None:
        self.mesh = Mesh()
        self.taken_up: dict[int, int] = {}
        self.scheduler = Scheduler(
            tasks,
            slots=max(1, workers),
            concurrency=concurrency,
            cores=cores,
            backlog=backlog,
            limit=limit,
            elsewhere=self.mesh,
            taken_up=lambda worker: self.taken_up.get(worker, 0),
            rng=LongestWaits(),
        )
        self.scheduler.tasks["short"].runtime.observe(1, SHORT_S, SHORT_S)
        self.scheduler.tasks["steady"].runtime.observe(1, STEADY_JOB_S, STEADY_JOB_S)
        self.now = 0.0
        self.given: list[tuple[int, int]] = []
        self.told: dict[int, list[NodeItem]] = {}
        self.replies: list[Reply] = []
        self.forwards: list[Held] = []
        self.effects: list[Effect] = []
        self._seqs: dict[int, tuple[int, int]] = {}
        self._jobs: dict[int, Submit] = {}
        self.tell(*(WorkerReady(key) for key in range(1, workers + 1)))

    def tell(self, *events: Event) -> list[Effect]:
        self.effects = self.scheduler.handle(events, self.now)
        for effect in self.effects:
            if isinstance(effect, Dispatch):
                for seq, job in enumerate(effect.jobs, effect.first):
                    number = number_of(job.id)
                    self.given.append((effect.worker, number))
                    self._seqs[number] = effect.worker, seq
                    self._jobs[number] = job
            elif isinstance(effect, Reply):
                self.replies.append(effect)
                self.told.setdefault(effect.owner.key, []).extend(effect.items)
            elif isinstance(effect, Forward):
                self.forwards.append(effect.held)
        return self.effects

    def turns(self, owner: Owner, numbers: Sequence[int], task: str = "slow") -> None:
        """Let jobs come in a turn each."""
        for number in numbers:
            self.tell(Submitted(owner, [job(number, task)]))

    def at(self, now: float) -> list[Effect]:
        self.now = now
        return self.tell(Tick())

    def end(self, *numbers: int, end: type[Result | Failed] = Result, micros: int = 0) -> None:
        """Let jobs end where they are, after as long as their task takes unless `micros` says otherwise."""
        for number in numbers:
            worker, seq = self._seqs[number]
            job = self._jobs[number]
            spent = (micros or MICROS.get(job.task, 20_000)) * 1000
            self.tell(Ended(worker, [Ran(seq, spent, spent, [end(job.id, job.attempt, b"done")])]))

    def fail(self, number: int, *, again: float | None) -> None:
        """Let a job fail where it is, and its task say in how many seconds it wants to be tried again."""
        worker, seq = self._seqs[number]
        job = self._jobs[number]
        self.tell(Ended(worker, [Ran(seq, 1000, 1000, [Failed(job.id, job.attempt, b"no", again)])]))

    def die(self, number: int, *, successor: int = 0) -> None:
        """Let the worker die that runs a job, which is the last that it has taken up; another may come."""
        worker, seq = self._seqs[number]
        self.tell(WorkerLost(worker, seq, "killed"), *([WorkerReady(successor)] if successor else []))

    def forward_ended(self, held: Held, item: NodeItem | None = None) -> None:
        """Let another node end a job that was sent on there, or take none."""
        self.tell(ForwardEnded(held, item))

    def seq(self, number: int) -> int:
        """The number under which a worker has a job."""
        return self._seqs[number][1]

    def attempts(self, number: int) -> int:
        """How often a job was given to a worker."""
        return self.order().count(number)

    def taken_back(self, *numbers: int) -> None:
        """Let jobs be taken out of the socket where they are, all of one worker."""
        (worker,) = {self._seqs[number][0] for number in numbers}
        self.tell(TakenBack(worker, [self._seqs[number][1] for number in numbers]))

    def dispatched(self) -> list[tuple[int, list[int]]]:
        """The datagrams of this turn: worker and jobs."""
        return [
            (effect.worker, [number_of(job.id) for job in effect.jobs])
            for effect in self.effects
            if isinstance(effect, Dispatch)
        ]

    def order(self) -> list[int]:
        """The jobs in the order in which they were given to workers."""
        return [number for _, number in self.given]

    def at_worker(self, key: int) -> list[int]:
        return [number for worker, number in self.given if worker == key]

    def rejected(self, owner: Owner) -> list[tuple[int, str]]:
        items = self.told.get(owner.key, [])
        return [(number_of(item.id), item.reason) for item in items if isinstance(item, Reject)]

    def lost(self, owner: Owner) -> list[tuple[int, str, bool]]:
        items = self.told.get(owner.key, [])
        return [(number_of(item.id), item.reason, item.started) for item in items if isinstance(item, Lost)]

    def results(self, owner: Owner) -> list[int]:
        items = self.told.get(owner.key, [])
        return [number_of(item.id) for item in items if isinstance(item, Result)]


def number_of(job_id: bytes) -> int:
    return int.from_bytes(job_id, "big")


def job_id(number: int) -> bytes:
    return number.to_bytes(16, "big")


def job(number: int, task: str = "slow", *, options: Options | None = None, remaining: int | None = None) -> Submit:
    return Submit(job_id(number), 1, task, 0, remaining, options, b"args")


def jobs(numbers: Sequence[int], task: str = "slow") -> list[Submit]:
    return [job(number, task) for number in numbers]


def suspect(number: int, task: str = "slow", crashes: int = 1) -> Submit:
    """A job that workers have died of before."""
    return job(number, task, options=Options(crashes=crashes))


def resent(number: int, task: str = "slow", *, attempt: int = 1, remaining: int | None = None) -> Submit:
    """An attempt that may have been handed in before."""
    return Submit(job_id(number), attempt, task, 0, remaining, Options(resent=True), b"args")


def client(key: int = 1) -> Owner:
    return Owner(key)


def bridge(key: int = 11, *, most: int = 128) -> Owner:
    return Owner(key, most=most, windowed=False)


def taken_back_from(effects: Sequence[Effect]) -> list[int]:
    return [effect.worker for effect in effects if isinstance(effect, TakeBack)]
