"""ATIF (Agent Trajectory Interchange Format) 1.8, read: any version's documents, with subagents in their place.

A subagent's steps follow the result that refers to them, or the run's end; its opening request is the runtime's. A
continuation is a file of its own, so a last step names it and nothing is fetched.
"""

from dataclasses import replace

from gelert.core.trajectory import Provenance, Role, Setting, Step, ToolCall, json_text
from gelert.guard.formats.fences import user_steps
from gelert.guard.formats.messages import tool_specs
from gelert.guard.formats.parts import text_of
from gelert.guard.formats.run import Malformed, Run
from gelert.guard.formats.untrusted import Object, as_list, as_object, as_text, came, objects, text_at

OWN = "gelert"
"""The key under ``extra`` where the writer keeps what ATIF has no field for."""

_SOURCES = {"system": Role.SYSTEM, "user": Role.USER, "agent": Role.AGENT}


def detect(value: object) -> int:
    """100 for a document that names its schema."""
    record = as_object(value)
    return 100 if text_at(record, "schema_version").startswith("ATIF") and "steps" in record else 0


def read(value: object) -> list[Run]:
    """The run of a document, its embedded subagents within it."""
    record = as_object(value)
    if not isinstance(record.get("steps"), list):
        raise Malformed(f"expected an ATIF document with 'steps', got {came(value)}; pass --format for another log")
    agent, own = as_object(record.get("agent")), _own(record)
    steps = _Document(record, "").steps()
    if reference := text_at(record, "continued_trajectory_ref"):
        text = f"[the run continues in {reference}, which was not read]"
        steps.append(Step(Role.RUNTIME, text, provenance=Provenance("/continued_trajectory_ref", "continued")))
    setting = Setting(own["setting"]) if own.get("setting") in set(Setting) else Setting.GENERAL
    name = as_text(own["agent"]) if "agent" in own else text_at(agent, "model_name", "name")
    identity = text_at(record, "trajectory_id", "session_id")
    return [Run(steps, tool_specs(agent.get("tool_definitions")), identity, name, setting)]


class _Document:
    """The steps of one document; each embedded subagent is told once."""

    def __init__(self, record: Object, pointer: str) -> None:
        self._record, self._pointer = record, pointer
        subs = as_list(record.get("subagent_trajectories"))
        self._subs = {text_at(as_object(sub), "trajectory_id") or f"#{n}": (sub, n) for n, sub in enumerate(subs)}

    def steps(self) -> list[Step]:
        """All steps, those of subagents after the result that refers to them."""
        found: list[Step] = []
        for number, value in enumerate(as_list(self._record.get("steps"))):
            if not isinstance(value, dict):
                raise Malformed(f"expected a step with a source, got {came(value)} at {self._pointer}/steps/{number}")
            found += self._step(as_object(value), f"{self._pointer}/steps/{number}")
        for name in list(self._subs):
            found += self._subagent(name)
        return found

    def _step(self, step: Object, pointer: str) -> list[Step]:
        own = _own(step)
        source = text_at(step, "source")
        provenance = Provenance(pointer, source, text_at(step, "timestamp") or text_at(own, "timestamp"))
        text = text_of(step.get("message"))
        role = Role(own["role"]) if own.get("role") in set(Role) else _SOURCES.get(source, Role.RUNTIME)
        calls = tuple(_call(call) for call in objects(step.get("tool_calls")))
        said: list[Step] = []
        if role == Role.AGENT:
            said = [Step(role, text, text_at(step, "reasoning_content"), calls, provenance=provenance)]
        elif role == Role.USER and not own:
            said = user_steps(text, provenance)
        elif role != Role.TOOL or text:
            said = [Step(role, text, provenance=provenance)]
        names = {call.call_id: call.name for call in calls}
        results = objects(as_object(step.get("observation")).get("results"))
        for number, result in enumerate(results):
            said += self._result(result, Provenance(f"{pointer}/observation/results/{number}", "result"), names)
        return said

    def _result(self, result: Object, provenance: Provenance, names: dict[str, str]) -> list[Step]:
        own, identity = _own(result), text_at(result, "source_call_id")
        references = objects(result.get("subagent_trajectory_ref"))
        outside = [text_at(r, "trajectory_path") for r in references if text_at(r, "trajectory_path")]
        marks = [f"[subagent trajectory in {path}, which was not read]" for path in outside]
        content = result.get("content")
        shown = [text_of(content)] if content is not None or not marks else []
        step = Step(
            Role.TOOL,
            "\n".join([*shown, *marks]),
            call_id=as_text(own["call_id"]) if "call_id" in own else identity,
            tool_name=as_text(own["tool_name"]) if "tool_name" in own else names.get(identity, ""),
            is_error=own.get("is_error") is True or as_object(result.get("extra")).get("is_error") is True,
            provenance=replace(provenance, timestamp=text_at(own, "timestamp")),
        )
        return [step, *(x for r in references for x in self._subagent(text_at(r, "trajectory_id")))]

    def _subagent(self, name: str) -> list[Step]:
        if name not in self._subs:
            return []
        sub, number = self._subs.pop(name)
        steps = _Document(as_object(sub), f"{self._pointer}/subagent_trajectories/{number}").steps()
        return [_below(step) for step in steps]


def _below(step: Step) -> Step:
    role = Role.RUNTIME if step.role == Role.USER else step.role
    return replace(step, role=role, provenance=replace(step.provenance, kind="subagent"))


def _own(record: Object) -> Object:
    return as_object(as_object(record.get("extra")).get(OWN))


def _call(call: Object) -> ToolCall:
    own = _own(call)
    arguments = own["arguments"] if "arguments" in own else call.get("arguments", {})
    identity = own["call_id"] if "call_id" in own else call.get("tool_call_id")
    return ToolCall(text_at(call, "function_name"), json_text(arguments), as_text(identity))
