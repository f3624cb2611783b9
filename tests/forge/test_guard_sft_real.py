"""The generative guard on the real model: it learns a few short runs, and serves what it has learned."""

from pathlib import Path

import pytest

from gelert.backends.local import LocalModel
from gelert.core.taxonomy import Axis
from gelert.core.verdict import Unsafe
from gelert.forge.guard_sft import Recipe, Sft, cells_of
from gelert.forge.guard_sft_card import make
from gelert.forge.guard_sft_examples import lessons
from gelert.forge.twins import twins
from gelert.guard.adapter import AdapterGuard


@pytest.mark.real_model
def test_a_few_runs_are_learned_and_judged_from_disk(real_model: str, tmp_path: Path) -> None:
    runs = twins(1)[:4]
    local = LocalModel.load(real_model)
    taught = lessons(local, runs, 512)
    recipe = Recipe(real_model, 512, trunk=24, learning_rate=3e-3, epochs=20, examples_per_step=4)
    sft = Sft(local, recipe, cells_of("memft-ot", 1.0, 1), taught, taught, tmp_path, tmp_path / "prefixes")
    sft.read()
    _, first, *_, last = list(sft.run())
    assert sft.best(0).scores[0].verdict_loss < 0.3 < first.scores[0].verdict_loss
    assert last.shares[0] < first.shares[0]
    make(sft, tmp_path, "few", runs)
    guard = AdapterGuard.load(tmp_path)
    verdicts = [guard.judge(run.example.trajectory) for run in runs]
    assert [isinstance(verdict, Unsafe) for verdict in verdicts] == [run.unsafe for run in runs]
    named = [verdict.diagnosis.on(axis) for verdict in verdicts if isinstance(verdict, Unsafe) for axis in Axis]
    assert len(named) == 6
    assert all(named)  # which leaves is not asked: the epoch that is kept has the best verdicts
