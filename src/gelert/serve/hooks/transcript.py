"""The runtime's own log of the run, as far as it is written: bounded, and only from below the runtime's own folder.

What a subagent of Claude Code's does is told in a log of its own, which is read behind its session's: who gave it its
task, and why, stands there. Codex tells of a subagent's log alone.
"""

import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path

from gelert.core.errors import InputError
from gelert.core.example import Example
from gelert.core.trajectory import Trajectory
from gelert.guard.formats import Limits, read_value
from gelert.serve.hooks.event import Event, Runtime
from gelert.serve.hooks.growing import Growing, run_of

MOST_BYTES = 64 << 20
LIMITS = Limits(max_bytes=MOST_BYTES, max_record_bytes=2 * MOST_BYTES, max_steps=5_000, max_records=2, max_files=1)
FORMATS = {Runtime.CODEX: "codex", Runtime.CLAUDE_CODE: "claude-code"}

_NAME = re.compile(r"[A-Za-z0-9_-]+")


def codex_home() -> Path:
    """Where Codex keeps what it has: ``CODEX_HOME``, or ``~/.codex``."""
    return Path(os.environ.get("CODEX_HOME") or Path.home() / ".codex")


def claude_home() -> Path:
    """Where Claude Code keeps what it has: ``CLAUDE_CONFIG_DIR``, or ``~/.claude``."""
    return Path(os.environ.get("CLAUDE_CONFIG_DIR") or Path.home() / ".claude")


@dataclass(frozen=True, slots=True)
class Homes:
    """The folders below which transcripts may lie."""

    codex: Path = field(default_factory=codex_home)
    claude: Path = field(default_factory=claude_home)


def so_far(found: Event, homes: Homes, growing: Growing) -> Trajectory:
    """What the runtime has told of the run: nothing yet, if it has written nothing.

    Args:
        found: says where.
        homes: below which it must lie.
        growing: what was read of it before.

    Raises:
        InputError: the log is not the runtime's own, is too long, or a whole line of it cannot be read.
    """
    nothing = Trajectory((), trajectory_id=found.session, setting=found.runtime.setting)
    if found.runtime is Runtime.OPENCLAW:
        return _messages(found) if found.messages else nothing
    lines = [
        line for path in _logs(found) for line in growing.lines(path, _whole_lines(_own(path, found, homes)), LIMITS)
    ]
    return run_of(lines, FORMATS[found.runtime], found.runtime.setting, LIMITS) if lines else nothing


def _messages(found: Event) -> Trajectory:
    read = read_value({"messages": found.messages}, format="openclaw", setting=found.runtime.setting, limits=LIMITS)
    if isinstance(read, Example):
        return read.trajectory
    raise InputError(read.reason)


def _logs(found: Event) -> list[str]:
    """The paths of the logs that tell the run, in the order in which they are read."""
    if not found.agent or not found.transcript:
        return [found.transcript] if found.transcript else []
    if found.runtime is Runtime.CODEX:
        return [found.agent_transcript or found.transcript]
    if not _NAME.fullmatch(found.agent):
        raise InputError(f"expected the id of a subagent, got {found.agent[:40]!r}")
    beside = Path(found.transcript).with_suffix("") / "subagents" / f"agent-{found.agent}.jsonl"
    return [found.transcript, found.agent_transcript or str(beside)]


def _own(named: str, found: Event, homes: Homes) -> Path:
    """The path, if it lies where this runtime keeps its logs."""
    home = (homes.codex if found.runtime is Runtime.CODEX else homes.claude).resolve()
    path = Path(named).resolve()
    if not path.is_relative_to(home):
        where = "CODEX_HOME" if found.runtime is Runtime.CODEX else "CLAUDE_CONFIG_DIR"
        raise InputError(f"expected a transcript below {home}; start gelert serve with the runtime's own {where}")
    return path


def _whole_lines(path: Path) -> bytes:
    """What is written, up to the end of the last whole line; a runtime writes beside its hooks."""
    try:
        stream = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW), "rb")
    except FileNotFoundError:
        return b""
    except OSError as fault:
        raise InputError(f"expected a readable transcript, got {fault.strerror} ({path})") from None
    with stream:
        if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
            raise InputError(f"expected a transcript that is a file, got something else ({path})")
        raw = stream.read(MOST_BYTES + 1)
    if len(raw) > MOST_BYTES:
        raise InputError(f"expected a transcript of at most {MOST_BYTES} bytes, got more ({path}); begin a new session")
    return raw[: raw.rfind(b"\n") + 1]
