"""The recipe for a GPU, run for real by TRL on the tiny model: its data, its loss, its adapter."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file

from gelert.core.taxonomy import builtin
from gelert.evals.benches import load_labelled
from gelert.guard.contracts import Contract
from gelert.guard.parse import Parsed, parse
from gelert.lm.model import load

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
"""The trainers' own, of each other's old names."""


@pytest.fixture(scope="module")
def recipe() -> ModuleType:
    spec = importlib.util.spec_from_file_location("guard_sft_gpu", ROOT / "examples/recipes/guard_sft_gpu.py")
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from click.testing import CliRunner

    from gelert.cli.data import command

    folder = tmp_path_factory.mktemp("worlds")
    result = CliRunner().invoke(command, ["synthesise", "--n", "12", "--seed", "2", "--out", str(folder)])
    assert result.exit_code == 0, result.output
    return folder


def test_every_completion_is_read_back_by_the_contract_that_serves_it(recipe: ModuleType, data: Path) -> None:
    runs = load_labelled([data]).labelled
    rows = list(recipe.conversations(runs))
    assert len(rows) == 12
    for run, row in zip(runs, rows, strict=True):
        found = parse(Contract.UNIFIED_1_5, row["completion"][0]["content"], builtin())
        assert found == Parsed(run.unsafe, run.gold.diagnosis)


@pytest.mark.parametrize("rule", ["nll", "memft-ot"])
def test_trl_trains_an_adapter_that_peft_loads(
    recipe: ModuleType, data: Path, folder: Path, tmp_path: Path, rule: str
) -> None:
    words = ["--model", str(folder), "--data", str(data), "--out", str(tmp_path), "--rule", rule, "--cpu"]
    words += ["--epochs", "1", "--batch", "1", "--accumulate", "2", "--rank", "2", "--max-tokens", "12000"]
    made = recipe.trainer(recipe.parsed(words))
    assert 0 < len(made.train_dataset) + len(made.eval_dataset) <= 12
    assert made.train().training_loss > 0
    made.save_model(str(tmp_path))
    factors = load_file(tmp_path / "adapter_model.safetensors")
    assert any(float(factor.abs().sum()) > 0 for name, factor in factors.items() if "lora_B" in name)
    assert json.loads((tmp_path / "adapter_config.json").read_text())["r"] == 2
    net = PeftModel.from_pretrained(load(folder).net, str(tmp_path))  # pyright: ignore[reportArgumentType] - its own type
    assert torch.isfinite(net(input_ids=torch.tensor([[5, 6, 7]])).logits).all()
