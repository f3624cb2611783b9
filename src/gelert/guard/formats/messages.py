"""One chat message, in any dialect, as steps: OpenAI, Anthropic, OpenClaw and LangChain differ in spelling only."""

from dataclasses import replace

from gelert.core.trajectory import Provenance, Role, Step, ToolCall, ToolSpec, json_text
from gelert.guard.formats.fences import user_steps
from gelert.guard.formats.parts import CALL_KINDS, RESULT_KINDS, THOUGHT_KINDS, part_text, text_of, thought_text
from gelert.guard.formats.run import Malformed
from gelert.guard.formats.untrusted import Object, as_list, as_object, as_text, came, first, objects, text_at

ROLES: dict[str, Role] = {
    "system": Role.SYSTEM,
    "developer": Role.SYSTEM,
    "user": Role.USER,
    "human": Role.USER,
    "assistant": Role.AGENT,
    "agent": Role.AGENT,
    "ai": Role.AGENT,
    "gpt": Role.AGENT,
    "model": Role.AGENT,
    "tool": Role.TOOL,
    "function": Role.TOOL,
    "toolResult": Role.TOOL,
    "environment": Role.TOOL,
    "observation": Role.TOOL,
}
"""Who speaks under each role; a role that is not here is nobody's request, so it reads as the runtime's."""

_CALL_IDS = ("call_id", "callId", "id", "tool_call_id", "toolCallId", "tool_use_id")
_RESULT_IDS = ("tool_call_id", "toolCallId", "tool_use_id", "call_id", "callId")


def role_of(name: str) -> Role:
    """Whose words a message of this role holds."""
    return ROLES.get(name, Role.RUNTIME)


def message_steps(message: object, pointer: str, *, role: str = "", timestamp: str = "") -> list[Step]:
    """The steps of one message; at least one, so that an empty message still counts.

    Raises:
        Malformed: it is no object, or has no role.
    """
    record = as_object(message)
    name = role or text_at(record, "role")
    if not name:
        raise Malformed(f"expected a message with a role, got {came(message)} at {pointer or '/'}")
    stamp = timestamp or text_at(record, "timestamp")
    provenance = Provenance(pointer, name, stamp)
    match role_of(name):
        case Role.AGENT:
            return [_agent(record, provenance)]
        case Role.TOOL:
            return _results(record, provenance)
        case other:
            return _said(record, other, provenance)


def call_of(part: Object) -> ToolCall:
    """One call, in whichever dialect: nested under ``function`` or ``custom``, or flat."""
    inner = as_object(first(part, "function", "custom")) or part
    name = text_at(inner, "name") or (as_text(part["function"]) if isinstance(part.get("function"), str) else "")
    arguments = first(inner, "arguments", "args", "input", "parameters", "partialJson")
    text = "{}" if arguments is None else json_text(arguments)
    return ToolCall(name or text_at(part, "tool_name", "toolName"), text, text_at(part, *_CALL_IDS))


def result_of(part: Object, provenance: Provenance) -> Step:
    """One tool result, in whichever dialect."""
    text = text_of(first(part, "content", "output", "result", "response"))
    error = first(part, "error")
    if error is not None and error is not False:
        message = text_at(as_object(error), "message") if isinstance(error, dict) else as_text(error)
        text = text if message in text else f"{text}\n{message}".removeprefix("\n")
    ids = as_list(part.get("tool_call_ids"))
    return Step(
        Role.TOOL,
        text,
        call_id=text_at(part, *_RESULT_IDS) or as_text(ids[0] if ids else None),
        tool_name=text_at(part, "name", "toolName", "tool_name", "function"),
        is_error=first(part, "is_error", "isError") is True or part.get("status") == "error" or bool(error),
        provenance=provenance,
    )


def tool_specs(value: object) -> tuple[ToolSpec, ...]:
    """The tools an agent could call, from any dialect's list; the list may be JSON text."""
    return tuple(_spec(tool) for tool in objects(value))


