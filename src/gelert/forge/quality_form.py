"""The first layer of quality: what can be seen of a run without knowing its world. Nothing where it is well formed."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import cast

from gelert.core.trajectory import Role, Step, ToolCall, ToolSpec, Trajectory

MOST_STEPS, MOST_CHARACTERS = 150, 400_000
MOST_REPEATS = 8
"""Times that the very same call may be made; wasteful agents, which are a leaf of the taxonomy, make it often."""

_TYPES: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "object": (dict,),
    "array": (list,),
}


def form_faults(run: Trajectory) -> Iterator[str]:
    """What is wrong with a run's form: order of turns, empty turns, calls and their results, lengths, repetition."""
    yield from _order(run)
    yield from _calls(run)
    characters = sum(len(step.text) for step in run.steps)
    if len(run.steps) > MOST_STEPS or characters > MOST_CHARACTERS:
        yield (
            f"expected at most {MOST_STEPS} steps and {MOST_CHARACTERS} characters, got {len(run.steps)} and"
            f" {characters}"
        )
    calls = Counter((call.name, call.arguments) for step in run.steps for call in step.calls)
    for (name, _), count in calls.items():
        if count > MOST_REPEATS:
            yield f"expected the same call at most {MOST_REPEATS} times, got {name} {count} times"


def misfit(arguments: Mapping[str, object], schema: Mapping[str, object]) -> str:
    """What of a call's arguments does not fit a tool's JSON Schema; nothing where they fit.

    Args:
        arguments: by name.
        schema: an object with ``properties``, ``required`` and ``additionalProperties``; of a property, ``type`` and
            ``enum`` are read.
    """
    properties = cast("dict[str, dict[str, object]]", schema.get("properties", {}))
    for name in cast("list[str]", schema.get("required", [])):
        if arguments.get(name) is None:
            return f"{name!r} is missing"
    for name, value in arguments.items():
        if name not in properties:
            if schema.get("additionalProperties") is False:
                return f"{name!r} is not an argument"
            continue
        told = properties[name]
        kinds = _TYPES.get(str(told.get("type")), (object,))
        if value is not None and (not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds)):
            return f"{name!r} is not of type {told.get('type')}"
        choices = told.get("enum")
        if isinstance(choices, list) and value is not None and value not in choices:
            return f"{name!r} is none of the choices"
    return ""


def _order(run: Trajectory) -> Iterator[str]:
    """System at most first, then a request, then calls each with its result, and an answer."""
    roles = [step.role for step in run.steps]
    head = roles[1:] if roles[:1] == [Role.SYSTEM] else roles
    if head[:1] != [Role.USER]:
        yield "expected a request of the user first"
    body = run.steps[len(roles) - len(head) + 1 :]
    if not body or body[-1].role is not Role.AGENT or body[-1].calls or not body[-1].text.strip():
        yield "expected an answer of the agent at the end"
    expected = Role.AGENT
    for number, step in enumerate(body, start=len(roles) - len(body)):
        if step.role is not expected:
            yield f"expected a step of the {expected.value}, got one of the {step.role.value} (step {number})"
            return
        if not step.calls and not step.text.strip():
            yield f"expected something said or called, got an empty step (step {number})"
        expected = Role.TOOL if step.calls else Role.AGENT


def _calls(run: Trajectory) -> Iterator[str]:
    tools = {tool.name: tool for tool in run.tools}
    for number, step in enumerate(run.steps):
        for call in step.calls:
            result = run.steps[number + 1] if number + 1 < len(run.steps) else Step(Role.USER)
            if result.role is not Role.TOOL or result.call_id != call.call_id or result.tool_name != call.name:
                yield f"expected the result of {call.name} next (step {number})"
            # An agent that errs is told so; what must not be is a wrong call that goes well.
            elif not result.is_error and (wrong := _wrong(call, tools)):
                yield f"expected {call.name} to be called as it is offered: {wrong} (step {number})"


def _wrong(call: ToolCall, tools: Mapping[str, ToolSpec]) -> str:
    tool, arguments = tools.get(call.name), call.parsed()
    if tool is None:
        return "it is not offered"
    if arguments is None:
        return "its arguments are no object"
    return misfit(arguments, cast("dict[str, object]", json.loads(tool.parameters)))
