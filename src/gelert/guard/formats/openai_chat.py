"""OpenAI chat completions: a list of messages, or anything that wraps one under ``messages``."""

from gelert.core.trajectory import ToolSpec
from gelert.guard.formats.labels import gold_of
from gelert.guard.formats.messages import ROLES, message_steps, named, tool_specs
from gelert.guard.formats.run import Malformed, Run
from gelert.guard.formats.untrusted import Object, as_list, as_object, came, first, objects, sampled, text_at

_ATTRIBUTES = ("risk_type", "attack_type", "application_scenario")


def detect(value: object) -> int:
    """50 for messages with known roles; other chat dialects, which say more of themselves, come first."""
    messages = sampled(_messages(value))
    known = messages and all(text_at(message, "role") in ROLES for message in messages)
    return 50 if known and all("content" in m or "tool_calls" in m or "function_call" in m for m in messages) else 0


def read(value: object) -> list[Run]:
    """The conversation; a request's ``tools`` and a response's ``choices`` are read too."""
    record = as_object(value)
    body = as_object(first(record, "request", "body")) or record
    messages = _messages(value)
    if not isinstance(messages, list):
        raise Malformed(f"expected a list of messages, got {came(value)}; pass --format for another log")
    root = "" if isinstance(value, list) else "/messages"
    steps = [x for n, m in enumerate(as_list(messages)) for x in message_steps(m, f"{root}/{n}")]
    for number, choice in enumerate(objects(_response(record).get("choices"))[:1]):
        steps += message_steps(choice.get("message"), f"/choices/{number}/message")
    gold = gold_of(record, attributes=_ATTRIBUTES)
    agent, name = text_at(body, "model"), text_at(record, "id", "conversation_id", "session_id")
    return [Run(named(steps), _tools(body), name, agent, gold=gold)]


def _messages(value: object) -> object:
    record = as_object(value)
    inner = as_object(first(record, "request", "body"))
    return value if isinstance(value, list) else first({**inner, **record}, "messages")


def _response(record: Object) -> Object:
    return as_object(record.get("response")) or record


def _tools(body: Object) -> tuple[ToolSpec, ...]:
    return tool_specs(first(body, "tools", "functions"))
