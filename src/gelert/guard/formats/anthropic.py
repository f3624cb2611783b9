"""Anthropic messages: content blocks, results inside user messages, the system prompt apart or among the messages."""

from gelert.core.trajectory import Provenance, Role, Step
from gelert.guard.formats.labels import gold_of
from gelert.guard.formats.messages import message_steps, named, tool_specs
from gelert.guard.formats.parts import text_of
from gelert.guard.formats.run import Malformed, Run
from gelert.guard.formats.untrusted import as_list, as_object, came, first, objects, sampled, text_at

_BLOCKS = {"tool_use", "tool_result", "thinking", "redacted_thinking", "server_tool_use"}
_ROLES = {"user", "assistant", "system"}


def detect(value: object) -> int:
    """70 if a block of the dialect is seen, or a ``system`` stands beside the messages."""
    record = as_object(value)
    messages = sampled(value if isinstance(value, list) else record.get("messages"), 40)
    if not messages or any(text_at(message, "role") not in _ROLES for message in messages):
        return 0
    kinds = {text_at(part, "type") for message in messages for part in sampled(message.get("content"))}
    return 70 if kinds & _BLOCKS or first(record, "system") is not None else 0


def read(value: object) -> list[Run]:
    """The conversation of a request body, with the reply where a response stands beside it."""
    record = as_object(value)
    messages = value if isinstance(value, list) else record.get("messages")
    if not isinstance(messages, list):
        raise Malformed(f"expected a list of messages, got {came(value)}; pass --format for another log")
    steps: list[Step] = []
    if system := text_of(record.get("system")):
        steps.append(Step(Role.SYSTEM, system, provenance=Provenance("/system", "system")))
    root = "" if isinstance(value, list) else "/messages"
    for number, message in enumerate(as_list(messages)):
        steps += message_steps(message, f"{root}/{number}")
    if objects([record.get("response")]):
        steps += message_steps(record["response"], "/response")
    run = Run(named(steps), tool_specs(record.get("tools")), text_at(record, "id"), text_at(record, "model"))
    run.gold = gold_of(record)
    return [run]
