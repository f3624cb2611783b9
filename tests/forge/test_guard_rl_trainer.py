"""The advantages and the loss that the trainer uses, against forms of their own in numpy."""

from typing import Any, cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

pytest.importorskip("trl")

from datasets import Dataset
from transformers import AutoTokenizer

from gelert.forge.guard_rl_recipe import Engine, Recipe, arguments
from gelert.forge.guard_rl_trainer import DiagnosisTrainer
from tests.forge.rl import item, prompt, taught

Doubles = NDArray[np.float64]
GROUPS, GROUP = 5, 4
RECIPE = Recipe(questions=GROUPS, group=GROUP, answer_tokens=8, engine=Engine(answers_at_once=GROUPS * GROUP))
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")


class Table:
    """Rewards of one axis that were decided beforehand."""

    def __init__(self, name: str) -> None:
        self.__name__ = name
        self.worth: list[float] = []

    def __call__(self, **_given: object) -> list[float]:
        return self.worth


TABLES = [Table(name) for name in ("failure_mode", "real_world_harm", "risk_source")]


@pytest.fixture(scope="module")
def trainer(tmp_path_factory: pytest.TempPathFactory) -> DiagnosisTrainer:
    folder = taught(tmp_path_factory.mktemp("trainer") / "taught", steps=20)
    made = DiagnosisTrainer(
        model=str(folder),
        processing_class=AutoTokenizer.from_pretrained(folder),
        args=arguments(RECIPE, folder, 1),
        train_dataset=Dataset.from_list(rows()),
        reward_funcs=cast("Any", TABLES),
    )
    cast("torch.nn.Module", made.model).train()
    return made


def rows() -> list[dict[str, Any]]:
    return [
        {"prompt": [{"role": "user", "content": prompt(item(number))}]}
        for number in range(GROUPS)
        for _ in range(GROUP)
    ]


def used(trainer: DiagnosisTrainer, worth: Doubles) -> dict[str, torch.Tensor]:
    """What the trainer learns from, where the answers are worth [groups, group, axes]."""
    for table, column in zip(TABLES, worth.reshape(-1, 3).T, strict=True):
        table.worth = column.tolist()
    return trainer._generate_and_score_completions(rows())  # pyright: ignore[reportPrivateUsage]  # nothing public gives it


def published(worth: Doubles, weights: Doubles, *, guard: float) -> Doubles:
    """arXiv:2605.29801: within the group axis by axis, weighted sum, then over the batch of groups that vary."""
    varies = (worth != worth[:, :1]).any(axis=(1, 2))
    spread = worth.std(axis=1, ddof=1, keepdims=True)
    normalised = (worth - worth.mean(axis=1, keepdims=True)) / np.where(spread > 0, spread + guard, 1)
    summed = normalised @ weights
    kept = summed[varies]
    found = np.zeros(worth.shape[:2])
    found[varies] = (kept - kept.mean()) / (kept.std(ddof=1) + guard)
    return found


def drawn(seed: int) -> Doubles:
    """Binary rewards; the second group varies in no axis, the third in one only."""
    worth = np.random.default_rng(seed).integers(0, 2, size=(GROUPS, GROUP, 3)).astype(np.float64)
    worth[0, :, 0] = [0, 1, 0, 1]
    worth[1] = [1, 0, 1]
    worth[2] = [0, 1, 1]
    worth[2, 0, 1] = 0
    return worth


WEIGHTS = np.array([0.3, 0.4, 0.3])


@pytest.mark.parametrize("seed", range(8))
def test_the_advantages_are_the_published_ones(trainer: DiagnosisTrainer, seed: int) -> None:
    worth = drawn(seed)
    found = used(trainer, worth)["advantages"].double().numpy().reshape(GROUPS, GROUP)
    np.testing.assert_allclose(found, published(worth, WEIGHTS, guard=1e-4), atol=1e-5)
    np.testing.assert_allclose(found, published(worth, WEIGHTS, guard=0), atol=2e-3)


def test_rewards_are_not_summed_before_they_are_normalised(trainer: DiagnosisTrainer) -> None:
    worth = drawn(0)
    summed = (worth @ WEIGHTS)[..., None].repeat(3, axis=-1)
    found = used(trainer, worth)["advantages"].double().numpy().reshape(GROUPS, GROUP)
    assert np.abs(found - published(summed, WEIGHTS, guard=1e-4)).max() > 0.05


def test_a_group_stays_if_one_reward_varies_and_is_masked_if_none_does(trainer: DiagnosisTrainer) -> None:
    mask = used(trainer, drawn(1))["completion_mask"].view(GROUPS, GROUP, -1)
    assert (mask.sum(-1) > 0).all(-1).tolist() == [True, False, True, True, True]
    assert mask[1].sum() == 0


def test_where_no_group_varies_nothing_is_learnt(trainer: DiagnosisTrainer) -> None:
    found = used(trainer, np.ones((GROUPS, GROUP, 3)))
    assert found["advantages"].tolist() == [0.0] * (GROUPS * GROUP)
    assert found["completion_mask"].sum() == 0


def test_the_loss_is_the_published_one(trainer: DiagnosisTrainer) -> None:
    """The clipped ratio token by token, plus the divergence, averaged over an answer's tokens and then over answers."""
    inputs = used(trainer, drawn(2))
    trainer.current_gradient_accumulation_steps = 1
    model = cast("torch.nn.Module", trainer.model)
    told = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], 1)
    seen = torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], 1)
    n = inputs["completion_ids"].shape[1]
    with torch.no_grad():
        logits = model(input_ids=told, attention_mask=seen).logits[:, -n - 1 : -1]
    now = logits.log_softmax(-1).gather(-1, inputs["completion_ids"][..., None])[..., 0].double().numpy()
    random = np.random.default_rng(0)
    old, reference = now + random.normal(0, 0.4, now.shape), now + random.normal(0, 0.4, now.shape)
    inputs |= {"old_per_token_logps": torch.tensor(old).float(), "ref_per_token_logps": torch.tensor(reference).float()}
    found = trainer.compute_loss(model, inputs).item()

    advantage, mask = inputs["advantages"].numpy()[:, None], inputs["completion_mask"].numpy()
    ratio = np.exp(now - old)
    gain = np.minimum(ratio * advantage, np.clip(ratio, 1 - 0.2, 1 + 0.28) * advantage)
    divergence = np.exp(reference - now) - (reference - now) - 1
    tokens = np.maximum(mask.sum(1), 1)
    expected = -(((gain - 0.001 * divergence) * mask).sum(1) / tokens).mean()
    assert ((ratio < 0.8) | (ratio > 1.28)).any()
    assert found == pytest.approx(expected, abs=1e-5)
