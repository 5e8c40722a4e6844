"""Every job of a simulation: what it is to do, when it ran, what came of it; and what must never be."""

from dataclasses import dataclass, field
from itertools import repeat

from mesh.core.record import JobRecord
from mesh.errors import JobCancelled, JobLost, JobTimeout, MeshError, NoNodes, PoisonTask
from mesh.wire.messages import EXPIRED, GRACE, ClientMessage, Failed, Lost, Reject, Result, Submit, TaskSpec
from meshnode.core.outcomes import KEPT_S

CRASHES = 3
"""Workers that die of one job before it is given up."""

IN_A_ROW = 5
"""Workers that die of one task at one node before it is put in quarantine there."""

PROMPT_S = 0.01
"""Seconds after its deadline by which a job has its end, while its client runs."""

RESULT, FAILED, AGAIN, CRASH, HANG = "result", "failed", "again", "crash", "hang"
KILLED, INTERRUPTED, LIMITED = "killed", "interrupted", "limited"
"""How an execution ends: the first five by the job's own doing, the others by what is done to it."""


Outcome = Result | Failed | MeshError | Reject | Lost
"""What came of a job; the last two only where another job has called it."""


@dataclass(slots=True)
class Plan:
    """What a job does when it runs: for how many seconds, and how each time ends; the last of them is repeated.

    `calls`: halfway through it calls such another one, and waits for that.
    """

    task: TaskSpec
    seconds: float
    ends: tuple[str, ...] = (RESULT,)
    timeout: float | None = None
    priority: int = 5
    calls: "Plan | None" = None

    @property
    def poison(self) -> bool:
        """Does its worker die each time?"""
        return self.ends == (CRASH,)

    @property
    def overruns(self) -> bool:
        """Does it take longer than its task may?"""
        return self.task.limit is not None and self.seconds > self.task.limit


@dataclass(slots=True)
class Execution:
    """One time that a job ran: in which life of which node, and how that ended."""

    where: str
    attempt: int
    began: float
    ended: float | None = None
    how: str = ""


@dataclass(slots=True)
class Entry:
    """One job. `deaths`: workers that died of it, or as it seemed; `cancelled`: it was asked to end.

    `client` is 0 for a job that another one has called; `called`: those that it has called itself. `given_up`: it came
    to a node that its client had given up before that, for its silence.
    """

    plan: Plan
    client: int
    record: JobRecord
    submitted: float
    executions: list[Execution] = field(default_factory=list)
    deaths: int = 0
    cancelled: bool = False
    abandoned: bool = False
    given_up: bool = False
    called: list["Entry"] = field(default_factory=list)
    outcome: Outcome | None = None
    ended: float = 0.0

    def story(self) -> str:
        """Tell what happened to it."""
        ran = "; ".join(
            f"attempt {one.attempt} at {one.where} {one.began:.6f}–{'' if one.ended is None else f'{one.ended:.6f}'} "
            f"{one.how or 'runs'}"
            for one in self.executions
        )
        plan = self.plan
        what = f"{plan.task.name} {self.record.id.hex()[:8]} of client {self.client} ({'/'.join(plan.ends)})"
        end = f"{self.outcome!r} (started={getattr(self.outcome, 'started', None)}) at {self.ended:.6f}"
        when = f"submitted at {self.submitted:.6f}, timeout {plan.timeout}, cancelled {self.cancelled}"
        return f"{what}, {when}, state {self.record.state}: {end if self.outcome else 'no end'}; ran: {ran or 'never'}"


