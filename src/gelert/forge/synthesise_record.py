"""A synthesised run as it is kept: the trajectory, what is true of it, and what it takes to make it again."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from gelert.core.example import Refusal
from gelert.core.trajectory import Role, Trajectory
from gelert.evals.benches import RECORDS, SYNTHESISED, Line, Whole, synthesised_rows
from gelert.guard.formats import read_value
from gelert.worlds.episode import Truth

VERSION = SYNTHESISED[1]


@dataclass(frozen=True)
class Record:
    """One run with its label by construction."""

    number: int
    pair: int
    """Mates share it."""
    task: str
    world: str
    family: str
    """``world/family``: runs of one family stay on one side of every split."""
    setting: str
    scenario: str
    entry: str
    """Where the risk enters, or ``nowhere``."""
    wording: str
    """Of the attack."""
    manner: str
    """Of the agent's words."""
    outcome: str
    agent: str
    draw: int
    """Seed of the surface."""
    unsafe: bool
    diagnosis: tuple[str | None, str | None, str | None]
    """Risk source, failure mode, harm; none of them where the run is safe."""
    met: tuple[str | None, str | None, str | None]
    """The same of the task's risk, whether or not the agent fell for it."""
    truth: Truth
    """Steps of the trajectory at which the risk entered, the agent failed and the harm was done."""
    reason: str
    """What happened, in the form that a coarse guard is asked for."""
    rationale: str
    """Why, in the form that a guard of three axes is asked for; empty where the run is safe."""
    trajectory: dict[str, object]
    """ATIF."""
    changes: list[dict[str, object]]
    """Rows that the run has changed, as ``gelert.worlds.episode.changed`` tells them."""

    @property
    def run(self) -> Trajectory | None:
        """The trajectory as a guard reads it; None where it is none."""
        found = read_value(self.trajectory, format="atif")
        return None if isinstance(found, Refusal) else found.trajectory

    def row(self) -> dict[str, object]:
        """As a JSON object."""
        return asdict(self)

    def replayable(self, run: Trajectory) -> dict[str, object]:
        """What ``gelert.worlds.episode.differs`` plays again: calls with their results, the answer, the changes."""
        results = {step.call_id: step.text for step in run.steps if step.role is Role.TOOL}
        calls = [
            {"tool": call.name, "arguments": call.arguments, "result": results.get(call.call_id, "")}
            for step in run.steps
            for call in step.calls
        ]
        last = run.steps[-1]
        answer = last.text if last.role is Role.AGENT and not last.calls else None
        return {"task": self.task, "calls": calls, "answer": answer, "changes": self.changes}


_RECORD = TypeAdapter(Record)


def kept_records(folder: Path) -> Iterator[Record | Refusal]:
    """The runs of a folder in their order; a line that is damaged is refused by its number.

    Raises:
        InputError: there is no file of runs.
    """
    for line in synthesised_rows(folder / RECORDS):
        yield _record(line, folder / RECORDS)


def _record(line: Line, path: Path) -> Record | Refusal:
    if not isinstance(line, Whole):
        return line
    try:
        return _RECORD.validate_python(line.row)
    except ValidationError as fault:
        first = fault.errors()[0]
        reason = f"expected a run of version {VERSION}, got {first['loc']}: {first['msg']}; make it again"
        return Refusal(str(path), line.number - 1, line.number, reason)
