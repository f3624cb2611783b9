"""OpenClaw: session events (ATBench-Claw, version 3), hook and ``chat.history`` messages, legacy session files.

``custom`` messages and OPENCLAW_INTERNAL_CONTEXT blocks are the runtime's words, not the user's.
"""

from collections import Counter

from gelert.core.trajectory import Provenance, Role, Setting, Step
from gelert.guard.formats.labels import gold_of
from gelert.guard.formats.messages import message_steps, named, tool_specs
from gelert.guard.formats.parts import text_of
from gelert.guard.formats.run import Malformed, Run
from gelert.guard.formats.untrusted import Object, as_list, as_object, came, first, sampled, text_at

_TOLD = {"custom_message", "compaction", "branch_summary"}
_LABELS = ("risk_source", "failure_mode", "harm_type", "is_safe", "defense_type")


def detect(value: object) -> int:
    """92 for session events, 85 for messages with toolCall parts or toolResult roles."""
    record = as_object(value)
    events = sampled(_events(value))
    session = any(event.get("type") in ("session", "message") and "payload" not in event for event in events)
    if session and all("type" in event and "uuid" not in event for event in events):
        return 92 if any("role" in as_object(e.get("message")) or e.get("type") == "session" for e in events) else 0
    messages = sampled(value if isinstance(value, list) else record.get("messages"), 40)
    return 85 if messages and all("role" in message for message in messages) and any(map(_own, messages)) else 0


def read(value: object) -> list[Run]:
    """The session, with ATBench-Claw's labels where they stand."""
    record, session = as_object(value), as_object(as_object(value).get("trajectory"))
    events = _events(value)
    if not isinstance(events, list):
        events = value if isinstance(value, list) else first(record, "messages")
    if not isinstance(events, list):
        raise Malformed(f"expected OpenClaw events or messages, got {came(value)}; pass --format for another log")
    run = Run([], setting=Setting.OPENCLAW, trajectory_id=text_at(record, "id", "sessionId", "session_id"))
    root = _root(record)
    if prompt := text_at(record, "systemPrompt", "system_prompt"):
        run.steps.append(Step(Role.SYSTEM, prompt, provenance=Provenance("/systemPrompt", "systemPrompt")))
    for number, event in enumerate(as_list(events)):
        run.steps += _event(event, f"{root}/{number}", run)
    run.steps = named(run.steps)
    run.agent = text_at(session, "modelId") or text_at(record, "modelId", "model") or run.agent
    run.tools = tool_specs(first({**session, **record}, "tools"))
    run.gold = gold_of(_labels(record), attributes=("defense_type",))
    return [run]


def _own(message: Object) -> bool:
    kinds = {text_at(part, "type") for part in sampled(message.get("content"))}
    return message.get("role") in ("toolResult", "custom") or "toolCall" in kinds


def _events(value: object) -> object:
    record = as_object(value)
    session = as_object(record.get("trajectory"))
    found = value if isinstance(value, list) else first({**record, **session}, "events")
    typed = sampled(found)
    return found if typed and all(text_at(event, "type") for event in typed) and "role" not in typed[0] else None


def _root(record: Object) -> str:
    if "events" in as_object(record.get("trajectory")):
        return "/trajectory/events"
    return next((f"/{key}" for key in ("events", "messages") if key in record), "")


def _labels(record: Object) -> Object:
    flat = {key: record[key] for key in (*_LABELS, "label", "reason") if key in record}
    return {**flat, **as_object(record.get("labels"))}


def _event(event: object, pointer: str, run: Run) -> list[Step]:
    record = as_object(event)
    kind = text_at(record, "type")
    if "role" in record:
        return message_steps(record, pointer)
    stamp = text_at(record, "timestamp")
    if kind == "message" or isinstance(record.get("message"), dict):
        return message_steps(record.get("message"), f"{pointer}/message", timestamp=stamp)
    if kind in _TOLD and (text := text_of(first(record, "content", "summary"))):
        return [Step(Role.RUNTIME, text, provenance=Provenance(pointer, kind, stamp))]
    if not kind:
        raise Malformed(f"expected an event with a type, got {came(event)} at {pointer}")
    run.trajectory_id = run.trajectory_id or (text_at(record, "id") if kind == "session" else "")
    run.agent = run.agent or text_at(record, "modelId")
    run.ignored += Counter({kind: 1})
    return []
