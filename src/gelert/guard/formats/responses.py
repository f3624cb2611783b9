"""OpenAI Responses: a request's ``instructions`` and ``input``, a response's ``output``, or a bare list of items."""

from gelert.core.trajectory import Provenance, Role, Step
from gelert.guard.formats.fences import user_steps
from gelert.guard.formats.items import item_steps, joined, kind_of
from gelert.guard.formats.messages import named, tool_specs
from gelert.guard.formats.run import Malformed, Run
from gelert.guard.formats.untrusted import Object, as_list, as_object, came, sampled, text_at

_OWN = {"function_call", "function_call_output", "reasoning", "custom_tool_call", "mcp_call", "web_search_call"}


def detect(value: object) -> int:
    """80 where an item of the Responses API is seen, or a response says so."""
    record = as_object(value)
    if record.get("object") == "response" and isinstance(record.get("output"), list):
        return 80
    lists = [value] if isinstance(value, list) else [record.get("input"), record.get("output")]
    items = [item for found in lists for item in sampled(found)]
    if not items or not all(kind_of(item) for item in items):
        return 0
    typed = any(text_at(item, "type") in _OWN for item in items)
    return 80 if typed or ("input" in record and all("role" in item for item in items)) else 0


def read(value: object) -> list[Run]:
    """The conversation. With ``previous_response_id`` the history is elsewhere, which a step says."""
    record = as_object(value)
    asked, answered = (value, None) if isinstance(value, list) else (record.get("input"), record.get("output"))
    if asked is None and answered is None:
        raise Malformed(f"expected 'input' or 'output' items, got {came(value)}; pass --format for another log")
    steps = _before(record)
    if isinstance(asked, str):
        steps += user_steps(asked, Provenance("/input", "input"))
    steps += _items(asked, "" if isinstance(value, list) else "/input")
    steps += _items(answered if answered is not None else as_object(record.get("response")).get("output"), "/output")
    tools = tool_specs(record.get("tools"))
    return [Run(named(joined(steps)), tools, text_at(record, "id"), text_at(record, "model"))]


def _before(record: Object) -> list[Step]:
    steps: list[Step] = []
    if instructions := text_at(record, "instructions"):
        steps.append(Step(Role.SYSTEM, instructions, provenance=Provenance("/instructions", "instructions")))
    if previous := text_at(record, "previous_response_id"):
        text = f"[continues response {previous}, which is not in this record]"
        steps.append(Step(Role.RUNTIME, text, provenance=Provenance("/previous_response_id", "previous_response_id")))
    return steps


def _items(found: object, root: str) -> list[Step]:
    return [step for n, item in enumerate(as_list(found)) for step in item_steps(item, f"{root}/{n}")]
