"""What a reader gives back for each record of a log: an example, or the reason it was refused."""

from dataclasses import dataclass

from gelert.core.taxonomy import Diagnosis
from gelert.core.trajectory import Trajectory


@dataclass(frozen=True, slots=True)
class Gold:
    """What a data set says of a trajectory. Kept apart from it, so that no judge under test can see it."""

    unsafe: bool | None = None
    diagnosis: Diagnosis = Diagnosis()
    group: str = ""
    """Records that share a group (task, case, user request) must stay on one side of a split."""
    reason: str = ""
    attributes: tuple[tuple[str, str], ...] = ()
    """Other labels of the source, by its own names."""
    failed: int | None = None
    """Index of the step at which the agent went wrong, where the source knows it."""


@dataclass(frozen=True, slots=True)
class Example:
    """One trajectory, with its gold label where the source has one."""

    trajectory: Trajectory
    gold: Gold | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """A record that could not be read."""

    path: str
    record: int
    """Zero-based index of the record in its file."""
    line: int | None
    """One-based line, where the file has a record a line."""
    reason: str
    """What was expected, what came, and what to do."""

    def __str__(self) -> str:
        place = f"line {self.line}" if self.line is not None else f"record {self.record}"
        return f"{self.path} {place}: {self.reason}"
