r"""Tool calls in a model's text, in the forms of the common chat templates: read, written, and told how to be made.

Both directions are of one form, so that what ``write`` gives is what ``parse`` reads. A message is read whole or not at
all: where one call of it cannot be read, none is made, and its text is kept as it came.

What tools say is hostile. No text that ``system``, ``write`` or ``result`` puts between a form's markers can close them
or open others: within JSON the first character of a marker becomes its ``\u`` escape, which changes nothing for who
reads JSON; within XML ``<`` becomes ``&lt;``; elsewhere a space is put behind it (``< /tool_response>``), visibly.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import cast
from xml.sax.saxutils import escape

from gelert.core.errors import InputError
from gelert.core.trajectory import ToolCall, ToolSpec, json_text

LONGEST_MESSAGE = 200_000
"""Characters; a longer one is malformed."""


class Form(StrEnum):
    """How a family of models writes tool calls."""

    HERMES = "hermes"
    """Hermes, Qwen2.5 and Qwen3: JSON between ``<tool_call>`` and ``</tool_call>``."""
    QWEN3_CODER = "qwen3-coder"
    """Qwen3-Coder: ``<function=NAME>`` and ``<parameter=NAME>`` between the same; values are text."""
    LLAMA3 = "llama3"
    """Llama 3.1 and later: the whole message is JSON, or what stands behind ``<|python_tag|>``; ``;`` parts calls."""
    MISTRAL = "mistral"
    """Mistral v2: a JSON array behind ``[TOOL_CALLS]``."""
    SHORT = "short"
    """Of no family: a name and JSON between ``<tool_call>`` and ``</tool_call>``. Tools are not told of: the model was
    taught them."""


@dataclass(frozen=True)
class Said:
    """One message of a model."""

    text: str = ""
    """What stands beside the calls, without the space around it; the whole message as it came if it is malformed."""
    calls: tuple[ToolCall, ...] = ()
    """In order; the arguments of each are the JSON text of an object."""
    malformed: str = ""
    """What was expected and what came, if a call cannot be read; then there are no calls."""


def parse(form: Form, text: str, tools: Sequence[ToolSpec]) -> Said:
    """What a message says and which calls it makes, in time linear in its length.

    Args:
        form: of the model that wrote it.
        text: the message, without the token that ends the turn.
        tools: their schemas say which values of ``QWEN3_CODER`` are JSON; a value that is not stays text, and the
            tool will say what it expected. A call of a tool that is not among them is a call all the same.
    """
    if len(text) > LONGEST_MESSAGE:
        return Said(text, malformed=f"expected a message of at most {LONGEST_MESSAGE} characters, got {len(text)}")
    try:
        match form:
            case Form.HERMES:
                return _read_marked(text, _hermes_call)
            case Form.QWEN3_CODER:
                return _read_coder(text, tools)
            case Form.LLAMA3:
                return _read_llama(text)
            case Form.MISTRAL:
                return _read_mistral(text)
            case Form.SHORT:
                return _read_marked(text, _short_call)
    except _MalformedError as fault:
        return Said(text, malformed=str(fault))


def write(form: Form, said: Said) -> str:
    """The message that ``parse`` reads as ``said``, if its text is free of markers; a malformed one is its text.

    Only ``QWEN3_CODER`` cannot write a value with a marker in it: there the marker is made harmless.

    Raises:
        InputError: the arguments of a call are no JSON object.
    """
    if not said.calls:
        return said.text
    match form:
        case Form.HERMES:
            blocks = [f"<tool_call>\n{_json_call(call, 'arguments')}\n</tool_call>" for call in said.calls]
            return "\n".join([said.text, *blocks] if said.text else blocks)
        case Form.QWEN3_CODER:
            blocks = [_coder_block(call) for call in said.calls]
            return "\n".join([said.text, *blocks] if said.text else blocks)
        case Form.LLAMA3:
            calls = "; ".join(_json_call(call, "parameters") for call in said.calls)
            return f"{said.text}{_PYTHON}{calls}" if said.text else calls
        case Form.MISTRAL:
            calls = ", ".join(_json_call(call, "arguments") for call in said.calls)
            return f"{said.text}[TOOL_CALLS] [{calls}]"
        case Form.SHORT:
            blocks = [
                f"{_OPEN}{_apart(call.name)} {_escaped(_arguments(call), (',', ':'))}{_CLOSE}" for call in said.calls
            ]
            return "\n".join([said.text, *blocks] if said.text else blocks)


def system(form: Form, tools: Sequence[ToolSpec]) -> str:
    """What a system message tells of the tools and of how to call them; empty if there are none or none is needed."""
    if not tools:
        return ""
    lines = "\n".join(_json_spec(tool) for tool in tools)
    match form:
        case Form.HERMES:
            return (
                "You can call tools. Between <tools> and </tools> each line describes one as JSON:\n"
                f"<tools>\n{lines}\n</tools>\n\n"
                "To call a tool, write one JSON object with its name and its arguments, like this; to make several"
                " calls, write several:\n"
                '<tool_call>\n{"name": "TOOL", "arguments": {"ARGUMENT": VALUE}}\n</tool_call>\n\n'
                "What it gives back comes to you between <tool_response> and </tool_response>."
            )
        case Form.QWEN3_CODER:
            described = "\n".join(_xml_spec(tool) for tool in tools)
            return (
                "You can call tools. They are described between <tools> and </tools>:\n"
                f"<tools>\n{described}\n</tools>\n\n"
                "To call a tool, write its name and the value of each parameter, like this; a value may have several"
                " lines; to make several calls, write several:\n"
                "<tool_call>\n<function=TOOL>\n<parameter=PARAMETER>\nVALUE\n</parameter>\n</function>\n</tool_call>\n"
                "\nWhat it gives back comes to you between <tool_response> and </tool_response>."
            )
        case Form.LLAMA3:
            return (
                f"You can call tools. Each line describes one as JSON:\n{lines}\n\n"
                "To call a tool, answer with one JSON object and nothing else, like this; to make several calls, put"
                ' "; " between them:\n'
                '{"name": "TOOL", "parameters": {"PARAMETER": VALUE}}\n\n'
                'What it gives back comes to you as {"output": RESULT}.'
            )
        case Form.MISTRAL:
            array = ", ".join(_json_spec(tool) for tool in tools)
            return (
                f"You can call tools:\n[AVAILABLE_TOOLS] [{array}][/AVAILABLE_TOOLS]\n\n"
                "To call tools, end your answer with an array of calls, like this:\n"
                '[TOOL_CALLS] [{"name": "TOOL", "arguments": {"ARGUMENT": VALUE}}]\n\n'
                "What they give back comes to you between [TOOL_RESULTS] and [/TOOL_RESULTS]."
            )
        case Form.SHORT:
            return ""


def result(form: Form, name: str, content: str) -> str:
    """A user's message that tells what a tool gave back.

    Args:
        form: of the model that will read it.
        name: of the tool; ``MISTRAL`` tells it, the others go by the order of the calls.
        content: what it gave back: any text.
    """
    match form:
        case Form.HERMES | Form.QWEN3_CODER | Form.SHORT:
            return f"<tool_response>\n{_apart(content)}\n</tool_response>"
        case Form.LLAMA3:
            return _escaped({"output": content})
        case Form.MISTRAL:
            return f"[TOOL_RESULTS] [{_escaped({'name': name, 'content': content})}][/TOOL_RESULTS]"


class _MalformedError(Exception):
    """A call cannot be read: what was expected, and what came."""


_OPEN, _CLOSE, _PYTHON, _CALLS = "<tool_call>", "</tool_call>", "<|python_tag|>", "[TOOL_CALLS]"
_NAME = re.compile(r"\s*([^<>{}\s]+)\s*")
_HEAD = re.compile(r"<tool_call>\s*<function=([^<>\s]+)>\s*")
_PARAMETER = re.compile(r"<parameter=([^<>\s]+)>\n?(.*?)\n?</parameter>\s*", re.DOTALL)
_TAIL = re.compile(r"</function>\s*</tool_call>")
_CODER = re.compile(r"</?tool_call>|<(?:function|parameter)=|</(?:function|parameter)>")
_BARE = re.compile(r'\s*\{\s*"name"\s*:')
"""A message that can only be meant as a call; other JSON is an answer in JSON."""
_SPACE = re.compile(r"\s*")
_MARKERS = re.compile(
    r"<(?=/?(?:tool_call|tool_response|tools|function|parameter)\b|/?s>|[|\uff5c])"
    r"|\[(?=/?(?:tool_calls|tool_results|available_tools|inst)\])",
    re.IGNORECASE,
)
"""The first character of any form's markers and of the control tokens around them."""
_TYPES = ("integer", "number", "boolean", "array", "object", "null")
"""Those of JSON Schema whose values are JSON in the XML form; all others are text."""


