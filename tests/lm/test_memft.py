"""MemFT inside other trainers is MemFT inside ours: the same loss and gradients."""

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from datasets import Dataset
from torch import Tensor, nn
from transformers import Trainer, TrainingArguments

from gelert.core.errors import InputError
from gelert.lm.model import LanguageModel, tiny
from gelert.lm.objective import Example, MemftLoss, memft_loss, nll
from gelert.lm.trunk import Trunk
from gelert.lm.weights import METHODS, Window, settled, weighted_mean, weights
from tests.lm.plain import text

DOCUMENTS = [Example(tuple(text(9, 1)), (0,) * 3 + (1,) * 6), Example(tuple(text(6, 2)), (0,) * 2 + (1,) * 4)]
RULES = ["sft", "memft-ot", "memft-sw", "cramming"]

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
"""The trainers' own, of each other's old names."""


def model() -> LanguageModel:
    made = tiny("qwen")
    with torch.no_grad():
        for weight in made.net.parameters():
            weight.mul_(1.5)  # some tokens above the threshold, some below
    made.net.requires_grad_(requires_grad=True)
    return made


def ours(rule: str, documents: Sequence[Example]) -> tuple[float, dict[str, Tensor]]:
    """Loss and gradients of the blocks' weights, by the functions of our own loop."""
    made = model()
    parts: list[Tensor] = []
    learned: list[Tensor] = []
    trunk = Trunk(made, 0)
    for one in documents:
        ids = torch.tensor([one.ids])
        scored = nll(made, trunk.upper(made.embed(ids)), [one])
        parts.append(scored.losses)
        learned.append(weights(METHODS[rule], scored.losses, scored.right, Window.fresh())[0])
    found = torch.cat(learned)
    found, _ = settled(METHODS[rule], found, torch.ones_like(found, dtype=torch.bool))
    loss = weighted_mean(torch.cat(parts), found)
    loss.backward()
    return float(loss), blocks(made.net, lambda weight: weight.grad)


def blocks(net: nn.Module, value: Any) -> dict[str, Tensor]:
    return {name: value(weight).clone() for name, weight in net.named_parameters() if ".layers." in name}


def moved(trainer: Trainer) -> tuple[float, dict[str, Tensor]]:
    """Loss of one step of plain descent at rate 1, and how the blocks' weights moved: the gradients."""
    net = cast("nn.Module", trainer.model)
    before = blocks(net, lambda weight: weight.detach())
    loss = trainer.train().training_loss
    after = blocks(net, lambda weight: weight.detach())
    return loss, {name: before[name] - after[name] for name in before}


def arguments(folder: Path) -> dict[str, Any]:
    return {
        "output_dir": str(folder),
        "use_cpu": True,
        "max_steps": 1,
        "learning_rate": 1.0,
        "optim": "sgd",
        "lr_scheduler_type": "constant",
        "max_grad_norm": 0.0,
        "per_device_train_batch_size": 2,
        "report_to": "none",
        "save_strategy": "no",
        "disable_tqdm": True,
    }


def rows(documents: Sequence[Example], *, pad: bool) -> list[dict[str, list[int]]]:
    longest = max(len(one.ids) for one in documents)
    found: list[dict[str, list[int]]] = []
    for one in documents:
        labels = [token if weight else -100 for token, weight in zip(one.ids, one.weights, strict=True)]
        rest = (longest - len(one.ids)) * pad
        mask = [1] * len(one.ids) + [0] * rest
        found.append(
            {"input_ids": [*one.ids, *[0] * rest], "labels": [*labels, *[-100] * rest], "attention_mask": mask}
        )
    return found


def agree(found: tuple[float, dict[str, Tensor]], expected: tuple[float, dict[str, Tensor]]) -> None:
    assert found[0] == pytest.approx(expected[0], abs=1e-6)
    for name, gradient in expected[1].items():
        torch.testing.assert_close(found[1][name], gradient, rtol=0.0, atol=1e-6)


@pytest.mark.parametrize("rule", RULES)
def test_hugging_face_trainer(tmp_path: Path, rule: str) -> None:
    trainer = Trainer(
        model=model().net,
        args=TrainingArguments(**arguments(tmp_path)),
        train_dataset=cast("Any", Dataset.from_list(rows(DOCUMENTS, pad=True))),
        compute_loss_func=memft_loss(rule),
    )
    agree(moved(trainer), ours(rule, DOCUMENTS))


