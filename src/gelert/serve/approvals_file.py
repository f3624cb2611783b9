"""The answers that are remembered, on disk: one file that only its owner reads, replaced as a whole."""

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from gelert.core import records
from gelert.core.errors import InputError

KIND, VERSION = "approval", 1

Said = Literal["allow", "block"]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a person said of a call."""

    id: str
    answer: Said
    project: str
    tool: str
    at: float
    """Since the epoch, in seconds."""


_ROW: TypeAdapter[tuple[str, Answer]] = TypeAdapter(tuple[str, Answer])


def approvals_path(audit: Path) -> Path:
    """Where the answers lie that are remembered beside an audit file."""
    return audit.with_name(audit.name + ".approvals")


def read(path: Path) -> dict[str, Answer]:
    """The answers, by the digest of their call; none if there is no file.

    Raises:
        InputError: others than its owner may read or write the file, or it does not hold answers.
    """
    if not path.exists():
        return {}
    if path.stat().st_mode & 0o077:
        raise InputError(f"expected answers that only their owner reads and writes; look at them: chmod 600 {path}")
    try:
        rows = [_ROW.validate_python((row.pop("call", None), row)) for row in records.read(path, KIND, VERSION)]
    except (OSError, ValidationError, InputError) as fault:
        said = "a row of another form" if isinstance(fault, ValidationError) else fault
        raise InputError(
            f"expected remembered answers, got {said} ({path}); move the file away to begin anew"
        ) from None
    return dict(rows)


def write(path: Path, answers: Mapping[str, Answer]) -> None:
    """Put ``answers`` in the place of what the file holds, all of them or none."""
    partial = path.with_name(path.name + ".partial")
    partial.unlink(missing_ok=True)
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as stream:
        for call, answer in answers.items():
            stream.write(records.encode(KIND, VERSION, {"call": call, **asdict(answer)}) + "\n")
        stream.flush()
        os.fsync(stream.fileno())
    partial.replace(path)
