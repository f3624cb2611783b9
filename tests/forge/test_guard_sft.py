"""Fine-tuning a generative guard on the tiny model: what is learned, kept, gone on with, and judged with afterwards."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gelert.backends.local import LocalModel
from gelert.core.errors import InputError
from gelert.core.example import Example, Gold
from gelert.core.taxonomy import Diagnosis
from gelert.core.trajectory import Origin, Role, Step, Trajectory
from gelert.core.verdict import Unsafe
from gelert.evals.benches import Labelled, load_labelled
from gelert.forge.guard_sft import STATE, Cell, Epoch, Recipe, Sft, cells_of
from gelert.forge.guard_sft_card import make
from gelert.forge.guard_sft_examples import lessons, questions, split
from gelert.guard.adapter import AdapterGuard
from gelert.guard.answer import SAFE, UNSAFE
from gelert.guard.views import views
from gelert.lm.model import load

HARM = Diagnosis("malicious_tool_execution", "choosing_malicious_tool", "financial_and_economic_harm")
RECIPE = Recipe(max_tokens=512, trunk=2, rank=4, learning_rate=2e-2, epochs=3, examples_per_step=4)
CELLS = [Cell("nll"), Cell("memft-ot"), Cell("memft-ot", margin=1.0)]


def labelled(number: int, *, unsafe: bool) -> Labelled:
    """One word tells what a run is; its twin has another."""
    word = "zap" if unsafe else "hum"
    steps = (Step(Role.USER, f"do {number}"), Step(Role.AGENT, f"{word} {word} {word}"))
    gold = Gold(unsafe=unsafe, diagnosis=HARM if unsafe else Diagnosis(), group=f"g{number}", reason="It zaps.")
    run = Trajectory(steps, origin=Origin(f"toy/{word}.json", number))
    return Labelled(Example(run, gold), "toy")


RUNS = [labelled(number, unsafe=unsafe) for number in range(10) for unsafe in (False, True)]


@pytest.fixture(scope="module")
def local(folder: Path) -> LocalModel:
    return LocalModel(load(folder))


def sft(local: LocalModel, cells: list[Cell] | None = None, folder: Path | None = None, **changes: object) -> Sft:
    recipe = replace(RECIPE, model=local.model.name, **changes)  # pyright: ignore[reportArgumentType] - fields by name
    sides = split(RUNS)
    taught = [lessons(local, runs, recipe.max_tokens) for runs in (sides.train, sides.validation)]
    return Sft(local, recipe, cells or CELLS, taught[0], taught[1], folder)


def test_groups_are_on_one_side_only_and_both_kinds_on_each() -> None:
    sides = split(RUNS)
    assert not {run.group for run in sides.train} & {run.group for run in sides.validation}
    assert len(sides.train) + len(sides.validation) == len(RUNS)
    with pytest.raises(InputError, match="both sides"):
        split(RUNS[:2])


def test_twins_stand_side_by_side_and_share_a_name(local: LocalModel) -> None:
    found = lessons(local, [*RUNS, RUNS[0]], 512)
    assert len(found) == len(RUNS)  # the one without a twin is left out
    for first in range(0, len(found), 2):
        one, other = found[first : first + 2]
        assert one.reply.twin == other.reply.twin != ""
        assert one.run.unsafe != other.run.unsafe
        assert one.run.group == other.run.group


def test_an_answer_spells_verdict_and_leaves_and_the_verdict_counts_as_much_as_they(local: LocalModel) -> None:
    for lesson in lessons(local, RUNS, 512):
        said = local.model.decode(lesson.reply.ids)
        assert said.endswith("Safety:" + SAFE) or "Safety:" + UNSAFE + "\nFailure Mode: Choosing Malicious Tool" in said
        verdict, *rest = [weight for weight in lesson.reply.weights if weight]
        assert verdict == 1.0
        assert sum(rest) == pytest.approx(1.0)
        assert "It zaps" not in said
    told = lessons(local, RUNS, 512, rationale=True)
    assert any("\nReason: It zaps." in local.model.decode(lesson.reply.ids) for lesson in told)


def test_a_synthesised_run_is_shown_where_its_harm_is_done_and_its_twin_at_the_same_place(
    local: LocalModel, tmp_path: Path
) -> None:
    runs, harmed = synthesised(tmp_path)
    taught = lessons(local, runs, 1024)
    assert len(taught) == len(runs)
    late = 0
    for first in range(0, len(taught), 2):
        pair = {lesson.run.unsafe: lesson for lesson in taught[first : first + 2]}
        assert pair[True].run.group == pair[False].run.group
        shown = views(local, pair[True].run.example.trajectory, 1024).views
        at = next(at for at, view in enumerate(shown) if view.ids == pair[True].reply.prompt)
        assert shown[at].shows(harmed[pair[True].run.example.trajectory.origin.record])
        late += at < len(shown) - 1
    assert late > 0  # else showing the end would have done


def synthesised(folder: Path) -> tuple[list[Labelled], dict[int, int]]:
    from click.testing import CliRunner

    from gelert.cli.data import command

    result = CliRunner().invoke(command, ["synthesise", "--n", "8", "--seed", "1", "--out", str(folder)])
    assert result.exit_code == 0, result.output
    rows = [json.loads(line)["data"] for line in (folder / "records.jsonl").read_text().splitlines()]
    return list(load_labelled([folder]).labelled), {row["number"]: row["truth"]["harmed"] for row in rows}


def test_every_view_of_a_run_is_asked_about(local: LocalModel) -> None:
    long = labelled(0, unsafe=True)
    steps = (*long.example.trajectory.steps, *(Step(Role.TOOL, "x" * 200) for _ in range(6)))
    long = replace(long, example=replace(long.example, trajectory=replace(long.example.trajectory, steps=steps)))
    asked = questions(local, [long, RUNS[0]], 512)
    assert [lesson.run for lesson in asked].count(long) == len(views(local, long.example.trajectory, 512).views) > 1
    assert all(sum(lesson.reply.weights) == 1.0 for lesson in asked)


@pytest.fixture(scope="module")
def trained(local: LocalModel) -> Sft:
    found = sft(local, epochs=6)
    assert [epoch.number for epoch in found.run()] == list(range(7))
    return found


def test_every_cell_learns_to_tell_the_word(trained: Sft) -> None:
    for cell in range(len(CELLS)):
        assert trained.best(cell).scores[cell].accuracy == 1.0
        assert trained.best(cell).scores[cell].verdict_loss < trained.epochs[0].scores[cell].verdict_loss / 2


def test_memft_spends_no_gradient_on_tokens_that_are_certain(trained: Sft) -> None:
    last = trained.epochs[-1]
    assert last.shares[0] == 1.0
    assert last.shares[1] < 0.97


def test_the_best_epoch_is_kept_and_not_the_last(trained: Sft) -> None:
    found = trained.scores(trained.validation, trained.best_bank())
    for cell, score in enumerate(found):
        assert score.verdict_loss == pytest.approx(min(e.scores[cell].verdict_loss for e in trained.epochs), rel=1e-4)


@pytest.mark.parametrize("stop", [0, 2])
def test_a_training_that_was_stopped_ends_as_one_that_was_not(local: LocalModel, tmp_path: Path, stop: int) -> None:
    whole = list(sft(local).run())
    first = sft(local, folder=tmp_path)
    for epoch in first.run():
        if epoch.number == stop:
            break
    again = sft(local, folder=tmp_path)
    list(again.run())
    for one, other in zip(whole, again.epochs, strict=True):
        same(one, other)


def same(one: Epoch, other: Epoch) -> None:
    assert one.number == other.number
    for a, b in zip(one.scores, other.scores, strict=True):
        assert np.allclose(a.margins, b.margins, atol=1e-5)
    assert np.allclose(one.losses, other.losses, atol=1e-5)


def test_the_state_of_another_training_is_refused(local: LocalModel, tmp_path: Path) -> None:
    next(sft(local, folder=tmp_path).run())
    assert (tmp_path / STATE).exists()
    with pytest.raises(InputError, match="another"):
        sft(local, cells_of("nll", 0.5, 3), tmp_path)


def test_a_training_without_runs_or_cells_is_refused(local: LocalModel) -> None:
    with pytest.raises(InputError, match="at least one cell"):
        Sft(local, RECIPE, [], [], [])


@pytest.mark.parametrize("acts", ["answer", "all"])
def test_what_was_trained_serves_as_a_guard(local: LocalModel, tmp_path: Path, acts: str) -> None:
    made = sft(local, [Cell("memft-ot", margin=1.0, seed=seed) for seed in range(2)], acts=acts, epochs=6)
    made.read()
    list(made.run())
    sides = split(RUNS)
    counted: list[int] = []
    card = make(made, tmp_path, "toy", sides.validation, counted.append)
    assert counted[-1] == len(sides.validation)
    guard = AdapterGuard.load(tmp_path)
    assert guard.card == card
    lesson = made.validation[0]
    score = made.best(made.chosen).scores[made.chosen]
    assert guard.margin(lesson.run.example.trajectory) == pytest.approx(score.margins[0], abs=1e-4)
    verdicts = [guard.judge(run.example.trajectory) for run in sides.validation]
    assert [isinstance(verdict, Unsafe) for verdict in verdicts] == [run.unsafe for run in sides.validation]
    assert all(verdict.diagnosis == HARM for verdict in verdicts if isinstance(verdict, Unsafe))


def test_no_card_before_the_first_epoch(local: LocalModel, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="at least one epoch"):
        make(sft(local), tmp_path, "toy", split(RUNS).validation)
