"""OpenTelemetry GenAI spans, exported as OTLP JSON or flat: one run a conversation.

The last chat span of a conversation holds its history; what it lacks comes from ``execute_tool`` spans.
"""

from gelert.core.trajectory import Provenance, Role, Step, ToolCall, json_text
from gelert.guard.formats.messages import message_steps, named, tool_specs
from gelert.guard.formats.parts import text_of
from gelert.guard.formats.run import Malformed, Run
from gelert.guard.formats.spans import Span, spans_of
from gelert.guard.formats.untrusted import as_list, as_object, came, first, json_value, text_at


def detect(value: object) -> int:
    """100 for resource spans, 90 for flat spans with GenAI attributes."""
    record = as_object(value)
    if isinstance(first(record, "resourceSpans", "resource_spans"), list):
        return 100
    members = as_list(value)[:12] if isinstance(value, list) else [value]
    spans = [span for member in members for span in spans_of(member)]
    return 90 if any(key.startswith("gen_ai.") for span in spans for key in span.attributes) else 0


def read(value: object) -> list[Run]:
    """One run for each conversation id; spans without one go by their trace."""
    batches = [(item, f"/{n}") for n, item in enumerate(as_list(value))] if isinstance(value, list) else [(value, "")]
    spans = [span for batch, root in batches for span in spans_of(batch, root)]
    conversations: dict[str, list[Span]] = {}
    traces = {span.trace: span.conversation for span in spans if span.conversation and span.trace}
    for span in spans:
        name = span.conversation or traces.get(span.trace, "") or span.trace
        conversations.setdefault(name, []).append(span)
    runs = [_conversation(name, sorted(found, key=lambda s: s.start)) for name, found in conversations.items()]
    runs = [run for run in runs if run.steps]
    if not runs:
        raise Malformed(f"expected spans with gen_ai.input.messages, got {came(value)}; turn on content capture")
    return runs


def _conversation(name: str, spans: list[Span]) -> Run:
    chats = [span for span in spans if span.messages("gen_ai.input.messages") or _answers(span)]
    own = [span for span in chats if span.operation != "invoke_agent"] or chats
    steps = _history(own) if own else []
    steps = named(_filled(steps, [span for span in spans if span.operation == "execute_tool"]))
    agent = next((text_at(s.attributes, "gen_ai.agent.name", "gen_ai.request.model") for s in spans), "")
    tools = next((found for s in reversed(own) if (found := s.attributes.get("gen_ai.tool.definitions"))), None)
    return Run(steps, tool_specs(json_value(tools)), name, agent)


def _history(chats: list[Span]) -> list[Step]:
    """The last chat's input and output; a chat whose input forgets what an earlier one told is read after it."""
    last = chats[-1]
    told = _messages(last)
    before: list[Step] = []
    if len(last.messages("gen_ai.input.messages")) <= 1 and len(chats) > 1:
        known = {step.text for step in told}
        before = [x for span in chats[:-1] for x in _messages(span) if x.role != Role.SYSTEM and x.text not in known]
    system = text_of(_flat(json_value(last.attributes.get("gen_ai.system_instructions"))))
    where = Provenance(f"{last.pointer}/attributes", "gen_ai.system_instructions")
    return [*([Step(Role.SYSTEM, system, provenance=where)] if system else []), *before, *told]


def _messages(span: Span) -> list[Step]:
    found = [*span.messages("gen_ai.input.messages"), *_answers(span)]
    return [step for n, message in enumerate(found) for step in _steps(message, span, n)]


def _answers(span: Span) -> list[object]:
    return span.messages("gen_ai.output.messages")


def _steps(message: object, span: Span, number: int) -> list[Step]:
    record = as_object(message)
    parts = record.get("parts")
    content = [_part(part) for part in as_list(parts)] if isinstance(parts, list) else record.get("content")
    pointer = f"{span.pointer}/messages/{number}"
    return message_steps({**record, "content": content}, pointer, timestamp=span.stamp)


def _part(part: object) -> object:
    """A part in the spelling of content blocks."""
    record = as_object(part)
    match record.get("type"):
        case "tool_call_response":
            content = first(record, "response", "result", "content")
            shown = json_text(content) if isinstance(content, dict) else content
            return {"type": "tool_result", "tool_call_id": text_at(record, "id"), "content": shown}
        case "text":
            return {"type": "text", "text": first(record, "content", "text")}
        case _:
            return part


def _flat(instructions: object) -> object:
    return [_part(part) for part in as_list(instructions)] if isinstance(instructions, list) else instructions


def _filled(steps: list[Step], tools: list[Span]) -> list[Step]:
    """The history with the calls and results that it lacks, before its last words."""
    calls = {call.call_id for step in steps for call in step.calls if call.call_id}
    results = {step.call_id for step in steps if step.role == Role.TOOL and step.call_id}
    extra: list[Step] = []
    for span in tools:
        identity = text_at(span.attributes, "gen_ai.tool.call.id")
        name, where = text_at(span.attributes, "gen_ai.tool.name"), Provenance(span.pointer, "execute_tool", span.stamp)
        arguments = span.attributes.get("gen_ai.tool.call.arguments")
        if not identity or identity not in calls:
            call = ToolCall(name, "{}" if arguments is None else json_text(arguments), identity)
            extra.append(Step(Role.AGENT, calls=(call,), provenance=where))
        result = span.attributes.get("gen_ai.tool.call.result")
        if result is not None and (not identity or identity not in results):
            error = bool(span.attributes.get("error.type"))
            text = text_of(result) if isinstance(result, str) else json_text(result)
            extra.append(Step(Role.TOOL, text, call_id=identity, tool_name=name, is_error=error, provenance=where))
    ends = bool(steps) and steps[-1].role == Role.AGENT and not steps[-1].calls
    return [*steps[:-1], *extra, steps[-1]] if ends else [*steps, *extra]
