"""Spans: one per decision, in the caller's trace, without any text; and a collector that is gone costs no decision."""

import asyncio
import signal
import threading
import time
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from gelert.core.errors import InputError
from gelert.core.trajectory import Role, Step, ToolCall, Trajectory
from gelert.guard.policy import Policy, Surface
from gelert.serve import telemetry
from gelert.serve.asked import Answered, Asked
from gelert.serve.audit import Audit
from gelert.serve.engine import Engine, Limits
from tests.cli.test_serve import started
from tests.serve.scripted_guard import MARK, Mood, ScriptedGuard
from tests.serve.support import said

TRACE_ID, PARENT_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACE = f"00-{TRACE_ID}-{PARENT_ID}-01"

Work = Callable[[Engine], Awaitable[object]]


def working(folder: Path, work: Work, guard: ScriptedGuard | None = None) -> None:
    """Let ``work`` have a real engine."""

    async def run() -> None:
        engine = Engine(guard or ScriptedGuard(), Policy(), Audit(folder / "audit.db"), Limits(deadline_seconds=2.0))
        try:
            await work(engine)
        finally:
            await engine.close()

    asyncio.run(run())


def seen(folder: Path, *asked: Asked, guard: ScriptedGuard | None = None) -> list[ReadableSpan]:
    """The spans of these questions, out of the SDK's own exporter."""
    exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))

    async def work(engine: Engine) -> None:
        engine.watch(telemetry.spans(provider, engine.guard.name))
        for one in asked:
            await engine.decide(one)
        assert engine.counts.faults["watcher"] == 0

    working(folder, work, guard)
    return list(exporter.get_finished_spans())


def test_a_span_says_what_was_decided_by_whom_and_stands_in_the_callers_trace(tmp_path: Path) -> None:
    calls = (ToolCall("shell", '{"command": "ls"}'),)
    (span,) = seen(tmp_path, Asked(Surface.TOOL_CALL, said(calls=calls), "s", "codex", TRACE))
    assert dict(span.attributes or {}) == {
        "gelert.surface": "tool_call",
        "gelert.decision": "allow",
        "gelert.degraded": False,
        "gelert.guard": "scripted",
        "gelert.record": 1,
        "gen_ai.agent.name": "codex",
        "gen_ai.evaluation.name": "risk",
        "gen_ai.evaluation.score.value": 0.01,
        "gen_ai.evaluation.score.label": "safe",
    }
    assert (span.name, span.status.status_code) == ("decide tool_call", StatusCode.UNSET)
    assert span.parent is not None
    assert f"{span.parent.trace_id:032x}-{span.parent.span_id:016x}" == f"{TRACE_ID}-{PARENT_ID}"
    assert span.context is not None
    assert f"{span.context.trace_id:032x}" == TRACE_ID


def test_a_span_takes_as_long_as_the_decision(tmp_path: Path) -> None:
    before = time.time_ns()
    (span,) = seen(tmp_path, Asked(Surface.REPLY, said()), guard=ScriptedGuard(Mood.HANGS, hang_seconds=0.3))
    assert span.start_time is not None
    assert span.end_time is not None
    assert before - 50_000_000 <= span.start_time
    assert 0.3e9 <= span.end_time - span.start_time <= time.time_ns() - before + 50_000_000


def test_each_decision_has_a_span_and_one_without_a_verdict_is_an_error_without_a_risk(tmp_path: Path) -> None:
    guard = ScriptedGuard(Mood.RAISES)
    failed, again = seen(tmp_path, Asked(Surface.REPLY, said()), Asked(Surface.TOOL_RESULT, said()), guard=guard)
    for span, decision in ((failed, "block"), (again, "ask")):
        assert span.status.status_code is StatusCode.ERROR
        assert span.attributes is not None
        assert (span.attributes["gelert.decision"], span.attributes["gelert.degraded"]) == (decision, True)
        assert "gen_ai.evaluation.score.value" not in span.attributes
        assert span.parent is None


def test_a_caller_who_does_not_sample_gets_no_span(tmp_path: Path) -> None:
    assert seen(tmp_path, Asked(Surface.REPLY, said(), trace=TRACE[:-2] + "00")) == []


def test_nothing_of_the_run_is_in_a_span(tmp_path: Path) -> None:
    texts = ["the-text", "the-thought", "the-tool", "the-argument", "the-session", "/the/project", "the-run", MARK]
    step = Step(Role.AGENT, f"the-text {MARK}", thought="the-thought", calls=(ToolCall("the-tool", "the-argument"),))
    run = Trajectory((step,), trajectory_id="the-run")
    asked = Asked(Surface.TOOL_CALL, run, "the-session", "token=hunter2hunter2", project="/the/project")
    (span,) = seen(tmp_path, asked)
    told = span.to_json()
    assert '"block"' in told
    assert [text for text in (*texts, "hunter2") if text in told] == []