def _read_marked(text: str, call: Callable[[str, int], tuple[ToolCall, int]]) -> Said:
    """Calls between markers; ``call`` reads what stands between them, and says where it ends."""
    beside: list[str] = []
    calls: list[ToolCall] = []
    at = 0
    while (opening := text.find(_OPEN, at)) >= 0:
        beside.append(text[at:opening])
        found, at = call(text, opening + len(_OPEN))
        calls.append(found)
        at = _past_space(text, at)
        if not text.startswith(_CLOSE, at):
            raise _bad(f"{_CLOSE} behind the JSON object", text[at:])
        at += len(_CLOSE)
    beside.append(text[at:])
    if any(_CLOSE in part for part in beside):
        raise _bad(f"{_OPEN} before {_CLOSE}", text)
    return Said(_joined(beside), tuple(calls))


def _hermes_call(text: str, at: int) -> tuple[ToolCall, int]:
    found, end = _json(text, at)
    return _call_of(found, "arguments"), end


def _short_call(text: str, at: int) -> tuple[ToolCall, int]:
    name = _NAME.match(text, at)
    if name is None:
        raise _bad(f"the name of a tool behind {_OPEN}", text[at:])
    found, end = _json(text, name.end())
    return _call_of({"name": name[1], "arguments": found}, "arguments"), end


