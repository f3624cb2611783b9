"""What is written down of one decision: who asked, what about (as digests and lengths), and what was answered."""

import hashlib
import time
from typing import Literal

from gelert.core.decision import Allow, Ask, Block, Decision
from gelert.core.records import canonical
from gelert.core.trajectory import Step
from gelert.core.verdict import Safe, Unreadable, Unsafe, Verdict
from gelert.serve.approvals_file import Answer
from gelert.serve.asked import Asked
from gelert.serve.redact import redacted

Entry = dict[str, object]
"""A JSON object; texts of the run are never in it."""

PERSON = "person"
"""Who answered, where it was not the policy alone that decided."""


def entry(
    asked: Asked, guard: str, verdict: Verdict, decision: Decision, milliseconds: float, approval: str = ""
) -> Entry:
    """The record of one decision; ``approval`` is the id of the answer that changed it, if one did."""
    run = asked.trajectory
    changed: Entry = {"who": PERSON, "approval": approval} if approval else {}
    return {
        "at": round(time.time(), 3),
        "surface": asked.surface.value,
        "runtime": redacted(asked.runtime),
        "session": redacted(asked.session),
        "project": redacted(asked.project),
        "trace": redacted(asked.trace),
        "guard": redacted(guard),
        "run": redacted(run.trajectory_id),
        "steps": len(run.steps),
        "step": _step(run.steps[-1]) if run.steps else None,
        "milliseconds": round(milliseconds, 3),
        **_verdict(verdict),
        **_decision(decision),
        **changed,
    }


def answer_entry(call: str, given: Answer, holds: Literal["once", "always", "no longer"]) -> Entry:
    """The record of a person's answer about the call with that digest, and of its end.

    Where the change then failed, a second record says that it holds ``as before``.
    """
    return {
        "at": round(time.time(), 3),
        "who": PERSON,
        "approval": given.id,
        "answer": given.answer,
        "holds": holds,
        "project": given.project,
        "tool": given.tool,
        "call": call,
    }


def _step(step: Step) -> Entry:
    return {
        "role": step.role.value,
        "text": _digest(step.text),
        "thought": _digest(step.thought),
        "tool": redacted(step.tool_name),
        "calls": [{"tool": redacted(c.name), "arguments": _digest(c.arguments)} for c in step.calls[:20]],
        "call_count": len(step.calls),
    }


def _digest(text: str) -> Entry | None:
    if not text:
        return None
    return {"characters": len(text), "sha256": hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()}


def _verdict(verdict: Verdict) -> Entry:
    match verdict:
        case Unreadable(reason):
            return {"verdict": "unreadable", "why": redacted(reason)}
        case Safe(risk):
            return {"verdict": "safe", "risk": risk}
        case Unsafe(risk, _, diagnosis, evidence):
            axes = {
                "risk_source": diagnosis.risk_source,
                "failure_mode": diagnosis.failure_mode,
                "harm": diagnosis.harm,
            }
            return {"verdict": "unsafe", "risk": risk, "diagnosis": axes, "evidence": [e.step for e in evidence]}


def _decision(decision: Decision) -> Entry:
    match decision:
        case Allow(degraded):
            return {"decision": "allow", "reason": "", "degraded": degraded}
        case Ask(reason, degraded):
            return {"decision": "ask", "reason": redacted(reason), "degraded": degraded}
        case Block(reason, degraded):
            return {"decision": "block", "reason": redacted(reason), "degraded": degraded}


def line(found: Entry) -> str:
    """The entry's one spelling, which is what the chain's hashes are taken of.

    A number that is not finite and half of a surrogate pair have no spelling in JSON that every reader takes.
    """
    return canonical(found).encode("utf-8", "replace").decode()
