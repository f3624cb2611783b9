"""A trajectory: what a user asked, what an agent thought, said and did, and what its tools gave back, step by step.

Everything is frozen. Texts are kept as they came: a reader never trims, repairs or drops them.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from enum import StrEnum


class Role(StrEnum):
    """Whose words a step holds."""

    SYSTEM = "system"
    """The deployer's standing instructions."""
    USER = "user"
    """The person (or upstream program) the agent works for."""
    AGENT = "agent"
    """The model: thought, message and tool calls."""
    TOOL = "tool"
    """What a tool or the environment gave back: untrusted."""
    RUNTIME = "runtime"
    """Text that the agent runtime itself inserted (context blocks, hook feedback, compaction); nobody's request."""


class Setting(StrEnum):
    """Where the agent runs; chooses which leaves of the taxonomy apply."""

    GENERAL = "general"
    OPENCLAW = "openclaw"
    CODEX = "codex"


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where in its source a step stood."""

    pointer: str = ""
    """RFC 6901 JSON pointer inside the record (for JSON Lines sessions the first token is the line index)."""
    kind: str = ""
    """The source's own name for the thing, such as ``function_call`` or ``toolResult``."""
    timestamp: str = ""
    """As written in the source; empty if it has none."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call an agent asked for."""

    name: str
    arguments: str = "{}"
    """JSON text where the source has JSON or an object, else the raw text."""
    call_id: str = ""

    def parsed(self) -> dict[str, object] | None:
        """The arguments as an object, or None if they are not a JSON object."""
        try:
            value = json.loads(self.arguments)
        except (ValueError, RecursionError):
            return None
        return value if isinstance(value, dict) else None  # pyright: ignore[reportUnknownVariableType]


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A tool the agent could call. Descriptions are part of the input: they can carry an attack."""

    name: str
    description: str = ""
    parameters: str = "{}"
    """JSON Schema, as JSON text."""


@dataclass(frozen=True, slots=True)
class Step:
    """One turn of one role.

    An agent's step may hold a thought, a message and several calls; each tool result is a step of its own.
    """

    role: Role
    text: str = ""
    thought: str = ""
    """Agent only: reasoning that the user does not see."""
    calls: tuple[ToolCall, ...] = ()
    """Agent only."""
    call_id: str = ""
    """Tool only: which call this answers, where the source says so."""
    tool_name: str = ""
    """Tool only."""
    is_error: bool = False
    """Tool only: the source marks the result as an error."""
    provenance: Provenance = field(default=Provenance(), compare=False)

    @property
    def trusted(self) -> bool:
        """Whether the words come from somebody entitled to instruct the agent."""
        return self.role in (Role.SYSTEM, Role.USER)


@dataclass(frozen=True, slots=True)
class Origin:
    """Which file and record a trajectory was read from, and how."""

    path: str = ""
    record: int = 0
    """Zero-based index of the record in its file."""
    format: str = ""


@dataclass(frozen=True, slots=True)
class Trajectory:
    """A whole run, or the part of it that has happened so far."""

    steps: tuple[Step, ...]
    tools: tuple[ToolSpec, ...] = ()
    trajectory_id: str = ""
    setting: Setting = Setting.GENERAL
    agent: str = ""
    """Name of the agent or its model, where the source says."""
    origin: Origin = field(default=Origin(), compare=False)

    def prefixes(self) -> Iterator["Trajectory"]:
        """The run as it stood after each step, shortest first; the last one is the whole."""
        for end in range(1, len(self.steps) + 1):
            yield replace(self, steps=self.steps[:end])


def json_text(value: object) -> str:
    """Compact JSON text, keys in the order they came; text that is already a string passes through untouched."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(", ", ": "))