class Ledger:
    """All jobs by id, and the workers that died of each task in each life of a node."""

    def __init__(self) -> None:
        self.jobs: dict[bytes, Entry] = {}
        self.deaths: dict[tuple[str, str], int] = {}
        self.open = 0

    # what happens

    def submitted(self, plan: Plan, client: int, record: JobRecord, now: float) -> None:
        """A client hands in a job."""
        self.jobs[record.id] = Entry(plan, client, record, now)
        self.open += 1

    def began(self, job_id: bytes, where: str, attempt: int, now: float) -> tuple[Entry, Execution, str]:
        """A worker takes a job up; return how it is going to end if nothing is done to it."""
        entry = self.jobs[job_id]
        assert not _surely_not_run(entry.outcome), f"ran all the same: {entry.story()}"
        assert not entry.given_up, f"was given up before it came to its node, and runs: {entry.story()}"
        if entry.client:
            known = [one for one in entry.executions if one.where == where and one.attempt == attempt]
            assert not any(map(self._remembered, known, repeat(now))), f"one attempt runs twice: {entry.story()}"
        if not entry.plan.task.idempotent:
            assert all(one.how == AGAIN for one in entry.executions), f"runs twice (now at {where}): {entry.story()}"
        how = entry.plan.ends[min(len(entry.executions), len(entry.plan.ends) - 1)]
        execution = Execution(where, attempt, now)
        entry.executions.append(execution)
        return entry, execution, how

    @staticmethod
    def _remembered(execution: Execution, now: float) -> bool:
        """Does the node surely know this execution? An end that its worker did not tell is told only once."""
        if execution.ended is None:
            return True
        return execution.how not in (CRASH, KILLED) and now < execution.ended + KEPT_S

    def called(self, parent: Entry, now: float) -> Submit:
        """A job that runs calls another one; return what its node is to hear."""
        plan = parent.plan.calls
        assert plan is not None
        job_id = parent.record.id[:8] + len(self.jobs).to_bytes(8, "big")
        record = JobRecord(job_id, plan.task.name, b"args")
        entry = self.jobs[job_id] = Entry(plan, 0, record, now)
        parent.called.append(entry)
        remaining = None if plan.timeout is None else int(plan.timeout * 1000)
        return Submit(job_id, 1, plan.task.name, 0, remaining, None, b"args")

    def answered(self, item: Result | Failed | Reject | Lost, now: float) -> None:
        """A job that another one has called is over."""
        entry = self.jobs[item.id]
        assert entry.outcome is None, f"ends twice, now with {item!r}: {entry.story()}"
        entry.outcome, entry.ended = item, now
        ways = {one.how for one in entry.executions}
        match item:
            case Result():
                assert RESULT in ways, f"a result of nothing: {entry.story()}"
            case Failed():
                assert ways & {FAILED, AGAIN, LIMITED}, f"a failure of nothing: {entry.story()}"
            case Reject():
                assert not entry.executions, f"it did run: {entry.story()}"
            case Lost():
                unread = item.reason in (EXPIRED, GRACE)  # what lies unread at a worker then counts as run
                assert unread or entry.executions, f"it did not run: {entry.story()}"

    def arrived(self, message: ClientMessage) -> None:
        """A node reads this: jobs that their client has given up for the node's silence are not to run any more."""
        for item in message.items:
            if type(item) is Submit:
                entry = self.jobs[item.id]
                if entry.outcome is not None and "silent for" in str(entry.outcome):
                    entry.given_up = True

    def died(self, job_id: bytes, where: str) -> None:
        """A worker has died of a job, or as it seems to who looks from outside."""
        entry = self.jobs[job_id]
        entry.deaths += 1
        key = where, entry.plan.task.name
        self.deaths[key] = self.deaths.get(key, 0) + 1

    def abandoned(self, client: int) -> None:
        """A client is gone, and nobody asks for its jobs any more."""
        for entry in self.jobs.values():
            if entry.client == client and entry.outcome is None and not entry.abandoned:
                entry.abandoned = True
                self.open -= 1

    def settled(self, record: JobRecord, outcome: Result | Failed | MeshError, now: float, *, due: float) -> None:
        """A job is over; `due`: when its client could know at the latest that its time was up."""
        entry = self.jobs[record.id]
        assert entry.outcome is None, f"ends twice, now with {outcome!r}: {entry.story()}"
        assert not entry.abandoned, f"ends although its client is gone: {entry.story()}"
        entry.outcome, entry.ended = outcome, now
        self.open -= 1
        self._check(entry, outcome)
        if record.extras.deadline is not None:
            assert now <= due + PROMPT_S, f"ends {now - due:.3f} s after its deadline: {entry.story()}"

    # what must hold

    def _check(self, entry: Entry, outcome: Result | Failed | MeshError) -> None:
        ways = {one.how for one in entry.executions}
        match outcome:
            case Result():
                assert RESULT in ways, f"a result of nothing: {entry.story()}"
            case Failed():
                assert ways & {FAILED, AGAIN, INTERRUPTED, LIMITED}, f"a failure of nothing: {entry.story()}"
            case MeshError():
                assert outcome.started is not False or not entry.executions, f"it did run: {entry.story()}"
                self._check_error(entry, outcome)

    def _check_error(self, entry: Entry, error: MeshError) -> None:
        task, timeout = entry.plan.task, entry.plan.timeout
        match error:
            case PoisonTask():
                in_a_row = max((n for (_, name), n in self.deaths.items() if name == task.name), default=0)
                three = entry.plan.poison and entry.deaths >= CRASHES
                assert three or in_a_row >= IN_A_ROW, f"no poison: {entry.story()}"
            case JobLost():
                may = not task.idempotent or timeout is not None or entry.cancelled
                assert may, f"lost though it may run again: {entry.story()}"
            case JobTimeout():
                assert timeout is not None or task.limit is not None, f"it had time: {entry.story()}"
            case JobCancelled():
                assert entry.cancelled, f"nobody asked for that: {entry.story()}"
            case NoNodes():
                pass  # its client looks whether there were any
            case _:
                raise AssertionError(f"an end that cannot be: {entry.story()}")

    def check_all(self, breaks: dict[int, int]) -> None:
        """Look at every job when all is over. `breaks`: how often a client lost sight of jobs that a node held."""
        for entry in self.jobs.values():
            if entry.abandoned or not entry.client:
                continue
            assert entry.outcome is not None, f"never ends: {entry.story()}"
            if not entry.cancelled and entry.plan.timeout is None:
                self._check_unhurried(entry, breaks[entry.client])

    def _check_unhurried(self, entry: Entry, breaks: int) -> None:
        """A job with all the time that it needs ends as planned, if it may run as often as that."""
        plan = entry.plan
        if isinstance(entry.outcome, NoNodes):
            return
        if plan.poison and plan.task.idempotent:
            assert isinstance(entry.outcome, PoisonTask), f"poison is not found: {entry.story()}"
            assert entry.deaths <= CRASHES + breaks, f"too many workers died of poison: {entry.story()}"
        elif plan.task.idempotent and plan.ends[-1] == RESULT:
            assert isinstance(entry.outcome, Result | PoisonTask), f"no result: {entry.story()}"
        elif plan.ends == (HANG,) or plan.overruns:
            assert isinstance(entry.outcome, Failed | JobTimeout | JobLost), f"ran without limit: {entry.story()}"
        elif plan.ends == (RESULT,):
            ends = (Result, JobLost, *[Failed for one in entry.called if not isinstance(one.outcome, Result)])
            assert isinstance(entry.outcome, ends), f"no result: {entry.story()}"


def _surely_not_run(outcome: Outcome | None) -> bool:
    return isinstance(outcome, Reject) or (isinstance(outcome, MeshError) and outcome.started is False)
