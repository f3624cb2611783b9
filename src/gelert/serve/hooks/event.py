"""One event of a runtime's hook, as it came: untrusted, and read into a closed set of kinds."""

from dataclasses import dataclass
from enum import StrEnum

from gelert.core.errors import InputError
from gelert.core.trajectory import Setting, ToolCall, json_text
from gelert.guard.formats.untrusted import Object, came, first, text_at
from gelert.guard.policy import Surface
from gelert.serve.asked import project_of


class Runtime(StrEnum):
    """Whose hooks these are."""

    CODEX = "codex"
    CLAUDE_CODE = "claude-code"
    OPENCLAW = "openclaw"

    @property
    def setting(self) -> Setting:
        """Which leaves of the taxonomy apply."""
        return {"codex": Setting.CODEX, "openclaw": Setting.OPENCLAW}.get(self.value, Setting.GENERAL)


class Kind(StrEnum):
    """What is asked at an event."""

    CALL = "call"
    """May this tool run?"""
    RESULT = "result"
    """May the model read this result?"""
    INPUT = "input"
    """May the agent begin on this prompt?"""
    REPLY = "reply"
    """May this reply stand?"""
    DISPLAY = "display"
    """May the user see this message?"""
    END = "end"
    """What is to be said of a run that is over? Nothing can be stopped any more."""

    @property
    def surface(self) -> Surface:
        """Where the policy is asked."""
        match self:
            case Kind.CALL:
                return Surface.TOOL_CALL
            case Kind.RESULT | Kind.INPUT:
                return Surface.TOOL_RESULT
            case Kind.REPLY | Kind.DISPLAY | Kind.END:
                return Surface.REPLY


KINDS: dict[str, Kind] = {
    "PreToolUse": Kind.CALL,
    "PostToolUse": Kind.RESULT,
    "Stop": Kind.REPLY,
    "SubagentStop": Kind.REPLY,
    "UserPromptSubmit": Kind.REPLY,
    "MessageDisplay": Kind.DISPLAY,
    "before_tool_call": Kind.CALL,
    "before_agent_run": Kind.INPUT,
    "reply_payload_sending": Kind.DISPLAY,
    "message_sending": Kind.DISPLAY,
    "agent_end": Kind.END,
}
"""What each event asks, under its runtime's own name. Of Claude Code's prompts only those are asked about that bring a
background subagent's reply (``shim.NOTICE``): no tool's result brings it to the agent that waits for it."""

EVENTS: dict[Runtime, tuple[str, ...]] = {
    Runtime.CODEX: ("PreToolUse", "PostToolUse", "Stop", "SubagentStop"),
    Runtime.CLAUDE_CODE: ("PreToolUse", "PostToolUse", "Stop", "MessageDisplay", "SubagentStop", "UserPromptSubmit"),
    Runtime.OPENCLAW: (
        "before_agent_run",
        "before_tool_call",
        "reply_payload_sending",
        "message_sending",
        "agent_end",
    ),
}
"""The events at which each runtime asks."""


@dataclass(frozen=True, slots=True)
class Event:
    """What a hook was told."""

    runtime: Runtime
    name: str
    kind: Kind
    session: str
    agent: str
    """The subagent that does or says it; empty for the agent that the user speaks to."""
    project: str
    """The folder that the agent works in; empty if the runtime does not say."""
    transcript: str
    """Path of the runtime's own log; empty if it has none."""
    agent_transcript: str
    """Path of the subagent's log, where the runtime says so besides."""
    messages: object
    """What was said and done so far, where the runtime tells it with the event."""
    tool: str
    call_id: str
    arguments: object
    result: object
    reply: str
    message: str
    """Id of the message that is shown, piece by piece."""
    again: bool
    """Whether this reply was already sent back once."""

    @property
    def call(self) -> ToolCall:
        """The call that this event is about."""
        return ToolCall(self.tool, "{}" if self.arguments is None else json_text(self.arguments), self.call_id)


def event(runtime: Runtime, payload: Object) -> Event:
    """The event that ``payload`` tells of.

    Raises:
        InputError: it is none at which this runtime asks.
    """
    name = text_at(payload, "hook_event_name")
    if name not in EVENTS[runtime]:
        raise InputError(f"expected an event out of {list(EVENTS[runtime])}, got {name[:40]!r} of {came(payload)}")
    return Event(
        runtime,
        name,
        KINDS[name],
        session=text_at(payload, "session_id")[:200],
        agent=text_at(payload, "agent_id")[:200],
        project=project_of(payload.get("cwd")),
        transcript=text_at(payload, "transcript_path"),
        agent_transcript=text_at(payload, "agent_transcript_path"),
        messages=payload.get("messages"),
        tool=text_at(payload, "tool_name"),
        call_id=text_at(payload, "tool_use_id"),
        arguments=first(payload, "tool_input"),
        result=first(payload, "tool_response"),
        reply=text_at(payload, "last_assistant_message", "delta", "prompt"),
        message=text_at(payload, "message_id"),
        again=payload.get("stop_hook_active") is True,
    )
