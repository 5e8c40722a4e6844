"""A node's life from start to exit code. Pure."""

from enum import Enum


class State(Enum):
    """Where a node is in its life."""

    STARTING = "starting"
    RUNNING = "running"
    DRAINING = "draining"
    STOPPED = "stopped"


class ExitCode:
    """What the process says at its end (api: exit codes)."""

    CLEAN = 0
    CONFIG = 1
    PORT_IN_USE = 3
    NAME_IN_USE = 4
    GRACE_EXCEEDED = 5


class Lifecycle:
    """TERM or the first INT: finish what runs, within the grace. A second one: now."""

    def __init__(self) -> None:
        self.state = State.STARTING
        self.asked = 0
        self.exceeded = False

    def running(self) -> None:
        """All workers are ready."""
        if self.state is State.STARTING:
            self.state = State.RUNNING

    def stop_asked(self) -> bool:
        """A signal asks to stop; True if it is to be now, whatever runs."""
        self.asked += 1
        self.state = State.DRAINING
        return self.asked > 1

    def grace_over(self) -> None:
        """The grace is over and jobs still run."""
        self.exceeded = True

    def stopped(self) -> int:
        """Everything has ended; return the exit code."""
        self.state = State.STOPPED
        return ExitCode.GRACE_EXCEEDED if self.exceeded else ExitCode.CLEAN
