"""The runtime's own log of the run, as far as it is written: bounded, and only from below the runtime's own folder."""

import io
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gelert.core.errors import InputError
from gelert.core.example import Example, Refusal
from gelert.core.trajectory import Trajectory
from gelert.guard.formats import Limits, read, read_value
from gelert.serve.hooks.event import Event, Runtime

MOST_BYTES = 64 << 20
LIMITS = Limits(max_bytes=MOST_BYTES, max_record_bytes=2 * MOST_BYTES, max_steps=5_000, max_records=2, max_files=1)
FORMATS = {Runtime.CODEX: "codex", Runtime.CLAUDE_CODE: "claude-code", Runtime.OPENCLAW: "openclaw"}


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


def so_far(found: Event, homes: Homes) -> Trajectory:
    """What the runtime has told of the run: nothing yet, if it has written nothing.

    Raises:
        InputError: the log is not the runtime's own, is too long, or a whole line of it cannot be read.
    """
    nothing = Trajectory((), trajectory_id=found.session, setting=found.runtime.setting)
    if found.runtime is Runtime.OPENCLAW:
        return _messages(found) if found.messages else nothing
    if not found.transcript:
        return nothing
    raw = _whole_lines(_own(found, homes))
    if not raw.strip():
        return nothing
    examples = list(read(io.BytesIO(raw), format=FORMATS[found.runtime], setting=found.runtime.setting, limits=LIMITS))
    return _one(examples)


def _messages(found: Event) -> Trajectory:
    value = {"messages": found.messages}
    return _one([read_value(value, format="openclaw", setting=found.runtime.setting, limits=LIMITS)])


def _one(examples: Sequence[Example | Refusal]) -> Trajectory:
    for example in examples:
        if isinstance(example, Refusal):
            raise InputError(example.reason)
        if len(examples) == 1:
            return example.trajectory
    raise InputError(f"expected one run in the transcript, got {len(examples)}")


def _own(found: Event, homes: Homes) -> Path:
    """The path, if it lies where this runtime keeps its logs."""
    home = (homes.codex if found.runtime is Runtime.CODEX else homes.claude).resolve()
    path = Path(found.transcript).resolve()
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
