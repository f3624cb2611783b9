"""Published records, where GELERT_DEV_DATA names a folder of them: all are read, into steps that make sense."""

import os
from pathlib import Path

import pytest

from gelert.core.example import Example
from gelert.core.trajectory import Role
from gelert.guard.formats import read
from tests.guard.formats.reading import examples, refusals

COUNTS = {
    "rjudge": 282,
    "assebench_security": 341,
    "toolemu_runs": 184,
    "openagentsafety": 93,
    "tau_bench": 50,
    "agentrx_tau": 15,
    "swe_agent": 5,
    "agentdog_samples": 4,
}
HIDDEN = ("underspecifications", "risky_outcome", "risk_description")
FOLDER = os.environ.get("GELERT_DEV_DATA", "")
pytestmark = pytest.mark.skipif(not FOLDER, reason="GELERT_DEV_DATA is not set")


def found(name: str) -> list[Example]:
    return examples(list(read(Path(FOLDER) / name)))


@pytest.mark.parametrize("name", COUNTS)
def test_every_record_is_read(name: str) -> None:
    assert len(found(name)) == COUNTS[name]


@pytest.mark.parametrize("name", COUNTS)
def test_only_labels_are_refused(name: str) -> None:
    refused = refusals(list(read(Path(FOLDER) / name)))
    assert [x for x in refused if "labels, not trajectories" not in x.reason] == []
    assert len(refused) == (name == "agentrx_tau")


@pytest.mark.parametrize("name", COUNTS)
def test_every_run_has_a_user_and_an_agent(name: str) -> None:
    assert all({Role.USER, Role.AGENT} <= {s.role for s in x.trajectory.steps} for x in found(name))


@pytest.mark.parametrize("name", ["tau_bench", "agentrx_tau", "openagentsafety", "toolemu_runs"])
def test_every_result_answers_a_call(name: str) -> None:
    for item in found(name):
        steps = item.trajectory.steps
        assert sum(s.role == Role.TOOL for s in steps) == sum(len(s.calls) for s in steps)


def test_labels_come_in_the_published_numbers() -> None:
    names = ("rjudge", "assebench_security", "toolemu_runs", "openagentsafety")
    counts = [sum(bool(x.gold and x.gold.unsafe) for x in found(name)) for name in names]
    assert counts == [149, 185, 92, 45]
