"""A bridge caller's job on its way to another node. Shell: hands what came of it to whoever is told."""

from collections.abc import Callable

from mypy_extensions import mypyc_attr

from mesh.core.record import JobRecord
from mesh.errors import Failure, MeshBusy, MeshError
from mesh.wire.messages import FORM_JSON, Failed, Result, trace_of
from mesh.wire.payload import pack_failure
from meshnode.core import text
from meshnode.core.held import Held


@mypyc_attr(acyclic=True)
class ForwardedJob(JobRecord):
    """A bridge caller's job on its way to another node; it is not forwarded again from there."""

    def __init__(self, held: Held, ended: Callable[["ForwardedJob", Result | Failed | None], None]) -> None:
        submit = held.submit
        super().__init__(submit.id, submit.task, submit.body)
        self.form = submit.form
        self.priority = submit.options.priority if submit.options else 5
        extras = self.own_extras()
        extras.deadline = None if submit.remaining is None else held.expires
        extras.crashes = held.crashes
        extras.trace = trace_of(submit.options)
        self.bounce = True
        self.forwarded = True
        self.attempt = submit.attempt
        self.held = held
        self._ended = ended

    def finish(self, outcome: Result | Failed | MeshError) -> None:
        """Hand what came of it back to the scheduler; None where no node took it."""
        if isinstance(outcome, MeshBusy):
            self.began = self.began or outcome.started is True
            self._ended(self, None)
        elif isinstance(outcome, MeshError):
            self._ended(self, Failed(self.id, self.attempt, self._failure(outcome)))
        else:
            self._ended(self, outcome)

    def _failure(self, error: MeshError) -> bytes:
        started = error.started is not False
        if self.form == FORM_JSON:
            return text.error(type(error), str(error), started=started)
        return pack_failure(Failure(type(error).__name__, str(error), mesh=True, started=started))
