"""Spans around jobs, for applications that use OpenTelemetry. Shell: `docs/metrics.md`, Traces.

Nobody imports this but a process that has set up a tracer provider itself: the others do not pay for it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.trace import SpanKind
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import Attributes

from mesh.wire.messages import STATE_CHARACTERS, Submit, Trace, trace_of

HandedIn = Callable[[str, bytes], Trace | None]
"""Returns the trace that a job of this task and id is to carry along."""

_PARENT, _STATE = "traceparent", "tracestate"
_tracer = trace.get_tracer("meshnode")
_propagator = TraceContextTextMapPropagator()


def in_use() -> bool:
    """Has this process set up OpenTelemetry? It may have been imported by chance."""
    return not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)


def handed_in(task: str, job_id: bytes) -> Trace | None:
    """Make the span of handing a job in, below the one that is active here; return what the job carries along."""
    span = _tracer.start_span(
        f"send {task}", kind=SpanKind.PRODUCER, attributes=_attributes(task, job_id, doing="send")
    )
    carrier: dict[str, str] = {}
    _propagator.inject(carrier, trace.set_span_in_context(span))
    span.end()
    if _PARENT not in carrier:
        return None
    state = carrier.get(_STATE)
    return carrier[_PARENT], state if state and len(state) <= STATE_CHARACTERS else None


@contextmanager
def running(task: str, job: Submit) -> Iterator[None]:
    """Make the span of a job while it runs, below the one that handed it in."""
    carried = trace_of(job.options)
    carrier = {} if carried is None else {_PARENT: carried[0], _STATE: carried[1] or ""}
    with _tracer.start_as_current_span(
        f"process {task}",
        context=_propagator.extract(carrier),
        kind=SpanKind.CONSUMER,
        attributes=_attributes(task, job.id, doing="process"),
    ):
        yield


def _attributes(task: str, job_id: bytes, *, doing: str) -> Attributes:
    """Describe a job as OpenTelemetry's conventions for messaging do."""
    return {
        "messaging.system": "meshnode",
        "messaging.operation.type": doing,
        "messaging.destination.name": task,
        "messaging.message.id": job_id.hex(),
    }
