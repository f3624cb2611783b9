"""Whether the service is there (``/healthz``), whether it can decide (``/readyz``), and its counts (``/metrics``)."""

from fastapi import APIRouter
from starlette.responses import PlainTextResponse, Response

from gelert.serve.engine import BUCKETS, Engine
from gelert.serve.replies import ErrorReply, reply
from gelert.serve.runs import Runs

PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"


def router(engine: Engine, runs: Runs) -> APIRouter:
    """The routes.

    Args:
        engine: whose health it is.
        runs: that grow.
    """
    found = APIRouter(tags=["health"])

    @found.get("/healthz")
    async def alive() -> Response:
        """It answers."""
        return reply({"status": "ok"})

    @found.get("/readyz", responses={503: {"model": ErrorReply}})
    async def ready() -> Response:
        """It can give verdicts and write them down; ``degraded`` if by an older policy than was written last."""
        if reason := engine.unready:
            return reply({"error": {"message": reason, "type": "degraded"}}, 503)
        if fault := engine.policy_fault:
            return reply({"status": "degraded", "guard": engine.guard.name, "reason": fault})
        return reply({"status": "ready", "guard": engine.guard.name})

    @found.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> Response:
        """Counts since the start, for Prometheus."""
        return Response("\n".join(_lines(engine, runs)) + "\n", media_type=PROMETHEUS)

    return found


def _lines(engine: Engine, runs: Runs) -> list[str]:
    counts = engine.counts
    lines = ["# HELP gelert_decisions_total Decisions given.", "# TYPE gelert_decisions_total counter"]
    for (surface, kind, degraded), count in sorted(counts.decisions.items()):
        labels = f'surface="{surface}",decision="{kind}",degraded="{str(degraded).lower()}"'
        lines.append(f"gelert_decisions_total{{{labels}}} {count}")
    lines += [
        "# HELP gelert_faults_total What kept a decision from a verdict or a record.",
        "# TYPE gelert_faults_total counter",
    ]
    lines += [f'gelert_faults_total{{cause="{cause}"}} {count}' for cause, count in sorted(counts.faults.items())]
    lines += [
        "# HELP gelert_decision_milliseconds From the question to its recorded decision.",
        "# TYPE gelert_decision_milliseconds histogram",
    ]
    total = 0
    for bound in BUCKETS:
        total += counts.times[bound]
        lines.append(f'gelert_decision_milliseconds_bucket{{le="{bound:g}"}} {total}')
    total += counts.times[float("inf")]
    lines += [
        f'gelert_decision_milliseconds_bucket{{le="+Inf"}} {total}',
        f"gelert_decision_milliseconds_sum {counts.milliseconds:.3f}",
        f"gelert_decision_milliseconds_count {total}",
    ]
    gauges = {
        "waiting": (engine.waiting, "Questions that wait for the guard."),
        "runs": (len(runs), "Runs that grow under /v1/sessions."),
        "audit_records": (engine.audit.head.number, "Number of the last record on disk."),
        "policy_followed": (int(not engine.policy_fault), "Whether the policy is the one that was written last."),
        "ready": (int(not engine.unready), "Whether verdicts can be given and written down."),
    }
    for name, (value, said) in gauges.items():
        lines += [f"# HELP gelert_{name} {said}", f"# TYPE gelert_{name} gauge", f"gelert_{name} {value}"]
    return lines
