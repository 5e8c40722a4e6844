"""What a node is told while it runs, by signals and by verbs, and what it tells of itself. Shell.

Both say the same words to the lifecycle; what follows from a change is done by the node.
"""

import asyncio
import logging
import os
import signal
from collections.abc import Awaitable, Callable
from typing import Protocol

from mesh.wire.reports import Connections, Jobs, Reach, Stack, Status
from meshnode.control import Answer, RefusedError, Request
from meshnode.core.lifecycle import Lifecycle, State, Word

log = logging.getLogger("meshnode")


class Steered(Protocol):
    """What a node does when its life changes."""

    lifecycle: Lifecycle

    def turn_away(self) -> None:
        """Take nothing new, and say so."""

    def welcome_again(self) -> None:
        """Take jobs again, and say so."""

    def begin_stop(self, *, now: bool) -> None:
        """Finish what runs and end, or end `now`; may be called again."""

    async def reload(self) -> str | None:
        """Replace all workers by such as run the code as it is now; return what went wrong, None for nothing."""

    def resize(self, workers: int) -> None:
        """Have so many workers from now on; those that are too many end what they run. Raises RefusedError."""

    @property
    def workers(self) -> int:
        """How many workers it is to have."""

    def status(self) -> Status:
        """Tell how the node is."""

    def connections(self) -> Connections:
        """Tell who is connected."""

    def jobs(self, task: str, word: str) -> Jobs:
        """Tell which jobs are held, of one task, or those that a word means; all for empty ones."""

    def cancel(self, word: str, *, force: bool) -> Jobs:
        """Cancel the job that a word means; return it as it is before. Raises RefusedError."""

    async def stack(self, word: str) -> Stack:
        """Tell where the job hangs that a word means. Raises RefusedError."""

    def reach(self) -> Reach:
        """Tell which other nodes it is connected to."""


