"""Codex's ``event_msg`` lines: told as steps only where no ``response_item`` tells the same."""

from collections import Counter

from gelert.core.trajectory import Provenance, Role, Step, ToolCall, json_text
from gelert.guard.formats.fences import user_steps
from gelert.guard.formats.parts import text_of
from gelert.guard.formats.untrusted import Object, as_list, as_object, first, text_at

_BEGUN = {"exec_command_begin", "mcp_tool_call_begin", "patch_apply_begin", "web_search_begin", "view_image_tool_call"}
_ENDED = {"exec_command_end", "mcp_tool_call_end", "patch_apply_end", "web_search_end"}
_NOTICES = {"error", "stream_error", "warning", "turn_aborted", "background_event"}
_META = {"type", "id", "call_id", "turn_id", "timestamp", "process_id", "started_at_ms", "completed_at_ms"}
_OUTPUTS = {"aggregated_output", "formatted_output", "stdout", "stderr", "result", "exit_code", "success", "status"}
_ITEMS = {"UserMessage": "user_message", "AgentMessage": "agent_message", "Reasoning": "agent_reasoning"}
_SHORT, _LONG = "event", "item_completed"
"""Codex has told a message as an event of its own and as a completed item; some releases write both."""


class Told:
    """What a rollout has told of each message and call, so that a repetition can be known from a first telling.

    Messages are counted, not only known: a user who says yes twice has said it twice, in whichever form.
    """

    def __init__(self, lines: list[Object]) -> None:
        self._items: Counter[str] = Counter()
        self._events: dict[str, Counter[str]] = {_SHORT: Counter(), _LONG: Counter()}
        self._calls: set[str] = set()
        for line in lines:
            if text_at(line, "type") != "event_msg":
                self._learn(as_object(line.get("payload")) if "payload" in line else line)

    def _learn(self, item: Object) -> None:
        self._calls |= {text_at(item, key) for key in ("call_id", "id")} - {""}
        for key in ("content", "summary", "message"):
            value = item.get(key)
            if value is not None:
                self._items.update({text_of(value), *(text_of(part) for part in as_list(value))})

    def first(self, form: str, text: str) -> bool:
        """Whether an event in this form says something that neither an item nor the other form has said as often."""
        self._events[form][text] += 1
        times = self._events[form][text]
        other = self._events[_LONG if form == _SHORT else _SHORT].get(text, 0)
        return times > max(self._items.get(text, 0), other)

    def known(self, text: str) -> bool:
        """Whether anything has said this text."""
        return text in self._items or any(text in said for said in self._events.values())

    def first_of_call(self, half: str, identity: str) -> bool:
        """Whether this half of a call, its start or its result, is told for the first time."""
        key = f"{half} {identity}"
        if identity and (identity in self._calls or key in self._calls):
            return False
        self._calls.add(key)
        return True


def event_steps(event: Object, pointer: str, stamp: str, told: Told) -> list[Step]:
    """What an event adds to the items: mostly nothing."""
    kind = text_at(event, "type")
    provenance = Provenance(pointer, kind, stamp)
    text = text_at(event, "message", "text", "last_agent_message")
    match kind:
        case "user_message" | "agent_message" | "agent_reasoning" | "agent_reasoning_raw_content":
            return _said(kind, text, provenance) if told.first(_SHORT, text) else []
        case "task_complete" | "turn_complete":
            return [] if not text or told.known(text) else _said("agent_message", text, provenance)
        case "item_completed":
            return _completed(as_object(event.get("item")), provenance, told)
        case _ if kind in _BEGUN | _ENDED:
            half, name = ("call" if kind in _BEGUN else "result"), kind.rsplit("_", 1)[0]
            identity = text_at(event, "call_id")
            shown = _call if half == "call" else _result
            return [shown(event, name, identity, provenance)] if told.first_of_call(half, identity) else []
        case _ if kind in _NOTICES:
            return [Step(Role.RUNTIME, text or text_at(event, "reason"), provenance=provenance)]
        case _:
            return []


def _completed(item: Object, provenance: Provenance, told: Told) -> list[Step]:
    """A finished item of the thread protocol: a message, reasoning, or a call with its result."""
    kind, identity = text_at(item, "type"), text_at(item, "id")
    if name := _ITEMS.get(kind):
        text = text_of(first(item, "text", "content", "summary_text"))
        return _said(name, text, provenance) if text and told.first(_LONG, text) else []
    if not kind:
        return []
    called = [_call(item, kind, identity, provenance)] if told.first_of_call("call", identity) else []
    answered = [_result(item, kind, identity, provenance)] if told.first_of_call("result", identity) else []
    return [*called, *answered]


def _said(kind: str, text: str, provenance: Provenance) -> list[Step]:
    if kind == "user_message":
        return user_steps(text, provenance)
    if kind == "agent_message":
        return [Step(Role.AGENT, text, provenance=provenance)]
    return [Step(Role.AGENT, thought=text, provenance=provenance)]


def _call(event: Object, name: str, identity: str, provenance: Provenance) -> Step:
    rest = {key: value for key, value in event.items() if key not in _META | _OUTPUTS}
    return Step(Role.AGENT, calls=(ToolCall(name, json_text(rest), identity),), provenance=provenance)


def _result(event: Object, name: str, identity: str, provenance: Provenance) -> Step:
    shown = first(event, "aggregated_output", "formatted_output", "result")
    rest = {key: value for key, value in event.items() if key not in _META}
    failed = event.get("exit_code") not in (None, 0) or event.get("success") is False
    text = text_of(shown if shown is not None else json_text(rest))
    return Step(Role.TOOL, text, call_id=identity, tool_name=name, is_error=failed, provenance=provenance)
