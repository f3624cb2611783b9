"""The run with the thing in question as its last step: told by the runtime's log already, or added to it."""

import json
from dataclasses import dataclass, replace

from gelert.core.trajectory import Provenance, Role, Step, ToolCall, Trajectory, json_text
from gelert.guard.formats.parts import text_of
from gelert.guard.formats.untrusted import as_list, as_object, json_value
from gelert.serve.hooks.event import Event, Kind

_SHOWN = ("stdout", "stderr", "output", "content", "error")
"""Where runtimes put the text of a tool's result."""


@dataclass(frozen=True, slots=True)
class Questioned:
    """A run whose last step is in question."""

    run: Trajectory
    told: bool
    """Whether the runtime's own log told that step. What was added here it will tell in its own words later, so a run
    that was read with the addition cannot be read on."""


def questioned(run: Trajectory, found: Event) -> Questioned:
    """The run so far with what ``found`` asks about at its end."""
    match found.kind:
        case Kind.CALL:
            return _with_call(run, found)
        case Kind.RESULT:
            return _with_result(run, found)
        case Kind.REPLY | Kind.DISPLAY:
            return _with_reply(run, found)
        case Kind.INPUT | Kind.END:
            return Questioned(run, told=True)


def _with_call(run: Trajectory, found: Event) -> Questioned:
    """What the runtime says that it will run counts; its log may tell the same call under another name."""
    arguments = "{}" if found.arguments is None else json_text(found.arguments)
    call = ToolCall(found.tool, arguments, found.call_id)
    for place, step in enumerate(run.steps):
        told = [one for one in step.calls if found.call_id and one.call_id == found.call_id]
        if told and _texts(json_value(arguments)) <= _texts(json_value(told[-1].arguments)):
            if place == len(run.steps) - 1:
                return Questioned(run, told=True)
            call = told[-1]
    return _added(run, Step(Role.AGENT, calls=(call,), provenance=Provenance(kind=found.name)))


def _with_result(run: Trajectory, found: Event) -> Questioned:
    text = result_text(found.result)
    last = run.steps[-1] if run.steps else None
    if last and last.role is Role.TOOL and last.call_id == found.call_id and text in last.text:
        return Questioned(run, told=True)
    given = {"call_id": found.call_id, "tool_name": found.tool, "provenance": Provenance(kind=found.name)}
    return _added(run, replace(Step(Role.TOOL, text), **given))


def _with_reply(run: Trajectory, found: Event) -> Questioned:
    last = run.steps[-1] if run.steps else None
    if last and last.role is Role.AGENT and last.text == found.reply and not last.calls:
        return Questioned(run, told=True)
    return _added(run, Step(Role.AGENT, found.reply, provenance=Provenance(kind=found.name)))


def _added(run: Trajectory, step: Step) -> Questioned:
    return Questioned(replace(run, steps=(*run.steps, step)), told=False)


def result_text(result: object) -> str:
    """What a tool gave back, as the model will read it; everything, where its parts are not known."""
    record = as_object(result)
    if not record:
        return text_of(result)
    shown = [text_of(record[key]) for key in _SHOWN if record.get(key)]
    rest = {key: value for key, value in record.items() if key not in _SHOWN and isinstance(value, (str, list, dict))}
    return "\n".join([*shown, json.dumps(rest, ensure_ascii=False)] if any(rest.values()) else shown)


def _texts(value: object) -> set[str]:
    """Every text and number inside a JSON value, keys aside."""
    found: set[str] = set()
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, (dict, list)):
            stack += [*as_list(item), *as_object(item).values()]
        elif item is not None:
            found.add(str(item))
    return found
