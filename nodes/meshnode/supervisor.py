"""The workers of a node: starts them, passes orders and outcomes, notices deaths, replaces the dead and the old.

Shell: reads what workers and zygotes say. Workers belong to a generation, one zygote's life: a reload starts another,
and each worker goes when its successor is there (`meshnode.generation`).
"""

import asyncio
import logging
import os
import signal
from contextlib import suppress
from typing import Final

from mesh.errors import ConfigError
from mesh.wire.messages import TaskSpec
from meshnode.config import Settings
from meshnode.generation import Generation, Link
from meshnode.staff import END, MEMORY_S, PLACES, Staff
from meshnode.worker.zygote import Config

log = logging.getLogger(__name__)


SCALE_LEAST: Final = 256
"""Workers that a node can be scaled to at least, if it has begun with few; else to twice what it began with."""


class Supervisor(Staff):
    """Keeps `slots` workers at work, and `spares` more if it is told to. `turn` is called with the events of each turn.

    `on_served` is called with the tasks that are served from now on whenever they change; `job_at` tells which job a
    worker has under a number, for the log. `max_jobs`: jobs after which
    a worker is replaced, at random up to `jitter` fewer; `max_memory`: bytes of its own memory after which it is.
    `unhealthy` says why the node has no workers, while it has none. `died`, `killed`, `recycled` count workers that
    ended by themselves, were killed for a job of theirs, and were replaced for their jobs or their memory. `exits`: how
    the last worker of a slot ended that was not told to.
    """

    async def load(self) -> list[TaskSpec]:
        """Start the zygote and return the tasks of the application. Raises ConfigError if it does not import."""
        self._loop.add_reader(self._epoll.fileno(), self._readable)
        self._generation = self._start_generation()
        self._tasks = await self._generation.loaded
        return self._tasks

    async def start_workers(self) -> None:
        """Fork all workers, and return when every one has set up; those that cannot are started again and again."""
        assert self._generation is not None
        self._staffed = True
        for slot in range(self.slots):
            self._fork(slot, self._generation)
        await self._ready.wait()
        if self._max_memory is not None:
            self._later(MEMORY_S, self._weigh)

    async def reload(self) -> str | None:
        """Replace all workers by such as run the application as it is now; return what went wrong, None if nothing did.

        One worker of the new code comes first. If it does not import or set up, the old code stays.
        """
        if self._generation is None or not self._ready.is_set() or self._stopping:
            return "this node has no workers that could be replaced: " + (
                self.unhealthy or "it is starting or stopping"
            )
        generation = self._start_generation()
        try:
            tasks = await generation.loaded
        except ConfigError as error:
            self._close_generation(generation)
            return str(error)
        try:
            canary = self._fork(0, generation, replaces=self._at.get(0))
        except (OSError, IndexError) as error:
            self._close_generation(generation)
            return f"no worker of the new code can be started: {error}"
        how = await canary.came
        if how is None and canary.key not in self._links:
            how = "it ended at once"
        if how is not None:
            self._close_generation(generation)
            self._fill_slots()
            return f"a worker of the new code cannot set up ({how}); its traceback stands in the log"
        self._generation = generation
        names = {task.name for task in self._tasks}
        self._serve([task for task in tasks if task.name in names], anew=True)
        try:
            return await self._roll(generation)
        finally:
            self._retire_former(generation)
            self._serve(tasks)
            self._fill_slots()

    async def _roll(self, generation: Generation) -> str | None:
        """Replace the workers of the code before, as many at a time as there are CPUs."""
        for link in list(self._links.values()):
            if link.generation is not generation and not link.ready:
                link.ending = True  # it would come with the code of before
                link.signal(signal.SIGKILL)
        new = {link.slot for link in self._links.values() if link.generation is generation}
        slots = [slot for slot in range(self.slots) if slot not in new]
        at_once = os.cpu_count() or 1
        while slots:
            batch, slots = slots[:at_once], slots[at_once:]
            coming: list[Link] = []
            for slot in batch:
                if slot >= self.slots:
                    continue  # the node has fewer workers since
                if self._stopping or generation is not self._generation:
                    return "it was interrupted: the zygote of the new code ended, or the node stops"
                former = self._at.get(slot)
                forked = self._try_fork(slot, generation, replaces=former if former and not former.ending else None)
                coming += [] if forked is None else [forked]
            for link in coming:
                await link.came
        return None

    async def stop(self, grace: float) -> None:
        """End all workers in order, and kill those that are still there after `grace` seconds."""
        self._stopping = True
        for link in list(self._links.values()):
            link.outbox.append((END, None))
            self._send_waiting(link)
        await self._wait_until_none_left(grace)
        self.kill()
        await self._wait_until_none_left(2.0)

    async def _wait_until_none_left(self, timeout: float) -> None:
        if self._links and self._by_control:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._none_left.wait(), timeout)


def zygote_config(settings: Settings) -> Config:
    """Return what a node's zygotes are told: there is room for a spare worker and a successor beside each.

    And for more workers than it begins with, since it may be told to have more.
    """
    return Config(
        node=settings.shown_name,
        targets=list(settings.targets),
        folder=settings.folder,
        places=PLACES * max(SCALE_LEAST, 2 * settings.workers),
        concurrency=settings.concurrency,
        limit=settings.limit,
        mesh=settings.mesh,
        log_level=settings.log_level,
        log_json=settings.log_json,
    )