def named(steps: list[Step]) -> list[Step]:
    """The steps with each result's tool name filled in: from the call of its id, or the one call just before it."""
    names: dict[str, str] = {}
    alone = ""
    filled: list[Step] = []
    for step in steps:
        names.update({call.call_id: call.name for call in step.calls if call.call_id})
        if step.role == Role.TOOL and not step.tool_name:
            name = names.get(step.call_id, "") if step.call_id else alone
            filled.append(replace(step, tool_name=name) if name else step)
        else:
            filled.append(step)
        alone = step.calls[0].name if len(step.calls) == 1 and not step.calls[0].call_id else ""
    return filled


def merged(parts: list[Step]) -> Step:
    """One agent step out of the parts of one turn, in order; it stands where the first part stood."""
    if len(parts) == 1:
        return parts[0]
    return replace(
        parts[0],
        text="\n".join(part.text for part in parts if part.text),
        thought="\n".join(part.thought for part in parts if part.thought),
        calls=tuple(call for part in parts for call in part.calls),
    )


def _spec(tool: Object) -> ToolSpec:
    inner = as_object(first(tool, "function", "custom")) or tool
    name = text_at(inner, "name") or text_at(tool, "type")
    schema = first(inner, "parameters", "input_schema", "inputSchema", "format")
    return ToolSpec(name, text_at(inner, "description"), "{}" if schema is None else json_text(schema))


def _agent(record: Object, provenance: Provenance) -> Step:
    texts, thoughts, calls = _agent_content(record.get("content"))
    thoughts += [t for t in [text_of(first(record, "reasoning_content", "reasoning", "thinking"))] if t]
    texts += [t for t in [text_at(record, "refusal"), text_at(as_object(record.get("audio")), "transcript")] if t]
    extra = [*objects(record.get("tool_calls")), *objects(record.get("invalid_tool_calls"))]
    if isinstance(record.get("function_call"), dict):
        extra.append(as_object(record["function_call"]))
    seen = {call.call_id for call in calls if call.call_id}
    calls += [call for call in map(call_of, extra) if call.call_id not in seen]
    return Step(Role.AGENT, "\n".join(texts), "\n".join(thoughts), tuple(calls), provenance=provenance)


def _agent_content(content: object) -> tuple[list[str], list[str], list[ToolCall]]:
    texts: list[str] = []
    thoughts: list[str] = []
    calls: list[ToolCall] = []
    for part in as_list(content) if isinstance(content, list) else [content]:
        kind = text_at(as_object(part), "type")
        if kind in CALL_KINDS:
            calls.append(call_of(as_object(part)))
        elif kind in THOUGHT_KINDS:
            thoughts.append(thought_text(as_object(part)))
        elif part is not None:
            texts.append(part_text(part))
    return texts, thoughts, calls


def _results(record: Object, provenance: Provenance) -> list[Step]:
    parts = sorted_parts(record.get("content"))
    if any(isinstance(part, dict) for part in parts):
        return [_part_result(part, record, provenance) for part in parts]
    return [result_of(record, provenance)]


def sorted_parts(content: object) -> list[object]:
    """The content's stretches in order: each result part alone (an object), the parts between them as one text."""
    if not isinstance(content, list):
        return [text_of(content)]
    stretches: list[object] = []
    pending: list[object] = []
    for part in as_list(content):
        if text_at(as_object(part), "type") in RESULT_KINDS:
            stretches += [text_of(pending), part] if pending else [part]
            pending = []
        else:
            pending.append(part)
    return [*stretches, text_of(pending)] if pending or not stretches else stretches


def _part_result(part: object, record: Object, provenance: Provenance) -> Step:
    if isinstance(part, dict):
        return result_of({**as_object(part), "type": None}, replace(provenance, kind="tool_result"))
    return result_of({**record, "content": part}, provenance)


def _said(record: Object, role: Role, provenance: Provenance) -> list[Step]:
    steps: list[Step] = []
    calls = "".join(f"\n[tool_calls {json_text(x)}]" for x in [first(record, "tool_calls", "function_call")] if x)
    for part in sorted_parts(first(record, "content", "text", "message")):
        if isinstance(part, dict):
            steps.append(result_of(as_object(part), replace(provenance, kind="tool_result")))
        elif role == Role.USER:
            steps += user_steps(as_text(part) + calls, provenance)
            calls = ""
        else:
            steps.append(Step(role, as_text(part) + calls, provenance=provenance))
            calls = ""
    return steps
