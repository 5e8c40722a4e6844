"""What a scheduler's books say of jobs, for people who look. Pure: it changes nothing, and asks no worker."""

from collections.abc import Callable, Iterator

from mesh.wire.reports import JobReport, Jobs, RunningJob, is_meant
from meshnode.core.held import Held, Owner
from meshnode.core.pool import Worker
from meshnode.core.scheduler import Scheduler

SHOWN = 1000
"""Jobs in one report at most; the rest is counted."""

SHOWN_OF_WORKER = 16
"""Jobs that are shown of a worker that runs many coroutines."""

_ORDER = ("running", "sent", "forwarded", "waiting")


def running(worker: Worker, now: float, *, most: int = SHOWN_OF_WORKER) -> list[RunningJob]:
    """Return what a worker runs: its first job, or so many of its coroutines."""
    begun = list(worker.outstanding.values())[: most if worker.coroutines else 1]
    return [RunningJob(held.id.hex(), held.submit.task, _seconds(now, _began(held, worker))) for held in begun]


def begun(scheduler: Scheduler) -> int:
    """Count the jobs that run: a worker runs one, or as many coroutines as it has; others lie in its socket."""
    workers = scheduler.pool.workers.values()
    count = sum(len(worker.outstanding) if worker.coroutines else bool(worker.outstanding) for worker in workers)
    return min(count, scheduler.held)


def everything(scheduler: Scheduler) -> Iterator[Held]:
    """Go through all jobs that are held and not over."""
    for owner in scheduler.word.active.values():
        yield from owner.jobs.values()


def meant(scheduler: Scheduler, word: str) -> list[Held]:
    """Return the jobs that a word means: an id, the beginning of one, or its short form."""
    return [held for held in everything(scheduler) if is_meant(word, held.id.hex())]


def jobs(
    scheduler: Scheduler,
    now: float,
    *,
    task: str = "",
    word: str = "",
    name_of: Callable[[Owner], str] = lambda owner: "",
    slot_of: Callable[[int], int] = lambda worker: -1,
    most: int = SHOWN,
) -> Jobs:
    """Report the jobs held, of one `task` or those that a `word` means: what runs first, then what has waited longest.

    `name_of` an owner, for people; `slot_of` a worker's key.
    """
    wanted = [
        held
        for held in everything(scheduler)
        if (not task or held.submit.task == task) and (not word or is_meant(word, held.id.hex()))
    ]
    found = [(held, _state(scheduler, held)) for held in wanted]
    found.sort(key=lambda one: (_ORDER.index(one[1]), one[0].moment))
    shown: list[JobReport] = []
    for held, state in found[:most]:
        worker = scheduler.pool.workers.get(held.worker) if held.seq else None
        began = _began(held, worker) if worker is not None and state == "running" else held.moment
        shown.append(
            JobReport(
                id=held.id.hex(),
                task=held.submit.task,
                state=state,
                elapsed=_seconds(now, began),
                worker=-1 if worker is None else slot_of(worker.key),
                attempt=held.submit.attempt,
                client=name_of(held.owner),
            )
        )
    return Jobs(shown, len(found) - len(shown))


def _state(scheduler: Scheduler, held: Held) -> str:
    if held.forwarded:
        return "forwarded"
    if not held.seq:
        return "waiting"
    return "running" if scheduler.pool.running(held) else "sent"


def _began(held: Held, worker: Worker) -> float:
    return held.moment if worker.coroutines else max(held.moment, worker.since)


def _seconds(now: float, since: float) -> float:
    return round(max(0.0, now - since), 3)
