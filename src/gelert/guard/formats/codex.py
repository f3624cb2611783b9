"""Codex rollouts: JSON Lines of ``{timestamp, ordinal, type, payload}``; the whole file is one run.

An ``event_msg`` mostly repeats what a ``response_item`` says. It is told only where no item says the same, so that a
rollout of events alone is read too. Types that hold nothing said or done are counted as ignored.
"""

from collections import Counter

from gelert.core.trajectory import Provenance, Role, Setting, Step
from gelert.guard.formats.codex_events import Told, event_steps
from gelert.guard.formats.items import item_steps, joined, kind_of
from gelert.guard.formats.messages import named
from gelert.guard.formats.parts import text_of
from gelert.guard.formats.run import Malformed, Run
from gelert.guard.formats.untrusted import Object, as_list, as_object, as_text, came, objects, sampled, text_at

_TYPES = {
    "session_meta",
    "turn_context",
    "world_state",
    "response_item",
    "event_msg",
    "compacted",
    "token_usage_record",
}
_BARE = {"message", "reasoning", "function_call", "function_call_output", "local_shell_call", "custom_tool_call"}
_QUIET = {"ghost_snapshot", "other"}


def detect(value: object) -> int:
    """92 for lines with a type of Codex's and a payload."""
    lines = sampled(value) if isinstance(value, list) else [as_object(value)]
    typed = [line for line in lines if text_at(line, "type") in _TYPES and isinstance(line.get("payload"), dict)]
    if 2 * len(typed) > len(lines):
        return 92
    old = len(lines) > 1 and "instructions" in lines[0] and "timestamp" in lines[0] and "type" not in lines[0]
    return 88 if old and all(text_at(line, "type") in _BARE or "record_type" in line for line in lines[1:]) else 0


def read(value: object) -> list[Run]:
    """The one run of a rollout."""
    lines = as_list(value) if isinstance(value, list) else [value]
    if not any(isinstance(line, dict) for line in lines):
        raise Malformed(f"expected rollout lines with a type and a payload, got {came(value)}; pass --format if not")
    return [rollout(lines, "")]


def rollout(lines: list[object], root: str) -> Run:
    """The run of rollout lines whose list stands at ``root``."""
    run = Run([], setting=Setting.CODEX, agent="codex")
    told = Told(objects(lines))
    for number, line in enumerate(lines):
        record = as_object(line)
        if not record:
            raise Malformed(f"expected a rollout line with a type and a payload, got {came(line)} at {root}/{number}")
        run.steps += _line(record, f"{root}/{number}", run, told)
    run.steps = named(joined(run.steps))
    return run


def _line(line: Object, pointer: str, run: Run, told: Told) -> list[Step]:
    kind, stamp, payload = text_at(line, "type"), text_at(line, "timestamp"), as_object(line.get("payload"))
    inside = f"{pointer}/payload"
    match kind:
        case "response_item" if kind_of(payload) not in _QUIET | {""}:
            return item_steps(payload, inside, stamp)
        case "event_msg":
            steps = event_steps(payload, inside, stamp, told)
            run.ignored += Counter({} if steps else {f"event_msg {text_at(payload, 'type')}": 1})
            return steps
        case "session_meta":
            return _meta(payload, inside, stamp, run, told)
        case "compacted":
            return [Step(Role.RUNTIME, text_at(payload, "message"), provenance=Provenance(inside, kind, stamp))]
        case "turn_context":
            run.agent = text_at(payload, "model") or run.agent
        case "" if "instructions" in line:
            return _meta(line, pointer, stamp, run, told)
        case _ if kind in _BARE and "payload" not in line:
            return item_steps(line, pointer, stamp)
        case _:
            pass
    run.ignored += Counter({kind or "untyped": 1})
    return []


def _meta(payload: Object, pointer: str, stamp: str, run: Run, told: Told) -> list[Step]:
    """The base instructions, unless a developer message tells them too."""
    run.trajectory_id = run.trajectory_id or text_at(payload, "id", "session_id")
    steps: list[Step] = []
    for key in ("base_instructions", "instructions"):
        value = payload.get(key)
        text = text_of(as_object(value).get("text")) if isinstance(value, dict) else as_text(value)
        if text and not told.known(text) and all(step.text != text for step in steps):
            steps.append(Step(Role.SYSTEM, text, provenance=Provenance(f"{pointer}/{key}", "session_meta", stamp)))
    run.ignored += Counter({} if steps else {"session_meta": 1})
    run.agent = text_at(payload, "model") or run.agent
    return steps
