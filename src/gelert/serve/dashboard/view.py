"""A decision as JSON for the page: a row of the list, and the whole with its steps. Secrets are taken out of all texts.

A run is shown by its beginning, its end and the steps around the evidence, so that an answer stays small.
"""

from dataclasses import asdict

from gelert.core.taxonomy import Axis, Diagnosis, builtin
from gelert.core.trajectory import Step, ToolCall, Trajectory
from gelert.core.verdict import Safe, Unreadable, Unsafe, Verdict
from gelert.serve.asked import Answered, Asked
from gelert.serve.redact import KEPT_CHARACTERS, redacted
from gelert.serve.replies import Object, decision_json
from gelert.serve.same_call import lines

TITLE_CHARACTERS = 160

SAID_CHARACTERS = 4 * KEPT_CHARACTERS
"""From which a title is made: a secret that is cut in two would no longer look like one."""

FIRST_STEPS, LAST_STEPS, STEPS_AROUND = 30, 120, 3
"""Shown of a long run: at its ends, and on both sides of a step that is evidence."""

MOST_EVIDENCE = 20
MOST_CALLS = 20
"""Shown of one step."""

MOST_ARGUMENTS = 50
"""Shown of one call."""

SHOWN_CHARACTERS = 2_000
"""Of one text."""


def summary(number: int, at: float, asked: Asked, answered: Answered) -> Object:
    """A row of the list without its title.

    Args:
        number: of the decision since the service started.
        at: Unix seconds.
        asked: the question.
        answered: the answer.
    """
    steps = asked.trajectory.steps
    last = steps[-1] if steps else None
    decided = decision_json(answered.decision)
    return {
        "id": number,
        "at": at,
        "surface": asked.surface.value,
        "runtime": redacted(asked.runtime),
        "project": redacted(asked.project),
        "session": redacted(asked.session),
        "tool": redacted(_tool(last)) if last else "",
        "steps": len(steps),
        "record": answered.number,
        "milliseconds": round(answered.milliseconds, 3),
        **decided,
        "reason": redacted(decided["reason"]),
        **_verdict(answered.verdict),
    }


def said(run: Trajectory) -> str:
    """What the last step says or calls for, as far as a title can come from it."""
    if not run.steps:
        return ""
    last = run.steps[-1]
    text = " ".join(lines(last.calls[0])) if last.calls else last.text or last.thought
    return text[:SAID_CHARACTERS]


def title(text: str) -> str:
    """The beginning of what was said, without secrets."""
    return redacted(text)[:TITLE_CHARACTERS]


def steps_shown(run: Trajectory, verdict: Verdict) -> list[Object]:
    """The steps of a run that are shown, in order, each with its place; between some of them others are left out."""
    count = len(run.steps)
    places = {*range(min(FIRST_STEPS, count)), *range(max(count - LAST_STEPS, 0), count)}
    evidence = () if isinstance(verdict, Unreadable) else verdict.evidence
    for one in evidence[:MOST_EVIDENCE]:
        places.update(range(max(one.step - STEPS_AROUND, 0), min(one.step + STEPS_AROUND + 1, count)))
    return [_step(place, run.steps[place]) for place in sorted(places)]


def reasons(verdict: Verdict) -> Object:
    """Why the verdict is what it is: evidence, diagnosis, rationale, and how much was read."""
    match verdict:
        case Unreadable(reason):
            return {"why": redacted(reason)}
        case Safe(_, reading, evidence):
            return {"reading": asdict(reading), "evidence": [asdict(e) for e in evidence[:MOST_EVIDENCE]]}
        case Unsafe(_, reading, diagnosis, evidence, rationale):
            return {
                "reading": asdict(reading),
                "evidence": [asdict(e) for e in evidence[:MOST_EVIDENCE]],
                "diagnosis": _leaves(diagnosis),
                "rationale": redacted(rationale),
            }


def _verdict(verdict: Verdict) -> Object:
    match verdict:
        case Unreadable():
            return {"verdict": "unreadable", "risk": None}
        case Safe(risk):
            return {"verdict": "safe", "risk": risk}
        case Unsafe(risk):
            return {"verdict": "unsafe", "risk": risk}


def _leaves(diagnosis: Diagnosis) -> list[Object]:
    found = [(axis, builtin().by_slug(axis, slug)) for axis in Axis if (slug := diagnosis.on(axis))]
    return [{"axis": axis.value, "name": leaf.name, "meaning": leaf.meaning} for axis, leaf in found if leaf]


def _tool(step: Step) -> str:
    more = f" +{len(step.calls) - 1}" if len(step.calls) > 1 else ""
    return step.calls[0].name + more if step.calls else step.tool_name


def _step(place: int, step: Step) -> Object:
    return {
        "step": place,
        "role": step.role.value,
        "tool": redacted(step.tool_name),
        "error": step.is_error,
        "thought": _shown(step.thought),
        "text": _shown(step.text),
        "calls": [_call(call) for call in step.calls[:MOST_CALLS]],
        "more_calls": max(len(step.calls) - MOST_CALLS, 0),
    }


def _call(call: ToolCall) -> Object:
    found = list(lines(call))
    return {
        "tool": redacted(call.name),
        "arguments": [_shown(line) for line in found[:MOST_ARGUMENTS]],
        "more_arguments": max(len(found) - MOST_ARGUMENTS, 0),
    }


def _shown(text: str) -> Object:
    shown = redacted(text, SHOWN_CHARACTERS)
    cut = len(text) > SHOWN_CHARACTERS and shown.endswith("…")
    return {"text": shown, "more": len(text) - SHOWN_CHARACTERS if cut else 0}
