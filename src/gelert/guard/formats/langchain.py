"""LangChain messages (human, ai, tool, system): plain, as ``messages_to_dict`` wraps them, or ``lc`` dumps."""

from gelert.guard.formats.messages import message_steps, named, tool_specs
from gelert.guard.formats.run import Malformed, Run
from gelert.guard.formats.untrusted import Object, as_list, as_object, came, first, sampled, text_at

_ROLES = {
    "human": "user",
    "ai": "assistant",
    "AIMessageChunk": "assistant",
    "tool": "tool",
    "function": "function",
    "system": "system",
    "developer": "developer",
    "chat": "",
    "remove": "remove",
}


def detect(value: object) -> int:
    """75 where every message has a type of LangChain's and no role of its own."""
    messages = [_flat(message) for message in sampled(_messages(value))]
    fits = all(text_at(message, "type") in _ROLES and "content" in message for message in messages)
    return 75 if messages and fits else 0


def read(value: object) -> list[Run]:
    """The conversation; a graph's state under ``messages`` is one too."""
    messages = _messages(value)
    if not isinstance(messages, list):
        raise Malformed(f"expected a list of LangChain messages, got {came(value)}; pass --format for another log")
    root = "" if isinstance(value, list) else "/messages"
    steps = [x for n, m in enumerate(as_list(messages)) for x in message_steps(_plain(m), f"{root}/{n}")]
    record = as_object(value)
    return [Run(named(steps), tool_specs(record.get("tools")), text_at(record, "id", "thread_id"))]


def _messages(value: object) -> object:
    record = as_object(value)
    state = as_object(first(record, "values", "output", "state"))
    return value if isinstance(value, list) else first({**state, **record}, "messages")


def _flat(message: object) -> Object:
    """The message without its wrapping, its type in the plain spelling."""
    record = as_object(message)
    if isinstance(record.get("kwargs"), dict) and record.get("lc") is not None:
        kind = str((as_list(record.get("id")) or [""])[-1]).removesuffix("Chunk").removesuffix("Message").lower()
        return {"type": kind, **as_object(record["kwargs"])}
    return {**as_object(record["data"]), "type": record.get("type")} if isinstance(record.get("data"), dict) else record


def _plain(message: object) -> Object:
    record = _flat(message)
    kind = text_at(record, "type")
    if not kind:
        raise Malformed(f"expected a message with a type such as 'human' or 'ai', got {came(message)}")
    extra = as_object(record.get("additional_kwargs"))
    merged = {**extra, **{key: item for key, item in record.items() if item not in (None, [])}}
    if kind in ("human", "system"):
        merged.pop("tool_calls", None)
    return {**merged, "role": _ROLES.get(kind, kind) or text_at(record, "role") or kind, "id": None}
