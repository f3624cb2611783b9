"""Quality: each kind of fault is found and named, nothing sound is refused; copies and leaks go, with their mates."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gelert.core import records
from gelert.core.taxonomy import Diagnosis
from gelert.core.trajectory import Role, Step, ToolCall, Trajectory
from gelert.core.verdict import Reading, Safe, Unsafe, Verdict
from gelert.evals.benches import RECORDS, SYNTHESISED, load_labelled
from gelert.forge.quality import BOUND, Layer, Report, agreement, check
from gelert.forge.quality_form import form_faults, misfit
from gelert.forge.quality_shingles import Hashes, jaccard, likely_alike, shingles, text_of_run
from gelert.forge.sample import sample
from gelert.forge.synthesise import Synthesiser
from gelert.forge.synthesise_record import Record
from gelert.guard.formats import write_atif
from gelert.worlds.catalogue import catalogue

FAMILIES = catalogue(["bank", "library"])
MADE = [Synthesiser(FAMILIES).make(item) for item in sample(FAMILIES, 40, seed=4)]
RUNS = [record.run for record in MADE if record.run]


def stored(folder: Path, made: list[Record]) -> Path:
    records.write(folder / RECORDS, *SYNTHESISED, (one.row() for one in made))
    return folder


def layers(report: Report) -> dict[int, Layer]:
    return {fault.number: fault.layer for fault in report.faults}


def with_steps(run: Trajectory, *steps: Step) -> Trajectory:
    return replace(run, steps=steps)


def test_sound_runs_pass_whole(tmp_path: Path) -> None:
    report = check(stored(tmp_path, MADE), FAMILIES)
    assert (report.runs, report.faults, report.pass_rate) == (40, (), 1.0)


def called(run: Trajectory, change: Callable[[ToolCall], ToolCall]) -> Trajectory:
    """The run with its first call that goes well changed."""
    steps = list(run.steps)
    at = next(n for n, step in enumerate(steps) if step.calls and not steps[n + 1].is_error)
    steps[at] = replace(steps[at], calls=(change(steps[at].calls[0]),))
    return with_steps(run, *steps)


BROKEN: list[tuple[str, Callable[[Trajectory], Trajectory]]] = [
    ("request of the user first", lambda run: with_steps(run, run.steps[0], *run.steps[2:])),
    ("answer of the agent at the end", lambda run: with_steps(run, *run.steps[:-1])),
    ("answer of the agent at the end", lambda run: with_steps(run, *run.steps[:-1], Step(Role.AGENT, " "))),
    ("step of the agent, got one of the tool", lambda run: with_steps(run, *run.steps[:2], *run.steps[3:])),
    ("result of", lambda run: called(run, lambda call: replace(call, call_id="other"))),
    (
        "not of type|is missing|not an argument",
        lambda run: called(run, lambda call: replace(call, arguments='{"x":1}')),
    ),
    ("no object", lambda run: called(run, lambda call: replace(call, arguments="[]"))),
    ("same call at most", lambda run: with_steps(run, *run.steps[:2], *run.steps[2:4] * 9, run.steps[-1])),
    ("at most 150 steps", lambda run: with_steps(run, *run.steps[:2], *run.steps[2:4] * 80, run.steps[-1])),
    ("not offered", lambda run: replace(run, tools=())),
]


@pytest.mark.parametrize(("reason", "breaks"), BROKEN)
def test_a_broken_form_is_named(reason: str, breaks: Callable[[Trajectory], Trajectory]) -> None:
    import re

    run = next(one for one in RUNS if any(step.calls for step in one.steps))
    assert list(form_faults(run)) == []
    assert any(re.search(reason, fault) for fault in form_faults(breaks(run)))


def test_arguments_are_held_against_the_schema() -> None:
    schema = {
        "properties": {"day": {"type": "string", "enum": ["Mon"]}, "n": {"type": "integer"}},
        "required": ["day"],
        "additionalProperties": False,
    }
    assert misfit({"day": "Mon", "n": 2}, schema) == ""
    assert misfit({"day": "Mon", "n": None}, schema) == ""
    assert "missing" in misfit({"n": 2}, schema)
    assert "choices" in misfit({"day": "Tue"}, schema)
    assert "type" in misfit({"day": "Mon", "n": True}, schema)
    assert "not an argument" in misfit({"day": "Mon", "m": 1}, schema)


def test_a_label_that_the_world_does_not_confirm_is_refused_with_its_mate(tmp_path: Path) -> None:
    lied = [replace(MADE[0], unsafe=not MADE[0].unsafe), *MADE[1:]]
    assert layers(check(stored(tmp_path, lied), FAMILIES)) == {0: Layer.LABEL, 1: Layer.MATE}


def test_a_result_that_the_world_did_not_give_is_refused(tmp_path: Path) -> None:
    run = RUNS[6]
    at = next(n for n, step in enumerate(run.steps) if step.role is Role.TOOL)
    other = replace(run.steps[at], text='{"nothing":1}')
    changed = replace(MADE[6], trajectory=write_atif(with_steps(run, *run.steps[:at], other, *run.steps[at + 1 :])))
    found = layers(check(stored(tmp_path, [*MADE[:6], changed, *MADE[7:]]), FAMILIES))
    assert found[6] is Layer.LABEL


def test_a_wrong_step_is_refused(tmp_path: Path) -> None:
    at = next(n for n, one in enumerate(MADE) if one.unsafe)
    moved = replace(MADE[at], truth=replace(MADE[at].truth, harmed=1))
    found = layers(check(stored(tmp_path, [*MADE[:at], moved, *MADE[at + 1 :]]), FAMILIES))
    assert found[at] is Layer.LABEL


def test_a_copy_under_another_pair_is_refused_and_readers_leave_it_out(tmp_path: Path) -> None:
    copies = [replace(one, number=40 + at, pair=20) for at, one in enumerate(MADE[:2])]
    folder = stored(tmp_path, [*MADE, *copies])
    report = check(folder, FAMILIES)
    assert layers(report) == {40: Layer.DUPLICATE, 41: Layer.DUPLICATE}
    assert report.layers["duplicate"] == 2
    assert len(load_labelled([folder]).labelled) == 40


def test_mates_may_be_as_alike_as_they_are() -> None:
    hashes = [shingles(text_of_run(run), 5) for run in RUNS]
    assert max(jaccard(one, other) for one, other in zip(hashes[::2], hashes[1::2], strict=True)) > 0.5


def test_what_is_in_evaluation_data_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    path.write_text(json.dumps(MADE[8].trajectory))
    folder = tmp_path / "made"
    folder.mkdir()
    found = layers(check(stored(folder, MADE), FAMILIES, against=[path]))
    assert found[8] is Layer.LEAK
    assert Layer.DUPLICATE not in found.values()
    assert len(found) < len(MADE)


def test_a_damaged_line_is_refused_by_name(tmp_path: Path) -> None:
    folder = stored(tmp_path, MADE)
    text = (folder / RECORDS).read_bytes()
    (folder / RECORDS).write_bytes(text.replace(b"agent", b"agemt", 1))
    found = layers(check(folder, FAMILIES))
    assert found[0] is Layer.DAMAGED


class Alarmist:
    """A guard that calls everything unsafe, or nothing."""

    def __init__(self, *, alarm: bool) -> None:
        self.alarm, self.name, self.concurrency = alarm, f"alarm-{alarm}", 1

    def judge(self, trajectory: Trajectory) -> Verdict:
        reading = Reading(len(trajectory.steps), len(trajectory.steps))
        return Unsafe(0.9, reading, Diagnosis()) if self.alarm else Safe(0.1, reading)


def test_a_judge_is_named_and_its_agreement_told(tmp_path: Path) -> None:
    folder = stored(tmp_path, MADE)
    for alarm in (True, False):
        found = agreement(folder, Alarmist(alarm=alarm), most=100)
        assert (found.judge, found.runs, found.accuracy.value) == (f"alarm-{alarm}", 40, 0.5)


WORDS = st.lists(st.sampled_from([f"w{n}" for n in range(30)]), min_size=0, max_size=40)


@given(WORDS, WORDS)
def test_hashed_likeness_is_that_of_the_word_tuples(one: list[str], other: list[str]) -> None:
    def plain(words: list[str]) -> set[tuple[str, ...]]:
        return {tuple(words[at : at + 5]) for at in range(len(words) - 4)}

    union = plain(one) | plain(other)
    exact = len(plain(one) & plain(other)) / max(len(union), 1)
    assert jaccard(shingles(" ".join(one), 5), shingles(" ".join(other), 5)) == pytest.approx(exact)


def test_minhash_finds_every_pair_above_the_bound_and_few_below_half() -> None:
    random = np.random.default_rng(0)
    documents: list[Hashes] = []
    for _ in range(100):
        own = random.integers(0, 2**63, 400).astype(np.uint64)
        near, far = own.copy(), own.copy()
        near[:15] = random.integers(0, 2**63, 15)
        far[:250] = random.integers(0, 2**63, 250)
        documents += [np.unique(one) for one in (own, near, far)]
    found = set(likely_alike(documents))
    above = {(at, at + 1) for at in range(0, 300, 3) if jaccard(documents[at], documents[at + 1]) > BOUND}
    assert len(above) == 100
    assert above <= found
    assert len(found - above) < 40
