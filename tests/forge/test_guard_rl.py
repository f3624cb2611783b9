"""Reinforcement learning of a diagnosis from beginning to end on a tiny model that was taught the form."""

import json
from pathlib import Path

import pytest

pytest.importorskip("trl")

from gelert.backends.base import Answer
from gelert.backends.local_chat import LocalChat
from gelert.backends.scripted import ScriptedBackend
from gelert.core import records
from gelert.core.errors import InputError
from gelert.core.records import file_digest
from gelert.core.verdict import Unsafe
from gelert.forge.adapter import Adapter
from gelert.forge.guard_rl import Report, train
from gelert.forge.guard_rl_recipe import Engine, Recipe
from gelert.forge.guard_rl_trainer import LOG, LOG_KIND
from gelert.guard.endpoint import EndpointGuard
from tests.forge.rl import GOLD, item, taught, taxonomy

RUNS = [item(number) for number in range(12)]
RECIPE = Recipe(
    steps=4,
    questions=2,
    group=4,
    learning_rate=1e-2,
    prompt_tokens=400,
    answer_tokens=8,
    folds=4,
    held_out=4,
    save_every=2,
    engine=Engine(answers_at_once=4),
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(taught(tmp_path_factory.mktemp("rl") / "taught"))


def learn(model: str, out: Path, **changed: object) -> Report:
    return train(RUNS, model, out, RECIPE.model_copy(update=changed), taxonomy=taxonomy())[0]


@pytest.fixture(scope="module")
def learnt(model: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Report]:
    """Twenty steps of an adapter, towards answers that are the same for every run."""
    out = tmp_path_factory.mktemp("learnt")
    changed = {"steps": 20, "questions": 4, "learning_rate": 3e-3, "folds": 2, "held_out": 8}
    return out, learn(model, out, adapter=Adapter(rank=4), **changed)


def test_every_axis_gets_better_on_groups_that_were_held_out(learnt: tuple[Path, Report]) -> None:
    _, report = learnt
    assert (report.runs, report.held_out, report.steps) == (6, 6, 20)
    assert report.before.in_form > 0.8
    assert report.floor == {"failure_mode": 1.0, "real_world_harm": 1.0, "risk_source": 1.0}
    for axis, before in report.before.accuracy.items():
        assert before < 0.8
        assert report.after.accuracy[axis] > before + 0.15


def test_the_log_has_a_row_a_step_with_what_was_learnt_from(learnt: tuple[Path, Report]) -> None:
    rows = list(records.read(learnt[0] / LOG, *LOG_KIND))
    assert [row["step"] for row in rows] == list(range(1, 21))
    assert {"kept_groups", "in_form", "accuracy/risk_source", "over_labelled/failure_mode", "kl"} <= rows[0].keys()
    assert rows[0]["kept_groups"] == 1.0
    assert json.loads((learnt[0] / "figures.json").read_text())["steps"] == 20


def test_the_model_that_was_learnt_diagnoses_as_a_guards_fine_model(learnt: tuple[Path, Report]) -> None:
    fine = LocalChat.load(str(learnt[0] / "model"))
    coarse = ScriptedBackend([Answer("<Analysis>Bad.</Analysis><Judgment> unsafe </Judgment>")])
    guard = EndpointGuard(coarse, "agentdog-1.5-coarse", fine, taxonomy=taxonomy())
    verdict = guard.judge(item(99).example.trajectory)
    assert isinstance(verdict, Unsafe)
    assert verdict.diagnosis == GOLD


@pytest.mark.filterwarnings("ignore::FutureWarning")  # PEFT asks transformers by a name that it retires
def test_the_adapter_gives_what_the_merged_model_gives(learnt: tuple[Path, Report], model: str) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    tokens = torch.arange(3, 40)[None]
    net = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(model), learnt[0] / "adapter")
    merged = AutoModelForCausalLM.from_pretrained(learnt[0] / "model")
    torch.testing.assert_close(net(tokens).logits, merged(tokens).logits, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("adapter", [None, Adapter(rank=2, merge=False)])
def test_a_run_that_was_stopped_ends_with_the_same_weights(model: str, tmp_path: Path, adapter: Adapter | None) -> None:
    learn(model, tmp_path / "whole", adapter=adapter)
    learn(model, tmp_path / "parts", adapter=adapter, steps=2)
    half = weights(tmp_path / "parts")
    assert learn(model, tmp_path / "parts", adapter=adapter).steps == 4
    assert weights(tmp_path / "parts") == weights(tmp_path / "whole") != half
    logs = [list(records.read(tmp_path / name / LOG, *LOG_KIND)) for name in ("whole", "parts")]
    assert [[row["kl"] for row in log] for log in logs] == [[row["kl"] for row in logs[0]]] * 2


def weights(out: Path) -> list[str]:
    """Hashes of what a run has written, an adapter or a model."""
    return [file_digest(path) for name in ("adapter", "model") for path in (out / name).glob("*.safetensors")]


def test_answers_that_reach_the_limit_are_out_of_form(model: str, tmp_path: Path) -> None:
    report = learn(model, tmp_path, steps=1, answer_tokens=4)
    assert (report.before.in_form, report.after.in_form) == (0.0, 0.0)


def test_a_folder_goes_on_with_its_own_recipe_only(model: str, tmp_path: Path) -> None:
    learn(model, tmp_path, steps=1)
    with pytest.raises(InputError, match="got another recipe"):
        learn(model, tmp_path, kl=0.5)


def test_answers_that_cannot_be_spread_evenly_are_refused(model: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="multiple of"):
        learn(model, tmp_path, engine=Engine(answers_at_once=3))


def test_a_checkpoint_between_the_passes_of_a_step_is_refused(model: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="multiple of passes"):
        learn(model, tmp_path, passes=3)


def test_one_group_cannot_be_split(model: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="at least two groups, got 2 runs of 1 groups"):
        train([item(0), item(4), item(1, unsafe=False)], model, tmp_path, RECIPE, taxonomy=taxonomy())