class Collector(ThreadingHTTPServer):
    """Takes spans over OTLP/HTTP; one that hangs takes the request and says nothing."""

    daemon_threads = True

    def __init__(self, *, hangs: bool = False) -> None:
        super().__init__(("127.0.0.1", 0), Collecting)
        self.hangs, self.over = hangs, threading.Event()
        self.names, self.services = list[str](), set[str]()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Collecting(BaseHTTPRequestHandler):
    server: Collector  # pyright: ignore[reportIncompatibleVariableOverride] -- only a Collector opens this door

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- http.server's own name
        """Say nothing."""

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers["content-length"]))
        if self.server.hangs:
            self.server.over.wait(60)
            return
        for group in ExportTraceServiceRequest.FromString(raw).resource_spans:
            found = {one.key: one.value.string_value for one in group.resource.attributes}
            self.server.services.add(found["service.name"])
            self.server.names += [span.name for scope in group.scope_spans for span in scope.spans]
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()


@contextmanager
def collector(monkeypatch: pytest.MonkeyPatch, *, hangs: bool = False) -> Generator[Collector]:
    """A collector that the ``OTEL_*`` variables name; gone when the block ends."""
    found = Collector(hangs=hangs)
    thread = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", found.url)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    try:
        yield found
    finally:
        found.over.set()
        found.shutdown()
        found.server_close()
        thread.join()


async def decisions(engine: Engine, count: int) -> list[Answered]:
    return await asyncio.gather(*(engine.decide(Asked(Surface.REPLY, said())) for _ in range(count)))


def test_the_spans_reach_a_collector_and_its_death_costs_no_decision_and_no_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[float] = []

    async def work(engine: Engine) -> None:
        with collector(monkeypatch) as found, telemetry.exported(engine):
            await decisions(engine, 40)
        assert found.names == ["decide reply"] * 40
        assert found.services == {"gelert"}
        with telemetry.exported(engine):
            await asyncio.sleep(0.2)
            for answered in [one for _ in range(5) for one in await decisions(engine, 40)]:
                assert (answered.number > 0, answered.decision.degraded) == (True, False)
                taken.append(answered.milliseconds)
            await asyncio.sleep(0.2)
            start = time.monotonic()
        assert time.monotonic() - start < telemetry.ENDING_SECONDS + 1

    working(tmp_path, work)
    assert len(taken) == 200
    assert max(taken) < 1_500


def test_a_collector_that_never_answers_costs_no_decision_and_no_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(engine: Engine) -> None:
        with collector(monkeypatch, hangs=True), telemetry.exported(engine):
            for answered in [one for _ in range(5) for one in await decisions(engine, 40)]:
                assert (answered.number > 0, answered.decision.degraded) == (True, False)
            await asyncio.sleep(0.2)
            start = time.monotonic()
        assert time.monotonic() - start < telemetry.ENDING_SECONDS + 1

    working(tmp_path, work)


def test_the_name_that_the_environment_gives_the_service_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(engine: Engine) -> None:
        monkeypatch.setenv("OTEL_SERVICE_NAME", "watchdog")
        with collector(monkeypatch) as found, telemetry.exported(engine):
            await decisions(engine, 1)
        assert found.services == {"watchdog"}

    working(tmp_path, work)


def test_a_variable_that_cannot_be_read_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(engine: Engine) -> None:
        monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "-1")
        with pytest.raises(InputError, match="OTEL_"), telemetry.exported(engine):
            pass

    working(tmp_path, work)


def test_the_service_sends_spans_if_it_is_told_to_and_ends_in_time_without_a_collector(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with collector(monkeypatch) as found:
        with started(tmp_path / "quiet") as service:
            service.ask(2)
            service.process.send_signal(signal.SIGTERM)
            assert service.process.wait(20) == 0
        assert found.names == []
        with started(tmp_path / "told", "--otel") as service:
            service.ask(5)
            service.process.send_signal(signal.SIGTERM)
            assert service.process.wait(20) == 0
        assert found.names == ["decide reply"] * 5
    with started(tmp_path / "told", "--otel") as service:
        assert service.ask(3) == [6, 7, 8]
        start = time.monotonic()
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(20) == 0
        assert time.monotonic() - start < 10