def _read_llama(text: str) -> Said:
    before, tag, told = text.partition(_PYTHON)
    if not tag and not _BARE.match(text):
        return Said(text.strip())
    before, told = (before, told.strip()) if tag else ("", text.strip())
    calls: list[ToolCall] = []
    at = 0
    while at == 0 or at < len(told):
        found, at = _json(told, at)
        calls.append(_call_of(found, "parameters"))
        at = _past_space(told, at)
        if at < len(told) and told[at] != ";":
            raise _bad("nothing or a semicolon behind a call", told[at:])
        at += 1
    return Said(before.strip(), tuple(calls))


def _read_mistral(text: str) -> Said:
    before, tag, told = text.partition(_CALLS)
    if not tag:
        return Said(text.strip())
    found, at = _json(told, 0)
    if not isinstance(found, list) or not found:
        raise _bad(f"an array of calls behind {_CALLS}", told)
    if (end := _past_space(told, at)) < len(told):
        raise _bad("nothing behind the array of calls", told[end:])
    return Said(before.strip(), tuple(_call_of(one, "arguments") for one in cast("list[object]", found)))


def _read_coder(text: str, tools: Sequence[ToolSpec]) -> Said:
    schemas = {tool.name: _properties(tool) for tool in tools}
    beside: list[str] = []
    calls: list[ToolCall] = []
    at = 0
    while (opening := text.find(_OPEN, at)) >= 0:
        beside.append(text[at:opening])
        head = _HEAD.match(text, opening)
        if head is None:
            raise _bad(f"<function=NAME> behind {_OPEN}", text[opening + len(_OPEN) :])
        values, at = _values(text, head.end(), schemas.get(head[1], {}))
        calls.append(_call(head[1], values))
        tail = _TAIL.match(text, at)
        if tail is None:
            raise _bad(f"a parameter, or </function> and {_CLOSE}", text[at:])
        at = tail.end()
    beside.append(text[at:])
    if any(_CODER.search(part) for part in beside):
        raise _bad(f"{_OPEN} before what is of a call", text)
    return Said(_joined(beside), tuple(calls))


def _values(text: str, at: int, schemas: Mapping[str, object]) -> tuple[dict[str, object], int]:
    """The parameters from ``at`` on, and where they end. One newline on each side of a value is the form's."""
    found: dict[str, object] = {}
    while part := _PARAMETER.match(text, at):
        name, value = part.groups()
        if name in found:
            raise _bad("each parameter once", name)
        if _CODER.search(value):  # it could be the next parameter of a model that forgot to end this one
            raise _bad("a value without a marker of the form", value)
        found[name] = _typed(value, schemas.get(name))
        at = part.end()
    return found, at


def _json(text: str, at: int) -> tuple[object, int]:
    """A JSON value behind any space, and where it ends."""
    start = _past_space(text, at)
    try:
        return cast("tuple[object, int]", json.JSONDecoder().raw_decode(text, start))
    except (ValueError, RecursionError):
        raise _bad("a call as JSON", text[start:]) from None


