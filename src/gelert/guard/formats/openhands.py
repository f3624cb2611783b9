"""OpenHands events, bare or in OpenAgentSafety's wrapper with its labels.

An agent's ``action`` is a call (the model's own name and arguments where the event keeps them), an ``observation`` its
result. ``finish`` and ``message`` are words, not calls. Recalled workspace context is the runtime's.
"""

from collections import Counter

from gelert.core.example import Gold
from gelert.core.trajectory import Provenance, Role, Setting, Step, ToolCall, json_text
from gelert.guard.formats.fences import user_steps
from gelert.guard.formats.labels import unsafe_of
from gelert.guard.formats.messages import named, tool_specs
from gelert.guard.formats.parts import text_of
from gelert.guard.formats.run import Malformed, Run
from gelert.guard.formats.untrusted import Object, as_list, as_object, as_text, came, first, objects, sampled, text_at

_ATTRIBUTES = ("llm_judge_label", "rule_based_score")
_SILENT = {"agent_state_changed", "change_agent_state", "null"}
_RUNTIME = {"condensation", "condensation_request", "recall"}
_NOT_ARGUMENTS = {"thought", "blocking", "confirmation_state", "hidden", "is_input", "security_risk"}


def detect(value: object) -> int:
    """90 where every event has a source and an action or observation."""
    events = sampled(_events(value))
    fits = all("source" in e and ("action" in e or "observation" in e) for e in events)
    return 90 if events and fits else 0


def read(value: object) -> list[Run]:
    """The run of the events."""
    events, wrapper = _events(value), as_object(value)
    if not isinstance(events, list):
        raise Malformed(f"expected a list of OpenHands events, got {came(value)}; pass --format for another log")
    root = "" if isinstance(value, list) else next(f"/{key}" for key in _KEYS if wrapper.get(key) is events)
    run = Run([], agent=text_at(wrapper, "agent_model", "model"), gold=_gold(wrapper), setting=Setting.GENERAL)
    said: set[str] = set()
    for number, event in enumerate(as_list(events)):
        if not isinstance(event, dict):
            raise Malformed(f"expected an event with a source, got {came(event)} at {root}/{number}")
        steps = _event(as_object(event), f"{root}/{number}", said)
        said |= {step.text for step in steps if step.role == Role.USER}
        run.ignored += Counter({} if steps else {text_at(as_object(event), "action", "observation"): 1})
        run.steps += steps
        run.tools = run.tools or tool_specs(as_object(as_object(event).get("args")).get("tools"))
    run.steps = named(run.steps)
    run.trajectory_id = text_at(wrapper, "instance_id", "id")
    return [run]


_KEYS = ("trajectory", "history", "events")


def _events(value: object) -> object:
    record = as_object(value)
    return value if isinstance(value, list) else first(record, *_KEYS)


def _gold(wrapper: Object) -> Gold | None:
    unsafe, task = unsafe_of(wrapper), text_at(wrapper, "task")
    if unsafe is None and not task:
        return None
    attributes = tuple((key, as_text(wrapper[key])) for key in _ATTRIBUTES if wrapper.get(key) is not None)
    return Gold(unsafe, group=task, attributes=attributes)


def _event(event: Object, pointer: str, said: set[str]) -> list[Step]:
    kind = text_at(event, "action", "observation")
    provenance = Provenance(pointer, kind, text_at(event, "timestamp"))
    if kind in _SILENT or not kind:
        return []
    if event.get("observation") is not None:
        return [_observation(event, kind, provenance)]
    return _action(event, kind, provenance, said)


def _action(event: Object, kind: str, provenance: Provenance, said: set[str]) -> list[Step]:
    args = as_object(event.get("args"))
    text = text_at(args, "content") or text_at(event, "content", "message")
    source = event.get("source")
    if kind == "recall" and text_at(args, "query") in said:
        return []
    if kind == "system":
        return [Step(Role.SYSTEM, text, provenance=provenance)]
    if kind in _RUNTIME or source not in ("agent", "user"):
        told = text_at(args, "summary", "query") or text or json_text(args)
        return [Step(Role.RUNTIME, told, provenance=provenance)]
    if kind == "message" and source == "user":
        return user_steps(text, provenance)
    images = "".join(f"\n[image {url}]" for url in as_list(args.get("image_urls")) if isinstance(url, str))
    if kind == "message":
        return [Step(Role.AGENT, text + images, text_at(args, "thought"), provenance=provenance)]
    if kind == "finish":
        return [_finish(event, args, provenance)]
    thought = text_at(args, "thought") if kind != "think" else _words(event)
    return [Step(Role.AGENT, "", thought or _words(event), (_call(event, kind, args),), provenance=provenance)]


def _finish(event: Object, args: Object, provenance: Provenance) -> Step:
    """The last words; the thought only where it says something else."""
    words = text_at(args, "final_thought") or text_at(event, "message")
    thought = text_at(args, "thought")
    outputs = args.get("outputs")
    calls = (ToolCall("finish", json_text({"outputs": outputs})),) if outputs else ()
    return Step(Role.AGENT, words or thought, "" if thought in words else thought, calls, provenance=provenance)


def _answer(event: Object) -> Object:
    """The model's message behind an event, where it is kept."""
    response = as_object(as_object(event.get("tool_call_metadata")).get("model_response"))
    choice = next(iter(objects(response.get("choices"))), Object())
    return as_object(choice.get("message"))


def _words(event: Object) -> str:
    answer = _answer(event)
    return "\n".join(t for t in (text_of(answer.get("reasoning_content")), text_of(answer.get("content"))) if t)


def _call(event: Object, kind: str, args: Object) -> ToolCall:
    metadata = as_object(event.get("tool_call_metadata"))
    identity = text_at(metadata, "tool_call_id")
    for call in objects(_answer(event).get("tool_calls")):
        inner = as_object(call.get("function"))
        if identity and call.get("id") == identity and inner.get("arguments") is not None:
            return ToolCall(text_at(inner, "name"), json_text(inner["arguments"]), identity)
    kept = {key: item for key, item in args.items() if key not in _NOT_ARGUMENTS or kind == "think"}
    return ToolCall(text_at(metadata, "function_name") or kind, json_text(kept), identity)


def _observation(event: Object, kind: str, provenance: Provenance) -> Step:
    text = text_at(event, "content") or text_at(event, "message")
    if kind in _RUNTIME:
        extras = {k: v for k, v in as_object(event.get("extras")).items() if v not in (None, "", [], {})}
        return Step(Role.RUNTIME, f"{text}\n{json_text(extras)}" if extras else text, provenance=provenance)
    metadata = as_object(event.get("tool_call_metadata"))
    name = text_at(metadata, "function_name") or kind
    failed = kind == "error" or event.get("success") is False
    identity = text_at(metadata, "tool_call_id")
    return Step(Role.TOOL, text, call_id=identity, tool_name=name, is_error=failed, provenance=provenance)