@pytest.mark.parametrize("packing", [False, True])
@pytest.mark.parametrize("rule", RULES)
def test_trl_sft_trainer(tmp_path: Path, rule: str, *, packing: bool) -> None:
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    made, loss = model(), memft_loss(rule)
    more: dict[str, Any] = {
        "packing": packing,
        "max_length": 15,
        "padding_free": packing,
        "bf16": False,
        "completion_only_loss": True,
    }
    if packing:
        more["per_device_train_batch_size"] = 1
    data = [
        {
            "input_ids": row["input_ids"],
            "completion_mask": [int(label != -100) for label in row["labels"]],
        }
        for row in rows(DOCUMENTS, pad=False)
    ]
    trainer = SFTTrainer(
        model=made.net,
        args=SFTConfig(**{**arguments(tmp_path), **more}),
        train_dataset=Dataset.from_list(data),
        processing_class=made.tokenizer,
        compute_loss_func=loss,
    )
    watched = loss.watch(cast("nn.Module", trainer.model))
    agree(moved(trainer), ours(rule, DOCUMENTS))
    watched.remove()


def logits(seed: int, length: int) -> Tensor:
    return torch.randn(1, length, 20, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Given:
    """What a model gives back."""

    def __init__(self, scores: Tensor) -> None:
        self.logits = scores


@pytest.mark.parametrize("rule", RULES)
def test_packed_documents_weigh_as_in_rows_of_their_own(rule: str) -> None:
    ids = [torch.randint(0, 20, (1, n), generator=torch.Generator().manual_seed(n)) for n in (5, 3, 7)]
    scores = [logits(n, each.shape[1]) for n, each in enumerate(ids)]
    packed, together = torch.cat(ids, 1), Given(torch.cat(scores, 1))
    places = torch.cat([torch.arange(each.shape[1])[None] for each in ids], 1)
    ends = torch.tensor([0, 5, 8, 15])
    width = max(each.shape[1] for each in ids)
    padded = torch.cat([nn.functional.pad(each, (0, width - each.shape[1]), value=-100) for each in ids])
    wide = torch.cat([nn.functional.pad(each, (0, 0, 0, width - each.shape[1])) for each in scores])
    expected = memft_loss(rule)(Given(wide), padded)
    assert torch.allclose(memft_loss(rule)(together, packed, position_ids=places), expected)
    assert torch.allclose(memft_loss(rule)(together, packed, cu_seqlens=ends), expected)
    assert not torch.allclose(memft_loss(rule)(together, packed), expected)


def test_batches_that_share_a_step_count_by_their_tokens() -> None:
    labels = torch.randint(0, 20, (1, 6), generator=torch.Generator().manual_seed(0))
    given = Given(logits(0, 6))
    alone = memft_loss("sft")(given, labels)
    assert torch.allclose(memft_loss("sft")(given, labels, 20), alone * 5 / 20)


def test_patience_belongs_to_a_document_in_whatever_batch_it_comes() -> None:
    labels = torch.randint(0, 20, (2, 6), generator=torch.Generator().manual_seed(0))
    given = Given(logits(0, 12).view(2, 6, 20))
    loss = memft_loss("memft-sw")
    for order in ([0, 1], [1, 0], [0, 1], [1, 0], [0, 1]):
        loss(Given(given.logits[order]), labels[order])
    assert len(loss.windows) == 2
    assert all(float(window.expansion) > 1 for window in loss.windows.values())


def test_a_batch_without_anything_to_learn_says_so() -> None:
    labels = torch.tensor([[3, 4, 5]])
    sure = torch.zeros(1, 3, 20)
    sure[0, 0, 4] = sure[0, 1, 5] = 30.0
    loss = memft_loss("memft-ot")
    assert float(loss(Given(sure), labels)) == 0.0
    assert loss.stopped
    assert float(loss(Given(sure * 0), labels)) > 1
    assert not loss.stopped


def test_an_unknown_rule_and_wrong_borders_are_refused() -> None:
    with pytest.raises(InputError, match="memft-ot"):
        memft_loss("magic")
    with pytest.raises(InputError, match="cu_seqlens"):
        MemftLoss(METHODS["sft"])(Given(logits(0, 4)), torch.zeros(1, 4).long(), cu_seqlens=torch.tensor([0, 3]))
    assert deepcopy(memft_loss("memft-sw")).windows == {}
