"""The items of OpenAI's Responses API, which Codex rollouts hold too: messages, reasoning, calls and their outputs."""

import json
from dataclasses import replace

from gelert.core.trajectory import Provenance, Role, Step, ToolCall, json_text
from gelert.guard.formats.messages import call_of, merged, message_steps, result_of
from gelert.guard.formats.parts import text_of
from gelert.guard.formats.run import Malformed
from gelert.guard.formats.untrusted import Object, as_object, came, first, text_at

_META = {"type", "id", "call_id", "status", "output", "outputs", "results", "result", "error", "metadata", "name"}
_RESULTS = ("output", "outputs", "results", "result")


def kind_of(item: Object) -> str:
    """The item's type; where it is left out, what its keys say."""
    if kind := text_at(item, "type"):
        return kind
    if "role" in item:
        return "message"
    if "output" in item:
        return "function_call_output"
    return "function_call" if "name" in item and "arguments" in item else ""


def item_steps(value: object, pointer: str, timestamp: str = "") -> list[Step]:
    """The steps of one item; a type that is not known stays visible as the runtime's JSON.

    Raises:
        Malformed: it is no object, or does not say what it is.
    """
    item = as_object(value)
    kind = kind_of(item)
    provenance = Provenance(pointer, kind, timestamp)
    match kind:
        case "":
            raise Malformed(f"expected an item with a type, got {came(value)} at {pointer or '/'}")
        case "message" | "agent_message":
            return message_steps(item, pointer, role="" if "role" in item else "assistant", timestamp=timestamp)
        case "reasoning":
            return [Step(Role.AGENT, thought=_thought(item), provenance=provenance)]
        case _ if kind.endswith(("_output", "_call_result")):
            return [_output(item, provenance)]
        case _ if kind.endswith("_call"):
            return _call(item, kind, provenance)
        case _:
            return [Step(Role.RUNTIME, f"[{kind} {json_text(_shown(item))}]", provenance=provenance)]


def joined(steps: list[Step]) -> list[Step]:
    """The steps with each turn's reasoning, message and calls in one; words after a call begin another turn."""
    turns: list[list[Step]] = []
    text = calls = False
    for step in steps:
        same = turns and turns[-1][-1].role == step.role == Role.AGENT
        if same and not ((text or calls) and (step.text or step.thought)):
            turns[-1].append(step)
            text, calls = text or bool(step.text), calls or bool(step.calls)
        else:
            turns.append([step])
            text, calls = bool(step.text), bool(step.calls)
    return [merged(turn) for turn in turns]


def _thought(item: Object) -> str:
    texts = [text_of(item.get(key)) for key in ("summary", "content", "text") if item.get(key)]
    return "\n".join(text for text in texts if text) or ("[encrypted reasoning]" if "encrypted_content" in item else "")


def _shown(item: Object) -> Object:
    return {key: value for key, value in item.items() if key not in ("encrypted_content", "type")}


def _call(item: Object, kind: str, provenance: Provenance) -> list[Step]:
    """Calls of built-in tools have no name, so they go by their type; some hold their results already."""
    called = call_of(item)
    if first(item, "arguments", "input") is None:
        own = first(item, "action", "operation")
        rest = {key: value for key, value in item.items() if key not in _META}
        called = replace(called, arguments=json_text(rest if own is None else own))
    called = ToolCall(called.name or kind.removesuffix("_call"), called.arguments, called.call_id)
    steps = [Step(Role.AGENT, calls=(called,), provenance=provenance)]
    if first(item, *_RESULTS, "error") is not None:
        steps.append(replace(_output(item, provenance), call_id=called.call_id, tool_name=called.name))
    return steps


def _output(item: Object, provenance: Provenance) -> Step:
    raw = first(item, *_RESULTS)
    raw = raw if raw is not None else first(item, "tools", "content")
    text, failed = _unwrapped(raw)
    step = result_of({**item, "content": text, "function": None}, provenance)
    return replace(step, is_error=step.is_error or failed)


def _unwrapped(raw: object) -> tuple[str, bool]:
    """The text of an output and whether it failed; Codex wraps shell output as JSON of output and metadata."""
    value = _decoded(raw) if isinstance(raw, str) else as_object(raw)
    known = {"output", "metadata", "content", "success"}
    if not value or set(value) - known or not set(value) & {"output", "content"}:
        return text_of(raw), False
    if isinstance(raw, str) and "metadata" not in value:
        return raw, False
    code = as_object(value.get("metadata")).get("exit_code")
    text, failed = _unwrapped(first(value, "output", "content")) if isinstance(raw, dict) else ("", False)
    failed = failed or value.get("success") is False or code not in (None, 0)
    return (text if isinstance(raw, dict) else text_of(value.get("output"))), failed


def _decoded(text: str) -> Object:
    if not text.startswith('{"output"'):
        return {}
    try:
        return as_object(json.loads(text))
    except (ValueError, RecursionError):
        return {}
