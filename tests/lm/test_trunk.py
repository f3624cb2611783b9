from pathlib import Path

import pytest
import torch

from gelert.core.errors import InputError
from gelert.lm.model import tiny
from gelert.lm.trunk import Trunk
from tests.lm.plain import log_probs, same, text

MODELS = {family: tiny(family) for family in ("llama", "qwen", "gemma")}


@pytest.mark.parametrize("layer", [0, 2, 4])
@pytest.mark.parametrize("family", sorted(MODELS))
def test_trunk_and_upper_blocks_equal_the_full_forward(family: str, layer: int) -> None:
    model = MODELS[family]
    trunk = Trunk(model, layer)
    found = model.log_probs(trunk.upper(trunk.activations(text(40))[None])[0])
    same(found, log_probs(model, text(40)))


def test_padding_at_the_end_changes_no_real_position() -> None:
    trunk = Trunk(MODELS["gemma"], 1)
    hidden = trunk.activations(text(30))
    padded = torch.cat((hidden, torch.zeros(9, hidden.shape[1], dtype=hidden.dtype)))
    same(trunk.upper(padded[None])[0, :30], trunk.upper(hidden[None])[0])


def test_kept_activations_are_read_back_without_running_the_model(tmp_path: Path) -> None:
    trunk = Trunk(MODELS["llama"], 2, cache=tmp_path)
    first = trunk.activations(text(12))
    marked = first + 1
    torch.save(marked, trunk.path(text(12)))
    torch.testing.assert_close(trunk.activations(text(12)), marked, rtol=0.0, atol=0.0)


def test_a_damaged_file_is_made_again(tmp_path: Path) -> None:
    trunk = Trunk(MODELS["llama"], 2, cache=tmp_path)
    first = trunk.activations(text(12))
    kept = trunk.path(text(12))
    kept.write_bytes(kept.read_bytes()[:100])
    torch.testing.assert_close(trunk.activations(text(12)), first, rtol=0.0, atol=0.0)
    assert torch.load(kept, weights_only=True).shape == first.shape


def test_other_weights_layers_types_and_tokens_are_kept_apart(tmp_path: Path) -> None:
    llama = MODELS["llama"]
    trunks = [
        Trunk(llama, 2, tmp_path),
        Trunk(llama, 1, tmp_path),
        Trunk(tiny(seed=5), 2, tmp_path),
        Trunk(tiny(dtype="float32"), 2, tmp_path),
    ]
    paths = {trunk.path(ids) for trunk in trunks for ids in (text(3), text(4))}
    assert len(paths) == 8


def test_a_trunk_higher_than_the_model_is_refused() -> None:
    with pytest.raises(InputError, match="0 to 4"):
        Trunk(MODELS["llama"], 5)
