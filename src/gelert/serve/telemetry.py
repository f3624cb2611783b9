"""A span per decision for OpenTelemetry: who decided what and how long it took, never what the run said.

A span is made once the decision is given and on record, and sent by a thread of its own in batches: a collector that is
slow or dead costs spans and a line in the service's log, never a decision. Figures stay with Prometheus (``/metrics``).
"""

import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from importlib.metadata import version

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

from gelert.core.errors import InputError
from gelert.core.verdict import Unreadable
from gelert.serve.engine import Answered, Asked, Engine, Listener
from gelert.serve.gate import TRACE
from gelert.serve.redact import redacted

ENDING_SECONDS = 3.0
"""For the last spans when the service ends; a collector that does not answer is not waited for any longer."""


@contextmanager
def exported(engine: Engine) -> Generator[None]:
    """Send a span of each decision over OTLP/HTTP while the block lasts; the ``OTEL_*`` variables say where and how.

    Raises:
        InputError: a variable cannot be read.
    """
    try:
        provider = TracerProvider(resource=_resource(), shutdown_on_exit=False)
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    except ValueError as fault:
        raise InputError(f"expected OTEL_* variables that can be read, got: {fault}") from None
    engine.watch(spans(provider, engine.guard.name))
    try:
        yield
    finally:
        ending = threading.Thread(target=provider.shutdown, name="gelert-otel", daemon=True)
        ending.start()
        ending.join(ENDING_SECONDS)


def spans(provider: TracerProvider, guard: str) -> Listener:
    """Makes a span of each decision it is told of, in the trace that the question came with.

    Args:
        provider: of the tracer.
        guard: its name.
    """
    tracer = provider.get_tracer("gelert", version("gelert"))
    traces = TraceContextTextMapPropagator()

    def see(asked: Asked, answered: Answered) -> None:
        end = time.time_ns()
        span = tracer.start_span(
            f"decide {asked.surface.value}",
            traces.extract({TRACE: asked.trace}, Context()),
            start_time=end - int(answered.milliseconds * 1e6),
            attributes=_attributes(asked, answered, guard),
        )
        if answered.decision.degraded:
            span.set_status(StatusCode.ERROR)
        span.end(end)

    return see


def _attributes(asked: Asked, answered: Answered, guard: str) -> dict[str, AttributeValue]:
    """What a span says, under the GenAI conventions' names where they have one; no text of the run, no reason."""
    found: dict[str, AttributeValue] = {
        "gelert.surface": asked.surface.value,
        "gelert.decision": type(answered.decision).__name__.lower(),
        "gelert.degraded": answered.decision.degraded,
        "gelert.guard": redacted(guard),
        "gelert.record": answered.number,
    }
    if asked.runtime:
        found["gen_ai.agent.name"] = redacted(asked.runtime)
    if not isinstance(answered.verdict, Unreadable):
        found["gen_ai.evaluation.name"] = "risk"
        found["gen_ai.evaluation.score.value"] = answered.verdict.risk
        found["gen_ai.evaluation.score.label"] = type(answered.verdict).__name__.lower()
    return found


def _resource() -> Resource:
    """Who sends: what ``OTEL_SERVICE_NAME`` and ``OTEL_RESOURCE_ATTRIBUTES`` say goes before our own name."""
    ours = Resource({"service.name": "gelert", "service.version": version("gelert")})
    return Resource.create().merge(ours).merge(OTELResourceDetector().detect())
