"""Decisions and verdicts as JSON, the same at every door of the API."""

import json
from dataclasses import asdict

from pydantic import BaseModel, Field
from starlette.responses import Response

from gelert.core.decision import Allow, Ask, Block, Decision
from gelert.core.trajectory import Trajectory
from gelert.core.verdict import Safe, Unreadable, Unsafe, Verdict
from gelert.serve.asked import Answered

Object = dict[str, object]


class DecisionReply(BaseModel):
    """What was decided."""

    decision: str = Field(description="allow, ask or block")
    reason: str = ""
    degraded: bool = Field(description="True if no verdict, or no audit record, stands behind the decision")
    verdict: str = Field(description="safe, unsafe or unreadable")
    risk: float | None = None
    number: int = Field(description="Of the audit record; 0 if it could not be written")
    milliseconds: float
    steps: int = Field(description="Of the run so far")


class ErrorReply(BaseModel):
    """What was wrong with a request."""

    error: dict[str, str]


def decision_json(decision: Decision) -> Object:
    """The decision's kind, reason, and whether it was taken without a verdict."""
    match decision:
        case Allow(degraded):
            return {"decision": "allow", "reason": "", "degraded": degraded}
        case Ask(reason, degraded):
            return {"decision": "ask", "reason": reason, "degraded": degraded}
        case Block(reason, degraded):
            return {"decision": "block", "reason": reason, "degraded": degraded}


def verdict_json(verdict: Verdict, run: Trajectory) -> Object:
    """The verdict, with the place in the source of each step that it names."""
    match verdict:
        case Unreadable(reason):
            return {"verdict": "unreadable", "why": reason}
        case Safe(risk, reading):
            return {"verdict": "safe", "risk": risk, "reading": asdict(reading)}
        case Unsafe(risk, reading, diagnosis, evidence, rationale):
            steps = [asdict(e) | {"pointer": run.steps[e.step].provenance.pointer} for e in evidence]
            unsafe: Object = {"verdict": "unsafe", "risk": risk, "reading": asdict(reading), "evidence": steps}
            return unsafe | {"diagnosis": asdict(diagnosis), "rationale": rationale}


def answer_json(answered: Answered, run: Trajectory) -> Object:
    """Everything that is said of one question."""
    counted: Object = {
        "number": answered.number,
        "milliseconds": round(answered.milliseconds, 3),
        "steps": len(run.steps),
    }
    return decision_json(answered.decision) | verdict_json(answered.verdict, run) | counted


def reply(value: object, status: int = 200) -> Response:
    """A response that holds ``value`` as JSON, in letters that every client reads."""
    return Response(json.dumps(value, allow_nan=False), status, media_type="application/json")
