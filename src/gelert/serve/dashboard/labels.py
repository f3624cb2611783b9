"""Runs that a person has labelled, each in a file of its own that only the owner reads: what a guard is trained on.

A record has the form of the field's labelled runs (``contents`` and ``label``), which ``gelert.guard.formats`` reads:
``gelert train guard --data FOLDER``. It holds the whole run, secrets too, so it is written for labelled runs alone.
A step that holds nothing but a thought is read back as said aloud.
"""

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from gelert.core.errors import InputError
from gelert.core.records import digest
from gelert.core.trajectory import Role, Step, Trajectory
from gelert.guard.formats.untrusted import as_object, text_at
from gelert.serve.places import make_private
from gelert.serve.replies import Object

MOST_LABELS = 10_000


@dataclass(frozen=True, slots=True)
class Label:
    """What a person says of a run."""

    unsafe: bool
    note: str = ""


class Labels:
    """The labelled runs of a folder; a run that is labelled again has its last label only.

    Args:
        folder: made with the first label.
        most: how many runs it holds at most.
    """

    def __init__(self, folder: Path, most: int = MOST_LABELS) -> None:
        self.folder, self._most = folder, most

    def put(self, run: Trajectory, label: Label) -> None:
        """Keep a run and its label.

        Raises:
            InputError: there are too many, or the disk does not take it.
        """
        path = self._path(run)
        text = json.dumps(record(run, label)) + "\n"
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            make_private(self.folder)
            if not path.exists() and len(self._files()) >= self._most:
                raise InputError(f"expected at most {self._most} labels, got one more; move {self.folder} elsewhere")
            with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as stream:
                stream.write(text)
            partial.replace(path)
        except OSError as fault:
            with suppress(OSError):
                partial.unlink()
            raise InputError(f"expected a place for the label, got {fault.strerror} ({self.folder})") from None

    def get(self, run: Trajectory) -> Label | None:
        """The label of a run, if it has one."""
        try:
            found = as_object(json.loads(self._path(run).read_text()))
        except (OSError, ValueError):
            return None
        return Label(found.get("label") == 1, text_at(found, "reason"))

    def drop(self, run: Trajectory) -> bool:
        """Forget a run and its label; says whether it was there."""
        try:
            self._path(run).unlink()
        except FileNotFoundError:
            return False
        return True

    def export(self) -> Iterator[bytes]:
        """Every record, a line each."""
        for path in self._files():
            yield path.read_bytes()

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("*.json"))

    def _path(self, run: Trajectory) -> Path:
        return self.folder / f"{digest(asdict(run) | {'origin': None})[:32]}.json"


def record(run: Trajectory, label: Label) -> Object:
    """The run and its label as one labelled record."""
    tools = [{"name": t.name, "description": t.description, "parameters": t.parameters} for t in run.tools]
    return {
        "id": run.trajectory_id,
        "agent_model": run.agent,
        "contents": [[_turn(step) for step in run.steps]],
        "tools": tools,
        "label": int(label.unsafe),
        "reason": label.note,
    }


def _turn(step: Step) -> Object:
    turn: Object = {"role": step.role.value, "content": step.text}
    match step.role:
        case Role.AGENT:
            calls = [{"id": c.call_id, "function": {"name": c.name, "arguments": c.arguments}} for c in step.calls]
            return turn | {"reasoning_content": step.thought, "tool_calls": calls}
        case Role.TOOL:
            return turn | {"tool_call_id": step.call_id, "name": step.tool_name, "is_error": step.is_error}
        case Role.SYSTEM | Role.USER | Role.RUNTIME:
            return turn
