"""The ``action`` of an AgentDoG-style turn: a call or a last message, written in one of six ways as text."""

import ast
import json
import re
from dataclasses import dataclass

from gelert.core.trajectory import ToolCall, json_text
from gelert.guard.formats.untrusted import Object, as_object, has_text_keys, text_at

_INPUT = re.compile(r"\n[ \t]{0,8}Action Input[ \t]{0,8}:")
_NAMED = re.compile(r"\s*([A-Za-z_][\w.\-]{0,200})[ \t]{0,8}:?[ \t]{0,8}(?=[{(])")
_FINAL = re.compile(r"\s*(?:Final Answer[ \t]*:|Complete(?=[ \t]{0,8}[{(]))")
_MAX_LITERAL = 100_000
_MAX_OPENINGS = 200
"""Python's literal parser is slow and recursive, so longer or deeper arguments stay text."""


@dataclass(frozen=True, slots=True)
class Action:
    """What an action string turned out to be: a message, a call, or both empty."""

    text: str = ""
    call: ToolCall | None = None


def parsed(action: str) -> Action:
    """The call or the message that an action string spells; what is neither stays a message, whole."""
    if not action.strip():
        return Action()
    if ending := _FINAL.match(action):
        rest = action[ending.end() :]
        return Action(text=_last_words(rest) if "Complete" in ending.group() else rest)
    if (decoded := _json(action)) and (name := text_at(decoded, "name", "tool", "action")):
        return _decoded(name, decoded, action)
    if split := _INPUT.search(action):
        return Action(call=ToolCall(action[: split.start()].strip(), _arguments(action[split.end() :].strip())))
    if head := _NAMED.match(action):
        return Action(call=ToolCall(head.group(1), _arguments(action[head.end() :].strip())))
    return Action(text=action)


def _decoded(name: str, decoded: Object, action: str) -> Action:
    keys = [key for key in ("arguments", "parameters", "args", "action_input", "kwargs") if key in decoded]
    if name in ("Complete", "Finish", "Final Answer"):
        return Action(text=_response(decoded[keys[0]]) if keys else action)
    known = {"name", "tool", "action", "id", *keys[:1]}
    arguments = (
        decoded[keys[0]] if keys and set(decoded) <= known else {k: v for k, v in decoded.items() if k != "name"}
    )
    return Action(call=ToolCall(name, json_text(arguments), text_at(decoded, "id")))


def _last_words(braced: str) -> str:
    """The response inside ``{'response': ..}``, or the braces as they are."""
    return _response(_value(braced.strip()) or braced)


def _response(value: object) -> str:
    record = as_object(value)
    return text_at(record, *record) if len(record) == 1 else json_text(value)


def _arguments(text: str) -> str:
    if text in ("()", "{}", ""):
        return "{}"
    value = _value(text)
    return json_text(value) if value is not None else text


def _value(text: str) -> object:
    """The JSON or Python object that ``text`` is, or None."""
    if (decoded := _json(text)) is not None:
        return decoded
    if text.startswith("(") and text.endswith(")"):
        return _keywords(text)
    return _literal(text) if text.startswith("{") else None


def _json(text: str) -> Object | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return as_object(value) if isinstance(value, dict) else None


def _parse(text: str) -> ast.expr | None:
    if len(text) > _MAX_LITERAL or sum(map(text.count, "([{-+~")) > _MAX_OPENINGS:
        return None
    try:
        return ast.parse(text, mode="eval").body
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return None


def _evaluated(node: ast.expr) -> object:
    """The literal a node spells, only if it is JSON through and through; ``ast.literal_eval`` runs nothing."""
    value: object = ast.literal_eval(node)
    json.dumps(value)
    return value


def _literal(text: str) -> object:
    node = _parse(text)
    try:
        value = _evaluated(node) if isinstance(node, ast.Dict) else None
    except (ValueError, TypeError, RecursionError, MemoryError):
        return None
    return as_object(value) if isinstance(value, dict) and has_text_keys(value) else None


def _keywords(text: str) -> object:
    """``(a=1, b='x')`` as an object."""
    node = _parse(f"f{text}")
    if not isinstance(node, ast.Call) or node.args or any(word.arg is None for word in node.keywords):
        return None
    try:
        return {str(word.arg): _evaluated(word.value) for word in node.keywords}
    except (ValueError, TypeError, RecursionError, MemoryError):
        return None
