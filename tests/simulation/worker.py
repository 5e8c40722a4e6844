"""A worker process as its node sees it: it reads datagrams, runs what is in them, tells what ended, and may die."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mesh.wire.messages import Failed, Lost, NodeItem, Reject, Result, Submit
from meshnode.core import events
from meshnode.core.orders import End, Ran
from tests.simulation.agenda import Agenda
from tests.simulation.ledger import (
    AGAIN,
    CRASH,
    FAILED,
    HANG,
    INTERRUPTED,
    KILLED,
    LIMITED,
    RESULT,
    Entry,
    Execution,
    Ledger,
)

WAKE_S = 20e-6
"""Seconds for a worker to wake up when there is something to read."""

SIGNAL_S = 50e-6
"""Seconds for a signal to do what it is to do."""

FLUSH_S = 500e-6
"""Seconds for which a worker keeps outcomes while it has more to do (`meshnode.worker.loop`)."""

AGAIN_S = 0.02
"""Seconds after which a task that wants to be tried again wants that."""


@dataclass(slots=True)
class Run:
    """A job that a worker runs."""

    seq: int
    job: Submit
    entry: Entry
    execution: Execution


class SimulatedWorker:
    """Runs jobs one by one, or up to `concurrency` coroutines at once.

    `socket`: datagrams that it has not read, each the number of the first order and jobs of one task. `started`: the
    number of the last order that it has taken up, which its node sees. `say` tells the node what has ended, `gone`
    that the process is no more.
    """

    def __init__(
        self,
        agenda: Agenda,
        ledger: Ledger,
        key: int,
        *,
        where: str,
        concurrency: int,
        say: Callable[[events.Event], None],
        gone: Callable[["SimulatedWorker"], None],
    ) -> None:
        self.key = key
        self.born = agenda.now
        self.socket: deque[tuple[int, list[Submit]]] = deque()
        self.started = 0
        self.running: dict[int, Run] = {}
        self.dead = False
        self.ready = False
        self.ending = False
        self.replaced = False
        self._agenda = agenda
        self._ledger = ledger
        self._where = where
        self._concurrency = concurrency
        self._say = say
        self._gone = gone
        self._read: deque[tuple[int, Submit]] = deque()
        self._ran: list[Ran] = []
        self._calling: dict[bytes, Run] = {}
        self._flush_at = 0.0
        self._woken = False

    # what its node does

    def give(self, first: int, jobs: list[Submit]) -> None:
        """Send orders in one datagram."""
        self.socket.append((first, list(jobs)))
        self._wake()

    def take_back(self) -> list[int]:
        """Take out what it has not read, and have it say what has ended."""
        seqs = [seq for first, jobs in self.socket for seq in range(first, first + len(jobs))]
        self.socket.clear()
        self._agenda.after(SIGNAL_S, self._flush)
        return seqs

    def answer(self, items: Sequence[NodeItem]) -> None:
        """Tell it what came of calls that its jobs have made."""
        self._agenda.after(WAKE_S, lambda: self._take_answers(items))

    def end(self) -> None:
        """Have it end when it has done what it has."""
        self.ending = True
        self._wake()

    def interrupt(self, seq: int) -> None:
        """Have it stop a job, if that still runs and lets itself be stopped."""
        self._agenda.after(SIGNAL_S, lambda: self._stop(seq))

    def _stop(self, seq: int) -> None:
        run = self.running.get(seq)
        if run is not None and HANG not in run.entry.plan.ends and not self.dead:
            self._end(run, INTERRUPTED)

    def kill(self) -> None:
        """Send it SIGKILL."""
        self._agenda.after(SIGNAL_S, self.die)

    def die(self, of: Run | None = None) -> None:
        """It dies, of a job that it runs or of something else: what it had not said is lost."""
        if self.dead:
            return
        self.dead = True
        for job_id in self.suspects():
            self._ledger.died(job_id, self._where)
        for run in self.running.values():
            run.execution.ended = self._agenda.now
            run.execution.how = CRASH if run is of else KILLED
        self.running.clear()
        self._ran.clear()
        self._gone(self)

    def suspects(self) -> list[bytes]:
        """Return the jobs that it would seem to have died of now: those that run, or have ended untold."""
        running = [run.job.id for run in self.running.values()]
        ended = [
            end.id
            for ran in self._ran
            for seq, end in enumerate(ran.ends, ran.first)
            if seq == self.started or self._concurrency > 1
        ]
        return running + ended

    # what it does

    def _wake(self) -> None:
        if not self._woken and not self.dead:
            self._woken = True
            self._agenda.after(WAKE_S, self._awake)

    def _awake(self) -> None:
        self._woken = False
        self._go_on()

    def _go_on(self) -> None:
        """Take up what comes next, as far as it may."""
        while not self.dead and self._may_start():
            if not self._read:
                if not self.socket:
                    break
                first, jobs = self.socket.popleft()
                self._read.extend(enumerate(jobs, first))
            self._start(*self._read.popleft())
        if self.dead or self.running:
            return
        self._flush()
        if self.ending:
            self.dead = True
            self._gone(self)

    def _may_start(self) -> bool:
        return not self.running or (self._concurrency > 1 and self._all_async())

    def _all_async(self) -> bool:
        following = self._read[0][1] if self._read else self.socket[0][1][0] if self.socket else None
        return (
            following is not None
            and self._ledger.jobs[following.id].plan.task.is_async
            and all(run.entry.plan.task.is_async for run in self.running.values())
        )

    def _start(self, seq: int, job: Submit) -> None:
        self.started = max(seq, self.started)
        entry, execution, how = self._ledger.began(job.id, self._where, job.attempt, self._agenda.now)
        run = self.running[seq] = Run(seq, job, entry, execution)
        plan = entry.plan
        if how == HANG:
            return
        if plan.calls is not None and how == RESULT:
            self._agenda.after(plan.seconds / 2, lambda: self._call(run))
        elif plan.overruns and plan.task.limit is not None:
            self._agenda.after(plan.task.limit, lambda: self._end(run, LIMITED))
        else:
            self._agenda.after(plan.seconds, lambda: self._end(run, how))

    def _call(self, run: Run) -> None:
        """Have the job that runs call another one."""
        if self.running.get(run.seq) is run and not self.dead:
            called = self._ledger.called(run.entry, self._agenda.now)
            self._calling[called.id] = run
            self._say(events.Called(self.key, run.seq, called))

    def _take_answers(self, items: Sequence[NodeItem]) -> None:
        """Go on with the jobs that wait for these, of which a failure makes one too."""
        for item in items:
            if isinstance(item, Result | Failed | Reject | Lost) and not self.dead:
                self._ledger.answered(item, self._agenda.now)
                run = self._calling.pop(item.id)
                how = RESULT if isinstance(item, Result) else FAILED
                self._agenda.after(run.entry.plan.seconds / 2, lambda run=run, how=how: self._end(run, how))  # type: ignore[misc]

    def _end(self, run: Run, how: str) -> None:
        if self.running.get(run.seq) is not run or self.dead:
            return
        if how == CRASH:
            self.die(run)
            return
        del self.running[run.seq]
        now = self._agenda.now
        run.execution.ended, run.execution.how = now, how
        job = run.job
        end: End
        if how == RESULT:
            end = Result(job.id, job.attempt, b"")
        else:
            end = Failed(job.id, job.attempt, how.encode(), AGAIN_S if how == AGAIN else None)
        spent = round((now - run.execution.began) * 1e9)
        if not self._ran:
            self._flush_at = run.execution.began + FLUSH_S
        self._ran.append(Ran(run.seq, spent, spent, [end]))
        if now > self._flush_at or self._concurrency > 1:
            self._flush()
        self._go_on()

    def _flush(self) -> None:
        if self._ran and not self.dead:
            ran, self._ran = self._ran, []
            self._say(events.Ended(self.key, ran))
