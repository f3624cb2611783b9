"""ShareGPT training records: ``conversations`` of ``from`` and ``value``; calls are JSON text."""

from gelert.core.trajectory import Provenance, Role, Step, ToolCall
from gelert.guard.formats.fences import user_steps
from gelert.guard.formats.labels import gold_of
from gelert.guard.formats.messages import call_of, named, role_of, tool_specs
from gelert.guard.formats.run import Malformed, Run
from gelert.guard.formats.untrusted import (
    Object,
    as_list,
    as_object,
    as_text,
    came,
    first,
    json_value,
    objects,
    sampled,
    text_at,
)


def detect(value: object) -> int:
    """90 where turns have ``from`` and ``value``."""
    turns = sampled(as_object(value).get("conversations"))
    return 90 if turns and all("from" in turn and "value" in turn for turn in turns) else 0


def read(value: object) -> list[Run]:
    """The conversation, with ``system`` before it and ``tools`` (a list or JSON text) beside it."""
    record = as_object(value)
    turns = record.get("conversations")
    if not isinstance(turns, list):
        raise Malformed(f"expected 'conversations' of from and value, got {came(value)}; pass --format for another log")
    steps: list[Step] = []
    if system := text_at(record, "system"):
        steps.append(Step(Role.SYSTEM, system, provenance=Provenance("/system", "system")))
    for number, turn in enumerate(as_list(turns)):
        steps += _turn(as_object(turn), f"/conversations/{number}")
    return [Run(named(steps), tool_specs(json_value(record.get("tools"))), text_at(record, "id"), gold=gold_of(record))]


def _turn(turn: Object, pointer: str) -> list[Step]:
    speaker = text_at(turn, "from")
    if not speaker:
        raise Malformed(f"expected a turn with 'from' and 'value', got {came(turn)} at {pointer}")
    provenance, text = Provenance(pointer, speaker), as_text(turn.get("value"))
    if speaker in ("function_call", "tool_call"):
        return [Step(Role.AGENT, calls=_calls(text), provenance=provenance)]
    role = role_of(speaker)
    return user_steps(text, provenance) if role == Role.USER else [Step(role, text, provenance=provenance)]


def _calls(text: str) -> tuple[ToolCall, ...]:
    decoded = json_value(text)
    listed = objects(decoded) if isinstance(decoded, list) else objects([decoded])
    whole = listed and len(listed) == (len(as_list(decoded)) or 1) and all(first(c, "name", "function") for c in listed)
    return tuple(call_of(call) for call in listed) if whole else (ToolCall("", text),)
