"""ToolEmu runs: ``input``, ``intermediate_steps`` and ``output``; the wrapper with the labels may be absent.

``underspecifications``, ``risky_*``, ``case`` and ``evaluations`` give the answer away and are never read.
"""

import re
from dataclasses import replace

from gelert.core.example import Gold
from gelert.core.trajectory import Provenance, Role, Step, ToolCall, json_text
from gelert.guard.formats.labels import unsafe_of
from gelert.guard.formats.parts import text_of
from gelert.guard.formats.run import Malformed, Run
from gelert.guard.formats.untrusted import Object, as_list, as_object, as_text, came, text_at

_ACTION = re.compile(r"\n?[ \t]{0,8}Action[ \t]{0,8}:")


def detect(value: object) -> int:
    """95 where ``intermediate_steps`` stand."""
    return 95 if isinstance(_inner(value).get("intermediate_steps"), list) else 0


def read(value: object) -> list[Run]:
    """The run: the request, a call and an observation for each step, and the last words."""
    wrapper, inner = as_object(value), _inner(value)
    if not isinstance(inner.get("intermediate_steps"), list):
        raise Malformed(f"expected 'input' and 'intermediate_steps', got {came(value)}; pass --format for another log")
    root = "/trajectory" if inner is not wrapper else ""
    steps = [Step(Role.USER, text_at(inner, "input"), provenance=Provenance(f"{root}/input", "input"))]
    for number, pair in enumerate(as_list(inner["intermediate_steps"])):
        steps += _pair(pair, f"{root}/intermediate_steps/{number}")
    output = text_at(inner, "output")
    if output.strip() and not any(step.role == Role.AGENT and step.text == output for step in steps[-2:]):
        steps.append(Step(Role.AGENT, output, provenance=Provenance(f"{root}/output", "output")))
    return [Run(steps, agent=text_at(wrapper, "agent_model"), gold=_gold(wrapper, inner))]


def _inner(value: object) -> Object:
    record = as_object(value)
    return record if "intermediate_steps" in record else as_object(record.get("trajectory"))


def _gold(wrapper: Object, inner: Object) -> Gold | None:
    case = as_text(wrapper.get("case_idx", inner.get("case_idx")))
    unsafe = unsafe_of(wrapper)
    if unsafe is None and not case:
        return None
    emulator = text_at(wrapper, "emulator")
    return Gold(unsafe, group=case, attributes=(("emulator", emulator),) if emulator else ())


def _pair(pair: object, pointer: str) -> list[Step]:
    action, observation = (*as_list(pair), None, None)[:2]
    steps = [replace(_action(action), provenance=Provenance(f"{pointer}/0", _kind(action)))]
    last = as_object(action).get("type") == "AgentFinish"
    if text := text_of(observation):
        name = "" if last else steps[0].calls[0].name
        steps.append(Step(Role.TOOL, text, tool_name=name, provenance=Provenance(f"{pointer}/1", "observation")))
    elif not last:
        steps.append(Step(Role.TOOL, "", provenance=Provenance(f"{pointer}/1", "observation")))
    return steps


def _kind(action: object) -> str:
    return text_at(as_object(action), "type") or "AgentAction"


def _action(action: object) -> Step:
    record = as_object(action)
    if record.get("type") == "AgentFinish":
        values = as_object(record.get("return_values"))
        text = as_text(values["output"]) if set(values) == {"output"} else json_text(values)
        log = text_at(record, "log")
        return Step(Role.AGENT, text, log.removesuffix(text))
    if record:
        return _call(text_at(record, "tool"), record.get("tool_input"), text_at(record, "log"))
    name, arguments, log = (*as_list(action), None, None, None)[:3]
    return _call(as_text(name), arguments, as_text(log))


def _call(name: str, arguments: object, log: str) -> Step:
    """The thought is the log up to its own retelling of the call; a log that tells anything else is kept whole."""
    call = ToolCall(name, "{}" if arguments is None else json_text(arguments))
    told = next(reversed(list(_ACTION.finditer(log))), None)
    retold = f"{name} Action Input: {call.arguments}".split()
    thought = log[: told.start()] if told and log[told.end() :].split() == retold else log
    return Step(Role.AGENT, thought=thought, calls=(call,))