class Reloads:
    """Runs one reload at a time. What is asked for while one is under way is done once more, afterwards."""

    def __init__(self, reload: Callable[[], Awaitable[str | None]]) -> None:
        self._reload = reload
        self._current: asyncio.Task[str | None] | None = None
        self._next: asyncio.Task[str | None] | None = None

    def ask(self) -> asyncio.Task[str | None]:
        """Return the next reload that begins; its outcome is what went wrong, or None."""
        if self._next is None:
            self._next = asyncio.get_running_loop().create_task(self._after(self._current))
        return self._next

    async def _after(self, former: asyncio.Task[str | None] | None) -> str | None:
        if former is not None:
            await asyncio.wait((former,))
        self._current, self._next = self._next, None
        return await self._reload()

    async def close(self) -> None:
        """Cancel what is under way."""
        tasks = [task for task in (self._current, self._next) if task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


class Steering:
    """Heeds signals from `heed` on, and answers verbs. `grace` is what a stop may take, for the log."""

    def __init__(self, node: Steered, *, grace: float) -> None:
        self._node = node
        self._life = node.lifecycle
        self._grace = grace
        self._reloads = Reloads(self._reload)
        self._had_terminal = _has_terminal()

    def heed(self) -> None:
        """Take signals from now on. A HUP that was ignored from the start (nohup) stays so."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._asked_to_stop)
        loop.add_signal_handler(signal.SIGTSTP, self._drain_by_signal, Word.PAUSE)
        loop.add_signal_handler(signal.SIGCONT, self._drain_by_signal, Word.RESUME)
        loop.add_signal_handler(signal.SIGTTIN, self._resize_by_signal, 1)
        loop.add_signal_handler(signal.SIGTTOU, self._resize_by_signal, -1)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            loop.add_signal_handler(signal.SIGHUP, self._hung_up)

    async def close(self) -> None:
        """Give up reloads that are under way."""
        await self._reloads.close()

    # signals

    def _asked_to_stop(self) -> None:
        now = self._life.stop_asked()
        self._stop(now=now)

    def _stop(self, *, now: bool) -> None:
        if now:
            log.info("stopping now")
        else:
            log.info("stopping: finishing what runs, within %g s (again to stop now)", self._grace)
        self._node.begin_stop(now=now)

    def _drain_by_signal(self, word: Word) -> None:
        if not self._heard(word) and word is Word.RESUME and self._life.state is State.DRAINING:
            log.info("CONT: still draining, as the verb drain asked for; undrain takes it back")

    def _resize_by_signal(self, more: int) -> None:
        """TTIN has one worker more, TTOU one less, as gunicorn has it."""
        try:
            self._require_settled()
            self._resize(self._node.workers + more)
        except RefusedError as error:
            log.info("%s: %s", "TTIN" if more > 0 else "TTOU", error)

    def _hung_up(self) -> None:
        """Reload; but a node whose terminal has been closed ends with it, as programs do."""
        if self._had_terminal and not _has_terminal():
            self._asked_to_stop()
        elif self._life.settled:
            self._reloads.ask()
        else:
            log.info("HUP: nothing to reload, this node is %s", self._life.state.value)

    # verbs

    async def answer(self, request: Request) -> Answer:
        """Do what a verb asks. Raises RefusedError."""
        match request.verb:
            case "status":
                return Answer(ok=True, status=self._node.status())
            case "connections":
                return Answer(ok=True, connections=self._node.connections())
            case "jobs":
                return Answer(ok=True, jobs=self._node.jobs(request.task, request.job))
            case "cancel":
                return Answer(ok=True, jobs=self._node.cancel(request.job, force=request.force))
            case "stack":
                return Answer(ok=True, stack=await self._node.stack(request.job))
            case "reach":
                return Answer(ok=True, reach=self._node.reach())
            case "scale":
                self._require_settled()
                self._resize(request.workers)
                return Answer(ok=True, workers=self._node.workers)
            case "stop":
                self._stop_by_verb(now=request.now)
            case "drain" | "undrain":
                self._require_settled()
                self._heard(Word.DRAIN if request.verb == "drain" else Word.UNDRAIN)
            case "reload":
                self._require_settled()
                reload = self._reloads.ask()
                wrong = await asyncio.shield(reload) if request.wait else None
                if wrong is not None:
                    raise RefusedError(wrong)
            case other:
                raise RefusedError(f"this node knows no verb {other[:40]!r}")
        return Answer(ok=True)

    def _resize(self, workers: int) -> None:
        before = self._node.workers
        self._node.resize(workers)
        if self._node.workers != before:
            log.info("%d workers from now on, %d before", self._node.workers, before)

    def _stop_by_verb(self, *, now: bool) -> None:
        """Stop; who has been told so already is not told again, unless it is to be now."""
        if self._life.hear(Word.STOP) or now:
            self._stop(now=now)

    def _require_settled(self) -> None:
        if not self._life.settled:
            raise RefusedError(f"this node is {self._life.state.value}")

    # what follows

    def _heard(self, word: Word) -> bool:
        """Tell the lifecycle; where the node begins or ceases to drain by it, have that done."""
        before = self._life.draining
        heard = self._life.hear(word)
        if self._life.draining and not before:
            log.info("draining: taking nothing new (%s)", self._life.shown(workers=1)[1])
            self._node.turn_away()
        elif before and not self._life.draining:
            log.info("draining no longer: taking jobs again")
            self._node.welcome_again()
        return heard

    async def _reload(self) -> str | None:
        if not self._life.settled:
            return f"this node is {self._life.state.value}"
        log.info("reloading")
        began = asyncio.get_running_loop().time()
        try:
            wrong = await self._node.reload()
        except Exception as error:  # the top of what a signal began: nobody else would hear of it
            log.exception("reloading failed")
            return f"reloading failed: {type(error).__name__}: {error}"
        if wrong is None:
            log.info("reloaded after %.1f s", asyncio.get_running_loop().time() - began)
        else:
            log.error("not reloaded: %s", wrong)
        return wrong


def _has_terminal() -> bool:
    """Has this process a terminal that signals it and may be closed? Raises nothing."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True
