"""The library's own forward pass, to compare with."""

from collections.abc import Sequence

import torch
from torch import Tensor

from gelert.lm.model import LanguageModel


def hidden_states(model: LanguageModel, ids: Sequence[int]) -> list[Tensor]:
    """The residual stream [n, width] after 0, 1, ... blocks; the library's last one is after the final norm."""
    with torch.no_grad():
        found = model.net(torch.tensor([list(ids)]), output_hidden_states=True, use_cache=False)
    return [states[0] for states in found.hidden_states]


def log_probs(model: LanguageModel, ids: Sequence[int]) -> Tensor:
    """[n, vocab] log-probabilities of each next token."""
    with torch.no_grad():
        return model.net(torch.tensor([list(ids)]), use_cache=False).logits[0].log_softmax(-1)


def text(length: int, seed: int = 0) -> list[int]:
    """Random ordinary tokens of the tiny models."""
    return torch.randint(3, 259, (length,), generator=torch.Generator().manual_seed(seed)).tolist()


def same(found: Tensor | None, expected: Tensor | None) -> None:
    """Equal up to the rounding of float64."""
    torch.testing.assert_close(found, expected, rtol=0.0, atol=1e-10)
