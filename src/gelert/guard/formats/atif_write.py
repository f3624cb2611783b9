"""ATIF 1.8, written: results stand in the observation of the agent's step before them.

What ATIF has no field for (the runtime's role, errors, a tool's name, arguments that are no JSON object) goes under
``extra.gelert``, where the reader finds it, so that a trajectory comes back equal.
"""

import json
from datetime import datetime

from gelert.core.trajectory import Role, Setting, Step, ToolCall, ToolSpec, Trajectory, json_text
from gelert.guard.formats.atif import OWN
from gelert.guard.formats.untrusted import Object

SCHEMA = "ATIF-v1.8"
_UNKNOWN = "unknown"


def write_atif(trajectory: Trajectory) -> Object:
    """The trajectory as an ATIF document, ready for ``json.dumps``."""
    agent: Object = {"name": trajectory.agent or _UNKNOWN, "version": _UNKNOWN}
    if trajectory.agent:
        agent["model_name"] = trajectory.agent
    if trajectory.tools:
        agent["tool_definitions"] = [_definition(tool) for tool in trajectory.tools]
    document: Object = {"schema_version": SCHEMA}
    if trajectory.trajectory_id:
        document["trajectory_id"] = trajectory.trajectory_id
    own: Object = {"agent": trajectory.agent}
    if trajectory.setting != Setting.GENERAL:
        own["setting"] = trajectory.setting.value
    turns = enumerate(_turns(trajectory.steps), start=1)
    return {**document, "agent": agent, "steps": [_step(turn, n) for n, turn in turns], "extra": {OWN: own}}


def _turns(steps: tuple[Step, ...]) -> list[list[Step]]:
    """Each step with the tool results that follow it; results that follow no agent's step stand together."""
    turns: list[list[Step]] = []
    for step in steps:
        if step.role == Role.TOOL and turns and turns[-1][0].role in (Role.AGENT, Role.TOOL):
            turns[-1].append(step)
        else:
            turns.append([step])
    return turns


def _step(turn: list[Step], number: int) -> Object:
    head = turn[0]
    results = turn if head.role == Role.TOOL else turn[1:]
    source = head.role.value if head.role in (Role.SYSTEM, Role.USER, Role.AGENT) else Role.SYSTEM.value
    text = "" if head.role == Role.TOOL else head.text
    step: Object = {"step_id": number, "source": source, "message": text}
    own: Object = {"role": head.role.value}
    if head.thought:
        step["reasoning_content"] = head.thought
    if head.calls:
        step["tool_calls"] = [_call(call, f"call_{number}_{n}") for n, call in enumerate(head.calls, start=1)]
    if results:
        known = {call.call_id for call in head.calls if call.call_id}
        step["observation"] = {"results": [_result(result, known) for result in results]}
    if head.role != Role.TOOL and _is_iso(head.provenance.timestamp):
        step["timestamp"] = head.provenance.timestamp
    elif head.role != Role.TOOL and head.provenance.timestamp:
        own["timestamp"] = head.provenance.timestamp
    return {**step, "extra": {OWN: own}}


def _call(call: ToolCall, invented_id: str) -> Object:
    arguments = _plain_object(call.arguments)
    own: Object = {} if arguments is not None else {"arguments": call.arguments}
    if not call.call_id:
        own["call_id"] = ""
    shown = arguments if arguments is not None else {"raw": call.arguments}
    written: Object = {"tool_call_id": call.call_id or invented_id, "function_name": call.name, "arguments": shown}
    return {**written, "extra": {OWN: own}} if own else written


def _result(step: Step, known: set[str]) -> Object:
    result: Object = {"content": step.text}
    own: Object = {"tool_name": step.tool_name}
    if step.call_id in known:
        result = {"source_call_id": step.call_id, **result}
    else:
        own["call_id"] = step.call_id
    if step.is_error:
        own["is_error"] = True
    if step.provenance.timestamp:
        own["timestamp"] = step.provenance.timestamp
    return {**result, "extra": {OWN: own}}


def _definition(tool: ToolSpec) -> Object:
    parameters = _plain_object(tool.parameters)
    schema: object = parameters if parameters is not None else tool.parameters
    return {"type": "function", "function": {"name": tool.name, "description": tool.description, "parameters": schema}}


def _plain_object(text: str) -> Object | None:
    """The object that ``text`` is, if its standard JSON is ``text`` again to the byte."""
    try:
        value = json.loads(text)
        json.dumps(value, allow_nan=False)
        return value if isinstance(value, dict) and json_text(value) == text else None
    except (ValueError, RecursionError):
        return None


def _is_iso(stamp: str) -> bool:
    try:
        return bool(datetime.fromisoformat(stamp.replace("Z", "+00:00")))
    except ValueError:
        return False