def _past_space(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return at if found is None else found.end()


def _call_of(found: object, key: str) -> ToolCall:
    told = cast("dict[str, object]", found) if isinstance(found, dict) else {}
    name, arguments = told.get("name"), told.get(key)
    if not isinstance(name, str) or not name or not isinstance(arguments, dict):
        came = f"{type(name).__name__} and {type(arguments).__name__}"
        raise _bad(f'an object with a text "name" and an object "{key}"', came)
    return _call(name, cast("dict[str, object]", arguments))


def _call(name: str, arguments: dict[str, object]) -> ToolCall:
    try:
        return ToolCall(name, json.dumps(arguments, ensure_ascii=False, allow_nan=False))
    except (ValueError, RecursionError):
        raise _bad("arguments of finite numbers and a depth that JSON can be written with", name) from None


def _typed(text: str, schema: object) -> object:
    """A value of the XML form as its schema has it; truth values as Python writes them too, as its template does."""
    kind = cast("dict[str, object]", schema).get("type") if isinstance(schema, dict) else None
    if kind not in _TYPES:
        return text
    try:
        return cast("object", json.loads(text.lower() if kind == "boolean" else text))
    except (ValueError, RecursionError):
        return text


def _bad(expected: str, came: str) -> _MalformedError:
    return _MalformedError(f"expected {expected}, got {came[:80]!r}" if came else f"expected {expected}, got the end")


def _joined(parts: Sequence[str]) -> str:
    return "\n".join(filter(None, (part.strip() for part in parts)))


def _coder_block(call: ToolCall) -> str:
    values = [
        f"<parameter={_apart(name)}>\n{_apart(value) if isinstance(value, str) else _escaped(value)}\n</parameter>"
        for name, value in _arguments(call).items()
    ]
    return "\n".join([_OPEN, f"<function={_apart(call.name)}>", *values, "</function>", _CLOSE])


def _json_call(call: ToolCall, key: str) -> str:
    return _escaped({"name": call.name, key: _arguments(call)})


def _json_spec(tool: ToolSpec) -> str:
    described = {"name": tool.name, "description": tool.description, "parameters": _schema(tool)}
    return _escaped({"type": "function", "function": described})


def _xml_spec(tool: ToolSpec) -> str:
    """A tool with its parameters; what JSON Schema says of each stands between markers of the same names."""
    lines = ["<function>", *_fields({"name": tool.name, "description": tool.description}), "<parameters>"]
    for name, schema in _properties(tool).items():
        told = cast("dict[str, object]", schema) if isinstance(schema, dict) else {}
        lines += ["<parameter>", *_fields({"name": name} | told | {"name": name}), "</parameter>"]
    required = _schema(tool).get("required")
    return "\n".join([*lines, *_fields({"required": required} if required else {}), "</parameters>", "</function>"])


def _fields(told: Mapping[str, object]) -> list[str]:
    return [f"<{_xml(key)}>{_xml(json_text(value))}</{_xml(key)}>" for key, value in told.items()]


def _xml(text: str) -> str:
    return _apart(escape(text))


def _arguments(call: ToolCall) -> dict[str, object]:
    found = call.parsed()
    if found is None:
        raise InputError(f"expected a JSON object as arguments of {call.name!r}, got {call.arguments[:80]!r}")
    return found


def _properties(tool: ToolSpec) -> dict[str, object]:
    found = _schema(tool).get("properties")
    return cast("dict[str, object]", found) if isinstance(found, dict) else {}


def _schema(tool: ToolSpec) -> dict[str, object]:
    """The schema of a tool's arguments; one that is no JSON object says nothing, and so allows all."""
    try:
        found: object = json.loads(tool.parameters)
    except (ValueError, RecursionError):
        return {}
    return cast("dict[str, object]", found) if isinstance(found, dict) else {}


def _escaped(value: object, separators: tuple[str, str] = (", ", ": ")) -> str:
    """JSON text in which no marker stands: they can only stand in its strings."""
    told = json.dumps(value, ensure_ascii=False, separators=separators)
    return _MARKERS.sub(lambda found: f"\\u{ord(found[0]):04x}", told)


def _apart(text: str) -> str:
    return _MARKERS.sub(lambda found: found[0] + " ", text)
