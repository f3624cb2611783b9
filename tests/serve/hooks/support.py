"""The hook's own command, started as a runtime starts it, and what it is told at each event."""

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gelert.serve.hooks import shim

Behaviour = Callable[[socket.socket], None]


@dataclass(frozen=True)
class Hooked:
    """What a hook's command did."""

    code: int
    out: str
    said: str

    @property
    def output(self) -> dict[str, Any]:
        return json.loads(self.out) if self.out else {}


def payload(event: str, **more: Any) -> dict[str, Any]:
    """What Codex and Claude Code tell at an event, as they were seen to."""
    told: dict[str, dict[str, Any]] = {
        "PreToolUse": {"tool_name": "Bash", "tool_input": {"command": "ls"}, "tool_use_id": "call_1"},
        "PostToolUse": {"tool_name": "Bash", "tool_input": {"command": "ls"}, "tool_use_id": "call_1"}
        | {"tool_response": {"stdout": "a file", "stderr": "", "interrupted": False}},
        "Stop": {"last_assistant_message": "done", "stop_hook_active": False},
        "SubagentStop": {"last_assistant_message": "done", "stop_hook_active": False, "agent_id": "a1"},
        "MessageDisplay": {"message_id": "m1", "index": 0, "final": True, "delta": "done"},
        "UserPromptSubmit": {"prompt": "<task-notification>\n<result>done</result>\n</task-notification>"},
    }
    base = {"session_id": "s1", "transcript_path": None, "cwd": "/w", "hook_event_name": event}
    return base | told[event] | more


def hook(
    runtime: str, told: dict[str, Any] | bytes, path: Path, seconds: float = 20.0, event: str = "PreToolUse"
) -> Hooked:
    """Start the command with the event on its standard input; ``event`` is the name of one that is no object."""
    raw = told if isinstance(told, bytes) else json.dumps(told).encode()
    event = told["hook_event_name"] if isinstance(told, dict) else event
    words = [sys.executable, "-I", "-S", shim.__file__, runtime, event]
    variables = {"PATH": os.environ["PATH"], "GELERT_SOCKET": str(path), "GELERT_HOOK_SECONDS": str(seconds)}
    done = subprocess.run(words, input=raw, env=variables, capture_output=True, check=False, timeout=60)
    return Hooked(done.returncode, done.stdout.decode(), done.stderr.decode())


@contextmanager
def impostor(path: Path, behaviour: Behaviour) -> Generator[None]:
    """Something that listens where the service should, and does as it is told with each connection."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as door:
        door.bind(str(path))
        door.listen()

        def accept() -> None:
            while True:
                try:
                    connection, _ = door.accept()
                except OSError:
                    return
                with connection:
                    try:
                        behaviour(connection)
                    except OSError:
                        continue

        threading.Thread(target=accept, daemon=True).start()
        try:
            yield
        finally:
            door.shutdown(socket.SHUT_RDWR)
