"""The logs that real runtimes wrote for the examples: read whole, and through ATIF unchanged."""

import json
from pathlib import Path

import atif
import pytest

from gelert.core.trajectory import Role, Trajectory
from gelert.guard.formats import read, write_atif
from tests.guard.formats.reading import examples, refusals, run

LOGS = sorted((Path(__file__).resolve().parents[3] / "examples" / "logs").glob("*.jsonl"))
FORMATS = {"claude": "claude-code", "codex": "codex"}


def recorded(path: Path) -> Trajectory:
    found = list(read(path))
    assert refusals(found) == []
    (example,) = examples(found)
    return example.trajectory


@pytest.mark.parametrize("path", LOGS, ids=lambda path: path.stem)
def test_a_recorded_log_is_told_by_its_content(path: Path) -> None:
    assert recorded(path).origin.format == FORMATS[path.name.split("-")[0]]


@pytest.mark.parametrize("path", LOGS, ids=lambda path: path.stem)
def test_every_recorded_call_has_its_result(path: Path) -> None:
    steps = recorded(path).steps
    assert {c.call_id for s in steps for c in s.calls} == {s.call_id for s in steps if s.role == Role.TOOL}


@pytest.mark.parametrize("path", LOGS, ids=lambda path: path.stem)
def test_a_recorded_run_ends_with_the_agents_words(path: Path) -> None:
    last = recorded(path).steps[-1]
    assert (last.role, bool(last.text)) == (Role.AGENT, True)


@pytest.mark.parametrize("path", LOGS, ids=lambda path: path.stem)
def test_nothing_in_a_recorded_log_is_told_twice(path: Path) -> None:
    said = [step.text for step in recorded(path).steps if step.role in (Role.USER, Role.AGENT) and step.text]
    assert len(said) == len(set(said))


@pytest.mark.parametrize("path", LOGS, ids=lambda path: path.stem)
def test_a_recorded_log_goes_through_atif_unchanged(path: Path) -> None:
    made = recorded(path)
    written = json.loads(json.dumps(write_atif(made)))
    assert run(atif.Trajectory.model_validate(written).to_json_dict()) == made
