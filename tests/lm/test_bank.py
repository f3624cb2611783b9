import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from gelert.core.errors import InputError, ModelError
from gelert.lm import bank, peft
from gelert.lm.bank import Bank, Spec
from gelert.lm.model import LanguageModel, tiny
from gelert.lm.trunk import Trunk
from tests.lm.plain import same, text

MODELS = {family: tiny(family) for family in ("llama", "qwen", "gemma")}
old_name = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
"""PEFT still asks transformers for a property by its old name."""

SPECS = [Spec(rank=2, seed=1), Spec(rank=5, alpha=3.0, seed=2), Spec(rank=1, seed=3)]


def stirred(model: LanguageModel, specs: list[Spec] = SPECS, blocks_from: int = 2) -> Bank:
    """A bank whose B factors are not zero, as after training."""
    made = bank.new(model, specs, blocks_from=blocks_from)
    generator = torch.Generator().manual_seed(0)
    factors = [bank.one(made, number) for number in range(len(specs))]
    for own in factors:
        for name, (down, up) in own.items():
            own[name] = (down, torch.randn(up.shape, generator=generator, dtype=up.dtype) * 0.1)
    return bank.stack(specs, factors)


def run(model: LanguageModel, adapters: Bank, chosen: list[int], layer: int = 2) -> Tensor:
    trunk = Trunk(model, layer)
    hidden = torch.stack([trunk.activations(text(12, seed=row)) for row in range(len(chosen))])
    return trunk.upper(hidden, linear=adapters.linear(chosen))


@pytest.mark.parametrize("family", sorted(MODELS))
def test_a_batch_of_adapters_gives_what_each_gives_alone(family: str) -> None:
    model, together = MODELS[family], stirred(MODELS[family])
    found = run(model, together, [0, 1, 2])
    for number, spec in enumerate(SPECS):
        alone = bank.stack([spec], [bank.one(together, number)])
        expected = run(model, alone, [0, 0, 0])[number]
        same(found[number], expected)


def test_fresh_adapters_change_nothing() -> None:
    model = MODELS["llama"]
    trunk = Trunk(model, 2)
    hidden = trunk.activations(text(12))[None]
    adapters = bank.new(model, SPECS, blocks_from=2)
    torch.testing.assert_close(trunk.upper(hidden, linear=adapters.linear([1])), trunk.upper(hidden))


def test_an_adapter_starts_the_same_alone_and_among_others() -> None:
    together = bank.new(MODELS["llama"], SPECS, blocks_from=2)
    alone = bank.new(MODELS["llama"], SPECS[1:2], blocks_from=3)
    for name, factors in bank.one(alone, 0).items():
        for own, other in zip(factors, bank.one(together, 1)[name], strict=True):
            torch.testing.assert_close(own, other, rtol=0.0, atol=0.0)


@old_name
@pytest.mark.parametrize("family", sorted(MODELS))
def test_peft_gives_the_same_with_an_adapter_of_ours(tmp_path: Path, family: str) -> None:
    from peft import PeftModel

    model, adapters = tiny(family), stirred(MODELS[family])  # pyright: ignore[reportArgumentType] (sorted gives str)
    peft.save(model, adapters, 1, tmp_path)
    expected = model.logits(run(model, adapters, [1]))
    theirs = PeftModel.from_pretrained(model.net, str(tmp_path), autocast_adapter_dtype=False)
    with torch.no_grad():
        found = theirs(torch.tensor([text(12)])).logits
    same(found, expected)


@old_name
@pytest.mark.parametrize("rslora", [False, True])
def test_an_adapter_of_pefts_gives_the_same_with_us(tmp_path: Path, *, rslora: bool) -> None:
    from peft import LoraConfig, get_peft_model

    model, fresh = tiny("qwen"), tiny("qwen")
    config = LoraConfig(
        r=4, lora_alpha=8, target_modules=["q_proj", "down_proj"], use_rslora=rslora, init_lora_weights=False
    )
    theirs = get_peft_model(model.net, config, autocast_adapter_dtype=False)
    with torch.no_grad():
        expected = theirs(torch.tensor([text(12)])).logits
    theirs.save_pretrained(str(tmp_path))
    found = fresh.logits(run(fresh, peft.load(fresh, [tmp_path]), [0], layer=0))
    same(found, expected)


def test_saved_adapters_load_as_one_bank(tmp_path: Path) -> None:
    model, adapters = MODELS["llama"], stirred(MODELS["llama"])
    folders = [tmp_path / str(number) for number in range(3)]
    for number, folder in enumerate(folders):
        peft.save(model, adapters, number, folder)
    found = run(model, peft.load(model, folders), [0, 1, 2])
    torch.testing.assert_close(found, run(model, adapters, [0, 1, 2]), rtol=0.0, atol=0.0)


@pytest.mark.parametrize(
    ("key", "value"), [("use_dora", True), ("bias", "all"), ("peft_type", "IA3"), ("rank_pattern", {"q_proj": 3})]
)
def test_adapters_of_other_kinds_are_refused(tmp_path: Path, key: str, value: object) -> None:
    peft.save(MODELS["llama"], stirred(MODELS["llama"]), 0, tmp_path)
    config = json.loads((tmp_path / peft.CONFIG).read_text())
    (tmp_path / peft.CONFIG).write_text(json.dumps({**config, key: value}))
    with pytest.raises(ModelError, match=key):
        peft.load(MODELS["llama"], [tmp_path])


def test_an_adapter_for_another_model_is_refused(tmp_path: Path) -> None:
    peft.save(MODELS["llama"], stirred(MODELS["llama"]), 0, tmp_path)
    with pytest.raises(ModelError, match="expected an adapter for 'tiny-llama-0'"):
        peft.load(tiny(width=16), [tmp_path])


@pytest.mark.parametrize("damage", [peft.CONFIG, peft.WEIGHTS])
def test_a_damaged_adapter_is_refused(tmp_path: Path, damage: str) -> None:
    peft.save(MODELS["llama"], stirred(MODELS["llama"]), 0, tmp_path)
    (tmp_path / damage).write_bytes(b"\x00garbage")
    with pytest.raises(ModelError, match="PEFT's format"):
        peft.load(MODELS["llama"], [tmp_path])


@pytest.mark.parametrize(
    ("specs", "blocks_from", "targets"), [([], 0, ["q_proj"]), (SPECS, 4, ["q_proj"]), (SPECS, 0, ["head"])]
)
def test_what_cannot_be_built_is_refused(specs: list[Spec], blocks_from: int, targets: list[str]) -> None:
    with pytest.raises(InputError):
        bank.new(MODELS["llama"], specs, blocks_from=blocks_from, targets=targets)
