"""A job as type checkers see it: one that knows the type of its result. At run time it is `mesh.job.Job`. Pure.

That one is not generic itself: mypyc would have the garbage collector look at each.
"""

from typing import TYPE_CHECKING

from mesh.job import Job as AnyJob

if TYPE_CHECKING:
    from collections.abc import Generator
    from typing import Any, Generic, TypeVar

    R_co = TypeVar("R_co", covariant=True)

    class Job(AnyJob, Generic[R_co]):
        """One submission of a task, whose result is of this type."""

        def __await__(self) -> Generator[Any, None, R_co]:
            """Wait for the end; return the result or raise the error."""

        def outcome(self) -> R_co:
            """Return the result or raise the error of a job that is over."""

        async def result(self, timeout: float | None = None) -> R_co:
            """Wait at most `timeout` seconds for the end."""

else:
    Job = AnyJob
