"""Codex's ``event_msg`` lines: told as steps only where no ``response_item`` tells the same."""

from collections import Counter

from gelert.core.trajectory import Provenance, Role, Step, ToolCall, json_text
from gelert.guard.formats.fences import user_steps
from gelert.guard.formats.parts import text_of
from gelert.guard.formats.untrusted import Object, as_list, as_object, first, text_at

_BEGUN = {"exec_command_begin", "mcp_tool_call_begin", "patch_apply_begin", "web_search_begin", "view_image_tool_call"}
_ENDED = {"exec_command_end", "mcp_tool_call_end", "patch_apply_end", "web_search_end"}
_NOTICES = {"error", "stream_error", "warning", "turn_aborted", "background_event"}
_META = {"type", "call_id", "turn_id", "timestamp", "process_id", "started_at_ms", "completed_at_ms"}


class Told:
    """What the response items of a rollout say, so that an event which repeats it can be told from one which does not.

    Messages are counted, not only known: a user who says yes twice in events alone has said it twice.
    """

    def __init__(self, lines: list[Object]) -> None:
        self._texts: Counter[str] = Counter()
        self._calls: set[str] = set()
        self._events: set[str] = set()
        for line in lines:
            payload = as_object(line.get("payload")) if "payload" in line else line
            if text_at(line, "type") != "event_msg":
                self._learn(payload)

    def _learn(self, item: Object) -> None:
        if identity := text_at(item, "call_id", "id"):
            self._calls.add(identity)
        for key in ("content", "summary", "message"):
            value = item.get(key)
            if value is not None:
                self._texts.update({text_of(value), *(text_of(part) for part in as_list(value))})

    def repeats(self, text: str) -> bool:
        """Whether an item says this text."""
        return text in self._texts

    def take(self, text: str) -> bool:
        """Whether an item says this text that no earlier event has repeated yet."""
        if self._texts.get(text, 0) <= 0:
            return False
        self._texts[text] -= 1
        return True

    def tell(self, text: str) -> None:
        """Remember a text that an event told, for the events that only sum up."""
        self._events.add(text)

    def known(self, text: str) -> bool:
        """Whether an item says this text or an event has told it."""
        return text in self._events or text in self._texts

    def calls(self, identity: str) -> bool:
        """Whether an item made this call."""
        return bool(identity) and identity in self._calls


def event_steps(event: Object, pointer: str, stamp: str, told: Told) -> list[Step]:
    """What an event adds to the items: mostly nothing."""
    kind = text_at(event, "type")
    provenance = Provenance(pointer, kind, stamp)
    text = text_at(event, "message", "text", "last_agent_message")
    match kind:
        case "user_message" | "agent_message" | "agent_reasoning" | "agent_reasoning_raw_content":
            return [] if told.take(text) else _said(kind, text, provenance, told)
        case "task_complete" | "turn_complete":
            return [] if not text or told.known(text) else _said("agent_message", text, provenance, told)
        case "item_completed":
            return _completed(as_object(event.get("item")), provenance, told)
        case _ if kind in _BEGUN | _ENDED:
            return [] if told.calls(text_at(event, "call_id")) else [_tool(event, kind, provenance)]
        case _ if kind in _NOTICES:
            return [Step(Role.RUNTIME, text or text_at(event, "reason"), provenance=provenance)]
        case _:
            return []


def _completed(item: Object, provenance: Provenance, told: Told) -> list[Step]:
    """A finished item of the thread protocol: told if neither an item nor another event has told it."""
    text = text_of(first(item, "text", "content"))
    kind = {"AgentMessage": "agent_message", "UserMessage": "user_message", "Reasoning": "agent_reasoning"}
    name = kind.get(text_at(item, "type"))
    return [] if name is None or not text or told.known(text) else _said(name, text, provenance, told)


def _said(kind: str, text: str, provenance: Provenance, told: Told) -> list[Step]:
    told.tell(text)
    if kind == "user_message":
        return user_steps(text, provenance)
    if kind == "agent_message":
        return [Step(Role.AGENT, text, provenance=provenance)]
    return [Step(Role.AGENT, thought=text, provenance=provenance)]


def _tool(event: Object, kind: str, provenance: Provenance) -> Step:
    identity, name = text_at(event, "call_id"), kind.rsplit("_", 1)[0]
    rest = {key: value for key, value in event.items() if key not in _META}
    if kind in _BEGUN:
        return Step(Role.AGENT, calls=(ToolCall(name, json_text(rest), identity),), provenance=provenance)
    shown = first(event, "aggregated_output", "formatted_output", "result")
    text = text_of(shown if shown is not None else rest)
    failed = event.get("exit_code") not in (None, 0) or event.get("success") is False
    return Step(Role.TOOL, text, call_id=identity, tool_name=name, is_error=failed, provenance=provenance)
