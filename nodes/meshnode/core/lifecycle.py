"""A node's life from start to exit code: what it is told, and what it is then. Pure."""

from enum import Enum


class State(Enum):
    """Where a node is in its life. PAUSED and DRAINING take nothing new; they differ in what takes that back."""

    STARTING = "starting"
    RUNNING = "running"
    PAUSED = "paused"
    DRAINING = "draining"
    STOPPING = "stopping"
    STOPPED = "stopped"


class Word(Enum):
    """What a node is told."""

    READY = "all workers are ready"
    PAUSE = "TSTP"
    RESUME = "CONT"
    DRAIN = "the verb drain"
    UNDRAIN = "the verb undrain"
    STOP = "TERM, INT or the verb stop"
    ENDED = "everything has ended"


TRANSITIONS: dict[State, dict[Word, State]] = {
    State.STARTING: {Word.READY: State.RUNNING, Word.STOP: State.STOPPING, Word.ENDED: State.STOPPED},
    State.RUNNING: {Word.PAUSE: State.PAUSED, Word.DRAIN: State.DRAINING, Word.STOP: State.STOPPING},
    State.PAUSED: {
        Word.RESUME: State.RUNNING,
        Word.UNDRAIN: State.RUNNING,
        Word.DRAIN: State.DRAINING,
        Word.STOP: State.STOPPING,
    },
    State.DRAINING: {Word.UNDRAIN: State.RUNNING, Word.STOP: State.STOPPING},
    State.STOPPING: {Word.ENDED: State.STOPPED},
    State.STOPPED: {},
}
"""What each word makes of each state; a word that is not there changes nothing.

CONT also follows every STOP, a debugger's or a freezer's: it takes back what TSTP did, never what `drain` did.
"""


class ExitCode:
    """What the process says at its end (api: exit codes)."""

    CLEAN = 0
    CONFIG = 1
    PORT_IN_USE = 3
    NAME_IN_USE = 4
    GRACE_EXCEEDED = 5
    OWN_ERROR = 70
    """EX_SOFTWARE of sysexits(3): an error of the node itself, for which a service manager starts it again."""


class Lifecycle:
    """TERM or the first INT: finish what runs, within the grace. A second one: now."""

    def __init__(self) -> None:
        self.state = State.STARTING
        self.signals = 0
        self.exceeded = False

    def hear(self, word: Word) -> bool:
        """Take a word; False if it changes nothing."""
        after = TRANSITIONS[self.state].get(word)
        if after is None:
            return False
        self.state = after
        return True

    @property
    def settled(self) -> bool:
        """Has it started, and not yet been told to stop? Only then can it be drained, undrained or reloaded."""
        return self.state in (State.RUNNING, State.PAUSED, State.DRAINING)

    @property
    def draining(self) -> bool:
        """Does it take nothing new, and stay?"""
        return self.state in (State.PAUSED, State.DRAINING)

    def shown(self, *, workers: int, unhealthy: str | None = None) -> tuple[str, str]:
        """Return the state as people read it, and why.

        A node is unhealthy while it is to run and none of its `workers` is ready; `unhealthy` says why, if known.
        """
        match self.state:
            case State.STARTING | State.RUNNING if unhealthy is not None:
                return "unhealthy", unhealthy
            case State.RUNNING if not workers:
                return "unhealthy", "no worker is ready"
            case State.PAUSED:
                return "draining", "told by TSTP; CONT or undrain takes it back"
            case State.DRAINING:
                return "draining", "told by drain; undrain takes it back"
            case state:
                return state.value, ""

    def running(self) -> None:
        """All workers are ready."""
        self.hear(Word.READY)

    def stop_asked(self) -> bool:
        """A signal asks to stop; True if it is to be now, whatever runs."""
        self.signals += 1
        self.hear(Word.STOP)
        return self.signals > 1

    def grace_over(self) -> None:
        """The grace is over and jobs still run."""
        self.exceeded = True

    def stopped(self) -> int:
        """Everything has ended; return the exit code."""
        self.hear(Word.ENDED)
        return ExitCode.GRACE_EXCEEDED if self.exceeded else ExitCode.CLEAN
